"""The updater of a trust region: one step of the policy, then the critic fitted.

Trust region policy optimisation (Schulman et al. 2015): minimise a loss while the mean KL(old || new) stays within
`max_kl`. Without the line search it is the natural policy gradient with a normalised step (Rajeswaran et al. 2017).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Literal

from pgjax.algorithms import updates
from pgjax.config import Config
from pgjax.declarations import Role
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import by_role, name_of
from pgjax.losses.value import action_value_error, value_error
from pgjax.types import Algorithm, Array, Batch, EstimatorFn, Hypers, Policy, PyTree, Running

try:
    # Not promised to stay. Without it, what a loop or a function in a function gives depends on all that enters it.
    from jax.interpreters.partial_eval import dce_jaxpr
except ImportError:
    dce_jaxpr = None  # type: ignore[assignment]  # of a function


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
    roles = by_role(algorithm.estimator)
    estimator = algorithm.estimator
    if isinstance(estimator, Running) or Role.STOP_KL in roles:
        raise ValueError("a trust region takes one step, bounded by max_kl: leave adaptive_kl and early_stopping out")
    if Role.MAX_KL not in roles:
        raise ValueError(
            f"a trust region needs trust_region_step(loss) as its estimator; {name_of(algorithm.estimator)} "
            "has no bound of the KL, max_kl"
        )
    critic = action_value_error if config.critic == "action_value" else value_error
    fit = updates.descent(algorithm._replace(estimator=_apart(surrogate(critic))), config, by_column)

    def apply(
        key: Array, policy: Policy, params: PyTree, state: PyTree, batch: Batch, hypers: Hypers
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        key_policy, key_critic = jax.random.split(key)
        gradient, metrics = estimator(key_policy, policy, params, batch, **hypers.estimator)
        params = jax.tree.map(jnp.subtract, params, gradient)
        params, state, fitted = fit.apply(key_critic, policy, params, state, batch, hypers._replace(estimator={}))
        return params, state, {**fitted, **metrics, "grad_norm": optax.tree.norm(gradient)}

    return fit._replace(apply=apply)


def _apart(critic: EstimatorFn) -> EstimatorFn:
    """The critic's gradient, zero in whatever the distributions depend on."""

    def estimator(key, policy, params, batch):
        gradient, metrics = critic(key, policy, params, batch)
        acting = depends(lambda p: policy.evaluate(p, batch.trajectory).dist, params)
        if all(jax.tree.leaves(acting)):
            raise ValueError(
                "a trust region needs parameters that only the critic uses; in this policy every parameter affects the "
                "actions: use shared=False"
            )
        return jax.tree.map(lambda g, theirs: jnp.zeros_like(g) if theirs else g, gradient, acting), metrics

    estimator.__name__ = name_of(critic)
    return estimator


def depends(function: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
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
