"""Any gymnax environment in, an `Env` of pure functions out; or any of Gymnasium, stepped on the host."""

import dataclasses
import inspect
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import spaces
from pgjax.envs import brax, gymnasium
from pgjax.packages import importing
from pgjax.plugs import unknown
from pgjax.types import Array, Env, PyTree, Step


class Static(dict):
    """Name -> default of arguments that a world is built with: lanes of one program can't differ in any of them."""


def names() -> list[str]:
    """Every environment that `make` knows by name: gymnax's own and this package's."""
    return list(_registry().registered_envs)


def make(name: str, **params: Any) -> Env:
    """The registered environment `name`, with other parameters or constructor arguments.

    Args:
      name: of gymnax or this package; or "gymnasium:ID", see `envs.gymnasium`; or "brax:NAME", see `envs.brax`.

    Raises:
      ValueError: for an unknown name or parameter, with the nearest one known.
    """
    if name.startswith(gymnasium.PREFIX):
        return gymnasium.make(name, **params)
    if name.startswith(brax.PREFIX):
        return brax.make(name, **params)
    registry = _registry()
    if name not in registry.registered_envs:
        others = [gymnasium.PREFIX + name] if gymnasium.known(name) else registry.registered_envs
        raise ValueError(unknown("no environment", name, others))
    accepted = _constructor(registry, name)
    arguments = {key: value for key, value in params.items() if key in accepted}
    world, defaults = registry.make(name, **arguments)
    rest = {key: value for key, value in params.items() if key not in accepted}
    return from_gymnax(world, replace_fields(defaults, rest, name))


def settable(name: str) -> dict[str, Any]:
    """Name -> default of everything that `make(name, ...)` takes."""
    if name.startswith(gymnasium.PREFIX):
        return Static(gymnasium.settable(name))
    if name.startswith(brax.PREFIX):
        return Static(brax.settable(name))
    params = param_names(make(name).params)
    return {**_constructor(_registry(), name), **params}


def _constructor(registry: Any, name: str) -> dict[str, Any]:
    """Name -> default of what the environment's constructor takes."""
    # gymnax has no public way from a name to its factory.
    parameters = inspect.signature(registry._registry[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def from_gymnax(world: Any, params: PyTree = None) -> Env:
    """Adapt a gymnax >= 1.0 environment instance.

    The environment's own keyed step is used, without gymnax's automatic reset. Actions of a Box are
    clipped to its bounds; rewards are float32; `truncated` is false wherever `terminated` is true.
    """
    params = world.default_params if params is None else params
    # For those who differentiate through the world; it costs nothing, and gymnax cuts it off by default.
    if getattr(world, "supports_transition_gradients", False):
        world = world.with_transition_gradients()
    action_space, observation_space = world.action_space(params), world.observation_space(params)
    spaces.check_actions(action_space, type(world).__name__)
    if type(world).__module__.startswith("gymnax.environments.minatar"):
        observation_space = spaces.images(observation_space)  # of Seaquest, [10, 10, 10], the sizes don't tell
    continuous = hasattr(action_space, "low")
    # Gymnax adds arrays of other ranks in a few worlds, which a program may forbid.
    allowed = jax.numpy_rank_promotion("allow")
    # Gymnax states mix Python numbers with arrays; a scan needs the same types at both its ends.
    reference = jax.eval_shape(allowed(lambda: world.reset_env(jax.random.key(0), params)))
    spaces.check_shown(observation_space, reference[0], type(world).__name__)

    def settle(obs, state):
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), (obs, state), reference)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        obs, state = settle(*world.reset_env(key, params))
        return state, obs

    def step(key: Array, params: PyTree, state: PyTree, action: Array) -> tuple[PyTree, Step]:
        if continuous:
            bounds = world.action_space(params)  # these parameters', which a sweep may have replaced
            action = jnp.clip(action, bounds.low, bounds.high)
        obs, state, reward, terminated, _ = world.step_env(key, state, action, params)
        terminated = jnp.asarray(terminated, bool)
        truncated = jnp.asarray(world.is_truncated(state, params), bool) & ~terminated
        obs, state = settle(obs, state)
        return state, Step(obs, jnp.asarray(reward, jnp.float32), terminated, truncated)

    return Env(
        params=params,
        reset=allowed(reset),
        step=allowed(step),
        observation_space=observation_space,
        action_space=action_space,
        max_steps=int(params.max_steps_in_episode),
        expert=getattr(world, "expert", None),
        held_out=getattr(world, "held_out", None),
    )


def check(env: Env) -> None:
    """The spaces, shapes and types of an Env written by hand, by one abstract step; ValueError where one is wrong."""
    for name, space in (("observation_space", env.observation_space), ("action_space", env.action_space)):
        if type(space).__module__.startswith("gymnasium."):
            raise ValueError(f"the environment's {name} is one of Gymnasium; give one of gymnax.environments.spaces")
    spaces.check_actions(env.action_space)
    if isinstance(env.max_steps, bool) or not isinstance(env.max_steps, numbers.Integral) or env.max_steps < 1:
        raise ValueError(f"the environment's max_steps={env.max_steps!r} must be a whole number of 1 or more")

    def step(key):
        state, obs = env.reset(key, env.params)
        action = env.action_space.sample(key)
        return (state, obs), env.step(key, env.params, state, action)

    before, (state, seen) = jax.eval_shape(step, jax.random.key(0))
    spaces.check_shown(env.observation_space, before[1])
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (before, (state, seen.obs))]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the environment's step changes the shapes or types of (state, obs): {kinds[0]} became {kinds[1]}"
        )
    for field, dtype in (("reward", "float32"), ("terminated", "bool"), ("truncated", "bool")):
        got = getattr(seen, field)
        if (got.shape, str(got.dtype)) != ((), dtype):
            raise ValueError(
                f"the environment's step gave {field} as {got.dtype}{list(got.shape)}, expected a {dtype} scalar"
            )


def with_params(env: Env, values: dict[str, Any]) -> PyTree:
    """The environment's parameters with some replaced; the values may be traced."""
    return replace_fields(env.params, values, "the environment")


def replace_fields(params: PyTree, values: dict[str, Any], owner: str) -> PyTree:
    known = param_names(params)
    for name in values:
        if name not in known:
            raise ValueError(unknown(f"{owner} takes no parameter", name, known))
    if not values:
        return params
    if isinstance(params, dict):
        return {**params, **values}
    return params._replace(**values) if hasattr(params, "_fields") else dataclasses.replace(params, **values)


def param_names(params: PyTree) -> dict[str, Any]:
    """Name -> value of an environment's parameters: a dict, a NamedTuple or a dataclass."""
    if isinstance(params, dict):
        return params
    if hasattr(params, "_fields"):
        return params._asdict()
    if dataclasses.is_dataclass(params):
        fields = [field.name for field in dataclasses.fields(params)]
        return {name: getattr(params, name) for name in fields if not name.startswith("_")}
    return {}


def _registry():
    # Imported where it is used: gymnax takes seconds, and most of the package needs none of it.
    with importing("gymnax"):
        import gymnax.registration

    import pgjax.envs.classic  # noqa: F401  (registers this package's own worlds)
    import pgjax.envs.probes  # noqa: F401
    import pgjax.envs.puzzles  # noqa: F401
    import pgjax.envs.tabular  # noqa: F401

    return gymnax.registration
