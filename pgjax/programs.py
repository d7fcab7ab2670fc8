"""A group, a number of lanes and some devices in; the compiled programs of a chunk out. Here programs are compiled."""

import concurrent.futures
import contextlib
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgjax import memory, results, sweep
from pgjax.settings import Group
from pgjax.types import PyTree

SHARDS = ("lanes", "envs")
# On a CPU level 2 gives programs as fast as level 3, the default, and takes a fifth less time (benchmarks/results).
# What runs but once, drawing parameters and evaluation, compiles in half the time without the fusion emitters.
LEVEL, EMITTERS = "xla_backend_optimization_level", "xla_cpu_use_fusion_emitters"
OFTEN, ONCE, SMALL = {LEVEL: 2}, {LEVEL: 2, EMITTERS: False}, {LEVEL: 0, EMITTERS: False}


class Programs(NamedTuple):
    """The compiled programs of one group, for W lanes."""

    init: Callable  # (keys, hypers) -> states
    step: Callable  # (keys, states, hypers) -> (states, metrics), one segment; the states are donated
    evaluate: Callable  # (keys, states, hypers) -> Episodes by kind
    lanes: NamedSharding  # of keys and hypers
    states: PyTree  # a sharding for each leaf
    bytes: float  # on each device, of the largest


def compiled(group: Group, width: int, length: int, devices: list[Any]) -> Programs:
    """Programs of `width` lanes, whose environments the devices share if there are several.

    Devices that train lanes of their own have programs of their own, one device each. One program for all of
    them (`shard_map` over the lanes) would go through XLA's passes for several partitions, which fuse otherwise
    and so round otherwise: a lane would depend on the number of devices.

    Args:
      length: updates of one call of `step`.
    """
    mesh = Mesh(np.array(devices), ("envs",))
    lanes = NamedSharding(mesh, PartitionSpec())
    states = results.shapes(group, width)
    where = jax.tree.map(lambda x: _sharding(x, mesh, group.config.num_envs), states)
    keys, hypers = jax.eval_shape(lambda: sweep.lanes([group.hypers[0]] * width, [0], group.config.generator))
    keys, hypers = (_placed(x, jax.tree.map(lambda _: lanes, x)) for x in (keys, hypers))
    states, episodes = _placed(states, where), group.config.eval_episodes

    # XLA compiles outside of Python's lock, each program while the next is traced: the largest comes last.
    pool = concurrent.futures.ThreadPoolExecutor(3)

    def build(function, arguments, out, effort, donate=()):
        with contextlib.ExitStack() as context:
            context.enter_context(warnings.catch_warnings())
            # A key of the state that the program only reads can't be reused; nothing is lost by it.
            warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
            if group.config.precision != "default":
                context.enter_context(jax.default_matmul_precision(group.config.precision))
            lowered = jax.jit(function, out_shardings=out, donate_argnums=donate).lower(*arguments)
        mine = devices[0].platform == "cpu" and LEVEL not in os.environ.get("XLA_FLAGS", "")
        return pool.submit(lowered.compile, effort if mine else None)

    init = build(lambda k, h: sweep.init(k, group.learner, h), (keys, hypers), where, SMALL)
    measure = lambda k, s, h: sweep.evaluate(k, group.env, group.learner, s, h, episodes)  # noqa: E731
    evaluate = build(measure, (keys, states, hypers), lanes, ONCE)
    segment = lambda k, s, h: sweep.segment(k, group.learner, s, h, length)  # noqa: E731
    step = build(segment, (keys, states, hypers), (where, lanes), OFTEN, donate=1)
    pool.shutdown(wait=False)
    done = init.result(), step.result(), evaluate.result()
    return Programs(*done, lanes, where, max(memory.needed(x) for x in done))


def _sharding(x: Any, mesh: Mesh, num_envs: int) -> NamedSharding:
    # A leaf [L, B, ...] is of the environments; the compiler splits the rest of the program accordingly.
    by_env = len(x.shape) > 1 and x.shape[1] == num_envs
    return NamedSharding(mesh, PartitionSpec(None, "envs") if by_env else PartitionSpec())


def _placed(tree: PyTree, where: PyTree) -> PyTree:
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where)
