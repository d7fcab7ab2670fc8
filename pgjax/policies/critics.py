"""What a critic's outputs are: a value, values of all actions, logits over bins, or several values."""

from typing import Any

import jax.numpy as jnp

from pgjax.config import Config
from pgjax.numerics import value_classes
from pgjax.types import Array, Env, PyTree

CLASSES: dict[str, Any] = {"two_hot": value_classes.TwoHot, "hl_gauss": value_classes.HLGauss}


def outputs(env: Env, config: Config) -> int:
    """The number of a critic's outputs."""
    if config.critic in CLASSES:
        return value_classes.COUNT
    return action_values(env, config) or 1


def action_values(env: Env, config: Config) -> int:
    """The number A of action values [..., A] that the critic gives; 0 for a critic of states, [...]."""
    if config.critic != "action_value":
        return 0
    if not hasattr(env.action_space, "n"):
        raise ValueError(f"critic='action_value' needs a finite number of actions, got {env.action_space!r}")
    return env.action_space.n


def gain(config: Config) -> float:
    """The gain of a critic's last layer: classes begin nearly uniform, which is the value 0."""
    return 0.01 if config.critic in CLASSES else 1.0


def read(kind: str, x: Array) -> tuple[Array, PyTree]:
    """(Value [...] or action values [..., A], what the critic's loss needs besides or ()) of outputs [..., O].

    Args:
      kind: `config.critic`.
    """
    if kind in CLASSES:
        return value_classes.expected(x), CLASSES[kind](x)
    return (x if kind == "action_value" else x[..., 0]), ()


def together(found: list[Array]) -> tuple[Array, PyTree]:
    """(Mean, Ensemble) of the values [...] of several critics."""
    values = jnp.stack(found, axis=-1)
    return jnp.mean(values, axis=-1), value_classes.Ensemble(values)
