"""A learner made of its parts: each may be replaced alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

from pgjax import Config, algorithms, policies, testing
from pgjax.hyperparameters import bind, default_hypers
from pgjax.types import Learner


def built(name="a2c", **options):
    env, row = worlds.maze(), algorithms.entry(name)
    config = Config(num_envs=4, num_steps=4, **options)
    algorithm = row.algorithm
    if name == "dqn":
        algorithm = algorithm._replace(estimator=bind(algorithm.estimator, buffer_size=64, batch_size=8, warmup=0))
    return row.learner(env, policies.make(env, config), algorithm, config), default_hypers(algorithm)


@pytest.mark.parametrize("name", ["a2c", "dqn"])
def test_a_part_that_is_replaced_has_an_effect(name):
    learner, hypers = built(name)
    state, key = jax.jit(learner.init)(jax.random.key(0), hypers), jax.random.key(1)

    def doubled(key, state, stream, trajectory, hypers):
        following, metrics = learner.learn(key, state, stream, trajectory, hypers)
        return following, {**metrics, "twice": 2 * metrics["env_steps"]}

    def idle(key, policy, params, state, hypers):
        stream, trajectory = learner.collect(key, policy, params, state, hypers)
        return stream, trajectory._replace(reward=jnp.full_like(trajectory.reward, 7.0))

    def other(state):
        policy, params = learner.behaviour(state)
        return policy, jax.tree.map(lambda x: x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), params)

    assert jax.eval_shape(learner._replace(learn=doubled).step, key, state, hypers)[1].keys() >= {"twice"}
    before = jax.jit(learner.step)(key, state, hypers)[0]
    replaced = [learner._replace(collect=idle)]
    replaced += [learner._replace(behaviour=other)] if name == "a2c" else []  # dqn begins with uniform actions
    for changed in replaced:
        after = jax.jit(changed.step)(key, state, hypers)[0]
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        assert any(not np.array_equal(x, y) for x, y in pairs if x.dtype == jnp.float32)
    testing.check_learner(learner._replace(learn=doubled), hypers)


def test_a_learner_of_another_kind_gives_its_whole_update():
    whole = Learner(lambda key, hypers: jnp.zeros(()), lambda s: (None, s), update=lambda k, s, h: (s + 1, {"at": s}))
    assert whole.step(None, 3, None) == (4, {"at": 3})
    with pytest.raises(ValueError, match="needs behaviour, collect and learn, or else update"):
        whole._replace(update=None).step(None, 3, None)
