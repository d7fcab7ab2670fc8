"""Experience on which every branch of the methods is taken, the same in float64, and policies that are tables."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
from flax import nnx

from pgjax.policies.distributions import Categorical
from pgjax.types import Batch, Trajectory

T, B, STATES, ACTIONS = 8, 12, 5, 3
DISCOUNT = 0.9
LENGTHS = np.array([8, 3, 5, 1, 8, 2, 4, 6, 7, 3, 2, 5])


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def experience(policy, alike=False):
    """(params, batch [T, B] of episodes of unlike length): three policies, one acted, one was learning, one is now.

    Args:
      alike: whether all steps of an episode have the same advantage.
    """
    g = np.random.default_rng(3)
    acted, old, theta = (0.8 * g.normal(size=(3, STATES, ACTIONS))).astype(np.float32)
    theta[:2] = old[:2] + 0.1 * theta[:2]  # near the old policy in some states
    values = g.normal(size=STATES).astype(np.float32)
    obs, next_obs = g.integers(0, STATES, size=(2, T, B), dtype=np.int32)
    action = g.integers(0, ACTIONS, size=(T, B), dtype=np.int32)
    time = np.broadcast_to(np.arange(T, dtype=np.int32)[:, None], (T, B))
    log_prob = np.log(softmax(acted))[obs, action]
    mask = (time < LENGTHS).astype(np.float32)
    trajectory = Trajectory(
        obs=obs,
        action=action,
        log_prob=np.where(mask > 0, log_prob, np.float32(-20)),  # anything, behind an end
        reward=g.integers(0, 2, size=(T, B)).astype(np.float32) * (time == LENGTHS - 1),
        terminated=time == LENGTHS - 1,
        truncated=np.zeros((T, B), bool),
        next_obs=next_obs,
        mask=mask,
        time=time,
        memory=(),
        reference=log_prob + 0.5 * g.normal(size=(T, B)).astype(np.float32),
    )
    advantage, target = g.normal(size=(2, T, B)).astype(np.float32)
    advantage = np.broadcast_to(advantage[:1], (T, B)) if alike else advantage
    then = jax.jit(policy.evaluate)({"preference": old, "value": values}, trajectory)
    batch = Batch(trajectory, advantage, target, then.value, then)
    return {"preference": theta, "value": values}, jax.tree.map(jnp.asarray, batch)


def episodes(params, batch, advantage=None):
    """(lists of Steps, of states and of actions), one list for each episode."""
    tr = jax.tree.map(np.asarray, batch.trajectory)
    advantage = np.float64(batch.advantage) if advantage is None else advantage
    pi, old = (softmax(np.float64(x)) for x in (params["preference"][tr.obs], batch.then.dist.logits))

    def step(t, b):
        ratio = pi[t, b, tr.action[t, b]] / np.exp(np.float64(tr.log_prob[t, b]))
        recent = pi[t, b, tr.action[t, b]] / old[t, b, tr.action[t, b]]
        value = float(params["value"][tr.obs[t, b]])
        return papers.Step(ratio, advantage[t, b], pi[t, b], old[t, b], float(batch.target[t, b]), value, recent)

    columns = [range(n) for n in LENGTHS]
    steps = [[step(t, b) for t in column] for b, column in enumerate(columns)]
    return steps, [tr.obs[:n, b] for b, n in enumerate(LENGTHS)], [tr.action[:n, b] for b, n in enumerate(LENGTHS)]


def same(found, pushes, states, actions, params, reduce):
    pi = softmax(np.float64(params["preference"]))
    preference, value = papers.gradient(pushes, states, actions, pi, reduce)
    np.testing.assert_allclose(found["preference"], preference, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found["value"], value, rtol=1e-4, atol=2e-6)
    assert np.abs(preference).max() > 0.01


def spread(x):
    return np.broadcast_to(x, (T, B))


def returns(batch):
    """[B] in float64."""
    tr = batch.trajectory
    return np.array([np.float64(tr.reward[:n, b]).sum() for b, n in enumerate(LENGTHS)])


class Rows(nnx.Module):
    """Tables: preferences, a value and an array of shape `more` for each state; shared: preferences are all."""

    def __init__(self, more=(), shared=False):
        self.preference = nnx.Param(jnp.zeros((STATES, ACTIONS)))
        if not shared:
            self.value, self.more = nnx.Param(jnp.zeros(STATES)), nnx.Param(jnp.zeros((STATES, *more)))
        self.shared = shared

    def __call__(self, obs):
        x = self.preference[...][obs]
        if self.shared:
            return Categorical(x), x[..., 0] - 2 * x[..., 1]
        return Categorical(x), self.value[...][obs], self.more[...][obs]


def stream(policy):
    """(params, batch [T, B]) of a stream with ends of both kinds, every step of which counts."""
    g = np.random.default_rng(5)
    params, batch = experience(policy)
    end = g.integers(0, 6, size=(T, B))
    trajectory = batch.trajectory._replace(
        terminated=jnp.asarray(end == 0),
        truncated=jnp.asarray(end == 1),
        mask=jnp.ones((T, B)),
        log_prob=jnp.log(softmax(np.zeros((STATES, ACTIONS), np.float32)))[batch.trajectory.obs, 0],
        reward=jnp.asarray(g.normal(size=(T, B)), jnp.float32),
    )
    value = g.normal(size=(T + 1, B)).astype(np.float32)
    ends = (end < 2) | (np.arange(T) == T - 1)[:, None]
    next_value = np.where(ends, g.normal(size=(T, B)), value[1:]).astype(np.float32)
    then = batch.then._replace(value=jnp.asarray(value[:-1]), next_value=jnp.asarray(next_value))
    return params, batch._replace(trajectory=trajectory, then=then, value=then.value)


def plain(trajectory):
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if x.dtype == np.float32 else np.asarray(x), trajectory)


def lambda_returns(trajectory, following, weight):
    """G_t = r_t + gamma ((1 - weight_t) V'_t + weight_t G_{t+1}), a loop in float64; weight is [T, B]."""
    g = np.zeros((T, B))
    for b in range(B):
        for t in reversed(range(T)):
            if trajectory.terminated[t, b]:
                g[t, b] = trajectory.reward[t, b]
            elif trajectory.truncated[t, b] or t == T - 1:
                g[t, b] = trajectory.reward[t, b] + DISCOUNT * following[t, b]
            else:
                ahead = weight[t, b] * g[t + 1, b] + (1 - weight[t, b]) * following[t, b]
                g[t, b] = trajectory.reward[t, b] + DISCOUNT * ahead
    return g
