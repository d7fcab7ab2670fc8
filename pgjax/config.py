"""`Config`: the static choices of a run, in four parts, and the check that they fit the environment."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal, get_type_hints

from pgjax.envs.spaces import check_parts
from pgjax.hyperparameters import Positive, Probability, Range, declared_range, within
from pgjax.types import Env

Count = Annotated[int, Range(1)]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """How experience is gathered.

    Attributes:
      num_envs: B, environments of one lane.
      num_steps: T, steps of one rollout; with whole episodes 0 means the time limit.
      rollout: "unroll", a stream that goes on, or whole "episodes".
      normalize_obs: by running mean and standard deviation.
      scale_rewards: by the running standard deviation of the discounted return.
      epsilon: share of uniform actions in the policy that acts; see `importance` of the plugs.
      lag: updates by which the acting parameters are older than the learning ones.
      eval_episodes: whole episodes of the evaluation after training, for each lane.
      eval_every: updates between two evaluations along training, of as many episodes each; 0 makes none.
    """

    num_envs: Count = 16
    num_steps: Annotated[int, Range(0)] = 128
    rollout: Literal["unroll", "episodes"] = "unroll"
    normalize_obs: bool = False
    scale_rewards: bool = False
    epsilon: Probability = 0.0
    lag: Annotated[int, Range(0)] = 0
    eval_episodes: Count = 32
    eval_every: Annotated[int, Range(0)] = 0


@dataclasses.dataclass(frozen=True)
class Update:
    """What is done with a batch, and before the first.

    Attributes:
      num_epochs: passes over the batch.
      num_minibatches: gradient steps in each pass.
      update: one gradient step for the "batch", or one for each "step" in order of time.
      pretrain: gradient steps of supervision before the first batch; -1: 225 where the environment has an expert.
      examples: episodes of the expert, from which supervision draws.
    """

    num_epochs: Count = 1
    num_minibatches: Count = 1
    update: Literal["batch", "step"] = "batch"
    pretrain: int = 0
    examples: int = 1000


@dataclasses.dataclass(frozen=True)
class Network:
    """What `policies.make` builds.

    Attributes:
      network: its kind; "auto" goes by the observations. "simba" is residual, "resnet" a deep CNN (IMPALA's); with a
        memory are "gru", "lstm", and "mingru" and "lru", which learn from all steps at once.
      hidden: widths of the hidden layers.
      layer_norm: normalise each hidden layer before its activation.
      activation: of the hidden layers; a transformer's is GELU.
      shared: one torso for actor and critic.
      critic: one number for each state, or one for each action; "two_hot" and "hl_gauss" are of states, taught as
        classes.
      critics: how many critics of states are taught apart; their mean is the value.
      distribution: over a Box of actions.
      log_std: of a Gaussian: a "parameter" of its own, or an output of the "network".
      temperature: by which a table's preferences are divided, or a sigmoid's.
      heads: of a transformer, whose layers are as many as `hidden` has numbers, all the same.
      positions: of a transformer.
    """

    network: Literal[
        "auto",
        "mlp",
        "simba",
        "cnn",
        "resnet",
        "gru",
        "lstm",
        "mingru",
        "lru",
        "table",
        "sigmoid",
        "transformer",
    ] = "auto"
    hidden: tuple[int, ...] = (64, 64)
    layer_norm: bool = False
    activation: Literal["tanh", "relu"] = "tanh"
    shared: bool = False
    critic: Literal["value", "action_value", "two_hot", "hl_gauss"] = "value"
    critics: Count = 1
    distribution: Literal["gaussian", "squashed", "beta", "mixture"] = "gaussian"
    log_std: Literal["parameter", "network"] = "parameter"
    temperature: Positive = 1.0
    heads: int = 4
    positions: Literal["learned", "rotary"] = "learned"


@dataclasses.dataclass(frozen=True)
class Program:
    """How it is compiled.

    Attributes:
      kernel: "fused" makes a tower one GPU kernel forward and one backward (float32).
      precision: of products, where it matters.
      generator: of random bits.
    """

    kernel: Literal["xla", "fused"] = "xla"
    precision: Literal["default", "float32", "tensorfloat32", "bfloat16"] = "default"
    generator: Literal["threefry2x32", "philox4x32"] = "threefry2x32"


PARTS = (Rollout, Update, Network, Program)


@dataclasses.dataclass(frozen=True)
class Config(Program, Network, Update, Rollout):
    """All that fixes shapes and trip counts, and so costs one compilation for each value; its parts are PARTS.

    Example: `Config(num_envs=64, num_steps=32, hidden=(128, 128))`.
    """


_HINTS = get_type_hints(Config, include_extras=True)
RANGES = {name: found for name, hint in _HINTS.items() if (found := declared_range(hint))}


def check_unused(config: Config, unused: Mapping[str, str], where: str) -> None:
    """ValueError where a field that means nothing to a method has another value than its default.

    Args:
      unused: name -> what to do instead.
      where: the method, in words that follow "has no meaning".
    """
    for name, instead in unused.items():
        value = getattr(config, name)
        if value != getattr(Config(), name):
            raise ValueError(f"{name}={value!r} has no meaning {where}; {instead}")


def check_config(env: Env, config: Config) -> int:
    """The number of steps of one rollout, or a ValueError that says what is wrong."""
    check_parts(env.action_space)
    if config.num_steps < 1 and config.rollout == "unroll":
        raise ValueError(f"num_steps must be 1 or more with rollout='unroll', got {config.num_steps}")
    for name, allowed in RANGES.items():
        within(name, getattr(config, name), getattr(config, name), allowed)
    if min(config.hidden, default=1) < 1:
        raise ValueError(f"hidden must be widths of 1 or more, got {'x'.join(map(str, config.hidden))}")
    for field in dataclasses.fields(config):
        choices = getattr(field.type, "__args__", ())
        if choices and isinstance(choices[0], str) and getattr(config, field.name) not in choices:
            raise ValueError(f"{field.name} must be one of {', '.join(choices)}; got {getattr(config, field.name)!r}")
    if config.eval_every and env.host:
        raise ValueError(
            f"eval_every={config.eval_every}: an environment stepped in Python is evaluated after training alone; use 0"
        )
    if config.update == "step" and max(config.num_epochs, config.num_minibatches) > 1:
        raise ValueError(
            f"update='step' goes through the batch once in order of time; got num_epochs={config.num_epochs}, "
            f"num_minibatches={config.num_minibatches}"
        )
    return config.num_steps or env.max_steps
