"""Compiles the programs of a group for a number of lanes on some devices."""

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgjax.config import check_config
from pgjax.engine import checkpoints, files, memory
from pgjax.sweeps.group import Group
from pgjax.sweeps.kept import Kept
from pgjax.training import evaluation, failures, host_loop, host_programs, vectorised
from pgjax.types import PyTree

SHARDS = ("lanes", "envs")


# On a CPU level 2 gives programs as fast as level 3, the default, and takes a fifth less time (benchmarks/results).
# Programs that run only once, initialisation and evaluation, compile in half the time without the fusion emitters,
# where jaxlib has that option (0.10.2 and 0.11.0 do, 0.11.1 and 0.11.2 don't).
LEVEL, EMITTERS = "xla_backend_optimization_level", "xla_cpu_use_fusion_emitters"


# Compiled in one part, since the parts of a program are otherwise as many as the machine has cores, and round
# differently.
PARTS = {"xla_cpu_parallel_codegen_split_count": 1}
OFTEN, ONCE = {LEVEL: 2, **PARTS}, {LEVEL: 2, EMITTERS: False, **PARTS}
SMALL = {LEVEL: 0, EMITTERS: False, **PARTS}


class Programs(NamedTuple):
    """The compiled programs of one group, for W lanes."""

    init: Callable[..., PyTree]  # (keys, hypers) -> states
    step: Callable[..., tuple[PyTree, Any]]  # (keys, states, hypers) -> (states, metrics), one segment; states donated
    evaluate: Callable[..., dict[str, Any]]  # (keys, states, hypers) -> Episodes by kind
    lanes: NamedSharding  # of keys and hypers
    states: PyTree  # a sharding for each leaf
    bytes: float  # on each device, of the largest
    idle: float  # of these, arrays of which a call touches only a few rows: a replay buffer
    close: Callable[[], None] = lambda: None  # releases the simulators; no step follows
    calls: bool = False  # whether they call Python, where objects of the user's listen


KEPT: Kept[Programs] = Kept(8)


def compiled(group: Group, width: int, length: int, devices: list[Any]) -> Programs:
    """The programs of `width` lanes; where there are several devices, they share the environments.

    Devices that train different lanes have a program each. One program for all of them (`shard_map` over the lanes)
    would go through XLA's passes for several partitions, which fuse differently and so round differently: a lane
    would depend on the number of devices.

    The programs of the last few groups are kept, so that a later run of the same ones compiles nothing; but not those
    that hold simulators.

    Args:
      length: updates of one call of `step`.
    """
    options = os.environ.get("XLA_FLAGS", "")
    key = None if group.key is None else (group.key, width, length, tuple(devices), options)
    return KEPT.get(key, lambda: _compiled(group, width, length, devices), lambda made: not made.calls)


def _compiled(group: Group, width: int, length: int, devices: list[Any]) -> Programs:
    mesh = Mesh(np.array(devices), ("envs",))
    lanes = NamedSharding(mesh, PartitionSpec())
    states = checkpoints.shapes(group, width)
    where = jax.tree.map(lambda x: _sharding(x, mesh, group.config.num_envs), states)
    keys, hypers = jax.eval_shape(lambda: vectorised.lanes([group.hypers[0]] * width, [0], group.config.generator))
    keys, hypers = (_placed(x, jax.tree.map(lambda _: lanes, x)) for x in (keys, hypers))
    states, episodes = _placed(states, where), group.config.eval_episodes

    # Twice, since a checkpoint holds a second copy.
    idle = 2.0 * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(failures.unselected(states)))

    # XLA compiles outside of Python's lock, each program while the next is traced: the largest comes first.
    pool = concurrent.futures.ThreadPoolExecutor(3)

    calls = False

    def build(function, arguments, out, effort, donate=()):
        nonlocal calls
        with contextlib.ExitStack() as context:
            context.enter_context(warnings.catch_warnings())
            # JAX warns that some donated buffers (PRNG keys) cannot be reused. That is expected and harmless.
            warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
            if group.config.precision != "default":
                context.enter_context(jax.default_matmul_precision(group.config.precision))
            traced = jax.jit(function, out_shardings=out, donate_argnums=donate).trace(*arguments)
            calls = calls or _calls(traced.jaxpr.jaxpr)
            lowered = traced.lower()
        mine = devices[0].platform == "cpu" and LEVEL not in os.environ.get("XLA_FLAGS", "")
        return pool.submit(lowered.compile, accepted(effort) if mine else None)

    effort = OFTEN if group.config.pretrain else SMALL  # supervised pretraining runs for long
    draw = lambda k, h: vectorised.init(k, group.learner, h)  # noqa: E731
    if group.env.host:
        init = build(draw, (keys, hypers), where, effort)
        step, evaluate, parts = _hosted(group, length, (keys, states, hypers), build, lanes, where)
        pool.shutdown(wait=False)
        needed = max(memory.needed(x) for x in (init.result(), *parts))
        return Programs(init.result(), step, evaluate, lanes, where, needed, idle, step.close)
    along, every = None, group.config.eval_every
    if every:
        along = evaluation.along(group.env, group.learner, episodes, every)
    segment = lambda k, s, h: vectorised.segment(k, group.learner, s, h, length, along)  # noqa: E731
    step = build(segment, (keys, states, hypers), (where, lanes), OFTEN, donate=1)
    init = build(draw, (keys, hypers), where, effort)
    measure = lambda k, s, h: vectorised.evaluate(k, group.env, group.learner, s, h, episodes)  # noqa: E731
    evaluate = build(measure, (keys, states, hypers), lanes, ONCE)
    pool.shutdown(wait=False)
    done = init.result(), step.result(), evaluate.result()
    return Programs(*done, lanes, where, max(memory.needed(x) for x in done), idle, calls=calls)


def _calls(jaxpr: Any) -> bool:
    """Whether a program calls Python as it runs: by a callback, or to print."""
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name or "debug" in equation.primitive.name:
            return True
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
        if any(_calls(x) for x in inner if hasattr(x, "eqns")):
            return True
    return False


def accepted(options: dict[str, Any]) -> dict[str, Any]:
    """The XLA compile options that the installed jaxlib accepts; the others are dropped, at the cost of speed."""
    return {name: value for name, value in options.items() if _accepted(name, value)}


@functools.cache
def _accepted(name: str, value: Any) -> bool:
    # jaxlib has no list of its options, and a release may drop one, so an empty program is compiled with it.
    try:
        jax.jit(lambda: 0).lower().compile({name: value})
    except RuntimeError:
        return False
    return True


def _hosted(
    group: Group,
    length: int,
    arguments: tuple[PyTree, PyTree, PyTree],
    build: Callable[..., Any],
    lanes: NamedSharding,
    where: PyTree,
) -> tuple[host_loop.Training, host_loop.Evaluation, list[Any]]:
    """`step` and `evaluate` of environments that are stepped in Python, and the programs that they call."""
    (keys, states, hypers), env, learner = arguments, group.env, group.learner
    config, host, behaviour, policy = group.config, env.host, learner.behaviour, learner.policy
    assert host is not None and behaviour is not None  # as `sweeps.plan.plan` has checked
    steps, stream = check_config(env, config), states.learner.rollout
    placed = lambda tree: _placed(tree, jax.tree.map(lambda _: lanes, tree))  # noqa: E731

    draw = lambda k, updates: host_programs.draw(k, updates, config.num_envs, steps, not stream)  # noqa: E731
    drawn = placed(jax.eval_shape(draw, keys, states.updates).keys)
    now = placed(host_programs.beginning(behaviour, env, states.learner, config.num_envs))
    rows = placed(host_programs.gathered(behaviour, drawn, states.learner, now, steps))
    measure = lambda k: host_programs.draw_evaluation(k, config.eval_episodes, env.max_steps)  # noqa: E731
    measured = placed(jax.eval_shape(measure, keys)[0].keys)
    later = placed(host_programs.beginning(policy, env, states.learner, config.eval_episodes))
    t, greedy = placed((np.int32(0), np.bool_(False)))

    act = lambda k, t, s, memory, time, obs: host_programs.act(behaviour, k, t, s, memory, time, obs, False)  # noqa: E731
    choose, learn = functools.partial(host_programs.act, policy), functools.partial(host_programs.learn, learner)
    building = (
        build(draw, (keys, states.updates), lanes, SMALL),
        build(act, (drawn, t, states.learner, *now), lanes, OFTEN),
        build(learn, (keys, states, hypers, stream, rows), (where, lanes), OFTEN, donate=1),
        build(measure, (keys,), lanes, SMALL),
        build(choose, (measured, t, states.learner, *later, greedy), lanes, ONCE),
    )
    parts = [future.result() for future in building]
    training = host_loop.Training(host, env.max_steps, steps, length, parts[0], parts[1], parts[2], now[0])
    return training, host_loop.Evaluation(host, env.max_steps, parts[3], parts[4], later[0]), parts


def _sharding(x: Any, mesh: Mesh, num_envs: int) -> NamedSharding:
    # A leaf [L, B, ...] is split by environment; the compiler splits the rest of the program accordingly.
    by_env = len(x.shape) > 1 and x.shape[1] == num_envs
    return NamedSharding(mesh, PartitionSpec(None, "envs") if by_env else PartitionSpec())


def _placed(tree: PyTree, where: PyTree) -> PyTree:
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where)


def keep_compiled(folder: pathlib.Path) -> None:
    """Keep compiled programs in a folder, where the other workers of a run find them.

    A folder that was set stays, and at an address nothing is kept.
    """
    if not files.remote(folder) and getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
