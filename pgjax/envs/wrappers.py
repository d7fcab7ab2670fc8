"""The reset and step of a gymnax environment, or of wrappers around one, without automatic resets.

An environment is stepped by its `step_env`, which never resets. A wrapper changes `reset` and `step` alone, and
forwards every other name. So the wrapper's `step` is used, around an environment whose `step` doesn't reset.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.dependencies import importing
from pgjax.types import Array, PyTree

Seen = tuple[PyTree, PyTree, Any, Any, Any]  # obs, state, reward, terminated, truncated


class Functions(NamedTuple):
    """`reset` and `step` of a gymnax environment or of a wrapper around one."""

    reset: Callable[..., tuple[PyTree, PyTree]]  # (key, params) -> (obs, state)
    step: Callable[..., Seen]  # (key, state, action, params) -> (obs, state, reward, terminated, truncated); no reset


def innermost(world: Any) -> Any:
    """The environment inside all wrappers.

    Raises:
      TypeError: for anything but a gymnax Environment or a wrapper around one, for an environment that overrides
        `reset` or `step`, and for a wrapper that overrides `reset_env` or `step_env`.
    """
    with importing("gymnax"):
        from gymnax.environments import environment

    if isinstance(world, environment.Environment):
        for method in ("reset", "step"):
            # gymnax's own are allowed: DeepSea's step adds up statistics over episodes.
            owner = getattr(getattr(type(world), method), "__module__", "")
            if method in vars(world) or owner.partition(".")[0] != "gymnax":
                raise TypeError(
                    f"{_name(world)} has a {method} of its own, and an Environment is stepped by reset_env and "
                    f"step_env; override these, or put {method} into a gymnax.wrappers.purerl.GymnaxWrapper"
                )
        return world
    inside = vars(world).get("_env") if hasattr(world, "__dict__") else None
    if inside is None or not hasattr(type(world), "__getattr__"):
        raise TypeError(f"expected a gymnax Environment, or a wrapper around one, got {_name(world)}")
    for method in ("reset_env", "step_env"):
        if hasattr(type(world), method):
            raise TypeError(
                f"the wrapper {_name(world)} has a {method} of its own, which gymnax's step doesn't call; "
                "override reset and step"
            )
    return innermost(inside)


def functions(world: Any, params: PyTree) -> Functions:
    """The reset and the step of an environment or of a wrapper.

    Raises:
      TypeError: where a wrapper's reset or step doesn't return the values of gymnax 1, or where it changes the
        observations but not `info["final_observation"]`, the last of an episode.
    """
    base = innermost(world)
    if world is base:
        return Functions(base.reset_env, Unreset(base).transition)
    opened = rebuilt(world, Unreset)

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Seen:
        obs, state, reward, terminated, truncated, info = opened.step(key, state, action, params)
        # A wrapper may have begun anew by itself where an episode ended.
        ended = jnp.asarray(terminated, bool) | jnp.asarray(truncated, bool)
        obs = jax.tree.map(lambda last, now: jnp.where(ended, last, now), info["final_observation"], obs)
        return obs, state, reward, terminated, truncated

    _check(_name(world), opened, world.action_space(params), params)
    return Functions(opened.reset, step)


class Unreset:
    """Stands for an environment inside wrappers: it behaves the same, except that `step` doesn't reset."""

    def __init__(self, world: Any):
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def transition(self, key: Array, state: PyTree, action: Array, params: PyTree) -> Seen:
        obs, state, reward, terminated, _ = self._world.step_env(key, state, action, params)
        return obs, state, reward, terminated, self._world.is_truncated(state, params)

    def reset(self, key: Array, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return self._world.reset_env(key, self._world.default_params if params is None else params)

    def step(
        self, key: Array, state: PyTree, action: Array, params: PyTree = None
    ) -> tuple[PyTree, PyTree, Any, Any, Any, dict[str, Any]]:
        params = self._world.default_params if params is None else params
        seen = self.transition(key, state, action, params)
        return *seen, {"terminated": seen[3], "truncated": seen[4], "final_observation": seen[0]}


def rebuilt(world: Any, change: Callable[[Any], Any]) -> Any:
    """New wrappers of the same kinds around `change(environment)`; `world` itself is not changed."""
    if world is innermost(world):
        return change(world)
    # copy.copy would recurse for ever: it looks methods up on a wrapper that has nothing to forward to yet.
    made = object.__new__(type(world))
    vars(made).update(vars(world), _env=rebuilt(vars(world)["_env"], change))
    return made


def _check(name: str, opened: Any, actions: Any, params: PyTree) -> None:
    """Runs one reset and one step, and checks their values and the last observation; TypeError where one is wrong."""
    with jax.ensure_compile_time_eval():
        key = jax.random.key(0)
        first = opened.reset(key, params)
        if not isinstance(first, tuple) or len(first) != 2:
            raise TypeError(f"{name}.reset must give (obs, state), as gymnax 1 does; give what it wraps instead")
        got = opened.step(key, first[1], actions.sample(key), params)
        if not isinstance(got, tuple) or len(got) != 6:
            raise TypeError(
                f"{name}.step must give (obs, state, reward, terminated, truncated, info), as gymnax 1 does; "
                "give what it wraps instead"
            )
        obs, _, _, terminated, truncated, info = got
        last = info.get("final_observation")
        trees: list[Any] = [jax.tree.structure(x) for x in (obs, last)]
        same = trees[0] == trees[1]
        if same and not (terminated | truncated):
            pairs = zip(jax.tree.leaves(obs), jax.tree.leaves(last), strict=True)
            same = all(jnp.shape(a) == jnp.shape(b) and np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        if not same:
            raise TypeError(
                f"{name}.step changes the observation and not info['final_observation'], the last of an episode; "
                "change both alike, as gymnax's FlattenObservationWrapper does"
            )


def _name(thing: Any) -> str:
    return type(thing).__name__
