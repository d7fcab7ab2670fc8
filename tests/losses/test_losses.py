"""One loss per step: values and gradients against closed forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import losses
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.policies.distributions import Categorical
from pgjax.types import Batch, Evaluation, Policy, Trajectory

SHAPE = (4, 3)


def kl_penalised(now, batch, *, beta=1.0):
    """Importance-weighted policy gradient with a penalty on the approximate KL, per step [T, B]."""
    log_ratio = now.log_prob - batch.trajectory.log_prob
    kl = jnp.expm1(log_ratio) - log_ratio
    return -jnp.exp(log_ratio) * batch.advantage + beta * kl, {"kl": kl}


def _evaluation(log_prob=None, value=None, entropy=None):
    """The critic's action values of both actions are its value."""
    shape = next(jnp.shape(x) for x in (log_prob, value, entropy) if x is not None)
    fill = [jnp.zeros(shape) if x is None else jnp.asarray(x, jnp.float32) for x in (log_prob, entropy, value)]
    return Evaluation(None, *fill, next_value=jnp.zeros(shape), action_value=jnp.stack([fill[2]] * 2, axis=-1))


def _batch(advantage=None, log_prob=None, target=None, value=None):
    shape = next(jnp.shape(x) for x in (advantage, target, value) if x is not None)

    def fill(x):
        return jnp.zeros(shape) if x is None else jnp.asarray(x, jnp.float32)

    no, index = jnp.zeros(shape, bool), jnp.zeros(shape, jnp.int32)
    trajectory = Trajectory(
        obs=index,
        action=index,
        log_prob=fill(log_prob),
        reward=jnp.zeros(shape),
        terminated=no,
        truncated=no,
        next_obs=index,
        mask=jnp.ones(shape),
        time=index,
        memory=(),
    )
    return Batch(trajectory, advantage=fill(advantage), target=fill(target), value=fill(value))


@pytest.fixture(scope="module")
def data():
    """(now, batch) with every field random, [T, B]."""
    g = np.random.default_rng(0)
    log_prob, old, advantage, value, target, old_value, entropy = g.normal(size=(7, *SHAPE)).astype(np.float32)
    return _evaluation(0.3 * log_prob, value, entropy), _batch(advantage, 0.3 * old, target, old_value)


def _slope(loss, log_prob, batch, **hypers):
    """d sum of the losses / d log_prob, per step."""
    slope = jax.jit(jax.grad(lambda x, batch: loss(_evaluation(x), batch, **hypers)[0].sum()))
    return slope(jnp.asarray(log_prob, jnp.float32), batch)


def test_policy_gradient_weighs_the_score_by_the_advantage(data):
    now, batch = data
    per_step, metrics = losses.policy_gradient(now, batch)
    np.testing.assert_allclose(per_step, -np.float64(now.log_prob) * np.float64(batch.advantage), rtol=1e-6)
    assert metrics == {}
    np.testing.assert_allclose(_slope(losses.policy_gradient, now.log_prob, batch), -batch.advantage)


class TestPPO:
    def test_at_ratio_1_its_gradient_is_the_policy_gradient(self):
        g = np.random.default_rng(1)
        logits = jnp.asarray(g.normal(size=(*SHAPE, 5)), jnp.float32)
        action, advantage = jnp.asarray(g.integers(0, 5, size=SHAPE)), g.normal(size=SHAPE)
        batch = _batch(advantage, Categorical(logits).log_prob(action))

        @jax.jit
        def gradients(x):
            def total(loss):
                return lambda x: loss(_evaluation(Categorical(x).log_prob(action)), batch)[0].sum()

            clipped = [bind(losses.ppo_clip, clip_eps=clip_eps) for clip_eps in (1e-3, 0.2, jnp.inf)]
            return [jax.grad(total(loss))(x) for loss in (losses.policy_gradient, *clipped)]

        plain, *clipped = gradients(logits)
        for ours in clipped:
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
        p = np.exp(np.float64(jax.nn.log_softmax(logits)))
        np.testing.assert_allclose(plain, -advantage[..., None] * (np.eye(5)[action] - p), rtol=1e-4, atol=1e-5)

    def test_the_clip_stops_only_moves_that_it_should(self):
        """It stops a gain that has been had, never the way back."""
        ratio = np.array([1.5, 1.5, 0.5, 0.5, 1.1, 0.9])
        advantage = np.array([2.0, -2.0, 2.0, -2.0, 2.0, -2.0])
        clipped = np.array([True, False, False, True, False, False])
        batch = _batch(advantage)
        slope = _slope(losses.ppo_clip, np.log(ratio), batch, clip_eps=0.2)
        np.testing.assert_allclose(slope, np.where(clipped, 0, -ratio * advantage), rtol=1e-6)
        per_step, metrics = losses.ppo_clip(_evaluation(np.log(ratio)), batch, clip_eps=0.2)
        bounded = np.clip(ratio, 0.8, 1.2)
        np.testing.assert_allclose(per_step, -np.minimum(ratio * advantage, bounded * advantage), rtol=1e-6)
        np.testing.assert_array_equal(metrics["clip_fraction"], [1, 1, 1, 1, 0, 0])

    def test_an_infinite_clip_is_the_plain_importance_weight(self, data):
        now, batch = data
        ratio = np.exp(np.float64(now.log_prob) - np.float64(batch.trajectory.log_prob))
        per_step, metrics = losses.ppo_clip(now, batch, clip_eps=jnp.inf)
        np.testing.assert_allclose(per_step, -ratio * batch.advantage, rtol=1e-5)
        slope = _slope(losses.ppo_clip, now.log_prob, batch, clip_eps=jnp.inf)
        np.testing.assert_allclose(slope, -ratio * batch.advantage, rtol=1e-5)
        assert (metrics["clip_fraction"] == 0).all()

    def test_kl_coef_adds_the_penalty(self, data):
        now, batch = data
        plain, metrics = losses.ppo_clip(now, batch)
        penalised, _ = losses.ppo_clip(now, batch, kl_coef=0.7)
        np.testing.assert_allclose(penalised - plain, 0.7 * metrics["kl"], atol=1e-6)
        log_ratio = np.float64(now.log_prob) - np.float64(batch.trajectory.log_prob)
        np.testing.assert_allclose(metrics["kl"], np.exp(log_ratio) - 1 - log_ratio, rtol=1e-4, atol=1e-6)
        assert (metrics["kl"] >= 0).all()

    def test_its_kl_is_in_expectation_that_of_the_old_from_the_new_policy(self):
        g = np.random.default_rng(3)
        old, new = (Categorical(jnp.asarray(x, jnp.float32)) for x in g.normal(size=(2, 6)))
        _, metrics = losses.ppo_clip(_evaluation(new.log_probs()), _batch(jnp.zeros(6), old.log_probs()))
        np.testing.assert_allclose(jnp.exp(old.log_probs()) @ metrics["kl"], old.kl(new), rtol=1e-4)


class TestValueError:
    def test_an_infinite_clip_is_the_squared_error(self, data):
        now, batch = data
        per_step, metrics = losses.value_error(now, batch)
        expected = 0.5 * (np.float64(now.value) - np.float64(batch.target)) ** 2
        np.testing.assert_allclose(per_step, expected, rtol=1e-5)
        np.testing.assert_array_equal(metrics["value_loss"], per_step)
        slope = jax.grad(lambda v: losses.value_error(_evaluation(value=v), batch)[0].sum())(now.value)
        np.testing.assert_allclose(slope, np.float64(now.value) - np.float64(batch.target), rtol=1e-5)

    def test_a_finite_clip_takes_the_worse_of_the_two(self, data):
        now, batch = data
        clip = 0.3

        @jax.jit
        def both(v):
            per_step, _ = losses.value_error(_evaluation(value=v), batch, value_clip=clip)
            return per_step.sum(), per_step

        slope, per_step = jax.grad(both, has_aux=True)(now.value)
        cases = set()
        for i in np.ndindex(SHAPE):
            v, old, target = (float(x[i]) for x in (now.value, batch.value, batch.target))
            inside = abs(v - old) <= clip
            kept = v if inside else old + np.sign(v - old) * clip
            worse_is_kept = (kept - target) ** 2 > (v - target) ** 2
            expected = 0.5 * max((v - target) ** 2, (kept - target) ** 2)
            np.testing.assert_allclose(per_step[i], expected, rtol=1e-5)
            # Where the clipped value is the worse one, it stands still, and so nothing is learnt.
            np.testing.assert_allclose(slope[i], 0 if worse_is_kept else v - target, rtol=1e-4, atol=1e-6)
            cases.add("inside" if inside else "kept" if worse_is_kept else "moved")
        assert cases == {"inside", "kept", "moved"}

    def test_the_clip_may_be_swept(self, data):
        now, batch = data
        swept = jax.vmap(lambda clip: losses.value_error(now, batch, value_clip=clip)[0])(jnp.array([0.3, jnp.inf]))
        np.testing.assert_allclose(swept[0], losses.value_error(now, batch, value_clip=0.3)[0], rtol=1e-6)
        np.testing.assert_allclose(swept[1], losses.value_error(now, batch)[0], rtol=1e-6)


class TestActorCritic:
    loss = staticmethod(losses.actor_critic(losses.ppo_clip))

    def test_it_takes_the_hyperparameters_of_both(self):
        assert hyperparameters(self.loss) == {
            "value_coef": 0.5,
            "entropy_coef": 0.0,
            "clip_eps": 0.2,
            "clip_high": 0.0,
            "kl_coef": 0.0,
            "value_clip": np.inf,
        }
        assert self.loss.__name__ == "ppo_clip"

    def test_it_is_the_weighted_sum(self, data):
        now, batch = data
        per_step, metrics = self.loss(
            now, batch, value_coef=0.7, entropy_coef=0.1, clip_eps=0.1, kl_coef=0.3, value_clip=0.4
        )
        actor, actor_metrics = losses.ppo_clip(now, batch, clip_eps=0.1, kl_coef=0.3)
        critic, critic_metrics = losses.value_error(now, batch, value_clip=0.4)
        np.testing.assert_allclose(per_step, actor + 0.7 * critic - 0.1 * now.entropy, rtol=1e-5, atol=1e-6)
        assert set(metrics) == {*actor_metrics, *critic_metrics, "entropy"}
        np.testing.assert_array_equal(metrics["entropy"], now.entropy)

    def test_its_defaults_are_those_of_the_losses(self, data):
        now, batch = data
        expected = losses.ppo_clip(now, batch)[0] + 0.5 * losses.value_error(now, batch)[0]
        np.testing.assert_allclose(self.loss(now, batch)[0], expected, rtol=1e-5, atol=1e-6)

    def test_bound_defaults_of_a_loss_are_kept(self, data):
        now, batch = data
        loss = losses.actor_critic(bind(losses.ppo_clip, clip_eps=0.05), bind(losses.value_error, value_clip=0.1))
        assert hyperparameters(loss)["clip_eps"] == 0.05 and hyperparameters(loss)["value_clip"] == 0.1
        expected = losses.ppo_clip(now, batch, clip_eps=0.05)[0]
        expected += 0.5 * losses.value_error(now, batch, value_clip=0.1)[0]
        np.testing.assert_allclose(loss(now, batch)[0], expected, rtol=1e-5, atol=1e-6)

    def test_it_refuses_a_loss_that_takes_its_own_names(self):
        def mine(now, batch, *, entropy_coef=1.0):
            return entropy_coef * now.log_prob * batch.advantage, {}

        with pytest.raises(ValueError, match="mine: hyperparameter 'entropy_coef' is taken by the plug around"):
            losses.actor_critic(mine)


def test_awr_weighs_each_action_by_its_exponentiated_advantage_up_to_a_bound():
    """Peng et al. 2019, algorithm 1: the gradient to log pi is minus the weight."""
    g = np.random.default_rng(6)
    log_prob, advantage = g.normal(size=(2, *SHAPE)).astype(np.float32)
    batch, expected = _batch(advantage), np.zeros(SHAPE)
    for t, b in np.ndindex(*SHAPE):
        expected[t, b] = min(np.exp(float(advantage[t, b]) / 0.5), 3.0)
    assert (expected == 3).any() and (expected < 3).any()
    loss = lambda x: losses.awr(_evaluation(x), batch, beta=0.5, max_weight=3.0)  # noqa: E731
    per_step, metrics = loss(log_prob)
    np.testing.assert_allclose(per_step, -expected * log_prob, rtol=1e-5)
    np.testing.assert_allclose(metrics["weight"], expected, rtol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(loss(x)[0]))(jnp.asarray(log_prob))
    np.testing.assert_allclose(slope, -expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (7,)])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_one_loss_for_each_step(name, shape):
    g = np.random.default_rng(4)
    log_prob, advantage, value, target = g.normal(size=(4, *shape)).astype(np.float32)
    shipped = losses.LOSSES[name]
    for loss in [shipped] if name in ("value_error", "action_value_error") else [shipped, losses.actor_critic(shipped)]:
        per_step, metrics = loss(_evaluation(log_prob, value), _batch(advantage, target=target))
        assert per_step.shape == shape and per_step.dtype == jnp.float32
        assert all(x.shape == shape for x in metrics.values())


def test_ten_lines_make_a_new_loss(data):
    """It needs no registration: it is lifted, differentiated and swept like the shipped ones."""
    now, batch = data
    estimator = surrogate(losses.actor_critic(kl_penalised))
    assert hyperparameters(estimator)["beta"] == 1.0
    logits = jnp.asarray(np.random.default_rng(5).normal(size=(*SHAPE, 3)), jnp.float32)

    def evaluate(params, trajectory):
        dist = Categorical(params["logits"])
        zeros = jnp.zeros(SHAPE)
        return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), params["value"], zeros)

    policy = Policy(init=None, memory=None, act=None, evaluate=evaluate)
    params = {"logits": logits, "value": jnp.asarray(now.value)}
    sweep = jax.jit(jax.vmap(lambda beta: estimator(jax.random.key(0), policy, params, batch, beta=beta)))
    gradient, metrics = sweep(jnp.array([0.0, 2.0]))
    assert set(metrics) == {"loss", "kl", "value_loss", "entropy"}
    p = np.exp(np.float64(jax.nn.log_softmax(logits)))
    ratio = p[..., 0] / np.exp(np.float64(batch.trajectory.log_prob))
    score = np.eye(3)[0] - p
    for i, beta in enumerate((0.0, 2.0)):
        # d/d log pi of -ratio A + beta (ratio - 1 - log ratio), in the mean over the steps.
        slope = -ratio * batch.advantage + beta * (ratio - 1)
        np.testing.assert_allclose(gradient["logits"][i], slope[..., None] * score / 12, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gradient["value"][i], 0.5 * (now.value - batch.target) / 12, rtol=1e-5, atol=1e-7)
