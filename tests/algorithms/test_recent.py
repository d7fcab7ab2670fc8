"""A memory of batches: what an update is given, against loops in float64, and whether AWR learns by it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

from pgjax import Algorithm, Config, advantages, algorithms, estimators, losses, optimizers, policies
from pgjax.algorithms import on_policy, updates
from pgjax.declarations import plays
from pgjax.hyperparameters import bind, default_hypers, hyperparameters

CONFIG = Config(num_envs=4, num_steps=6, num_epochs=2, num_minibatches=2)
GAMMA, LAMBDA, BETA, LARGEST = 0.9, 0.7, 0.5, 1.3


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def lambda_return(rows, value, b):
    """TD(lambda) of one environment, its value a table (Peng et al. 2019 take Sutton & Barto's)."""
    steps, found = len(rows.reward), np.zeros(len(rows.reward))
    for t in reversed(range(steps)):
        ahead = value[rows.next_obs[t, b]]
        if not (rows.truncated[t, b] or t == steps - 1):
            ahead = (1 - LAMBDA) * ahead + LAMBDA * found[t + 1] if not rows.terminated[t, b] else ahead
        found[t] = rows.reward[t, b] + (0.0 if rows.terminated[t, b] else GAMMA * ahead)
    return found


def test_every_update_is_regression_on_the_latest_batches_weighed_by_the_critic_of_now():
    """Algorithm 1, on tables: which steps, their returns and advantages, and the gradient of policy and critic."""
    env, seen, made = worlds.maze(), [], []

    def watched(algorithm, config, by_column):
        assert (config.num_minibatches, config.num_epochs) == (4, 2)

        def apply(key, policy, params, state, batch, hypers):
            gradient, metrics = algorithm.estimator(key, policy, params, batch, **hypers.estimator)
            seen.append(jax.device_get((params, batch, gradient)))
            g = np.random.default_rng(len(seen))
            moved = jax.tree.map(lambda x: x + jnp.float32(g.normal(size=x.shape)), params)
            return moved, state + 1, {"loss": metrics["loss"]}

        return updates.Updater(lambda *_: jnp.int32(0), apply)

    plugs = Algorithm(
        bind(advantages.gae, discount=GAMMA, gae_lambda=LAMBDA),
        bind(estimators.surrogate(losses.actor_critic(losses.awr)), beta=BETA, max_weight=LARGEST, value_coef=0.7),
        optimizers.adam,
        bind(algorithms.recent(watched), batches=2),
    )
    learner = on_policy.make_learner(env, policies.make(env, CONFIG), plugs, CONFIG)
    hypers = default_hypers(plugs)
    state = jax.jit(learner.init)(jax.random.key(0), hypers)
    for u in range(3):
        acting = learner.behaviour(state)
        collected = learner.collect(jax.random.split(jax.random.key(u))[0], *acting, state, hypers)[1]
        made.append(jax.device_get(collected))
        state, _ = learner.step(jax.random.key(u), state, hypers)
    ends = np.zeros(2)
    for u, chosen in enumerate([(0, 0), (0, 1), (2, 1)]):
        params, batch, gradient = seen[u]
        theta, value = (np.float64(params[name]) for name in ("preference", "value"))
        pi, n, column = softmax(theta), batch.trajectory.mask.size, 0
        expected = {"preference": np.zeros_like(theta), "value": np.zeros_like(value)}
        for i in chosen:
            rows = made[i]
            for b in range(4):
                returns = lambda_return(rows, value, b)
                np.testing.assert_array_equal(batch.trajectory.obs[:, column], rows.obs[:, b])
                np.testing.assert_array_equal(batch.trajectory.action[:, column], rows.action[:, b])
                np.testing.assert_allclose(batch.target[:, column], returns, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(batch.value[:, column], value[rows.obs[:, b]], rtol=1e-5, atol=1e-6)
                for t, s in enumerate(rows.obs[:, b]):
                    weight = min(np.exp((returns[t] - value[s]) / BETA), LARGEST)
                    ends += weight == LARGEST, weight < LARGEST
                    expected["preference"][s] -= weight * (np.eye(2)[rows.action[t, b]] - pi[s]) / n
                    expected["value"][s] += 0.7 * (value[s] - returns[t]) / n
                column += 1
        assert column == batch.trajectory.mask.shape[1] == 8
        for name, x in expected.items():
            np.testing.assert_allclose(gradient[name], x, rtol=1e-4, atol=1e-5)
    assert ends.min() > 0


def awr(advantage=advantages.gae, **config):
    plugs = algorithms.entry("awr").algorithm._replace(advantage=advantage)
    env, config = worlds.maze(), dataclasses.replace(CONFIG, **config)
    return on_policy.make_learner(env, policies.make(env, config), plugs, config)


def test_an_advantage_that_can_not_be_asked_again_is_refused():
    with pytest.raises(ValueError, match="monte_carlo remembers, and a memory of batches asks it"):
        awr(advantages.monte_carlo)
    with pytest.raises(ValueError, match="playing needs what followed a batch, and a memory of batches keeps none"):

        @plays
        def playing(play, trajectory, now, *, discount: float = 0.9):
            return trajectory.reward, now.value

        awr(playing)
    assert set(hyperparameters(algorithms.entry("awr").algorithm.updater)) == {"batches"}


@pytest.mark.slow
def test_whole_episodes_and_policies_with_a_memory_are_remembered_too():
    env = worlds.stretched((0, 0), (1, 1))
    plugs = algorithms.entry("awr").algorithm
    plugs = plugs._replace(updater=bind(plugs.updater, batches=2))
    hypers = default_hypers(plugs)
    for options in ({"network": "gru"}, {"rollout": "episodes", "num_steps": 0}):
        config = dataclasses.replace(CONFIG, hidden=(4,), **options)
        learner = on_policy.make_learner(env, policies.make(env, config), plugs, config)
        state = jax.jit(learner.init)(jax.random.key(0), hypers)
        step = jax.jit(learner.step)
        for u in range(2):
            state, metrics = step(jax.random.key(u), state, hypers)
        assert np.isfinite(metrics["loss"])
