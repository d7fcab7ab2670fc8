"""PQN against a float64 loop written from the paper; its network; and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

from pgjax import Algorithm, Config, advantages, algorithms, envs, testing
from pgjax.algorithms import on_policy, pqn
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, default_hypers
from pgjax.losses import q_error
from pgjax.optimizers import sgd

T, B, GAMMA, LAMBDA, RATE = 8, 4, 0.9, 0.6, 0.3
CONFIG = Config(num_envs=B, num_steps=T, epsilon=0.4, hidden=(4,), activation="relu")


def test_learning_is_the_loop_of_the_paper():
    """Q(lambda) on a table, plain gradient descent: update by update, ends of both kinds included."""
    env = worlds.maze()
    plugs = Algorithm(bind(advantages.q_lambda, discount=GAMMA, q_lambda=LAMBDA), surrogate(q_error), sgd)
    learner = on_policy.make_learner(env, pqn.make_policy(env, CONFIG), plugs, CONFIG)
    hypers = default_hypers(plugs, optimizer={"learning_rate": RATE})
    state = jax.jit(learner.init)(jax.random.key(0), hypers)
    read = lambda p: [np.float64(p["q"]["output"][name]) for name in ("kernel", "bias")]  # noqa: E731
    (kernel, bias), ends = read(state.params), np.zeros(2)
    collect = jax.jit(lambda key, state: learner.collect(key, *learner.behaviour(state), state, hypers)[1])
    step = jax.jit(learner.step)
    for u in range(3):
        key = jax.random.key(u)
        rows = jax.device_get(collect(jax.random.split(key)[0], state))
        state, _ = step(key, state, hypers)
        moved, g = [np.zeros_like(kernel), np.zeros_like(bias)], np.zeros((T, B))
        for b in range(B):
            for t in reversed(range(T)):
                ahead = (kernel[rows.next_obs[t, b]] + bias).max()
                if not (rows.truncated[t, b] or rows.terminated[t, b] or t == T - 1):
                    ahead = LAMBDA * g[t + 1, b] + (1 - LAMBDA) * ahead
                g[t, b] = rows.reward[t, b] + (0.0 if rows.terminated[t, b] else GAMMA * ahead)
                s, a = rows.obs[t, b], rows.action[t, b]
                error = kernel[s, a] + bias[a] - g[t, b]
                moved[0][s, a] += error / (T * B)
                moved[1][a] += error / (T * B)
        kernel, bias = kernel - RATE * moved[0], bias - RATE * moved[1]
        ends += rows.terminated.sum(), rows.truncated.sum()
        for found, expected in zip(read(state.params), (kernel, bias), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert ends.min() > 0


def test_its_target_is_that_of_generalised_advantages_on_the_values_of_the_greedy_policy():
    """With V = max q both are the same lambda-return; the loss of action values makes the difference."""
    env = worlds.maze()
    policy = pqn.make_policy(env, CONFIG)
    _, params, batch = testing.worlds.example(policy, env)
    now = policy.evaluate(params, batch.trajectory)
    ours = advantages.q_lambda(batch.trajectory, now, discount=GAMMA, q_lambda=LAMBDA)
    theirs = advantages.gae(batch.trajectory, now, discount=GAMMA, gae_lambda=LAMBDA)
    counts = batch.trajectory.mask > 0
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(jnp.where(counts, x, 0), jnp.where(counts, y, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(now.value, jnp.max(now.action_value, axis=-1), rtol=1e-6)


@pytest.mark.parametrize("name", ["CartPole-v1", "Breakout-MinAtar"])
def test_its_policy_is_one_greedy_tower_for_every_kind_of_observation(name):
    env = envs.make(name)
    policy = pqn.make_policy(env, CONFIG)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    assert set(shapes) == {"q"} and ("convolutions" in shapes["q"]["trunk"].get("eye", {})) == (name != "CartPole-v1")


def test_what_means_nothing_to_it_is_refused():
    with pytest.raises(ValueError, match="pqn needs a finite number of actions, got Box.*; use td3 or sac"):
        pqn.make_policy(envs.make("Pendulum-v1"), CONFIG)
    for name, value in (("shared", True), ("critic", "action_value"), ("kernel", "fused"), ("pretrain", 3)):
        with pytest.raises(ValueError, match=f"{name}={value!r} has no meaning with pqn; "):
            pqn.make_policy(worlds.maze(), dataclasses.replace(CONFIG, **{name: value}))


@pytest.mark.slow
def test_it_conforms():
    row, env = algorithms.entry("pqn"), envs.make("CartPole-v1")
    config = dataclasses.replace(row.config, num_envs=4, num_steps=8, hidden=(8,), num_epochs=1)
    made = row.learner(env, row.policy(env, config), row.algorithm, config)
    testing.check_learner(made, default_hypers(row.algorithm))
    testing.check_policy(row.policy(env, config), env, num_steps=6)
