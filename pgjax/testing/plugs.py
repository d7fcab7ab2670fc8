"""The conformance kit: one function for each kind of plug; raises AssertionError, naming what is wrong.

For the user's own plugs as for the shipped ones: `check_loss(my_loss)` in a test is enough.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.algorithms.compatibility import checked_advantage
from pgjax.declarations import Role, Trait, traits_of
from pgjax.hyperparameters import bind, by_role, name_of
from pgjax.losses.contract import checked_loss
from pgjax.running import running
from pgjax.testing.common import close, require, required, same_kinds
from pgjax.testing.worlds import example
from pgjax.training import failures
from pgjax.types import Array, Batch, Env, Evaluation, Policy


def check_loss(loss: Any, **hypers: Any) -> None:
    """Check that there is one loss per step, each of its own step alone, that gradients are finite, and rows [N] too.

    A step's loss may read its own row of `now` and of `batch`: a mean over steps of any of them is found, and named. A
    loss that is declared `in_order` or `whole_episodes` may look at all steps of its own episode, and sees no rows. One
    that remembers is checked in its first state.
    """
    plug = bind(loss, **hypers)
    name = name_of(plug)
    policy, params, batch = example()
    state = running(plug).init(jax.random.key(1), policy, params, batch)
    loss = lambda now, batch: running(plug).apply(state, now, batch)[1]  # noqa: E731
    mask, now = batch.trajectory.mask, jax.jit(policy.evaluate)(params, batch.trajectory)
    with required():
        value, _ = checked_loss(plug, loss(now, batch), mask.shape)
    ordered = traits_of(plug) & {Trait.IN_ORDER, Trait.WHOLE_EPISODES}
    episode = np.arange(mask.size) % mask.shape[1]
    own = episode[:, None] == episode[None, :] if ordered else np.eye(mask.size, dtype=bool)
    strange = _read_elsewhere(loss, now, batch, own)
    require(
        not strange,
        f"{name}: a step's loss depends on another {'episode' if ordered else 'step'}'s {', '.join(strange)}: is there "
        "a mean inside?",
    )
    total = lambda p: jnp.sum(loss(policy.evaluate(p, batch.trajectory), batch)[0])  # noqa: E731
    gradient = jax.jit(jax.grad(total))(params)
    require(failures.all_finite(gradient), f"{name}: the gradient is not finite")
    if not ordered:
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        require(
            close(loss(policy.evaluate(params, rows.trajectory), rows)[0], value.reshape(-1)),
            f"{name}: rows [N] and [T, B] give different losses",
        )
    require(close(jax.jit(lambda now, batch: loss(now, batch)[0])(now, batch), value), f"{name}: jit and eager differ")


def _read_elsewhere(loss: Any, now: Evaluation, batch: Batch, own: np.ndarray) -> list[str]:
    """The inputs, written as the loss reads them ("now.entropy"), whose change in one step changes another's loss.

    A derivative would not see what goes through a comparison or a `stop_gradient`: each entry is changed by itself.

    Args:
      own: [T B, T B], whether the loss of the one step may depend on the other.
    """
    shape = batch.trajectory.mask.shape
    found, tree = jax.tree_util.tree_flatten_with_path((now, batch))
    paths, given = zip(*found, strict=True)
    keys = jax.random.split(jax.random.key(2), len(given))
    others = [_changed(key, x) for key, x in zip(keys, given, strict=True)]
    step = jnp.arange(len(own)).reshape(shape)

    def losses(which, where):
        def picked(i, x, other):
            return jnp.where((which == i) & (step == where).reshape(*shape, *[1] * (x.ndim - 2)), other, x)

        pairs = zip(given, others, strict=True)
        inputs = [picked(i, x, y) if x.shape[:2] == shape else x for i, (x, y) in enumerate(pairs)]
        return loss(*jax.tree.unflatten(tree, inputs))[0].reshape(-1)

    every = jax.vmap(jax.vmap(losses, (None, 0)), (0, None))
    # The last input is none: the same program, with nothing changed.
    values = np.asarray(jax.jit(every)(jnp.arange(len(given) + 1), jnp.arange(len(own))))
    differ = ~np.isclose(values[:-1], values[-1], rtol=1e-5, atol=1e-5, equal_nan=True)  # [inputs, changed, loss]
    reached = np.any(differ & ~own, axis=(1, 2))
    written = [f"{('now', 'batch')[path[0].idx]}{jax.tree_util.keystr(path[1:])}" for path in paths]
    return [name for name, it in zip(written, reached, strict=True) if it]


def _changed(key: Array, x: Array) -> Array:
    """Another number in each place: noise on real ones, the opposite of a truth, and a neighbour's whole number."""
    if x.dtype == bool:
        return ~x
    return x + jax.random.normal(key, x.shape) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.roll(x, 1, axis=0)


def check_advantage(advantage: Any, **hypers: Any) -> None:
    """Check shapes [T, B], the time-limit rule (but for a `Role.GAIN_RATE`), and that no step after an end counts.

    A third result, `batch.extra`, is checked like the two others; the time-limit rule is not for it. One that plays is
    given episodes that return 0.
    """
    plug = bind(advantage, **hypers)
    name = name_of(plug)
    policy, params, batch = example()
    trajectory, now = batch.trajectory, jax.jit(policy.evaluate)(params, batch.trajectory)
    counts = trajectory.mask > 0

    def apply(trajectory, now):
        state = running(plug).init(jax.random.key(1), policy, params, batch)
        play = [lambda rows, **_: jnp.zeros_like(rows.reward)] if Trait.PLAYS in traits_of(plug) else []
        return checked_advantage(name, running(plug).apply(state, *play, trajectory, now)[1], trajectory.mask)

    def counted(tree):
        return jax.tree.map(lambda x: jnp.where(counts.reshape(*counts.shape, *[1] * (x.ndim - 2)), x, 0), tree)

    with required():
        results = apply(trajectory, now)
    for what, tree in zip(("advantage", "target", "extra"), results, strict=True):
        require(failures.all_finite(tree), f"{name}: {what} is not finite")
    other = apply(trajectory, now._replace(next_value=jnp.where(trajectory.terminated, 99.0, now.next_value)))
    require(
        Role.GAIN_RATE in by_role(plug)  # whose next_value is that of the next start
        or close(counted(results[:2]), counted(other[:2])),
        f"{name} bootstraps from a terminated step",
    )
    garbled = trajectory._replace(reward=jnp.where(counts, trajectory.reward, 99.0))
    after = now._replace(value=jnp.where(counts, now.value, 99.0), next_value=jnp.where(counts, now.next_value, 99.0))
    require(
        close(counted(results), counted(apply(garbled, after))), f"{name}: a step after the end of an episode counts"
    )
    require(close(jax.jit(apply)(trajectory, now), results), f"{name}: jit and eager differ")


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
