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

from pgjax.advantages.baselines import Fitted
from pgjax.numerics import keys as reserved
from pgjax.oracle import mdp as oracle_mdp
from pgjax.oracle.mdp import probabilities
from pgjax.types import Env, Policy, PyTree
from pgjax.variance import checks
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.findings import report
from pgjax.variance.measurement import decomposition, exact, measure, pilot_fit, scores, truths
from pgjax.variance.measurement.measure import Inputs, Setup
from pgjax.variance.measurement.stream import Program

# The estimator that stands for the true gradient where none is known exactly.
REFERENCE = ScoreFunction(baseline="value")


def compare(
    estimators: Any, env: Env, policy: Policy, params: PyTree, *, behaviour: PyTree = None, seed: int = 0, **options
) -> report.Report:
    """Measure estimators of the gradient of the discounted return J, all on the same episodes.

    Args:
      estimators: names of `score_functions.ESTIMATORS`, or name -> one of: a ScoreFunction; `Plugs(advantage,
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
    gradient: Callable[[PyTree], PyTree] | None = None,
    devices: Any = None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Callable[..., report.Report]:
    """`measure(params, behaviour=None, seed=0) -> Report`, compiled once for all parameters of the same shapes.

    Args:
      discount: gamma of J, the expected discounted return within the time limit.
      episodes: how many are measured, rounded up to whole chunks; the report says how many it were.
      batch: batch sizes of the curves, each dividing the next; 8 of the largest at least, of which an error
        bar is rough: take 32 or more where it matters.
      reference_episodes: of the reference, where J's gradient isn't known exactly; by default 4 x episodes.
        It is REFERENCE, on its own episodes, and its error is part of every error bar.
      pilot: episodes to which baselines and the Fisher matrix are fitted, apart from those measured.
      damping: of the Fisher matrix, in units of its mean diagonal.
      states: states from which the decomposition of Tucker et al. (2018) branches; 0 leaves it out.
      timing: time each estimator by itself.
      gradient: params -> the exact gradient, a tree like params, of what `Sampler`s estimate, where that is
        known and not J's, as the gain of a continuing problem is; nothing else can then be compared, and what
        is said of episodes (their return, the discount) is of no concern to it.
      progress: called with a stage's name and the share of it that is done.

    Raises:
      ValueError: for estimators that can't be had here, and sizes that don't fit, before anything runs.
    """
    if env.host:
        raise ValueError("env: the laboratory needs a world of pure functions; this one is stepped on the host")
    chosen = checks.named_estimators(estimators)
    checks.samplers_alone(chosen, gradient)
    mdp = checks.enumerable(env, policy, discount) if gradient is None else None
    checks.possible(chosen, env, policy, mdp, discount)
    levels, total = checks.levels(chosen, batch, episodes)
    wanted = 4 * total if reference_episodes is None else reference_episodes
    if gradient is not None:
        wanted = 256  # of no reference
    checks.counts(pilot=(pilot, 1), states=(states, 0), reference_episodes=(wanted, 256))
    if mdp is not None:
        oracle_mdp.values(mdp, probabilities(policy, params, len(mdp.start)))  # says what it can't enumerate
    one_step = truths.example(env, policy, params)
    where = scores.layout(policy, params, one_step)
    steps = env.max_steps * sum(x.size for x in jax.tree.leaves(one_step))
    devices = list(jax.devices() if devices is None else devices)
    size = sum(where.sizes)
    natural = any(isinstance(e, ScoreFunction) and e.precondition == "natural" for e in chosen.values())
    if natural and size > 8192:
        raise ValueError(f"precondition='natural' inverts a matrix of {size} x {size}; 8192 parameters are the limit")
    chunk = checks.chunk(levels, total, steps + size * len(chosen), max(e.batch for e in chosen.values()))
    total = math.ceil(total / (chunk * len(devices))) * chunk * len(devices)
    ahead = {n: isinstance(e, ScoreFunction) and e.over_actions and e.critic == "learned" for n, e in chosen.items()}
    setup = Setup(chosen, env, policy, where, levels, chunk, any(ahead.values()))
    rows = {name: e for name, e in chosen.items() if isinstance(e, ScoreFunction)}
    alone = setup._replace(estimators={"reference": REFERENCE}, levels=(1,), has_states=False)
    alone = alone._replace(chunk=checks.chunk((1,), wanted, steps + size, 1))
    run = Program(setup, devices)
    refer = Program(alone, devices)
    timers = {
        name: Program(setup._replace(estimators={name: e}, has_states=ahead[name]), devices[:1])
        for name, e in chosen.items()
    }
    num_states = getattr(env.observation_space, "n", 1)
    pilot_size = max(n for n in range(1, 65) if pilot % n == 0)

    @jax.jit
    def fit_chunk(key, behaviour, params, tables, gamma):
        trajectory, _ = measure.sample(setup._replace(has_states=False, chunk=pilot_size), key, behaviour)
        return pilot_fit.sums(rows, policy, params, trajectory, tables, gamma, where, num_states)

    branch_rows = {name: row for name, row in rows.items() if states and _splits(row)}
    if branch_rows:
        decomposition.check(branch_rows, policy, 64, 4)
    truths.rehearse(setup, params, discount, num_states)

    @jax.jit
    def branch(key, inputs):
        return decomposition.decompose(
            key, branch_rows, env, policy, inputs.params, inputs.fitted, inputs.tables, inputs.discount, where
        )

    def measured(params: PyTree, behaviour: PyTree = None, seed: int = 0) -> report.Report:
        on_policy = behaviour is None
        if branch_rows and not on_policy:
            raise ValueError("states: the decomposition is of estimators on policy; leave behaviour out")
        if natural and not on_policy:
            raise ValueError(
                "precondition='natural' takes the Fisher matrix of the policy that acts; leave behaviour out"
            )
        behaviour = params if on_policy else behaviour
        stages = ("pilot", "reference", "main", "branch", "time")
        keys = dict(
            zip(
                stages,
                jax.random.split(jax.random.fold_in(jax.random.key(seed), reserved.MEASURE), len(stages)),
                strict=True,
            )
        )
        gamma = jnp.float32(discount)
        truth, tables = truths.exact_gradient(mdp, policy, params, where, gradient)
        sums = None
        if any(pilot_fit.needs_pilot(row) for row in rows.values()):
            for i in range(pilot // pilot_size):
                found = fit_chunk(jax.random.fold_in(keys["pilot"], i), behaviour, params, tables, gamma)
                found = jax.tree.map(lambda x: np.asarray(x, np.float64), found)
                sums = found if sums is None else jax.tree.map(np.add, sums, found)
                progress("pilot", (i + 1) * pilot_size / pilot)
        fitted = pilot_fit.fitted(rows, sums) if sums else {name: Fitted.none() for name in rows}
        inverse = jnp.asarray(pilot_fit.inverse_fisher(sums, damping), jnp.float32) if natural else None

        reference = None
        if truth is None:
            zero = jnp.zeros(size)
            inputs = Inputs(params, params, gamma, {"reference": Fitted.none()}, None, zero[None], zero, None)
            reference = refer(keys["reference"], inputs, wanted, lambda s: progress("reference", s))
            truth = reference.mean[0]
        ascent = jnp.asarray(truth, jnp.float32)
        target = {name: np.asarray(truth) for name in chosen}
        if natural:
            natural_truth = np.asarray(inverse, np.float64) @ truth
            target |= {name: natural_truth for name, row in rows.items() if row.precondition == "natural"}
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
            world = truths.world(mdp, env, policy, params, behaviour, where)
            for name, row in rows.items():
                seen = world if row.precondition == "none" else world._replace(scores=world.scores @ moved[name])
                if (moments := exact.moments(row, seen, fitted[name])) is not None:
                    found[name] = moments
        facts = {
            "objective": "discounted return" if gradient is None else "the caller's",
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


def _splits(row: ScoreFunction) -> bool:
    """Whether the decomposition into trajectory, action and state has a meaning for the row."""
    return row.batch == 1 and not row.over_actions and (row.surrogate, row.precondition) == ("score", "none")
