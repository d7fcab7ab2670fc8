"""Weighted sums of scores by shared products, against one backward pass for each step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgjax import envs, policies, rollout
from pgjax.config import Config
from pgjax.policies.distributions import Categorical
from pgjax.variance.measurement import jaxpr_products, scores

SMALL = (5, 4)


class Tied(nnx.Module):
    """One matrix used twice, one normalised by itself, a bias along another axis: none is a plain product."""

    def __init__(self, rngs):
        self.twice = nnx.Param(jax.random.normal(rngs.params(), (4, 4)) / 2)
        self.scaled = nnx.Param(jax.random.normal(rngs.params(), (4, 2)))
        self.bias = nnx.Param(jnp.array([0.1, -0.2]))

    def __call__(self, obs):
        x = jnp.tanh(obs @ self.twice[...]) @ self.twice[...]
        scaled = self.scaled[...] / jnp.sqrt(jnp.sum(self.scaled[...] ** 2))
        return Categorical(x @ scaled + jnp.broadcast_to(3 * self.bias[...], (*x.shape[:-1], 2))), x[..., 0]


CASES = {
    "mlp": ("CartPole-v1", Config(hidden=SMALL), 6, 6),
    "shared": ("CartPole-v1", Config(hidden=SMALL, shared=True), 6, 6),
    "gaussian": ("Pendulum-v1", Config(hidden=SMALL), 6, 7),
    "table": ("TabularMDP-pgjax", Config(), 0, 1),
    "cnn": ("Breakout-MinAtar", Config(hidden=(3,)), 6, 6),
    "gru": ("MemoryChain-bsuite", Config(hidden=SMALL, network="gru"), 0, 10),
    "tied": ("CartPole-v1", None, 0, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_weighted_sums_are_those_of_single_steps(name):
    env_name, config, fast, leaves = CASES[name]
    env = envs.make(env_name)
    policy = policies.from_nnx(Tied) if config is None else policies.make(env, config)
    key = jax.random.key(0)
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), policy.init(key))

    @jax.jit
    def both(key):
        trajectory, _ = rollout.episodes(key, env, policy, params, 6, 8)
        where = scores.layout(policy, params, trajectory)
        weights = jax.random.normal(key, (3, *trajectory.mask.shape))
        jacobian = jax.jacrev(lambda p: policy.evaluate(p, trajectory).log_prob)(params)
        expected = jnp.einsum("ktb,tbp->bkp", weights, where.vector(jacobian, axes=2))
        found = scores.weighted(scores.log_prob, policy, params, trajectory, (), weights, where)
        return found, expected, trajectory

    found, expected, trajectory = both(key)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(jnp.abs(expected).max()))
    where = scores.layout(policy, params, trajectory)
    assert len(where.names) == leaves
    if not policies.has_memory(policy):
        closed = jaxpr_products.trace(lambda p, t, _: policy.evaluate(p, t).log_prob, params, trajectory)
        inputs = [*jax.tree.leaves(params), *jax.tree.leaves(trajectory)]
        assert len(jaxpr_products.sites_of(closed, inputs, set(where.leaves))) == fast


def test_a_vector_and_its_tree():
    env = envs.make("CartPole-v1")
    policy = policies.make(env, Config(hidden=SMALL))
    params = policy.init(jax.random.key(0))
    trajectory, _ = jax.jit(lambda key: rollout.episodes(key, env, policy, params, 2, 3))(jax.random.key(0))
    where = scores.layout(policy, params, trajectory)
    assert not any(name.startswith("critic") for name in where.names)
    vector = jnp.arange(1.0, sum(where.sizes) + 1)
    tree = where.tree(vector, params)
    np.testing.assert_array_equal(where.vector(tree), vector)
    assert all((x == 0).all() for x in jax.tree.leaves([tree["critic_torso"], tree["critic_head"]]))


def test_single_steps_need_a_policy_without_memory():
    env = envs.make("MemoryChain-bsuite")
    policy = policies.make(env, Config(network="gru", hidden=SMALL))
    with pytest.raises(ValueError, match="per-step scores need a policy without memory"):
        scores.per_step(policy, None, None, None)
