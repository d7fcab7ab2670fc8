"""A Config, an environment and the options of plugs in; one clear line where they don't fit together."""

import dataclasses
from typing import Literal

from pgjax.envs.spaces import check_actions as check_action_space
from pgjax.types import Env


@dataclasses.dataclass(frozen=True)
class Config:
    """What fixes shapes and trip counts, and so costs one compilation for each value."""

    num_envs: int = 16  # B: environments of one lane
    num_steps: int = 128  # T: steps of one rollout; with whole episodes 0 means the time limit
    num_epochs: int = 1  # passes over the batch
    num_minibatches: int = 1  # gradient steps in each pass
    rollout: Literal["unroll", "episodes"] = "unroll"  # a stream that goes on, or whole episodes
    normalize_obs: bool = False  # by running mean and standard deviation
    scale_rewards: bool = False  # by the running standard deviation of the discounted return
    epsilon: float = 0.0  # share of uniform actions in the policy that acts; see `importance` of the plugs
    lag: int = 0  # updates by which the parameters that act are older than those that learn
    update: Literal["batch", "step"] = "batch"  # one gradient step for the batch, or for each step in order of time
    network: Literal["auto", "mlp", "cnn", "gru", "table", "sigmoid", "transformer"] = "auto"
    temperature: float = 1.0  # by which a table's preferences are divided, or a sigmoid's
    critic: Literal["value", "action_value"] = "value"  # one number for each state, or one for each action
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    heads: int = 4  # of a transformer, whose layers are as many as `hidden` has numbers, all the same
    positions: Literal["learned", "rotary"] = "learned"  # of a transformer
    pretrain: int = 0  # gradient steps of supervision before anything else; -1: 225 where the world has an expert
    examples: int = 1000  # episodes of the expert, some of which are shown at each of these
    activation: Literal["tanh", "relu"] = "tanh"  # a transformer's is GELU
    shared: bool = False  # one torso for actor and critic
    kernel: Literal["xla", "fused"] = "xla"  # fused: a tower is one GPU kernel forward, one backward (float32)
    precision: Literal["default", "float32", "tensorfloat32", "bfloat16"] = "default"  # of products, where it matters
    generator: Literal["threefry2x32", "philox4x32"] = "threefry2x32"  # of random bits
    eval_episodes: int = 32  # whole episodes of the evaluation after training, for each lane


def check_config(env: Env, config: Config) -> int:
    """The number of steps of one rollout, or a ValueError that says what is wrong."""
    check_action_space(env.action_space)
    for field in ("num_envs", "num_epochs", "num_minibatches", "eval_episodes"):
        if getattr(config, field) < 1:
            raise ValueError(f"{field} must be 1 or more, got {getattr(config, field)}")
    if min(config.hidden, default=1) < 1:
        raise ValueError(f"hidden must be widths of 1 or more, got {'x'.join(map(str, config.hidden))}")
    for field in dataclasses.fields(config):
        choices = getattr(field.type, "__args__", ())
        if choices and isinstance(choices[0], str) and getattr(config, field.name) not in choices:
            raise ValueError(f"{field.name} must be one of {', '.join(choices)}; got {getattr(config, field.name)!r}")
    if config.num_steps < 0 or (config.num_steps == 0 and config.rollout == "unroll"):
        raise ValueError(f"num_steps must be 1 or more with rollout='unroll', got {config.num_steps}")
    if config.lag < 0:
        raise ValueError(f"lag must be 0 or more updates, got {config.lag}")
    if not 0 <= config.epsilon <= 1:
        raise ValueError(f"epsilon must lie in [0, 1], got {config.epsilon:g}")
    if config.epsilon and not hasattr(env.action_space, "n"):
        raise ValueError(f"epsilon={config.epsilon:g} mixes a finite number of actions, got {env.action_space!r}")
    if not config.temperature > 0:
        raise ValueError(f"temperature must be above 0, got {config.temperature:g}")
    if config.update == "step" and max(config.num_epochs, config.num_minibatches) > 1:
        raise ValueError(
            f"update='step' goes through the batch once in order of time; got num_epochs={config.num_epochs}, "
            f"num_minibatches={config.num_minibatches}"
        )
    return config.num_steps or env.max_steps
