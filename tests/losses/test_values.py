"""What a loss can read besides: the policy as it was, a network's third output, an advantage's third result."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgjax import Algorithm, advantages, envs, estimators, losses, optimizers, policies, variance
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.hyperparameters import bind, default_hypers
from pgjax.policies.distributions import Categorical
from pgjax.sweeps.plan import plan

ENV = envs.make("CartPole-v1")
CONFIG = dict(num_envs=4, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(4,))


def trained(loss, advantage=advantages.gae, policy=None, updates=2, **config):
    """Metrics [updates] of a learner with this loss."""
    config = Config(**{**CONFIG, **config})
    algorithm = Algorithm(advantage, estimators.surrogate(loss), bind(optimizers.sgd, learning_rate=0.1))
    made = on_policy.make_learner(ENV, policy or policies.make(ENV, config), algorithm, config)
    hypers = default_hypers(algorithm)

    @jax.jit
    def run(key):
        state = made.init(key, hypers)
        return jax.lax.scan(lambda state, key: made.step(key, state, hypers), state, jax.random.split(key, updates))[1]

    return run(jax.random.key(0))


def exact_kl(now, batch, *, kl_weight: float = 0.0):
    """PPO with the exact KL(then || now) (Schulman et al. 2017, eq. 8)."""
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    kl = batch.then.dist.kl(now.dist)
    moved = jnp.abs(now.log_prob - batch.then.log_prob)
    acted = jnp.abs(batch.then.log_prob - batch.trajectory.log_prob)
    away = jnp.abs(batch.then.value - batch.value)
    return -ratio * batch.advantage + kl_weight * kl, {"kl": kl, "moved": moved, "acted": acted, "away": away}


@pytest.mark.parametrize("steps", [8, 6])  # a multiple of the chunks in which a CPU evaluates, and none
def test_a_loss_reads_the_policy_as_it_was(steps):
    once = trained(exact_kl, num_epochs=1, num_minibatches=1, num_steps=steps)
    np.testing.assert_allclose(once["kl"], 0.0, atol=1e-7)
    found = trained(exact_kl, num_steps=steps)
    assert np.all(found["moved"] > 1e-5) and np.all(found["kl"] > 1e-9)
    np.testing.assert_allclose(found["acted"], 0.0, atol=1e-6)
    np.testing.assert_allclose(found["away"], 0.0, atol=1e-6)
    held = trained(bind(exact_kl, kl_weight=3.0), num_steps=steps)
    assert np.all(held["kl"] < found["kl"])


def test_with_a_lag_it_is_the_policy_that_learns_and_not_the_one_that_acted():
    found = trained(exact_kl, lag=1, updates=3)
    assert found["acted"][0] < 1e-6 and np.all(found["acted"][1:] > 1e-5)
    np.testing.assert_allclose(found["away"], 0.0, atol=1e-6)


def test_the_gradient_of_the_exact_kl_is_that_of_float64():
    """d KL(then || now) / d logits = pi_now - pi_then, of one row of logits at a time."""
    g = np.random.default_rng(0)
    then, now = g.normal(size=(2, 5, 3))
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)  # noqa: E731
    gradient = jax.grad(lambda x: jnp.sum(Categorical(jnp.asarray(then)).kl(Categorical(x))))(jnp.asarray(now))
    np.testing.assert_allclose(gradient, softmax(now) - softmax(then), atol=1e-6)


class Third(nnx.Module):
    """Returns a second reading of the observation besides."""

    def __init__(self, rngs):
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, obs):
        out = self.head(obs)
        return Categorical(out), out[..., 0], {"twice": 2 * obs, "sum": jnp.sum(out, axis=-1)}


def reads_extra(now, batch):
    trajectory = batch.trajectory
    off = jnp.max(jnp.abs(now.extra["twice"] - 2 * trajectory.obs), axis=-1)
    ahead = jnp.max(jnp.abs(now.next_extra["twice"] - 2 * trajectory.next_obs), axis=-1)
    before = jnp.max(jnp.abs(batch.then.extra["twice"] - now.extra["twice"]), axis=-1)
    return 0.1 * now.extra["sum"] ** 2, {
        "off": off,
        "ahead": ahead,
        "before": before,
        "size": jnp.abs(now.extra["sum"]),
    }


@pytest.mark.parametrize("steps", [8, 6])
def test_a_network_returns_a_third_thing(steps):
    policy = policies.from_nnx(Third)
    found = trained(losses.by_step(reads_extra), policy=policy, num_steps=steps, updates=4)
    for name in ("off", "ahead", "before"):
        np.testing.assert_allclose(found[name], 0.0, atol=1e-6)
    assert np.all(found["grad_norm"] > 0)  # all of it through the third thing


def test_a_third_thing_without_batch_axes_is_one_line():
    class Wrong(Third):
        def __call__(self, obs):
            dist, value, _ = super().__call__(obs)
            return dist, value, jnp.ones(3)

    policy = policies.from_nnx(Wrong)
    with pytest.raises(ValueError, match=r"Wrong: extra has an array of shape \(3,\), expected \(5,\) first"):
        policy.act(policy.init(jax.random.key(0)), (), jnp.zeros((5, 4)))


def labelled(trajectory, now, *, discount: float = 0.9):
    extra = {"reward": trajectory.reward, "obs": trajectory.obs}
    return trajectory.reward - now.value, trajectory.reward, extra


def reads_labels(now, batch):
    off = jnp.max(jnp.abs(batch.extra["obs"] - batch.trajectory.obs), axis=-1)
    off = off + jnp.abs(batch.extra["reward"] - batch.trajectory.reward)
    return -now.log_prob * batch.advantage, {"off": off}


@pytest.mark.parametrize("options", [{}, {"rollout": "episodes", "num_steps": 6}, {"update": "step", "num_epochs": 1}])
def test_an_advantage_returns_a_third_thing(options):
    options = {**({"num_minibatches": 1} if "update" in options else {}), **options}
    assert np.all(trained(losses.by_step(reads_labels), advantage=labelled, **options)["off"] == 0)


def test_an_extra_of_the_wrong_shape_is_one_line():
    def wrong(trajectory, now):
        return now.value, now.value, jnp.zeros(3)

    with pytest.raises(ValueError, match=r"advantage 'wrong' returned extra of shape \(3,\), expected \(8, 4\) first"):
        trained(reads_labels, advantage=wrong)


def test_the_laboratory_gives_all_of_it():
    env = envs.make("TabularMDP-pgjax")
    policy = policies.make(env)

    def loss(now, batch):
        weight = batch.extra * jnp.exp(batch.then.log_prob - now.log_prob)
        return -now.log_prob * jax.lax.stop_gradient(weight), {}

    def advantage(trajectory, now, *, discount: float = 0.9):
        returns = advantages.monte_carlo
        _, (weight, target) = returns.apply(returns.init(), trajectory, now, discount=discount, gamma_t=True)
        return weight, target, weight

    plugs = variance.Plugs(advantage, estimators.surrogate(loss, "episode"))
    usual = variance.Plugs(
        bind(advantages.monte_carlo, discount=0.9, gamma_t=True),
        estimators.surrogate(losses.policy_gradient, "episode"),
    )
    params = policy.init(jax.random.key(0))
    found = variance.compare({"a": plugs, "b": usual}, env, policy, params, discount=0.9, episodes=64, batch=(1,))
    a, b = found.summary["estimators"].values()
    assert math.isclose(a["trace"]["value"], b["trace"]["value"], rel_tol=1e-5)


def test_a_plan_takes_them():
    made = plan("ppo", ENV, updates=1, loss=exact_kl, settings={"kl_weight": [0.1, 1.0], **CONFIG})
    assert made.axes == {"kl_weight": [0.1, 1.0]}
