"""The least and the greatest return of an episode, of environments whose rewards say them."""

from pgjax.envs.puzzles import WORLDS
from pgjax.types import Env

# Name -> the least and the greatest reward of one step.
STEPS = {"CartPole-v1": (0.0, 1.0), "Acrobot-v1": (-1.0, 0.0), "MountainCar-v0": (-1.0, 0.0)}
# Name -> the least and the greatest return, where there is one reward in an episode.
EPISODES = {
    **dict.fromkeys(WORLDS, (0.0, 1.0)),
    **dict.fromkeys(("ActionProbe-pgjax", "Catch-bsuite", "ObservationProbe-pgjax", "PolicyProbe-pgjax"), (-1.0, 1.0)),
}


def return_bounds(name: str, env: Env) -> tuple[float, float] | None:
    """The bounds of an undiscounted return of the environment of this name; None where they are not listed here."""
    if name in STEPS:
        low, high = STEPS[name]
        return low * env.max_steps, high * env.max_steps
    return EPISODES.get(name)
