"""What an observation holds: what is to be seen, and where it is a Dict with an "action_mask", which actions are legal.

The mask has the form of the action: [A] for a Discrete, [D, largest n] or [sum of n] for a MultiDiscrete, and a tree of
such for a Dict or Tuple of actions, from which parts without a mask may be left out. True, or 1, is legal.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.dependencies import importing
from pgjax.envs import spaces
from pgjax.types import Array, Env, PyTree, Step

MASK = "action_mask"


def has_mask(space: Any) -> bool:
    """Whether observations of this space say which actions are legal."""
    inside = getattr(space, "spaces", None)
    return isinstance(inside, Mapping) and MASK in inside


def content(space: Any) -> Any:
    """The space of what is to be seen: without the mask, and the part itself where a Dict is left with a single one."""
    if not has_mask(space):
        return space
    rest = {name: part for name, part in space.spaces.items() if name != MASK}
    return next(iter(rest.values())) if len(rest) == 1 else _dict(rest)


def leaves(space: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(Path, space) of every part to be seen, a Dict's in the order of their names; the mask is left out."""
    if has_mask(space):
        space = _dict({name: part for name, part in space.spaces.items() if name != MASK})
    yield from _walk(space, ())


def _walk(space: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    inside = getattr(space, "spaces", None)
    if inside is None:
        yield path, space
        return
    for name in sorted(inside) if isinstance(inside, Mapping) else range(len(inside)):
        yield from _walk(inside[name], (*path, name))


def at(obs: PyTree, path: tuple[Any, ...]) -> Any:
    """The part of an observation that a path leads to."""
    for name in path:
        obs = obs[name]
    return obs


def state_index(obs: PyTree) -> Any:
    """The number of the state that a tabular environment shows, [...] int, with a mask beside it or not."""
    return obs["observation"] if isinstance(obs, Mapping) else obs


def measured(space: Any, obs: PyTree) -> PyTree:
    """The observation with None for every part that `normalize_obs` leaves as it is: all but a Box of numbers.

    A mask is left, as are choices, tokens and what comes in bytes.
    """
    kept = {path for path, part in leaves(space) if spaces.is_measured(part)}

    def pick(x: PyTree, path: tuple[Any, ...]) -> PyTree:
        if isinstance(x, Mapping):
            return {name: pick(part, (*path, name)) for name, part in x.items()}
        if isinstance(x, tuple):
            return tuple(pick(part, (*path, i)) for i, part in enumerate(x))
        return x if path in kept else None

    return pick(obs, ())


def legal(space: Any, actions: Any) -> Callable[[PyTree], PyTree] | None:
    """obs -> the mask of legal actions, as `policies.choices.legal_only` takes it; None where observations have none.

    Raises:
      ValueError: where the mask hasn't the form of the actions.
    """
    if not has_mask(space):
        return None
    mask = space.spaces[MASK]
    check_mask(mask, actions)
    return lambda obs: _aligned(actions, mask, obs[MASK])


def _aligned(actions: Any, space: Any, mask: PyTree) -> PyTree:
    """The mask, an element of `space`, with that of every MultiDiscrete as [..., D, largest n]."""
    inside = getattr(actions, "spaces", None)
    if isinstance(inside, Mapping):
        return {name: _aligned(inside[name], space.spaces[name], one) for name, one in mask.items()}
    if inside is not None:
        return tuple(_aligned(*both) for both in zip(inside, space.spaces, mask, strict=True))
    if spaces.is_multi_discrete(actions) and len(space.shape) == 1:
        return spaces.padded(jnp.asarray(mask, bool), actions.nvec.tolist(), False)
    return mask


def masked(env: Env, legal: Callable[[PyTree, PyTree], PyTree]) -> Env:
    """The environment with a mask beside its observation: {"observation": obs, "action_mask": legal(params, state)}.

    Args:
      legal: (params, state) -> bool, in the form of an action; of the state after each step and each reset.

    Raises:
      ValueError: where the observations have a mask already.
    """
    if has_mask(env.observation_space):
        raise ValueError(f"masked: the observations have an {MASK!r} already")

    def beside(params, state, obs):
        return {"observation": obs, MASK: jax.tree.map(lambda x: jnp.asarray(x, bool), legal(params, state))}

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        state, obs = env.reset(key, params)
        return state, beside(params, state, obs)

    def step(key: Array, params: PyTree, state: PyTree, action: Any) -> tuple[PyTree, Step]:
        state, one = env.step(key, params, state, action)
        return state, one._replace(obs=beside(params, state, one.obs))

    shapes = jax.eval_shape(lambda: reset(jax.random.key(0), env.params)[1])[MASK]
    whole = _dict({"observation": env.observation_space, MASK: _of_masks(shapes)})
    check_mask(whole.spaces[MASK], env.action_space)
    return env._replace(reset=reset, step=step, observation_space=whole)


def _of_masks(shapes: PyTree) -> Any:
    """The space of a tree of masks."""
    with importing("gymnax"):
        from gymnax.environments import spaces as kinds
    if isinstance(shapes, Mapping):
        return kinds.Dict({name: _of_masks(one) for name, one in shapes.items()})
    if isinstance(shapes, tuple):
        return kinds.Tuple(tuple(map(_of_masks, shapes)))
    return kinds.Box(0, 1, shapes.shape, jnp.bool_)


def check_mask(mask: Any, actions: Any) -> None:
    """ValueError where the space of a mask hasn't the form of the actions."""
    inside = getattr(actions, "spaces", None)
    if inside is not None:
        parts, given = spaces.parts(actions), getattr(mask, "spaces", None)
        pairs = parts.items() if isinstance(parts, dict) else enumerate(parts)
        if given is None:
            raise ValueError(f"the {MASK} must be a tree like the actions {actions!r}, got {mask!r}")
        for name, part in pairs:
            if not isinstance(given, Mapping) or name in given:
                check_mask(given[name], part)
        return
    if spaces.is_discrete(actions):
        allowed: list[tuple[int, ...]] = [(int(actions.n),)]
    elif spaces.is_multi_discrete(actions):
        most = int(np.max(actions.nvec))
        allowed = [(len(actions.nvec), most), (int(np.sum(actions.nvec)),)]
    else:
        raise ValueError(f"the {MASK} says which actions are legal, and {actions!r} has no finite number of them")
    if tuple(mask.shape) not in allowed:
        raise ValueError(
            f"the {MASK} has shape {tuple(mask.shape)}, and actions are {actions!r}; expected "
            + " or ".join(map(str, allowed))
        )


def _dict(parts: dict[str, Any]) -> Any:
    with importing("gymnax"):
        from gymnax.environments import spaces as kinds
    return kinds.Dict(parts)
