"""Estimators, an environment, a policy and its parameters in; a Report on their bias and variance out.

Here programs are compiled and time passes: chunks of whole episodes, each measured on the device and merged
on the host in float64, so memory doesn't grow with their number.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import oracle, rollout
from pgjax.types import Env, Policy, PyTree, Trajectory
from pgjax.variance import checks, decomposition, exact, fit, measure, report, scores
from pgjax.variance.grid import ScoreFunction
from pgjax.variance.measure import Inputs, Setup
from pgjax.variance.stream import Program
from pgjax.variance.weights import Fitted, Tables

# The estimator that stands for the true gradient where none is known exactly.
REFERENCE = ScoreFunction(baseline="value")


def compare(
    estimators: Any, env: Env, policy: Policy, params: PyTree, *, behaviour: PyTree = None, seed: int = 0, **options
) -> report.Report:
    """Measure estimators of the gradient of the discounted return J, all on the same episodes.

    Args:
      estimators: names of `grid.ESTIMATORS`, or name -> one of: a ScoreFunction; `Plugs(advantage,
        estimator)`, any EstimatorFn; a bare `gradient(key, params)`, or `Sampler(gradient, batch)`.
      params: where the gradient is taken.
      behaviour: the parameters that act; by default `params`.
      seed: of everything that is drawn.
      options: see `prepare`.
    """
    return prepare(estimators, env, policy, params, **options)(params, behaviour, seed)


def prepare(
    estimators: Any,
    env: Env,
    policy: Policy,
    params: PyTree,
    *,
    discount: float = 0.99,
    episodes: int = 4096,
    batch: tuple[int, ...] = (1, 4, 16, 64, 256),
    reference_episodes: int | None = None,
    pilot: int = 512,
    damping: float = 1e-3,
    states: int = 0,
    timing: bool = False,
    devices: Any = None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Callable[..., report.Report]:
    """`measure(params, behaviour=None, seed=0) -> Report`, compiled once for all parameters of the same shapes.

    Args:
      discount: gamma of J, the expected discounted return within the time limit.
      episodes: how many are measured, rounded up to whole chunks; the report says how many it were.
      batch: batch sizes of the curves, each dividing the next; 8 of the largest at least.
      reference_episodes: of the reference, where J's gradient isn't known exactly; by default 4 x episodes.
        It is REFERENCE, on its own episodes, and its error is part of every error bar.
      pilot: episodes to which baselines and the Fisher matrix are fitted, apart from those measured.
      damping: of the Fisher matrix, in units of its mean diagonal.
      states: states from which the decomposition of Tucker et al. (2018) branches; 0 leaves it out.
      timing: time each estimator by itself.
      progress: called with a stage's name and the share of it that is done.

    Raises:
      ValueError: for estimators that can't be had here, and sizes that don't fit, before anything runs.
    """
    chosen = checks.named_estimators(estimators)
    mdp = checks.enumerable(env, discount)
    checks.possible(chosen, env, policy, mdp, discount)
    levels, total = checks.levels(chosen, batch, episodes)
    checks.counts(pilot=(pilot, 1), states=(states, 0), reference_episodes=(reference_episodes or 1, 1))
    one_step = example(env, policy, params)
    where = scores.layout(policy, params, one_step)
    steps = env.max_steps * sum(x.size for x in jax.tree.leaves(one_step))
    devices = list(jax.devices() if devices is None else devices)
    size = sum(where.sizes)
    natural = any(isinstance(e, ScoreFunction) and e.precondition == "natural" for e in chosen.values())
    if natural and size > 8192:
        raise ValueError(f"precondition='natural' inverts a matrix of {size} x {size}; 8192 parameters are the limit")
    chunk = checks.chunk(levels, total, steps + size * len(chosen), max(e.batch for e in chosen.values()))
    total = math.ceil(total / (chunk * len(devices))) * chunk * len(devices)
    ahead = {
        n: isinstance(e, ScoreFunction) and (e.returns, e.critic) == ("all_action", "learned")
        for n, e in chosen.items()
    }
    setup = Setup(chosen, env, policy, where, levels, chunk, any(ahead.values()))
    rows = {name: e for name, e in chosen.items() if isinstance(e, ScoreFunction)}
    alone = setup._replace(estimators={"reference": REFERENCE}, levels=(1,), has_states=False)
    alone = alone._replace(chunk=checks.chunk((1,), total, steps + size, 1))
    run = Program(setup, devices)
    refer = Program(alone, devices)
    timers = {
        name: Program(setup._replace(estimators={name: e}, has_states=ahead[name]), devices[:1])
        for name, e in chosen.items()
    }
    num_states = env.observation_space.n if not hasattr(env.observation_space, "low") else 1
    pilot_size = max(n for n in range(1, 65) if pilot % n == 0)

    @jax.jit
    def fit_chunk(key, behaviour, params, tables, gamma):
        trajectory, _ = measure.sample(setup._replace(has_states=False, chunk=pilot_size), key, behaviour)
        return fit.sums(rows, policy, params, trajectory, tables, gamma, where, num_states)

    branch_rows = {name: row for name, row in rows.items() if states and _splits(row)}

    @jax.jit
    def branch(key, inputs):
        return decomposition.decompose(
            key, branch_rows, env, policy, inputs.params, inputs.fitted, inputs.tables, inputs.discount, where
        )

    def measured(params: PyTree, behaviour: PyTree = None, seed: int = 0) -> report.Report:
        on_policy = behaviour is None
        if branch_rows and not on_policy:
            raise ValueError("states: the decomposition is of estimators on policy; leave behaviour out")
        behaviour = params if on_policy else behaviour
        stages = ("pilot", "reference", "main", "branch", "time")
        keys = dict(zip(stages, jax.random.split(jax.random.key(seed), len(stages)), strict=True))
        gamma = jnp.float32(discount)
        truth, tables = _truth(mdp, policy, params, where)
        sums = None
        if any(fit.needs_pilot(row) for row in rows.values()):
            for i in range(pilot // pilot_size):
                found = fit_chunk(jax.random.fold_in(keys["pilot"], i), behaviour, params, tables, gamma)
                found = jax.tree.map(lambda x: np.asarray(x, np.float64), found)
                sums = found if sums is None else jax.tree.map(np.add, sums, found)
                progress("pilot", (i + 1) * pilot_size / pilot)
        fitted = fit.fitted(rows, sums) if sums else {name: Fitted.none() for name in rows}
        inverse = jnp.asarray(fit.inverse_fisher(sums, damping), jnp.float32) if natural else None

        reference = None
        if truth is None:
            zero = jnp.zeros(size)
            inputs = Inputs(params, params, gamma, {"reference": Fitted.none()}, None, zero[None], zero, None)
            wanted = reference_episodes or 4 * total
            reference = refer(keys["reference"], inputs, wanted, lambda s: progress("reference", s))
            truth = reference.mean[0]
        ascent = jnp.asarray(truth, jnp.float32)
        target = {name: np.asarray(truth) for name in chosen}
        if natural:
            moved = np.asarray(inverse, np.float64) @ truth
            target |= {name: moved for name, row in rows.items() if row.precondition == "natural"}
        stacked = jnp.asarray(np.stack(list(target.values())), jnp.float32)
        inputs = Inputs(params, behaviour, gamma, fitted, tables, stacked, ascent, inverse)
        began = time.perf_counter()
        stream = run(keys["main"], inputs, total, lambda s: progress("episodes", s))
        seconds = time.perf_counter() - began
        parts = {}
        if branch_rows:
            calls = math.ceil(states / 64)
            found = []
            for i in range(calls):
                found.append(jax.tree.map(np.asarray, branch(jax.random.fold_in(keys["branch"], i), inputs)))
                progress("decomposition", (i + 1) / calls)
            parts = decomposition.merge(found)
        times = {}
        for k, (name, program) in enumerate(timers.items() if timing else ()):
            times[name] = program.seconds(keys["time"], inputs._replace(target=inputs.target[k : k + 1]))
            progress("timing", (k + 1) / len(timers))
        moved = {n: np.asarray(inverse, np.float64) for n, row in rows.items() if row.precondition == "natural"}
        found = {}
        if mdp is not None:
            world = _world(mdp, env, policy, params, behaviour, where)
            for name, row in rows.items():
                seen = world if row.precondition == "none" else world._replace(scores=world.scores @ moved[name])
                if (moments := exact.moments(row, seen, fitted[name])) is not None:
                    found[name] = moments
        facts = {
            "discount": discount,
            "seed": seed,
            "on_policy": on_policy,
            "batch": list(levels),
            "measure_seconds": seconds,
            "devices": len(devices),
        }
        goal = np.asarray(stacked, np.float64)
        return report.build(setup, stream, goal, truth, reference, moved, parts, times, found, facts, fitted)

    return measured


def example(env: Env, policy: Policy, params: PyTree) -> Trajectory:
    """Zeros like one step of one episode."""
    one = jax.eval_shape(lambda key: rollout.episodes(key, env, policy, params, 1, 1)[0], jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one)


def _truth(mdp: Any, policy: Policy, params: PyTree, where: scores.Layout) -> tuple[np.ndarray | None, Tables | None]:
    """The gradient of J [P], float64, and exact values, where the world can be enumerated."""
    if mdp is None:
        return None, None
    values = oracle.values(mdp, oracle.probabilities(policy, params, len(mdp.start)))
    _, gradient = oracle.gradient(mdp, policy, params)
    flat = [np.ravel(x) for x in jax.tree.leaves(gradient)]
    tables = Tables(jnp.asarray(values.value, jnp.float32), jnp.asarray(values.action_value, jnp.float32))
    return np.concatenate([flat[i] for i in where.leaves]), tables


def _world(mdp: Any, env: Env, policy: Policy, params: PyTree, behaviour: PyTree, where: scores.Layout) -> exact.World:
    states = len(mdp.start)
    columns = np.split(np.arange(sum(np.size(x) for x in jax.tree.leaves(params))), _ends(params))
    kept = np.concatenate([columns[i] for i in where.leaves])
    pi, acting = (oracle.probabilities(policy, p, states) for p in (params, behaviour))
    rows = jax.tree.map(lambda x: jnp.zeros((1, states, *x.shape[2:]), x.dtype), example(env, policy, params))
    value = policy.evaluate(params, rows._replace(obs=jnp.arange(states)[None])).value[0]
    return exact.World(mdp, pi, acting, np.asarray(value, np.float64), oracle.scores(policy, params, states)[..., kept])


def _ends(params: PyTree) -> np.ndarray:
    return np.cumsum([np.size(x) for x in jax.tree.leaves(params)])[:-1]


def _splits(row: ScoreFunction) -> bool:
    """Whether the decomposition into trajectory, action and state has a meaning for the row."""
    return row.batch == 1 and row.returns != "all_action" and (row.surrogate, row.precondition) == ("score", "none")
