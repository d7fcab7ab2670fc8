"""What a flax module holds that no gradient trains: statistics of batches (BatchNorm), and noise (dropout).

Both stay as they are from the first step of a rollout to the last gradient step on it, so that what is evaluated is the
policy that acted: statistics are the running ones, gathered anew from each batch after it was learned from; noise is
one draw for all steps of an update, as in NoisyNet-A3C (Fortunato et al. 2018, sec. 3) and as dropout has to be for an
unbiased gradient (Hausknecht & Wagener 2022, Consistent dropout). After training the statistics are the last, and the
noise is off where the module can turn it off.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.types import Array, Policy, PyTree, Trajectory, Variables


class Held(NamedTuple):
    """A module's variables."""

    statistics: PyTree  # the module's own collections; {} without
    seed: Array  # [] uint32, of the noise


class Module(NamedTuple):
    """A module as pure functions."""

    init: Callable[[Array], tuple[PyTree, PyTree]]  # key -> (params, statistics)
    apply: Callable[[PyTree, Held, PyTree, bool], Any]  # (params, held, obs, whether it learns) -> output
    gather: Callable[[PyTree, Held, PyTree], PyTree]  # (params, held, obs [N, ...]) -> statistics
    noisy: bool


def linen_module(module: Any, example: PyTree) -> Module | None:
    """A linen module that has such variables, or None for one whose variables are all "params"."""
    key, name = jax.random.key(0), type(module).__name__
    switch = "train" in inspect.signature(module.__call__).parameters
    flags = lambda train: {"train": train} if switch else {}  # noqa: E731
    shapes = jax.eval_shape(module.init, key, example)
    kept, noisy = [collection for collection in shapes if collection != "params"], False
    try:
        jax.eval_shape(lambda v, x: module.apply(v, x, **flags(True), mutable=kept), shapes, example)
    except flax.errors.InvalidRngError:
        noisy = True
    if kept and not switch:
        raise ValueError(
            f"{name} has variables that are no params, {', '.join(kept)}; write it as def __call__(self, obs, train: "
            "bool = False), so that they can be gathered with train=True and used with train=False"
        )
    if kept and noisy:
        raise ValueError(
            f"{name} has both {', '.join(kept)} and noise behind one train=True, and acting needs the noise without "
            "new statistics; use an nnx module, or one of the two"
        )

    def init(key):
        variables = module.init(key, example)
        return {"params": variables["params"]}, {name: variables[name] for name in kept}

    def apply(params, held, obs, learns):
        noise = {"rngs": {"params": jax.random.key(held.seed)}} if noisy else {}
        return module.apply({**params, **held.statistics}, obs, **flags(learns and not kept), **noise)

    def gather(params, held, obs):
        return module.apply({**params, **held.statistics}, obs, **flags(True), mutable=kept)[1]

    return Module(init, apply, gather, noisy) if kept or noisy else None


def nnx_module(build: Callable[[nnx.Rngs], nnx.Module]) -> Module | None:
    """An nnx module that has such variables, or None for one whose variables are all `nnx.Param`s.

    Raises:
      ValueError: for variables that are neither parameters, nor statistics, nor random keys.
    """
    split: Any = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    _, _, statistics, noise, rest = split
    if kept := nnx.to_pure_dict(nnx.filter_state(rest, nnx.Variable)):
        raise ValueError(
            f"the module has variables that are no nnx.Param, nnx.BatchStat or nnx.RngState: "
            f"{', '.join(map(str, kept))}; make constants plain arrays, and keep what changes in the policy's memory"
        )
    gathers, noisy = bool(jax.tree.leaves(statistics)), bool(jax.tree.leaves(noise))

    def state(module, kind):
        return nnx.to_pure_dict(nnx.state(module, kind))

    def filled(params, held):
        # The module is built anew at each use: its constants and its random keys belong to the current trace.
        module = build(nnx.Rngs(jax.random.key(held.seed)))
        for kind, values in ((nnx.Param, params), (nnx.BatchStat, held.statistics)):
            found = nnx.state(module, kind)
            nnx.replace_by_pure_dict(found, values)
            nnx.update(module, found)
        return module

    def init(key):
        module = build(nnx.Rngs(key))
        return state(module, nnx.Param), state(module, nnx.BatchStat)

    def apply(params, held, obs, learns):
        module: Any = filled(params, held)
        module.set_attributes(use_running_average=True, deterministic=not learns, raise_if_not_found=False)
        return module(obs)

    def gather(params, held, obs):
        module: Any = filled(params, held)
        module.set_attributes(use_running_average=False, deterministic=False, raise_if_not_found=False)
        module(obs)
        return state(module, nnx.BatchStat)

    return Module(init, apply, gather, noisy) if gathers or noisy else None


def policy(module: Module, memoryless: Callable[..., Policy], checked: Callable[[Any], Any]) -> Policy:
    """The Policy of such a module, whose `variables` say how the learner keeps them.

    Args:
      memoryless: (init, call) -> Policy, for call(params, obs, part=None, lead=1); checked: of the module's output.
    """

    def init(key):
        return module.init(key)[0]

    def bind(held, learns):
        def call(params, obs, part=None, lead=1):
            if module.noisy:
                rows = jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[lead:]), obs)
                output = jax.vmap(lambda row: module.apply(params, held, row, learns))(rows)  # the same draw for each
                shape = jax.tree.leaves(obs)[0].shape[:lead]
                output = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[2:]), output)
            else:
                output = module.apply(params, held, obs, learns)
            output = checked(output)
            return output if part is None else output[("actor", "critic").index(part)]

        return memoryless(init, call)

    def first(key):
        return Held(module.init(key)[1], jax.random.bits(key))

    def after(key: Array, params: PyTree, held: Held, trajectory: Trajectory) -> Held:
        mask = trajectory.mask.reshape(-1)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory.obs)
        # Steps that don't count are replaced by others that do, each about as often.
        index = jnp.argsort(mask <= 0)[jnp.arange(mask.size) % jnp.maximum(jnp.sum(mask > 0), 1)]
        gathered = module.gather(params, held, jax.tree.map(lambda x: x[index], rows)) if held.statistics else {}
        return Held(gathered, jax.random.bits(key))

    made = bind(first(jax.random.key(0)), False)
    return made._replace(variables=Variables(first, bind, after, (bind, made.act, made.evaluate)))
