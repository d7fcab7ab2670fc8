"""The commands that train and their options, as dataclasses that tyro reads; and all commands by name."""

import dataclasses
from typing import Annotated

from tyro.conf import Positional, arg

from pgjax.cli.options_reading import Certify, List, Render, Report, Show, Variance
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
    eval_every: str | None = None
    """Updates between two evaluations along training; by default there is one after training alone."""
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
    checkpoint: float | None = None
    """Seconds between two checkpoints of every lane's whole state; 0 makes one after each segment. By default every
    five seconds, or as often as they take a fiftieth of the time."""
    halving: str | None = None
    """Stop the worse settings: after updates/N^k updates, for each k, the best 1/N of them go on."""
    log: str | None = None
    """Also write to tensorboard or wandb while it runs (extras of the same names)."""
    log_lanes: bool = False
    """Log every lane separately instead of the mean over a setting's seeds."""
    on: str | None = None
    """Train on workers: processes, loky, dask[:tcp://HOST:PORT], slurm[:partition=gpu,time=60], mpi, ray[:ADDRESS]."""
    workers: str | None = None
    """How many workers, with --on; of slurm, how many jobs."""
    distributed: bool = False
    """Join the other processes that run this command, as hosts of one TPU must; they need the same --out."""
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
    on: str | None = None
    """As in `pgjax sweep`."""
    workers: str | None = None
    """As in `pgjax sweep`."""
    distributed: bool = False
    """As in `pgjax sweep`; the number of processes may be another."""
    coordinator: str | None = None
    """As in `pgjax sweep`."""
    processes: int | None = None
    """As in `pgjax sweep`."""
    process: int | None = None
    """As in `pgjax sweep`."""


@dataclasses.dataclass
class Work:
    """Train chunks of a run that nobody works at, until none is left; start as many of these as you like.

    The run is one that `pgjax sweep` or `pgjax train` has begun, in a folder that this machine sees too.
    """

    folder: Annotated[Positional[str], arg(metavar="DIR")]
    """The run folder."""
    devices: str | None = None
    """How many devices; all by default."""


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
class Settle:
    """Settle which of two algorithms is better: add seeds in rounds until the answer is sure, and stop.

    After each round a confidence sequence of A - B, paired by seed, is looked at; looking often does no harm. The same
    command with the same --out goes on, or shows the verdict that there is. `pgjax show` and `pgjax report` read DIR.
    """

    arms: Annotated[Positional[tuple[str, ...]], arg(metavar="A B")] = ()
    """Two algorithms, each with its settings in one word: "ppo clip_eps=.1" "ppo loss=file.py:name"."""
    env: str = ""
    """The environment of both: a name from `pgjax list`, module:factory or file.py:factory."""
    set: tuple[str, ...] = ()
    """Settings of both, each name=value."""
    steps: str | None = None
    """Environment steps of each lane."""
    updates: str | None = None
    """Updates of each lane, instead of --steps."""
    margin: str | None = None
    """Also stop where A - B is sure to lie within -MARGIN and MARGIN: the two are equivalent."""
    error: str = ".05"
    """The probability of a false verdict, at most, whenever you stop."""
    most: str = "512"
    """Seeds of each, at most."""
    by: str = "mean"
    """What is compared: mean, or iqm for the interquartile mean over seeds."""
    bounds: str | None = None
    """LO,HI of every possible return (as --bounds=-200,0); known for some environments. Without, or with none, the
    interval is one that holds in the limit of many seeds."""
    batch: str = "8"
    """Seeds of the first round, trained together; later rounds add half as many as there are. A GPU wants more."""
    seed: int = 0
    """The first seed."""
    out: str | None = None
    """The folder; runs/settle-<env>-<time> by default."""


# Name -> its options, and the function of `pgjax.cli` that checks them and returns the function to call.
COMMANDS = {
    "train": (Train, "train.train"),
    "sweep": (Sweep, "train.sweep"),
    "resume": (Resume, "resume.resume"),
    "work": (Work, "resume.work"),
    "extend": (Extend, "resume.extend"),
    "replay": (Replay, "resume.replay"),
    "settle": (Settle, "settle.settle"),
    "render": (Render, "show.render"),
    "show": (Show, "show.show"),
    "report": (Report, "show.report"),
    "variance": (Variance, "variance.measurement"),
    "certify": (Certify, "certify.certify"),
    "list": (List, "listing.show_list"),
}
