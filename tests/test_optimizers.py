"""Optimiser plugs: what is evaluated, and what they are given."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import pgjax
from pgjax import Algorithm, Config, advantages, algorithms, envs, estimators, losses, optimizers, policies
from pgjax.algorithms import on_policy
from pgjax.hyperparameters import bind, default_hypers, hyperparameters

CONFIG = Config(num_envs=2, num_steps=4, num_epochs=2, num_minibatches=2, hidden=(4,), eval_episodes=2)


def learner(optimizer, env):
    algorithm = Algorithm(advantages.gae, estimators.surrogate(losses.actor_critic(losses.ppo_clip)), optimizer)
    made = on_policy.make_learner(env, policies.make(env, CONFIG), algorithm, CONFIG)
    return made, default_hypers(algorithm)


def test_the_mean_of_the_parameters_is_what_is_evaluated_and_kept():
    """By hand: the plain learner's parameters after each gradient step, and their exponential mean in float64."""
    env, seen = envs.make("CartPole-v1"), []
    plug = optimizers.averaged(bind(optimizers.sgd, learning_rate=0.1))
    assert list(hyperparameters(plug)) == ["decay", "learning_rate", "max_grad_norm"]
    made, hypers = learner(bind(plug, decay=0.8), env)
    plain, plain_hypers = learner(watched(seen), env)
    key = jax.random.key(0)
    state, other = made.init(key, hypers), plain.init(key, plain_hypers)
    mean = jax.tree.map(lambda x: np.asarray(x, np.float64), state.params)
    for u in range(2):
        state, _ = jax.jit(made.step)(jax.random.key(u), state, hypers)
        other, _ = jax.jit(plain.step)(jax.random.key(u), other, plain_hypers)
    jax.effects_barrier()
    assert len(seen) == 8
    for params in seen:
        mean = jax.tree.map(lambda m, p: 0.8 * m + 0.2 * np.asarray(p, np.float64), mean, params)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, state.params, other.params)  # what learns is not touched
    jax.tree.map(close, made.policy(state)[1], mean)
    kept, learning = map(jax.tree.leaves, (made.policy(state)[1], state.params))
    assert max(np.abs(x - y).max() for x, y in zip(kept, learning, strict=True)) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, made.behaviour(state)[1], state.params)


def watched(seen):
    def plug(*, learning_rate: float = 0.1):
        inner = optax.sgd(learning_rate)

        def update(gradient, state, params):
            updates, state = inner.update(gradient, state, params)
            jax.debug.callback(lambda p: seen.append(p), optax.apply_updates(params, updates), ordered=True)
            return updates, state

        return optax.GradientTransformation(inner.init, update)

    return plug


def test_an_optimiser_that_asks_for_the_value_is_given_the_loss():
    found = []

    def told(*, learning_rate: float = 0.1):
        def update(gradient, state, params, *, value):
            jax.debug.callback(lambda x: found.append(float(x)), value, ordered=True)
            return jax.tree.map(lambda g: -learning_rate * g, gradient), state

        return optax.chain(optax.GradientTransformationExtraArgs(lambda params: (), update))

    row = algorithms.roster.Entry(
        Algorithm(advantages.gae, estimators.surrogate(losses.actor_critic(losses.ppo_clip)), told), CONFIG
    )
    run = pgjax.run(row, "CartPole-v1", updates=2, progress=False)
    jax.effects_barrier()
    means = np.array(found[-8:]).reshape(2, 4).mean(axis=1)
    np.testing.assert_allclose(run.metrics["loss"].values.reshape(-1), means, rtol=1e-5)


def test_replay_has_no_place_for_other_parameters():
    row = algorithms.entry("dqn")
    algorithm = row.algorithm._replace(optimizer=optimizers.averaged(optimizers.adam))
    with pytest.raises(ValueError, match="'averaged_adam' evaluates other parameters than those that learn"):
        pgjax.run(dataclasses.replace(row, algorithm=algorithm), "CartPole-v1", updates=1, progress=False)
