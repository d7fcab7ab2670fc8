"""The commands and their options, as dataclasses that tyro reads."""

import dataclasses
from typing import Annotated

from tyro.conf import Positional, arg

from pgjax.sweeps.user_code import PLUGS

_HELP = "Another {} than the algorithm's own: module:name, file.py:name or, where it has one, a name of `pgjax list`."
_PLUGS = [(plug, Annotated[str | None, arg(help=_HELP.format(plug))], None) for plug in PLUGS]
Plugs = dataclasses.make_dataclass("Plugs", _PLUGS, kw_only=True)


@dataclasses.dataclass
class Train(Plugs):  # type: ignore[misc, valid-type]  # made of a tuple
    """Train over many seeds, and write a run folder; a list as in --num-envs 8,32 or --set clip_eps=.1,.2 is a grid."""

    algorithm: Annotated[Positional[str], arg(metavar="ALGORITHM")]
    """A name from `pgjax list`, or module:name or file.py:name of an Algorithm or a roster.Entry of your own."""
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
    env: str | None = None
    """An environment of your own: module:factory or file.py:factory."""
    policy: str | None = None
    """A network of your own, a function (env, config) -> Policy: module:factory or file.py:factory."""
    snapshots: int = 0
    """How often to save the parameters before the end of training; the first time is before training."""
    out: str | None = None
    """The run folder; runs/<algorithm>-<env>-<time> by default."""


@dataclasses.dataclass
class Sweep(Train):
    """Train many settings with many seeds, in chunks that fit the memory; `pgjax resume` goes on with a killed run.

    Takes all that `pgjax train` takes. A setting may also be a range, as in --set learning_rate=log:1e-4:1e-2
    (or uniform:0:1, int:4:64) with --samples: each point drawn is tried with every combination of the lists.
    """

    samples: str | None = None
    """How many settings to draw from the ranges."""
    search: str | None = None
    """How to draw them: sobol (the default; evenly spread, best with a power of two) or random."""
    memory: str | None = None
    """The most memory that the run may use, as 4GB; by default half of the host's, or .8 of an accelerator's."""
    width: str | None = None
    """Lanes of a chunk on each device, instead of --memory. Other widths round differently."""
    devices: str | None = None
    """How many devices; all by default."""
    shard: str = "lanes"
    """lanes: devices train different lanes; envs: they share the environments of one large agent."""
    checkpoint: float = 60.0
    """Seconds between two checkpoints of every lane's whole state; 0 makes one after each segment."""
    halving: str | None = None
    """Stop the worse settings: after updates/N^k updates, for each k, the best 1/N of them go on."""
    log: str | None = None
    """Also write to tensorboard or wandb while it runs (extras of the same names)."""
    log_lanes: bool = False
    """Log every lane separately instead of the mean over a setting's seeds."""
    distributed: bool = False
    """Share the lanes with other processes that run the same command, with the same --out on a shared disk."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where JAX doesn't find it by itself (it does under SLURM and on cloud TPUs)."""
    processes: int | None = None
    """How many processes there are, with --coordinator."""
    process: int | None = None
    """The number of this process, from 0, with --coordinator."""


@dataclasses.dataclass
class Resume:
    """Go on with a run that was stopped or killed; it ends as if it had never been stopped, bit for bit."""

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""
    devices: str | None = None
    """How many devices; by default as many as the run was given, as far as there are."""
    log: str | None = None
    """tensorboard or wandb: log there from now on; none: stop logging. By default as the run did."""
    edited: bool = False
    """Go on though the source of one of the run's own functions has changed since it was begun."""
    distributed: bool = False
    """As in `pgjax sweep`; the number of processes may be another."""
    coordinator: str | None = None
    """As in `pgjax sweep`."""
    processes: int | None = None
    """As in `pgjax sweep`."""
    process: int | None = None
    """As in `pgjax sweep`."""


@dataclasses.dataclass
class Extend:
    """Make a finished run longer, or give it more seeds; trained updates are not trained again."""

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""
    steps: str | None = None
    """Environment steps of each lane, in all."""
    updates: str | None = None
    """Updates of each lane, in all, instead of --steps."""
    seeds: str | None = None
    """Seeds of each setting, in all; they count on from the last."""
    log: str | None = None
    """tensorboard or wandb: log there from now on; none: stop logging. By default as the run did."""
    edited: bool = False
    """Go on though the source of one of the run's own functions has changed since it was begun."""


@dataclasses.dataclass
class Replay:
    """Train one lane of a run again, alone and at the run's width: the same curve, bit for bit."""

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""
    lane: tuple[str, ...] = ()
    """Which lane, as learning_rate=1e-3,seed=7; its first seed and setting by default."""
    out: str | None = None
    """The folder of the lane, a run folder of its own; DIR-replay-<time> by default."""
    edited: bool = False
    """Train it though the source of one of the run's own functions has changed since the run was begun."""


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
    """Show the content of a run folder: its progress, its final returns, its lanes."""

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""


@dataclasses.dataclass
class Report:
    """Compare runs, or show one, in one self-contained HTML page."""

    folders: Annotated[Positional[tuple[str, ...]], arg(metavar="DIR [DIR ...]")]
    """Run folders."""
    out: str = "report.html"
    """The page; one that exists is written over."""


@dataclasses.dataclass
class List:
    """Show algorithms, plugs and environments, one line each, or the options of one."""

    name: Annotated[Positional[str], arg(metavar="NAME")] = ""
    """Show the options of this algorithm, environment, plug or estimator, or of file.py:name or module:name."""


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


# Name -> its options, and the function of `pgjax.cli` that checks them and returns the function to call.
COMMANDS = {
    "train": (Train, "train.train"),
    "sweep": (Sweep, "train.sweep"),
    "resume": (Resume, "resume.resume"),
    "extend": (Extend, "resume.extend"),
    "replay": (Replay, "resume.replay"),
    "render": (Render, "show.render"),
    "show": (Show, "show.show"),
    "report": (Report, "show.report"),
    "variance": (Variance, "variance.measurement"),
    "list": (List, "listing.show_list"),
}
