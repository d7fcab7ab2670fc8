"""`compare` and `prepare`: measure estimators of the policy gradient, and report their bias and variance.

This module compiles the programs and runs them over chunks of whole episodes. Each chunk is measured on the device
and merged on the host in float64, so that memory doesn't grow with the number of chunks.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.advantages.baselines import Fitted
from pgjax.numerics import keys as reserved
from pgjax.oracle import enumeration
from pgjax.types import Array, Env, Policy, PyTree
from pgjax.variance import checks, plan
from pgjax.variance.estimators.weights import Tables
from pgjax.variance.findings import report
from pgjax.variance.measurement import decomposition, exact, measure, pilot_fit, truths
from pgjax.variance.measurement.measure import Inputs
from pgjax.variance.measurement.stream import Program, Stream
from pgjax.variance.plan import BRANCH_STATES, Options, Plan, looks_ahead


def compare(
    estimators: Any,
    env: Env,
    policy: Policy,
    params: PyTree,
    *,
    behaviour: PyTree = None,
    seed: int = 0,
    **options: Any,
) -> report.Report:
    """Measure estimators of the gradient of the discounted return J, all on the same episodes.

    Args:
      estimators: names of `score_functions.ESTIMATORS`, or name -> one of: a ScoreFunction; `Plugs(advantage,
        estimator)`, any EstimatorFn; a bare `gradient(key, params)`, or `Sampler(gradient, batch)`.
      params: where the gradient is taken.
      behaviour: the parameters that act; by default `params`.
      seed: fixes every random draw.
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
) -> "Comparison":
    """`measure(params, behaviour=None, seed=0) -> Report`, compiled once for all parameters of the same shapes.

    Args:
      discount: gamma of J, the expected discounted return within the time limit.
      episodes: how many are measured, rounded up to whole chunks; the report says how many were used.
      batch: batch sizes of the curves, each dividing the next. There are 8 of the largest at least, from which an
        error bar is rough: take 32 or more where it matters.
      reference_episodes: of the reference, where J's gradient isn't known exactly; by default 4 x episodes.
        It is `plan.REFERENCE`, on its own episodes, and its error is part of every error bar.
      pilot: episodes to which baselines and the Fisher matrix are fitted, apart from those measured.
      damping: of the Fisher matrix, in units of its mean diagonal.
      states: states from which the decomposition of Tucker et al. (2018) branches; 0 leaves it out.
      timing: time each estimator by itself.
      gradient: function from params to the exact gradient that the `Sampler`s estimate, for objectives other than J
        (such as the gain of a continuing problem). Only `Sampler`s can then be compared; the reported return and
        discount do not apply.
      progress: called with a stage's name and the share of it that is done.

    Raises:
      ValueError: for estimators that can't be had here, and sizes that don't fit, before anything runs.
    """
    if env.host:
        raise ValueError("env: the laboratory needs an environment in JAX, but this one is stepped in Python")
    chosen = checks.named_estimators(estimators)
    checks.samplers_alone(chosen, gradient)
    options = Options(discount, pilot, damping, states, timing, gradient, progress)
    return Comparison(
        plan.make_plan(chosen, env, policy, params, options, episodes, batch, reference_episodes, devices)
    )


class Comparison:
    """The compiled programs of a plan, a method for each stage; called, it measures."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        setup = plan.setup
        self._main, self._refer = Program(setup, plan.devices), Program(plan.reference, plan.devices)
        self._timers = {
            name: Program(setup._replace(estimators={name: one}, has_states=looks_ahead(one)), plan.devices[:1])
            for name, one in setup.estimators.items()
        }
        self._pilot_size = max(n for n in range(1, 65) if plan.options.pilot % n == 0)
        self._fit, self._branch = jax.jit(self._fit_chunk), jax.jit(self._branch_chunk)

    def __call__(self, params: PyTree, behaviour: PyTree = None, seed: int = 0) -> report.Report:
        plan, options, on_policy = self.plan, self.plan.options, behaviour is None
        self._check(on_policy)
        behaviour = params if on_policy else behaviour
        keys = _keys(seed)
        truth, tables = truths.exact_gradient(plan.mdp, plan.setup.policy, params, plan.setup.where, options.gradient)
        fitted, inverse = self._fitted(keys["pilot"], params, behaviour, tables)
        reference = None
        if truth is None:
            reference = self._reference(keys["reference"], params)
            truth = reference.mean[0]
        moved = {} if inverse is None else dict.fromkeys(plan.natural, np.asarray(inverse, np.float64))
        target = [moved[name] @ truth if name in moved else np.asarray(truth) for name in plan.setup.estimators]
        stacked, ascent = jnp.asarray(np.stack(target), jnp.float32), jnp.asarray(truth, jnp.float32)
        inputs = Inputs(params, behaviour, jnp.float32(options.discount), fitted, tables, stacked, ascent, inverse)
        began = time.perf_counter()
        stream = self._main(keys["main"], inputs, plan.total, lambda share: options.progress("episodes", share))
        facts = {
            "objective": "discounted return" if options.gradient is None else "the caller's",
            "discount": options.discount,
            "seed": seed,
            "on_policy": on_policy,
            "batch": list(plan.setup.levels),
            "measure_seconds": time.perf_counter() - began,
            "devices": len(plan.devices),
        }
        return report.build(
            report.Measured(
                setup=plan.setup,
                stream=stream,
                target=np.asarray(stacked, np.float64),
                truth=truth,
                reference=reference,
                moved=moved,
                parts=self._decomposed(keys["branch"], inputs),
                times=self._timed(keys["time"], inputs),
                exact=self._exact(inputs, moved),
                facts=facts,
                fitted=fitted,
            )
        )

    def _check(self, on_policy: bool) -> None:
        if self.plan.branched and not on_policy:
            raise ValueError("states: the decomposition needs estimators on policy; leave behaviour out")
        if self.plan.natural and not on_policy:
            raise ValueError("precondition='natural' takes the Fisher matrix of the acting policy; leave behaviour out")

    def _fit_chunk(
        self, key: Array, behaviour: PyTree, params: PyTree, tables: Tables | None, discount: Array
    ) -> dict[str, Any]:
        plan = self.plan
        setup = plan.setup._replace(has_states=False, chunk=self._pilot_size)
        trajectory, _ = measure.sample(setup, key, behaviour)
        rows, where = plan.rows, setup.where
        return pilot_fit.sums(rows, setup.policy, params, trajectory, tables, discount, where, plan.num_states)

    def _fitted(
        self, key: Array, params: PyTree, behaviour: PyTree, tables: Tables | None
    ) -> tuple[dict[str, Fitted], Array | None]:
        """The numbers that a pilot gives each row, and the inverse Fisher matrix [P, P] if a row needs it."""
        rows, options = self.plan.rows, self.plan.options
        if not any(pilot_fit.needs_pilot(row) for row in rows.values()):
            return dict.fromkeys(rows, Fitted.none()), None
        chunks = self._pilot(key, params, behaviour, tables)
        sums = functools.reduce(lambda a, b: jax.tree.map(np.add, a, b), chunks)
        fitted = pilot_fit.fitted(rows, sums)
        if not self.plan.natural:
            return fitted, None
        return fitted, jnp.asarray(pilot_fit.inverse_fisher(sums, options.damping), jnp.float32)

    def _pilot(self, key: Array, params: PyTree, behaviour: PyTree, tables: Tables | None) -> Iterator[dict[str, Any]]:
        """Sums over each chunk of the pilot's episodes, float64."""
        options = self.plan.options
        calls = options.pilot // self._pilot_size
        for i in range(calls):
            keys = jax.random.fold_in(key, i)
            found = self._fit(keys, behaviour, params, tables, jnp.float32(options.discount))
            options.progress("pilot", (i + 1) / calls)
            yield jax.tree.map(lambda x: np.asarray(x, np.float64), found)

    def _reference(self, key: Array, params: PyTree) -> Stream:
        """The sample whose mean stands for the gradient of J."""
        plan, size = self.plan, sum(self.plan.setup.where.sizes)
        discount, zero = jnp.float32(plan.options.discount), jnp.zeros(size)
        inputs = Inputs(params, params, discount, {"reference": Fitted.none()}, None, zero[None], zero, None)
        progress = plan.options.progress
        return self._refer(key, inputs, plan.reference_episodes, lambda share: progress("reference", share))

    def _branch_chunk(self, key: Array, inputs: Inputs) -> dict[str, decomposition.Terms]:
        rows, (_, env, policy, where, *_) = self.plan.branched, self.plan.setup
        return decomposition.decompose(
            key, rows, env, policy, inputs.params, inputs.fitted, inputs.tables, inputs.discount, where, BRANCH_STATES
        )

    def _decomposed(self, key: Array, inputs: Inputs) -> dict[str, dict[str, tuple[float, float]]]:
        """Row -> term -> (value, standard error); empty where nothing is to be decomposed."""
        if not self.plan.branched:
            return {}
        calls, found = math.ceil(self.plan.options.states / BRANCH_STATES), []
        for i in range(calls):
            found.append(jax.tree.map(np.asarray, self._branch(jax.random.fold_in(key, i), inputs)))
            self.plan.options.progress("decomposition", (i + 1) / calls)
        return decomposition.merge(found)

    def _timed(self, key: Array, inputs: Inputs) -> dict[str, tuple[float, float]]:
        """Estimator -> seconds of one episode and its gradient, and their standard error; empty without timing."""
        times = {}
        for k, (name, program) in enumerate(self._timers.items() if self.plan.options.timing else ()):
            times[name] = program.seconds(key, inputs._replace(target=inputs.target[k : k + 1]))
            self.plan.options.progress("timing", (k + 1) / len(self._timers))
        return times

    def _exact(self, inputs: Inputs, moved: dict[str, np.ndarray]) -> dict[str, enumeration.Projected]:
        """Row -> exact moments, of the rows that have them here."""
        mdp, (_, env, policy, where, *_) = self.plan.mdp, self.plan.setup
        if mdp is None:
            return {}
        world = truths.world(mdp, env, policy, inputs.params, inputs.behaviour, where)
        found = {}
        for name, row in self.plan.rows.items():
            seen = world._replace(scores=world.scores @ moved[name]) if name in moved else world
            if (moments := exact.moments(row, seen, inputs.fitted[name])) is not None:
                found[name] = moments
        return found


def _keys(seed: int) -> dict[str, Array]:
    """A key for each stage."""
    stages = ("pilot", "reference", "main", "branch", "time")
    key = jax.random.fold_in(jax.random.key(seed), reserved.MEASURE)
    return dict(zip(stages, jax.random.split(key, len(stages)), strict=True))
