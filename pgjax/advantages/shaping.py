"""Another reward in training, given to any advantage; the returns that are reported stay the environment's."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from pgjax.hyperparameters import hyperparameters, name_of
from pgjax.running import around, running
from pgjax.types import AdvantageFn, Array, PyTree, Running


def shaped(advantage: AdvantageFn | Running, reward: Callable[..., Array] | Running) -> Any:
    """The same advantage of another reward: `reward(trajectory, now, **hypers)`, [T, B].

    For bonuses, costs and potentials. A Running may stand for `reward`: what RND learns, or a Lagrange multiplier.
    `episode_return` and the final returns are those of the environment's own rewards.
    """
    bonus, inner, named = running(reward), running(advantage), hyperparameters(reward)

    def apply(states: tuple[PyTree, ...], *arguments: Any, **hypers: Any) -> tuple[tuple[PyTree, ...], Any]:
        *play, trajectory, now = arguments
        own = {name: x for name, x in hypers.items() if name in named}
        others = {name: x for name, x in hypers.items() if name not in named}
        first, value = bonus.apply(states[0], trajectory, now, **own)
        if jnp.shape(value) != trajectory.reward.shape:
            raise ValueError(
                f"shaped: {name_of(reward)} returned shape {jnp.shape(value)}, expected one reward for each step, "
                f"[T, B] = {trajectory.reward.shape}"
            )
        second, output = inner.apply(states[1], *play, trajectory._replace(reward=value), now, **others)
        return (first, second), output

    apply.__name__ = name_of(advantage)
    return around(apply, reward, advantage)
