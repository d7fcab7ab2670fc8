"""`from_navix` makes an `Env` of a Navix environment: `envs.make("navix:Navix-Empty-5x5-v0")`.

Navix resets by a step of its own: after an end, the next step ignores its action and is the reset. Here no step resets;
the limit (step_type 1) is a truncation, an end (step_type 2) a termination. Images are drawn from tiles that Navix
keeps in each state, and which only the observations `rgb` and `rgb_first_person` read: the others go without them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import dependencies
from pgjax.envs import images
from pgjax.envs.suites import common
from pgjax.errors import unknown
from pgjax.types import Array, Env, PyTree, Step

PREFIX = "navix:"

LIMIT = "max_steps"

NOTES = {
    "": "The goal pays 1 however late it is reached, unless env.penality_coeff is set; 100 steps whatever the size.",
    "Navix-GoToDoor": "The colour of the right door isn't shown.",
    "Navix-KeyCorridor": "A locked door shows 254 as its state, where Navix's own words for it have 2.",
}

# Observation, a function of navix.observations -> its least and greatest value: what stands on a tile, and in those
# called categorical -1 for a wall and 100 for what lies outside. (The spaces that Navix declares end at 8; the player
# is 10.)
OBSERVATIONS = {
    "symbolic": (0, 10),
    "symbolic_first_person": (0, 10),
    "categorical": (-1, 10),
    "categorical_first_person": (-1, 100),
    "rgb": (0, 255),
    "rgb_first_person": (0, 255),
}


# What a locked door of KeyCorridor shows as its state: 1 - 2 + (1 - 2) as uint8, since it is made with `open` 2.
LOCKED = 254


class NavixState(NamedTuple):
    """The state of one environment."""

    world: PyTree  # a navix State, without its key
    time: Array  # [] int: steps since the episode began


def from_name(name: str, **arguments: Any) -> Env:
    """The registered environment `name`, with or without "navix:" before it.

    Args:
      arguments: `max_steps`, the time limit, by default 100 in every environment, as `navix.make` has it;
        `observation`, a function of navix.observations; `penality_coeff`, as Navix spells it: how much of the last
        reward a late end costs. None can be swept in one program.

    Raises:
      ValueError: for an unknown name or argument, and without navix.
    """
    navix = _navix()
    short = common.known(PREFIX, name, list(navix.registry()))
    given = {**settable(name), **arguments}
    common.check_arguments(name, arguments, settable(name), LIMIT)
    observation = given.pop("observation")
    if observation not in OBSERVATIONS:
        raise ValueError(unknown(f"{name}: no observation", observation, OBSERVATIONS))
    return from_navix(navix.make(short, observation_fn=getattr(navix.observations, observation), **given))


def names() -> list[str]:
    """The names that Navix knows."""
    return list(_navix().registry())


def settable(name: str) -> dict[str, Any]:
    """The name and default of every argument that can be set by name."""
    common.known(PREFIX, name, list(_navix().registry()))
    return {LIMIT: 100, "observation": "symbolic", "penality_coeff": 0.0}


def from_navix(world: Any) -> Env:
    """Adapt a navix environment: `from_navix(navix.make("Navix-Empty-5x5-v0"))`.

    The randomness of a step comes from its key, not from one that Navix keeps in the state.
    """
    with dependencies.importing("gymnax"):
        from gymnax.environments import spaces as kinds
    navix = _navix()
    own_reset, own_step = common.ranked(world.reset), common.ranked(world._step)  # `step` would reset
    observation = next((x for x in OBSERVATIONS if getattr(navix.observations, x) is world.observation_fn), "")
    drawn = not observation or observation.startswith("rgb")

    def kept(state):
        return state.replace(key=None) if drawn else state.replace(key=None, cache=None)

    def begin(key):
        first = own_reset(key)
        return kept(first.state), first.observation

    reference = jax.eval_shape(begin, jax.random.key(0))
    settle = common.settler(reference)

    def reset(key: Array, params: PyTree) -> tuple[NavixState, Array]:
        state, obs = settle(begin(key))
        return NavixState(state, jnp.int32(0)), obs

    def step(key: Array, params: PyTree, state: NavixState, action: Array) -> tuple[NavixState, Step]:
        before = navix.Timestep(
            t=state.time,
            observation=None,
            action=action,
            reward=jnp.float32(0.0),
            step_type=jnp.int32(0),
            state=state.world.replace(key=key),
        )
        after = own_step(before, action)
        following, obs = settle((kept(after.state), after.observation))
        reward = jnp.asarray(after.reward, jnp.float32)
        # 1 at the limit, 2 at an end and where both meet.
        return NavixState(following, state.time + 1), Step(obs, reward, after.step_type == 2, after.step_type == 1)

    obs = reference[1]
    low, high = OBSERVATIONS.get(observation) or common.every("", obs)
    if type(world).__name__ == "KeyCorridor" and observation.startswith("symbolic"):
        high = LOCKED
    space = common.space(obs, lambda *_: (low, high))
    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=images.declared(space) if len(obs.shape) == 3 else space,
        action_space=kinds.Discrete(len(world.action_set)),
        max_steps=int(world.max_steps),
    )


def _navix() -> Any:
    # Imported where it is used: it takes seconds.
    with dependencies.importing("navix", "navix", f"env {PREFIX}NAME"):
        import navix
    return navix
