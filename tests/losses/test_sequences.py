"""Ratios of whole sequences and the distance to a reference: float64 loops, and expectations over all actions."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.advantages import leave_one_out, monte_carlo, penalised
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.losses import actor_critic, anchored, policy_gradient, ppo_clip, sequence_clip
from pgjax.losses.contract import is_by_step
from pgjax.numerics.kl import kl_estimate
from pgjax.testing import worlds
from pgjax.types import Running

ACTIONS, T = 4, 3
THETA, PHI = np.random.default_rng(0).normal(size=(2, ACTIONS)).astype(np.float32)
KEY = jax.random.key(0)


def kl(a, b):
    a, b = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
    return jnp.sum(jnp.exp(a) * (a - b))


def expected(kind, theta, phi=PHI, drawn=None):
    """The mean over the actions of softmax(drawn), or of theta, of the estimate."""
    log_prob = jax.nn.log_softmax(theta)
    weight = jax.lax.stop_gradient(jnp.exp(jax.nn.log_softmax(theta if drawn is None else drawn)))
    return jnp.sum(weight * kl_estimate(log_prob, jax.nn.log_softmax(phi), kind))


@pytest.fixture(scope="module")
def example():
    """(policy, params, batch of whole episodes [T, B] of unlike length, with a reference's log-probabilities)."""
    policy, params, batch = worlds.example()
    lengths = np.asarray(batch.trajectory.mask).sum(axis=0)
    assert len(set(lengths.tolist())) > 1
    reference = np.random.default_rng(3).normal(size=batch.trajectory.mask.shape).astype(np.float32) - 1
    trajectory = batch.trajectory._replace(reference=jnp.asarray(reference))
    return policy, params, batch._replace(trajectory=trajectory)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_the_mean_of_an_estimate_over_all_actions_is_the_kl(kind):
    np.testing.assert_allclose(expected(kind, THETA), kl(THETA, PHI), rtol=1e-5)


def test_k2_is_half_a_square_and_never_negative_as_k3_is_not():
    x = np.linspace(-3, 3, 13).astype(np.float32)
    np.testing.assert_allclose(kl_estimate(0 * x, x, "k2"), x**2 / 2, rtol=1e-6)
    np.testing.assert_allclose(kl_estimate(0 * x, x, "k3"), np.exp(np.float64(x)) - 1 - x, rtol=1e-5, atol=1e-6)
    assert (kl_estimate(0 * x, x, "k3") >= 0).all()


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_the_mean_gradient_of_an_estimate_is_that_of(kind):
    gradient = jax.grad(lambda theta: expected(kind, theta))(THETA)
    stated = {"k1": lambda theta: 0.0 * jnp.sum(theta), "k2": lambda x: kl(x, PHI), "k3": lambda x: kl(PHI, x)}
    np.testing.assert_allclose(gradient, jax.grad(stated[kind])(THETA), rtol=1e-4, atol=1e-6)


def sequences():
    """Every sequence of T = 2 of 2 actions [2, 4], what acts and the reference depending on the action before."""
    g = np.random.default_rng(5)
    theta, phi = g.normal(size=(2, 3, 2)).astype(np.float32)
    action = np.array(list(itertools.product(range(2), repeat=2))).T
    state = np.stack([np.zeros(4, int), 1 + action[0]])
    return jnp.asarray(theta), jnp.asarray(phi), action, state


def steps(logits, action, state):
    return jax.nn.log_softmax(logits)[state, action]


def test_with_k1_the_penalty_is_exact_in_mean_and_gradient_over_whole_sequences(example):
    theta, phi, action, state = sequences()
    trajectory = jax.tree.map(lambda x: jnp.zeros((2, 4), x.dtype), example[2].trajectory)
    trajectory = trajectory._replace(
        mask=jnp.ones((2, 4)),
        time=jnp.broadcast_to(jnp.arange(2)[:, None], (2, 4)),
        log_prob=steps(theta, action, state),
        reference=steps(phi, action, state),
        terminated=jnp.zeros((2, 4), bool).at[1].set(True),
    )
    now = example[0].evaluate(example[1], trajectory)._replace(value=jnp.zeros((2, 4)), next_value=jnp.zeros((2, 4)))
    plug = penalised(bind(monte_carlo, baseline="none", discount=1.0))
    _, (advantage, _) = plug.apply(plug.init(), trajectory, now, reference_penalty=0.7)
    total = lambda logits: jnp.sum(steps(logits, action, state), axis=0)  # noqa: E731
    chance = jnp.exp(total(theta))

    def exact(theta):
        return jnp.sum(jnp.exp(total(theta)) * (total(theta) - total(phi)))

    np.testing.assert_allclose(jnp.sum(chance * advantage[0]), -0.7 * exact(theta), rtol=1e-5)
    surrogate_ = lambda theta: jnp.sum(chance * jnp.sum(advantage * steps(theta, action, state), axis=0))  # noqa: E731
    np.testing.assert_allclose(jax.grad(surrogate_)(theta), -0.7 * jax.grad(exact)(theta), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("plug", [leave_one_out, monte_carlo], ids=["plain", "running"])
def test_a_penalised_advantage_is_that_of_the_reward_less_the_penalty(example, plug, kind):
    policy, params, batch = example
    trajectory, now = batch.trajectory, policy.evaluate(params, batch.trajectory)
    lifted = penalised(bind(plug, samples=2) if plug is leave_one_out else plug)
    assert isinstance(lifted, Running) is (plug is monte_carlo)
    assert hyperparameters(lifted)["reference_penalty"] == 0.0 and hyperparameters(lifted)["discount"]
    reward = np.asarray(trajectory.reward, np.float64)
    for t, b in zip(*np.nonzero(trajectory.mask), strict=True):
        x = float(trajectory.reference[t, b]) - float(trajectory.log_prob[t, b])
        reward[t, b] -= 0.3 * {"k1": -x, "k2": x * x / 2, "k3": np.exp(x) - 1 - x}[kind]

    def apply(plug, trajectory, **options):
        options["discount"] = 0.9
        if isinstance(plug, Running):
            return plug.apply(plug.init(), trajectory, now, **options)[1]
        return plug(trajectory, now, **options)

    found = apply(lifted, trajectory, reference_penalty=0.3, reference_kl=kind)
    inner = bind(plug, samples=2) if plug is leave_one_out else plug
    wanted = apply(inner, trajectory._replace(reward=jnp.asarray(reward, jnp.float32)))
    counts = np.asarray(trajectory.mask) > 0
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a[counts], b[counts], rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - apply(inner, trajectory)[0])[counts].max() > 0.01
    free = apply(lifted, trajectory, reference_penalty=0.0, reference_kl=kind)
    jax.tree.map(np.testing.assert_array_equal, free, apply(inner, trajectory))


def test_what_stands_behind_an_end_is_not_penalised(example):
    policy, params, batch = example
    counts = batch.trajectory.mask > 0
    plug = bind(penalised(leave_one_out), samples=2, reference_penalty=0.5)
    now = policy.evaluate(params, batch.trajectory)
    garbled = batch.trajectory._replace(reference=jnp.where(counts, batch.trajectory.reference, jnp.nan))
    a, b = (np.asarray(plug(trajectory, now)[0]) for trajectory in (batch.trajectory, garbled))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("inner", [policy_gradient, ppo_clip], ids=["policy_gradient", "ppo_clip"])
def test_an_anchored_loss_has_the_estimate_added_at_each_step(example, inner, kind):
    policy, params, batch = example
    now = policy.evaluate(params, batch.trajectory)
    loss = anchored(inner)
    assert is_by_step(loss) and set(hyperparameters(loss)) == {
        "reference_coef",
        "reference_kl",
        *hyperparameters(inner),
    }
    per_step, metrics = loss(now, batch, reference_coef=0.4, reference_kl=kind)
    base, others = inner(now, batch)
    added = 0.4 * kl_estimate(now.log_prob, batch.trajectory.reference, kind)
    counts = np.asarray(batch.trajectory.mask) > 0
    np.testing.assert_allclose(per_step, jnp.where(counts, base + added, base), rtol=1e-5, atol=1e-6)
    assert not counts.all()
    assert metrics.keys() == others.keys()
    np.testing.assert_array_equal(loss(now, batch, reference_kl=kind)[0], base)


def test_no_gradient_flows_to_the_reference(example):
    policy, params, batch = example

    def total(reference):
        seen = batch._replace(trajectory=batch.trajectory._replace(reference=reference))
        return jnp.sum(anchored(policy_gradient)(policy.evaluate(params, seen.trajectory), seen, reference_coef=1.0)[0])

    np.testing.assert_array_equal(jax.grad(total)(batch.trajectory.reference), 0.0)


def test_a_loss_that_looks_at_the_whole_batch_is_not_declared_otherwise():
    assert not is_by_step(anchored(sequence_clip)) and not is_by_step(sequence_clip)


@pytest.mark.parametrize("geometric", [True, False])
def test_sequence_clip_is_the_clipped_surrogate_of_one_ratio_for_each_sequence(example, geometric):
    policy, params, batch = example
    trajectory = batch.trajectory
    # Ratios on both sides of the clip, and garbage behind the ends.
    g = np.random.default_rng(1)
    shift = 0.1 * g.normal(size=trajectory.mask.shape) + np.array([0.4, -0.4, 0.02, -0.02])[None]
    now = policy.evaluate(params, trajectory)
    old = np.asarray(now.log_prob) - shift.astype(np.float32)
    old = np.where(trajectory.mask > 0, old, np.nan)
    batch = batch._replace(trajectory=trajectory._replace(log_prob=jnp.asarray(old)))
    per_step, metrics = sequence_clip(now, batch, clip_eps=0.2, geometric=geometric)
    outside = set()
    for b in range(trajectory.mask.shape[1]):
        rows = np.nonzero(np.asarray(trajectory.mask)[:, b])[0]
        log_ratio = sum(float(now.log_prob[t, b]) - float(old[t, b]) for t in rows)
        ratio = np.exp(log_ratio / len(rows) if geometric else log_ratio)
        outside.add(abs(ratio - 1) > 0.2)
        for t in rows:
            a = float(batch.advantage[t, b])
            np.testing.assert_allclose(
                per_step[t, b], -min(ratio * a, np.clip(ratio, 0.8, 1.2) * a), rtol=1e-4, atol=1e-6
            )
            assert metrics["clip_fraction"][t, b] == (abs(ratio - 1) > 0.2)
    assert outside == {True, False}


@pytest.mark.parametrize(("geometric", "reduce"), [(True, "episode_mean"), (False, "episode")])
def test_at_ratio_1_sequence_clip_has_the_policy_gradient_over_whole_sequences(example, geometric, reduce):
    """With an advantage of the sequence: averaged over its tokens, or summed, as the ratio is."""
    policy, params, batch = example
    trajectory = batch.trajectory._replace(log_prob=policy.evaluate(params, batch.trajectory).log_prob)
    batch = batch._replace(
        trajectory=trajectory, advantage=jnp.broadcast_to(batch.advantage[:1], trajectory.mask.shape)
    )
    clipped = surrogate(bind(sequence_clip, geometric=geometric), "episode_mean")(KEY, policy, params, batch)[0]
    plain = surrogate(policy_gradient, reduce)(KEY, policy, params, batch)[0]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), clipped, plain)
    assert max(np.abs(x).max() for x in jax.tree.leaves(plain)) > 1e-3


@pytest.mark.parametrize("loss", [policy_gradient, actor_critic(ppo_clip)], ids=["policy_gradient", "ppo"])
def test_episode_mean_averages_over_each_episodes_steps_then_over_episodes(example, loss):
    policy, params, batch = example
    mask = np.asarray(batch.trajectory.mask)
    gradient, metrics = surrogate(loss, "episode_mean")(KEY, policy, params, batch)
    jacobian = jax.jacobian(lambda p: loss(policy.evaluate(p, batch.trajectory), batch)[0])(params)
    per_step = np.asarray(loss(policy.evaluate(params, batch.trajectory), batch)[0], np.float64)

    def reduced(x):
        x = np.asarray(x, np.float64)
        columns = [x[mask[:, b] > 0, b].mean(axis=0) for b in range(mask.shape[1])]
        return sum(columns) / len(columns)

    assert len(set(mask.sum(axis=0).tolist())) > 1
    np.testing.assert_allclose(metrics["loss"], reduced(per_step), rtol=1e-4)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(near, gradient, jax.tree.map(reduced, jacobian))


class TestMistakes:
    def test_an_unknown_estimate(self):
        with pytest.raises(ValueError, match="reference_kl must be one of k1, k2, k3; got 'k4'"):
            kl_estimate(THETA, PHI, "k4")

    @pytest.mark.parametrize("name", ["penalised", "anchored"])
    def test_a_trajectory_without_a_reference(self, example, name):
        policy, params, batch = example
        bare = batch._replace(trajectory=batch.trajectory._replace(reference=()))
        now = policy.evaluate(params, bare.trajectory)
        with pytest.raises(
            ValueError, match="the trajectory has no log-probabilities of a reference; fill `reference`"
        ):
            if name == "penalised":
                bind(penalised(leave_one_out), samples=2)(bare.trajectory, now)
            else:
                anchored(policy_gradient)(now, bare)

    @pytest.mark.parametrize("which", ["sequence_clip", "episode_mean"])
    def test_rows_are_no_sequences(self, example, which):
        policy, params, batch = example
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        with pytest.raises(ValueError, match=r"needs whole episodes \[T, B\], got rows \(\d+,\)"):
            if which == "sequence_clip":
                sequence_clip(policy.evaluate(params, rows.trajectory), rows)
            else:
                surrogate(policy_gradient, "episode_mean")(KEY, policy, params, rows)
