"""V-MPO's loss against numbers written from the paper, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import losses
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.policies.distributions import Categorical
from pgjax.testing import check_estimator, worlds
from pgjax.types import Evaluation, Policy

HYPERS = {"eps_eta": 0.1, "eps_alpha": 0.02, "dual_rate": 0.3}
KEY = jax.random.key(0)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def case():
    """(policy of free logits [T, B, A], params, batch with steps after the ends of episodes, in NaN)."""
    _, _, batch = worlds.example()
    g, shape = np.random.default_rng(0), batch.trajectory.mask.shape
    old, new = g.normal(size=(2, *shape, 3)).astype(np.float32)
    batch = batch._replace(
        then=batch.then._replace(dist=Categorical(jnp.asarray(old))),
        advantage=jnp.where(batch.trajectory.mask > 0, jnp.float32(2 * g.normal(size=shape)), jnp.nan),
    )
    assert 0 < batch.trajectory.mask.sum() < batch.trajectory.mask.size

    def evaluate(params, trajectory):
        dist, zeros = Categorical(params), jnp.zeros(shape)
        return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), zeros, zeros)

    return Policy(None, None, None, evaluate), jnp.asarray(new), batch


def test_its_gradient_and_its_duals_are_those_of_the_paper(case):
    policy, logits, batch = case
    plug = bind(surrogate(losses.v_mpo), **HYPERS)
    assert set(hyperparameters(plug)) == {*HYPERS, "normalize_advantage", "noise"}
    apply = jax.jit(plug.apply, static_argnums=2)
    state, counts = plug.init(KEY, policy, logits, batch), np.asarray(batch.trajectory.mask) > 0
    pi, old = softmax(np.float64(logits)), softmax(np.float64(batch.then.dist.logits))
    advantage, n = np.float64(batch.advantage), counts.sum()
    top = counts & (advantage >= np.median(advantage[counts]))
    kl = (old * np.log(old / pi)).sum(-1)[counts].mean()
    eta, alpha = 1.0, 5.0
    moments = np.zeros((2, 2))
    for k in range(1, 4):
        expected = np.zeros_like(pi)
        total = np.exp(advantage[top] / eta).sum()
        for t, b in zip(*np.nonzero(counts), strict=True):
            score = np.eye(3)[int(batch.trajectory.action[t, b])] - pi[t, b]
            expected[t, b] = alpha * (pi[t, b] - old[t, b]) / n
            if top[t, b]:
                expected[t, b] -= np.exp(advantage[t, b] / eta) / total * score
        state, (found, metrics) = apply(state, KEY, policy, logits, batch)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose([metrics["eta"], metrics["alpha"], metrics["kl"]], [eta, alpha, kl], rtol=1e-4)
        # Each dual's own loss, its slope by central differences, and Adam (Kingma & Ba 2015, algorithm 1).
        dual = lambda eta: eta * (0.1 + np.log(np.mean(np.exp(advantage[top] / eta))))  # noqa: E731
        slope = np.array([(dual(eta + 1e-5) - dual(eta - 1e-5)) / 2e-5, 0.02 - kl])
        moments = np.stack([0.9 * moments[0] + 0.1 * slope, 0.999 * moments[1] + 0.001 * slope**2])
        step = 0.3 * moments[0] / (1 - 0.9**k) / (np.sqrt(moments[1] / (1 - 0.999**k)) + 1e-8)
        eta, alpha = max(1e-8, eta - step[0]), max(1e-8, alpha - step[1])


def test_the_duals_stay_above_zero(case):
    policy, logits, batch = case
    plug = bind(surrogate(losses.v_mpo), eps_eta=50.0, eps_alpha=50.0, dual_rate=10.0)
    state, apply = plug.init(KEY, policy, logits, batch), jax.jit(plug.apply, static_argnums=2)
    for _ in range(3):
        state, (found, _) = apply(state, KEY, policy, logits, batch)
    duals = state[0][0]
    np.testing.assert_allclose(duals, 1e-8, rtol=1e-5)
    assert bool(jnp.isfinite(found).all())


def test_it_conforms_beside_a_critic():
    check_estimator(surrogate(losses.actor_critic(losses.v_mpo)), normalize_advantage=True)
