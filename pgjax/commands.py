"""What may be typed behind `pgjax`: the commands and their options, as dataclasses that tyro reads."""

import dataclasses
from typing import Annotated

from tyro.conf import Positional, arg


@dataclasses.dataclass
class Train:
    """Train an algorithm on an environment over many seeds, and write a run folder.

    A list of values, as in --num-envs 8,32 or --set learning_rate=1e-3,3e-4, makes a grid.
    """

    algorithm: Annotated[Positional[str], arg(metavar="ALGORITHM")]
    """A name from `pgjax list`."""
    env_name: Annotated[Positional[str], arg(metavar="ENV")] = ""
    """A name from `pgjax list`; left out with --env."""
    seeds: int = 1
    """How many seeds, each a lane of the compiled program."""
    seed: int = 0
    """The first seed."""
    steps: str | None = None
    """Environment steps of each lane. With whole episodes, each counts as long as the time limit."""
    updates: str | None = None
    """Updates of each lane, instead of --steps."""
    num_envs: str | None = None
    """Environments of each lane."""
    num_steps: str | None = None
    """Steps of one rollout."""
    num_epochs: str | None = None
    """Passes over each batch."""
    num_minibatches: str | None = None
    """Gradient steps in each pass."""
    set: tuple[str, ...] = ()
    """Settings, each name=value or name=value,value: see `pgjax list`."""
    loss: str | None = None
    """A loss of your own in place of the policy loss: module:function or file.py:function."""
    env: str | None = None
    """An environment of your own: module:factory or file.py:factory."""
    snapshots: int = 0
    """Save the parameters this often during training, first before it, besides at its end."""
    out: str | None = None
    """The run folder; runs/<algorithm>-<env>-<time> by default."""


@dataclasses.dataclass
class List:
    """Show algorithms, losses, estimators and environments, with their hyperparameters and defaults."""

    env_name: Annotated[Positional[str], arg(metavar="ENV")] = ""
    """Show the parameters of this environment."""


@dataclasses.dataclass
class Variance:
    """Measure how biased and how noisy estimators of the policy gradient are, at a policy of your choice.

    Where the environment can be enumerated (TabularMDP-pgjax), against the exact gradient; elsewhere against a
    reference on episodes of its own, whose error is part of the error bars. All estimators see the same episodes.
    """

    env_name: Annotated[Positional[str], arg(metavar="ENV")] = ""
    """A name from `pgjax list`; may be left out with --params."""
    estimators: str | None = None
    """Names from `pgjax list`, or file.py:name of your own (an estimator, or a gradient(key, params)), by commas."""
    grid: tuple[str, ...] = ()
    """Axes of the grid instead, each axis=value,value: returns=full,to_go baseline=none,value."""
    params: str | None = None
    """A run folder: measure at its parameters."""
    init: bool = False
    """Measure at a policy as it is initialised (the default without --params)."""
    lane: tuple[str, ...] = ()
    """Which lane of the run, as seed=3 learning_rate=0.001; its first seed and setting by default."""
    at: str = "last"
    """Which saved points of the run: last, all, or numbers of updates by commas (pgjax train --snapshots)."""
    behaviour: str | None = None
    """Act with the parameters of this saved point of the run instead: importance sampling and PPO, off policy."""
    set: tuple[str, ...] = ()
    """Parameters of the environment, and network, hidden, activation or shared, each name=value."""
    discount: float | None = None
    """gamma of the discounted return; .99, or that of the run."""
    episodes: str = "4096"
    """Episodes measured."""
    batch: str = "1,4,16,64,256"
    """Batch sizes of the curves, each dividing the next."""
    reference_episodes: str | None = None
    """Episodes of the reference; 4 times those measured by default."""
    pilot: str = "512"
    """Episodes to which baselines are fitted."""
    states: str = "0"
    """States from which the variance is split into trajectory, action and state terms; 0 leaves it out."""
    timing: bool = True
    """Time each estimator by itself."""
    seed: int = 0
    """Of everything that is drawn."""
    out: str | None = None
    """The folder; runs/variance-<env>-<time> by default."""
