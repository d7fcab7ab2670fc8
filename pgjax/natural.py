"""A policy and its batch in; products with the Fisher information, and the natural gradient, out.

F = mean over steps of E_a[score score^T], score = d log pi(a | s) / d params, is the Hessian of the mean
KL(old || new) at new = old (Kakade 2001; Schulman et al. 2015, app. C). It is never written down.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pgjax.estimators import surrogate
from pgjax.losses import by_step, checked, is_by_step
from pgjax.plugs import declare, hyperparameters, name_of
from pgjax.types import Array, EstimatorFn, LossFn, Policy, PyTree, Trajectory


def fisher(policy: Policy, params: PyTree, trajectory: Trajectory, damping: float | Array = 0.0) -> Callable:
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
    # What has only a backward derivative would be complained of no earlier than where the program is compiled.
    if "custom_lin" in str(jax.make_jaxpr(forward)(params)):
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


def fisher_vector_product(
    policy: Policy, params: PyTree, trajectory: Trajectory, vector: PyTree, damping: float | Array = 0.0
) -> PyTree:
    """(F + damping) vector, a tree like `params`; see `fisher`."""
    return fisher(policy, params, trajectory, damping)(vector)


def conjugate_gradients(product: Callable, b: PyTree, iterations: int) -> tuple[PyTree, Array]:
    """x with A x = b, A symmetric and positive definite, from x = 0 (Hestenes & Stiefel 1952).

    The trip count is fixed, and an iteration changes nothing once the residual is within the rounding of b, or where
    the next direction's curvature p^T A p / |p|^2 is within the rounding of the largest seen: there A is singular as
    far as its numbers tell, and a step would go off along what A doesn't feel. So x is that of the pseudo-inverse
    where A is singular and b is in its range but for rounding; of a regular A with a condition of 1e6 and
    more, float32 leaves some tenths of a percent. Where the residual once was within a thousand roundings of b, x is
    the one at which it was smallest, since from there on rounding alone moves it. b = 0 gives x = 0; what isn't a
    number stays none.

    Args:
      product: v -> A v on trees.

    Returns:
      x, and |b - A x| / |b| as the recursion has it, [] (0 for b = 0). At every iteration x^T A x = x^T b.
    """
    # In units of b's largest number: squares of small gradients would leave the range of float32.
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(b)]))
    unit = jnp.where(largest == 0, 1.0, largest)
    b = jax.tree.map(lambda leaf: leaf / unit, b)
    norm = optax.tree.vdot(b, b)
    eps = jnp.finfo(norm.dtype).eps
    enough, nearly = norm * (8 * eps) ** 2, norm * (1000 * eps) ** 2

    def iterate(carry, _):
        x, r, p, rr, steepest, best = carry
        ap = product(p)
        curvature, length = optax.tree.vdot(p, ap), optax.tree.vdot(p, p)
        steepest = jnp.maximum(steepest, curvature / jnp.where(length == 0, 1.0, length))
        # Said so that NaN goes on, and is seen.
        done = (rr <= enough) | (curvature <= 64 * eps * steepest * length)
        alpha = jnp.where(done, 0.0, rr / curvature)
        x = jax.tree.map(lambda x, p: x + alpha * p, x, p)
        r = jax.tree.map(lambda r, ap: r - alpha * ap, r, ap)
        following = optax.tree.vdot(r, r)
        beta = jnp.where(done, 0.0, following / rr)
        p = jax.tree.map(lambda r, p: jnp.where(done, p, r + beta * p), r, p)
        best = jax.tree.map(lambda new, old: jnp.where(following < best[0], new, old), (following, x), best)
        return (x, r, p, following, steepest, best), None

    zeros = jax.tree.map(jnp.zeros_like, b)
    start = (zeros, b, b, norm, jnp.zeros_like(norm), (norm, zeros))
    (x, _, _, rest, _, best), _ = jax.lax.scan(iterate, start, length=iterations)
    rest, x = jax.tree.map(lambda least, last: jnp.where(best[0] <= nearly, least, last), best, (rest, x))
    residual = jnp.sqrt(jnp.where(norm == 0, 0.0, rest / norm))
    return jax.tree.map(lambda leaf: unit * leaf, x), residual


def with_entropy(loss: LossFn) -> LossFn:
    """loss - entropy_coef entropy, per step: `losses.actor_critic` without a critic."""

    def actor(now, batch, *, entropy_coef: float = 0.0, **hypers):
        per_step, metrics = checked(loss, loss(now, batch, **hypers), now.log_prob.shape)
        return per_step - entropy_coef * now.entropy, {**metrics, "entropy": now.entropy}

    actor.__name__ = name_of(loss)
    actor = declare(actor, loss)
    return by_step(actor) if is_by_step(loss) else actor


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
    actor_loss = with_entropy(loss)
    critics = () if critic_loss is None else (_weighted(critic_loss),)
    actor, *critic = (surrogate(one, reduce) for one in (actor_loss, *critics))

    def estimator(
        key,
        policy,
        params,
        batch,
        *,
        damping: float = 0.1,
        cg_steps: int = 10,
        normalize_advantage: bool = False,
        **hypers,
    ):
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


def _weighted(critic_loss: LossFn) -> LossFn:
    def critic(now, batch, *, value_coef: float = 0.5, **hypers):
        per_step, metrics = checked(critic_loss, critic_loss(now, batch, **hypers), now.log_prob.shape)
        return value_coef * per_step, metrics

    critic.__name__ = name_of(critic_loss)
    critic = declare(critic, critic_loss)
    return by_step(critic) if is_by_step(critic_loss) else critic
