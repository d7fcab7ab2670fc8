"""A policy and its batch in; products with the Fisher information, and the natural gradient, out.

F = mean over steps of E_a[score score^T], score = d log pi(a | s) / d params, is the Hessian of the mean
KL(old || new) at new = old (Kakade 2001; Schulman et al. 2015, app. C). It is never written down.
"""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from pgjax.declarations import Role
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import NonNegative, Range, declare, hyperparameters, name_of
from pgjax.losses.actor_critic import weighted_critic, with_entropy
from pgjax.numerics.conjugate_gradients import conjugate_gradients
from pgjax.running import check_plain
from pgjax.types import Array, Batch, EstimatorFn, LossFn, Policy, PyTree, Trajectory


def fisher(
    policy: Policy, params: PyTree, trajectory: Trajectory, damping: float | Array = 0.0
) -> Callable[[PyTree], PyTree]:
    """The linear map v -> (F + damping) v on trees like `params`; what doesn't depend on v is computed once.

    F = J^T H J: J the derivative of the distributions' parameters in those of the policy, H the Hessian of the
    mean KL in the distributions' parameters. At new = old that is the whole Hessian, since there the KL has no
    slope, and rounding leaves it without negative curvature.

    Args:
      trajectory: [T, B] or [N]; the mean is over the steps that count.

    Raises:
      TypeError: where the distribution has no `kl(other)`.
      ValueError: where the policy has no forward derivative: a fused kernel.
    """
    mask = trajectory.mask
    total = jnp.maximum(jnp.sum(mask), 1.0)
    dist, forward = jax.linearize(lambda p: policy.evaluate(p, trajectory).dist, params)
    # Without this check, a policy with only a reverse-mode derivative would fail late, at compile time.
    if "custom_lin" in _primitives(jax.make_jaxpr(forward)(params).jaxpr):
        raise ValueError(
            "the natural gradient needs a forward derivative of the policy, and a fused kernel, as any custom_vjp, "
            "has none; use kernel='xla'"
        )
    if not hasattr(dist, "kl"):
        raise TypeError(f"the natural gradient needs a distribution with kl(other); {type(dist).__name__} has none")
    slope = jax.grad(lambda new: jnp.sum(jnp.where(mask > 0, dist.kl(new), 0.0)) / total)
    _, bend = jax.linearize(slope, dist)
    backward = jax.linear_transpose(forward, params)

    def product(vector):
        (image,) = backward(bend(forward(vector)))
        return jax.tree.map(lambda f, v: f + damping * v, image, vector)

    return product


def _primitives(jaxpr: Any) -> set[str]:
    """Names of the primitives of a jaxpr, of those inside its loops and calls too."""
    found = set()
    for eqn in jaxpr.eqns:
        found.add(eqn.primitive.name)
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                found |= _primitives(inner)
    return found


def fisher_vector_product(
    policy: Policy, params: PyTree, trajectory: Trajectory, vector: PyTree, damping: float | Array = 0.0
) -> PyTree:
    """(F + damping) vector, a tree like `params`; see `fisher`."""
    return fisher(policy, params, trajectory, damping)(vector)


def natural(loss: LossFn, critic_loss: LossFn | None = None, reduce: str = "step") -> EstimatorFn:
    """The natural gradient of a policy's loss, (F + damping)^-1 g (Kakade 2001; Peters & Schaal 2008).

    To first order, and but for the damping, the policy moves the same however it is parametrised. Use it with plain
    descent: an optimiser that rescales each parameter, as Adam does, makes another direction of it.

    Args:
      loss: a LossFn of the policy alone. Parameters that the distributions don't depend on have no Fisher
        information, and what it says of them would be divided by the damping.
      critic_loss: what adds value_coef times its plain gradient, since a critic is no distribution.
      reduce: of both losses, as `surrogate` has it; F is the mean over steps in either case.

    The estimator's own hyperparameters: `damping`, what is added to F's diagonal; `cg_steps`, iterations of
    conjugate gradients; `normalize_advantage`, as in `surrogate`. Besides, those of the losses, `entropy_coef` and,
    with a critic, `value_coef`. Metrics: `cg_residual`, |g - (F + damping) x| / |g|, and `quadratic_kl`,
    x^T (F + damping) x / 2: for a small learning rate, times its square, what a step adds to the mean KL at most.
    """
    check_plain(loss, "natural")
    actor_loss = with_entropy(loss)
    critics = () if critic_loss is None else (weighted_critic(critic_loss),)
    actor, *critic = (surrogate(one, reduce) for one in (actor_loss, *critics))

    def estimator(
        key: Array,
        policy: Policy,
        params: PyTree,
        batch: Batch,
        *,
        damping: NonNegative = 0.1,
        cg_steps: Annotated[int, Range(1)] = 10,
        normalize_advantage: Annotated[bool, Role.NORMALIZE] = False,
        **hypers: Any,
    ) -> tuple[PyTree, dict[str, Array]]:
        own = {name: hypers[name] for name in hypers if name in hyperparameters(actor_loss)}
        b, metrics = actor(key, policy, params, batch, normalize_advantage=normalize_advantage, **own)
        product = fisher(policy, params, batch.trajectory, damping)
        x, residual = conjugate_gradients(product, b, cg_steps)
        metrics = {**metrics, "cg_residual": residual, "quadratic_kl": optax.tree.vdot(x, b) / 2}
        for one in critic:
            others = {name: hypers[name] for name in hypers if name not in own}
            gradient, more = one(key, policy, params, batch, **others)
            x = jax.tree.map(jnp.add, x, gradient)
            metrics = {**more, **metrics, "loss": metrics["loss"] + more["loss"]}
        return x, metrics

    estimator.__name__ = name_of(loss)
    return declare(estimator, actor_loss, *critics)
