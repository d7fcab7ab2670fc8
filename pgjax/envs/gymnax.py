"""`from_gymnax` makes an `Env` of a gymnax environment, without its resets and with both flags of an end apart."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.envs import images, spaces, wrappers
from pgjax.envs.parameters import LIMIT, settled, time_limit
from pgjax.types import Array, Env, PyTree, Step

# gymnax environments whose observations leave their declared bounds.
UNBOUNDED = ("MemoryChain", "UmbrellaChain", "MetaMaze", "GaussianBandit", "MNISTBandit")


def from_gymnax(world: Any, params: PyTree = None) -> Env:
    """Adapt a gymnax >= 1.0 environment instance, or wrappers around one.

    An environment's own keyed `step_env` is used, and a wrapper's `step`, without gymnax's automatic reset; an episode
    of a wrapped environment begins with the wrapper's `reset`, so a wrapper's state does not outlive an episode.
    Actions of a Box, one inside a Dict or a Tuple too, are clipped to its bounds; rewards are float32; `truncated` is
    false wherever `terminated` is true; observations have the type that their space declares. gymnax's own environments
    compute in 32 bits, since several fail under jax_enable_x64.

    Args:
      params: by default the environment's own. Parameters that gymnax computes from others are computed anew.

    Raises:
      TypeError: for anything but a gymnax environment, and for one whose reset or step would have no effect.
      ValueError: for parameters that contradict each other, a time limit below 1, or observations of another shape
        than the space declares.
    """
    world = wrappers.rebuilt(world, _prepared)
    base = wrappers.innermost(world)
    params = settled(world.default_params if params is None else params, type(base).__name__)
    own = _plain if _of_gymnax(type(base)) else _ranked
    functions = own(lambda: wrappers.functions(world, params))()
    own_reset, own_step, actions = own(functions.reset), own(functions.step), own(world.action_space)
    action_space = actions(params)
    spaces.check_parts(action_space, type(base).__name__)
    bounded = any(spaces.is_box(part) for part in jax.tree.leaves(spaces.parts(action_space)))
    # Gymnax states mix Python numbers with arrays; a scan needs the same types at both its ends.
    obs, state = jax.eval_shape(lambda: own_reset(jax.random.key(0), params))
    observation_space = _observation_space(world, own(world.observation_space)(params), obs)
    if hasattr(observation_space, "low") and hasattr(obs, "dtype"):
        obs = jax.ShapeDtypeStruct(obs.shape, observation_space.dtype)
    reference = obs, state

    def settle(obs, state):
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), (obs, state), reference)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        obs, state = settle(*own_reset(key, params))
        return state, obs

    def step(key: Array, params: PyTree, state: PyTree, action: Array) -> tuple[PyTree, Step]:
        if bounded:
            action = spaces.clip(actions(params), action)  # these parameters' bounds, which a sweep may have replaced
        obs, state, reward, terminated, truncated = own_step(key, state, action, params)
        terminated = jnp.asarray(terminated, bool)
        truncated = jnp.asarray(truncated, bool) & ~terminated
        obs, state = settle(obs, state)
        return state, Step(obs, jnp.asarray(reward, jnp.float32), terminated, truncated)

    return Env(
        params=params,
        reset=reset,
        step=step,
        observation_space=observation_space,
        action_space=action_space,
        max_steps=time_limit(LIMIT, params.max_steps_in_episode),
        expert=getattr(base, "expert", None) if world is base else None,
        held_out=getattr(base, "held_out", None),
    )


def _ranked(function: Any) -> Any:
    """The function with rank promotion allowed: a few gymnax environments need it, and a program may forbid it."""
    return jax.numpy_rank_promotion("allow")(function)


def _plain(function: Any) -> Any:
    """The function in 32 bits, under jax_enable_x64 too: its arguments and its computation are narrowed."""

    def narrowed(*args):
        if not _double():
            return function(*args)
        args = jax.tree.map(_narrow, args)
        with jax.enable_x64(False):
            # A Python number would become one of 64 bits outside.
            return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, (int, float)) else x, function(*args))

    return _ranked(narrowed)


def _double() -> bool:
    """Whether jax_enable_x64 holds here."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


def _narrow(x: Any) -> Any:
    short = {"float64": np.float32, "int64": np.int32}
    array = isinstance(x, (jax.Array, np.ndarray, np.generic))
    return x.astype(short[str(x.dtype)]) if array and str(x.dtype) in short else x


def _of_gymnax(world: type) -> bool:
    return world.__module__.partition(".")[0] == "gymnax"


def _prepared(base: Any) -> Any:
    """The environment in the precision at hand, with gradients through its transitions where it offers them."""
    if _double() and _of_gymnax(type(base)):
        base = copy.copy(base)
        vars(base).update({name: _narrow(x) for name, x in vars(base).items()})
    # For pathwise gradients. It costs nothing, and gymnax stops these gradients by default.
    able = getattr(base, "supports_transition_gradients", False)  # from gymnax 1.0.1 on
    return base.with_transition_gradients() if able else base


def _observation_space(world: Any, declared: Any, obs: PyTree) -> Any:
    """The space of the observations `obs`, an array or its shape and type; ValueError where it isn't the declared one.

    A type that the environment doesn't keep is corrected, and so are bounds.
    """
    base = wrappers.innermost(world)
    spaces.check_shown(declared, obs, type(base).__name__)
    space = _as_given(declared, obs, type(base))
    # The sizes of Seaquest's images, [10, 10, 10], don't tell which axis holds the channels.
    minatar = world is base and type(base).__module__.startswith("gymnax.environments.minatar")
    return images.declared(space) if minatar else space


def _as_given(space: Any, obs: PyTree, world: type) -> Any:
    """The declared space with the type of the observations, and without the bounds that they are known to leave."""
    if not hasattr(space, "low") or not hasattr(obs, "dtype"):
        return space
    given = copy.copy(space)
    # FourRooms shows integers and declares floats, which hold them exactly; the reverse would cut floats off.
    whole = not jnp.issubdtype(obs.dtype, jnp.floating) and jnp.issubdtype(space.dtype, jnp.floating)
    given.dtype = jax.dtypes.canonicalize_dtype(space.dtype) if whole else obs.dtype
    if _of_gymnax(world) and world.__name__ in UNBOUNDED:
        given.low, given.high = -np.inf, np.inf
    return given


def check_shapes(env: Env) -> None:
    """The spaces, shapes and types of an Env written by hand, by one abstract step; ValueError where one is wrong."""
    for name, space in (("observation_space", env.observation_space), ("action_space", env.action_space)):
        for part in (space, *jax.tree.leaves(spaces.parts(space))):
            if type(part).__module__.startswith("gymnasium."):
                raise ValueError(
                    f"the environment's {name} is one of Gymnasium; give one of gymnax.environments.spaces"
                )
    spaces.check_parts(env.action_space)
    time_limit("the environment's max_steps", env.max_steps)

    def step(key):
        state, obs = env.reset(key, env.params)
        action = spaces.sample(env.action_space, key)
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
