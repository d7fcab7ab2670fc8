"""The options of the commands that train nothing: they read run folders, or measure estimators."""

import dataclasses
from typing import Annotated

from tyro.conf import Positional, arg


@dataclasses.dataclass
class Render:
    """Play whole episodes with the parameters of one lane of a run, and write them as a video."""

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""
    lane: tuple[str, ...] = ()
    """Which lane, as learning_rate=1e-3,seed=7; its first seed and setting by default."""
    update: str | None = None
    """The parameters after this many updates (pgjax train --snapshots); the last by default."""
    out: str = "episode.gif"
    """The video: an .mp4 (extra video) or a .gif."""
    episodes: str = "1"
    """How many episodes, one after the other."""
    greedy: bool = False
    """Take the likeliest action of each step; otherwise actions are sampled, as in training."""
    seed: int = 0
    """The seed of the episodes."""
    fps: float | None = None
    """Pictures a second; by default the environment's own speed."""


@dataclasses.dataclass
class Show:
    """Show the content of a run folder: its progress, who works at it, its final returns, its lanes."""

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""
    watch: bool = False
    """Show it again every five seconds, until the run has ended."""


@dataclasses.dataclass
class Report:
    """Compare runs, or show one, in one self-contained HTML page."""

    folders: Annotated[Positional[tuple[str, ...]], arg(metavar="DIR [DIR ...]")]
    """Run folders."""
    out: str = "report.html"
    """The page; one that exists is written over."""


@dataclasses.dataclass
class Certify:
    """Say what the expected update of a plug ascends: J, another objective or none, exactly, with an example."""

    plug: Annotated[Positional[str], arg(metavar="PLUG")] = ""
    """file.py:name or module:name of a loss, an advantage, an estimator or an Algorithm; or a name of `pgjax list`."""
    kind: str | None = None
    """loss, advantage, estimator or algorithm; by default what the signature says."""
    roster: bool = False
    """Certify every algorithm that ships instead."""
    batch: str | None = None
    """Episodes of a batch, as 2,4,8; by default 1,2,4, or 2,4 of a group."""
    discount: str | None = None
    """Of J and of the advantage; by default both 1 and .9."""
    worlds: str | None = None
    """Some of the small environments, as bandit,tokens; all by default."""
    set: tuple[str, ...] = ()
    """Hyperparameters, each name=value."""
    out: str | None = None
    """The folder of the page and the JSON; runs/certify-<name>-<time> by default."""


@dataclasses.dataclass
class List:
    """Show algorithms, plugs and environments, one line each, or the options of one."""

    name: Annotated[Positional[str], arg(metavar="NAME")] = ""
    """Show the options of this algorithm, environment, plug or estimator, or of file.py:name or module:name."""

    envs: Annotated[str, arg(metavar="SUITE")] = ""
    """Print the names of this suite's environments instead, such as brax or gymnasium."""


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
    """Time each estimator separately."""
    seed: int = 0
    """The seed of all random numbers."""
    out: str | None = None
    """The folder; runs/variance-<env>-<time> by default."""
