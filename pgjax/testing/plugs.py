"""The conformance kit: one function for each kind of plug; raises AssertionError, naming what is wrong.

For the user's own plugs as for the shipped ones: `check_loss(my_loss)` in a test is enough.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.declarations import Role, Trait, traits_of
from pgjax.hyperparameters import bind, by_role, name_of
from pgjax.running import running
from pgjax.testing.common import close, require, same_kinds
from pgjax.testing.worlds import example
from pgjax.training import failures
from pgjax.types import Env, Policy


def check_loss(loss: Any, **hypers: Any) -> None:
    """Check that there is one loss per step, each of its own step alone, that gradients are finite, and rows [N] too.

    A loss that is declared `in_order` or `whole_episodes` may look at all steps of its own episode, and sees no rows.
    """
    loss = bind(loss, **hypers)
    policy, params, batch = example()

    def per_step(advantage):
        return loss(policy.evaluate(params, batch.trajectory), batch._replace(advantage=advantage))[0]

    mask = batch.trajectory.mask
    value = per_step(batch.advantage)
    require(
        jnp.shape(value) == mask.shape,
        f"{name_of(loss)} returned shape {jnp.shape(value)}, expected one loss per step, [T, B] = {mask.shape}",
    )
    jacobian = jax.jit(jax.jacobian(per_step))(batch.advantage).reshape(mask.size, mask.size)
    ordered = traits_of(loss) & {Trait.IN_ORDER, Trait.WHOLE_EPISODES}
    episode = np.arange(mask.size) % mask.shape[1]
    own = episode[:, None] == episode[None, :] if ordered else np.eye(mask.size, dtype=bool)
    require(
        np.all(jacobian[~own] == 0),
        f"{name_of(loss)}: a step's loss depends on another {'episode' if ordered else 'step'}'s advantage: is there "
        "a mean inside?",
    )
    total = lambda p: jnp.sum(loss(policy.evaluate(p, batch.trajectory), batch)[0])  # noqa: E731
    gradient = jax.jit(jax.grad(total))(params)
    require(failures.all_finite(gradient), f"{name_of(loss)}: the gradient is not finite")
    if not ordered:
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        require(
            close(loss(policy.evaluate(params, rows.trajectory), rows)[0], value.reshape(-1)),
            f"{name_of(loss)}: rows [N] and [T, B] give different losses",
        )
    require(close(jax.jit(per_step)(batch.advantage), value), f"{name_of(loss)}: jit and eager differ")


def check_advantage(advantage: Any, **hypers: Any) -> None:
    """Check shapes [T, B], the time-limit rule (but for a `Role.GAIN_RATE`), and that no step after an end counts."""
    plug = bind(advantage, **hypers)
    name = name_of(plug)
    policy, params, batch = example()
    trajectory, now = batch.trajectory, jax.jit(policy.evaluate)(params, batch.trajectory)

    def apply(trajectory, now):
        state = running(plug).init(jax.random.key(1), policy, params, batch)
        return running(plug).apply(state, trajectory, now)[1]

    both = apply(trajectory, now)
    for what, x in zip(("advantage", "target"), both, strict=True):
        require(
            jnp.shape(x) == trajectory.mask.shape,
            f"{name} returned {what} of shape {jnp.shape(x)}, expected [T, B] = {trajectory.mask.shape}",
        )
        require(failures.all_finite(x), f"{name}: {what} is not finite")
    counts = trajectory.mask > 0
    other = apply(trajectory, now._replace(next_value=jnp.where(trajectory.terminated, 99.0, now.next_value)))
    require(
        Role.GAIN_RATE in by_role(plug)  # whose next_value is that of the next start
        or close(*(jax.tree.map(lambda x: jnp.where(counts, x, 0.0), pair) for pair in (both, other))),
        f"{name} bootstraps from a terminated step",
    )
    garbled = trajectory._replace(reward=jnp.where(counts, trajectory.reward, 99.0))
    after = now._replace(value=jnp.where(counts, now.value, 99.0), next_value=jnp.where(counts, now.next_value, 99.0))
    other = apply(garbled, after)
    require(
        close(*(jax.tree.map(lambda x: jnp.where(counts, x, 0.0), pair) for pair in (both, other))),
        f"{name}: a step after the end of an episode counts",
    )
    require(close(jax.jit(apply)(trajectory, now), both), f"{name}: jit and eager differ")


def check_estimator(estimator: Any, policy: Policy | None = None, env: Env | None = None, **hypers: Any) -> None:
    """The tree of the parameters, finite, honours the mask; jit equals eager and vmap a loop; traced once."""
    estimator = bind(estimator, **hypers)
    name = name_of(estimator)
    policy, params, batch = example(policy, env)
    traces = []

    def gradient(key, params, batch):
        traces.append(1)
        state = running(estimator).init(key, policy, params, batch)
        return running(estimator).apply(state, key, policy, params, batch)[1]

    key = jax.random.key(1)
    eager, metrics = gradient(key, params, batch)
    require(
        same_kinds(eager, params),
        f"{name}: the gradient hasn't the tree of the parameters",
    )
    require(failures.all_finite(eager), f"{name}: the gradient is not finite")
    for metric, x in metrics.items():
        require(jnp.shape(x) == (), f"{name}: metric {metric!r} has shape {jnp.shape(x)}, expected a scalar")
    traces.clear()
    compiled = jax.jit(gradient)
    fast = compiled(key, params, batch)[0]
    compiled(jax.random.key(2), params, batch)
    require(len(traces) == 1, f"{name} was traced {len(traces)} times for the same shapes")
    require(close(fast, eager, 1e-4), f"{name}: jit and eager differ")
    counts = batch.trajectory.mask > 0
    garbled = batch._replace(
        advantage=jnp.where(counts, batch.advantage, 99.0), target=jnp.where(counts, batch.target, 99.0)
    )
    require(close(compiled(key, params, garbled)[0], eager, 1e-4), f"{name}: a step after the end of an episode counts")
    lanes = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    together = jax.jit(jax.vmap(lambda p: gradient(key, p, batch)[0]))(lanes)
    apart = [compiled(key, jax.tree.map(lambda x: x[i], lanes), batch)[0] for i in range(2)]  # noqa: B023
    require(close(together, jax.tree.map(lambda *x: jnp.stack(x), *apart), 1e-4), f"{name}: vmap and a loop differ")
