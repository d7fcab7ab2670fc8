"""An environment, a policy and an algorithm in; a Learner whose policy takes one step in a trust region out.

Trust region policy optimisation (Schulman et al. 2015): minimise a loss while the mean KL(old || new) stays within
`max_kl`. Without the line search it is the natural policy gradient with a normalised step (Rajeswaran et al. 2017).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Literal

from pgjax import learner, updates
from pgjax.advantages import normalized
from pgjax.estimators import surrogate
from pgjax.loops import scan_while
from pgjax.losses import action_value_error, importance_weighted, value_error
from pgjax.natural import conjugate_gradients, fisher, with_entropy
from pgjax.plugs import declare, hyperparameters, name_of
from pgjax.types import (
    Algorithm,
    Array,
    Batch,
    Config,
    Env,
    EstimatorFn,
    Hypers,
    Learner,
    LossFn,
    Policy,
    PyTree,
    RunningEstimator,
)

try:
    # Not promised to stay. Without it, what a loop or a function in a function gives depends on all that enters it.
    from jax.interpreters.partial_eval import dce_jaxpr
except ImportError:
    dce_jaxpr = None


class Attempt(NamedTuple):
    """A step that was taken, or none; each []."""

    accepted: Array  # 0. or 1.
    backtracks: Array  # k
    fraction: Array  # backtrack^k
    kl: Array
    improvement: Array


def make(env: Env, policy: Policy, algorithm: Algorithm, config: Config) -> Learner:
    """`learner.policy_gradient` with `trust_region` for its update."""
    return learner.policy_gradient(env, policy, algorithm, config, update=trust_region)


def trust_region_step(loss: LossFn = importance_weighted) -> EstimatorFn:
    """Minus the policy's step in its trust region, as a gradient that is to be followed at learning rate 1.

    s = -beta x, x = (F + damping)^-1 g by conjugate gradients, beta = sqrt(2 max_kl / x^T (F + damping) x), so that
    the quadratic model of the KL is max_kl at most (Schulman et al. 2015, app. C). The step is backtrack^k s for
    the first k = 0, 1, ... at which the exact mean KL is within max_kl and the loss lower than before; where
    there is none, 0.

    Args:
      loss: a LossFn of the policy alone, meant for ratios to the policy that acted.

    The estimator's own hyperparameters: `max_kl`; `damping` of F; `cg_steps`, iterations of conjugate gradients;
    `line_search`, how many lengths are tried, 0 for the whole step unseen; `backtrack`; `normalize_advantage`, mean
    0 and standard deviation 1 over the batch. Besides, those of the loss and `entropy_coef`. Metrics: `accepted`,
    0 or 1; `backtracks`, k, or line_search where none was accepted; `kl`, the exact mean KL(old || new) of the step
    made; `improvement`, by how much the loss fell; `cg_residual`.
    """
    actor_loss = with_entropy(loss)
    lifted = surrogate(actor_loss)

    def estimator(
        key,
        policy,
        params,
        batch,
        *,
        max_kl: float = 0.01,
        damping: float = 0.1,
        cg_steps: int = 10,
        line_search: int = 10,
        backtrack: float = 0.8,
        normalize_advantage: bool = False,
        **hypers,
    ):
        trajectory = batch.trajectory
        mask = trajectory.mask
        advantage = jnp.where(mask > 0, batch.advantage, 0.0)
        if normalize_advantage:
            advantage = normalized(advantage, mask, jnp.maximum(jnp.abs(batch.value), jnp.abs(batch.target)))
        batch = batch._replace(advantage=advantage)
        g, metrics = lifted(key, policy, params, batch, **hypers)
        x, residual = conjugate_gradients(fisher(policy, params, trajectory, damping), g, cg_steps)
        # x^T (F + damping) x = x^T g, however few the iterations. No slope, no step; what isn't a number stays none.
        curvature = optax.tree.vdot(x, g)
        length = jnp.where(curvature == 0, 0.0, jnp.sqrt(2 * max_kl / curvature))
        whole = jax.tree.map(lambda leaf: length * leaf, x)

        def mean(per_step):
            return jnp.sum(jnp.where(mask > 0, per_step, 0.0)) / jnp.maximum(jnp.sum(mask), 1.0)

        def look(params):
            now = policy.evaluate(params, trajectory)
            return now.dist, mean(actor_loss(now, batch, **hypers)[0])

        old, before = look(params)

        def measured(fraction):
            new, after = look(jax.tree.map(lambda p, s: p - fraction * s, params, whole))
            return mean(old.kl(new)), before - after

        def attempt(kept, k):
            fraction = backtrack**k
            kl, improvement = measured(fraction)
            passed = (kl <= max_kl) & (improvement > 0) & (curvature != 0) if line_search else True
            take = passed & (kept.accepted == 0)
            tried = Attempt(jnp.ones_like(kl), k, fraction, kl, improvement)
            return jax.tree.map(lambda old, new: jnp.where(take, new, old), kept, tried), None

        zero = jnp.zeros((), before.dtype)
        none = Attempt(zero, zero + line_search, zero, zero, zero)
        lengths = jnp.arange(max(line_search, 1), dtype=before.dtype)
        made, _ = scan_while(attempt, none, lengths, lambda kept, _: kept.accepted == 0)
        metrics |= {name: x for name, x in made._asdict().items() if name != "fraction"}
        # 0 times a step that is no number is none either: that failure is not undone here, but seen by `train`.
        return jax.tree.map(lambda leaf: made.fraction * leaf, whole), {**metrics, "cg_residual": residual}

    estimator.__name__ = name_of(loss)
    return declare(estimator, actor_loss)


def trust_region(algorithm: Algorithm, config: Config, by_column: bool) -> updates.Updater:
    """One step of the policy on the whole batch, then the critic fitted to the targets by the optimiser.

    The critic goes num_epochs x num_minibatches steps down its squared error, after the policy as in Schulman
    et al. 2016, sec. 6.1; the advantages were computed before both. What the distributions depend on too (a CNN's
    convolution, a GRU's memory) has no gradient there: it follows the policy's step alone, whose KL so is the
    update's. An optimiser that moves parameters without a gradient, as weight decay does, would break that.
    """
    if config.shared:
        raise ValueError("a trust region needs shared=False: fitting a critic in the policy's torso moves the policy")
    if config.update != "batch":
        raise ValueError(f"a trust region takes one step for the whole batch; got update={config.update!r}")
    named = hyperparameters(algorithm.estimator)
    if isinstance(algorithm.estimator, RunningEstimator) or "stop_kl" in named:
        raise ValueError("a trust region takes one step, bounded by max_kl: leave adaptive_kl and early_stopping out")
    if "max_kl" not in named:
        raise ValueError(
            f"a trust region needs trust_region_step(loss) as its estimator; {name_of(algorithm.estimator)} "
            "has no hyperparameter max_kl"
        )
    critic = action_value_error if config.critic == "action_value" else value_error
    fit = updates.descent(algorithm._replace(estimator=_apart(surrogate(critic))), config, by_column)

    def apply(
        key: Array, policy: Policy, params: PyTree, state: PyTree, batch: Batch, hypers: Hypers
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        key_policy, key_critic = jax.random.split(key)
        gradient, metrics = algorithm.estimator(key_policy, policy, params, batch, **hypers.estimator)
        params = jax.tree.map(jnp.subtract, params, gradient)
        params, state, fitted = fit.apply(key_critic, policy, params, state, batch, hypers._replace(estimator={}))
        return params, state, {**fitted, **metrics, "grad_norm": optax.tree.norm(gradient)}

    return updates.Updater(fit.init, apply)


def _apart(critic: EstimatorFn) -> Callable:
    """The critic's gradient, zero in whatever the distributions depend on."""

    def estimator(key, policy, params, batch):
        gradient, metrics = critic(key, policy, params, batch)
        acting = depends(lambda p: policy.evaluate(p, batch.trajectory).dist, params)
        if all(jax.tree.leaves(acting)):
            raise ValueError(
                "a trust region needs parameters of the critic alone; all of this policy's move its actions"
            )
        return jax.tree.map(lambda g, theirs: jnp.zeros_like(g) if theirs else g, gradient, acting), metrics

    estimator.__name__ = name_of(critic)
    return estimator


def depends(function: Callable, params: PyTree) -> PyTree:
    """A bool for each leaf of `params`: whether function(params) may depend on it, read off its trace."""
    jaxpr = jax.make_jaxpr(function)(params).jaxpr
    if dce_jaxpr is not None:
        used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1]
    else:
        needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
        for eqn in reversed(jaxpr.eqns):
            if needed & set(eqn.outvars):
                needed |= {v for v in eqn.invars if not isinstance(v, Literal)}
        used = [v in needed for v in jaxpr.invars]
    return jax.tree.unflatten(jax.tree.structure(params), used)
