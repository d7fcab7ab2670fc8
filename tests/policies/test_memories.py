"""Networks with a memory: their formulas in float64, and whole sequences against one step after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import pgjax
from pgjax import policies, rollout
from pgjax.config import Config
from pgjax.types import Env, Step

KINDS = ["gru", "lstm", "mingru", "lru"]


def world():
    """Shows three numbers; ends at random in either way, about every fifth step."""

    def see(key):
        return jax.random.normal(key, (3,))

    def step(key, params, state, action):
        key_obs, key_end = jax.random.split(key)
        end = jax.random.uniform(key_end)
        return (), Step(see(key_obs), jnp.float32(action == 0), end < 0.1, (end >= 0.1) & (end < 0.2))

    return Env({}, lambda key, params: ((), see(key)), step, spaces.Box(-9, 9, (3,)), spaces.Discrete(2), 50)


def noisy(policy, seed=0):
    params = policy.init(jax.random.key(seed))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params)


def by_kind(kind, **options):
    policy = policies.make(world(), Config(network=kind, hidden=(6, 4), **options))
    return policy, noisy(policy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_sequence_is_one_step_after_the_other_ends_included(kind):
    policy, params = by_kind(kind)
    state = rollout.start(jax.random.key(2), world(), policy, 5)
    state = state._replace(memory=jax.random.normal(jax.random.key(3), state.memory.shape))
    _, rows = rollout.unroll(jax.random.key(4), world(), policy, params, state, 24)
    done = np.asarray(rows.terminated | rows.truncated)
    assert done[:-1].any(axis=0).all()
    evaluate, act = jax.jit(policy.evaluate), jax.jit(policy.act)
    now = evaluate(params, rows)
    memory = rows.memory
    for t in range(24):
        dist, memory = act(params, memory, rows.obs[t])
        np.testing.assert_allclose(now.dist.logits[t], dist.logits, rtol=1e-4, atol=1e-5)
        # What the next observation would show, in the same episode: the truncated bootstrap from it.
        ahead = jax.tree.map(lambda x: x[:1] if x.shape[:1] == (24,) else x, rows._replace(memory=memory))
        alone = evaluate(params, ahead._replace(obs=rows.next_obs[t : t + 1]))
        np.testing.assert_allclose(now.next_value[t], alone.value[0], rtol=1e-4, atol=1e-5)
        memory = jnp.where(done[t][:, None], 0.0, memory)
    np.testing.assert_allclose(now.log_prob, rows.log_prob, rtol=1e-4, atol=1e-5)


def torso(params, x):
    for layer in params["torso"]["layers"].values():
        x = np.tanh(x @ layer["kernel"] + layer["bias"])
    return x


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def remembered(kind, params, memory, x):
    """The formulas of the papers, in float64."""
    x = torso(params, x)
    if kind == "gru":
        reset, update = np.split(sigmoid(dense(params["gates"], np.concatenate([x, memory], -1))), 2, -1)
        candidate = np.tanh(dense(params["candidate"], np.concatenate([x, reset * memory], -1)))
        return update * memory + (1 - update) * candidate
    if kind == "lstm":
        h, c = np.split(memory, 2, -1)
        i, f, o, g = np.split(dense(params["gates"], np.concatenate([x, h], -1)), 4, -1)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        return np.concatenate([sigmoid(o) * np.tanh(c), c], -1)
    if kind == "mingru":
        z = sigmoid(dense(params["gate"], x))
        return (1 - z) * memory + z * dense(params["candidate"], x)
    eigen = np.exp(-np.exp(params["nu"]) + 1j * np.exp(params["theta"]))
    entering = dense(params["enter"], x)
    width = entering.shape[-1] // 2
    entering = entering[..., :width] + 1j * entering[..., width:]
    h = eigen * (memory[..., :width] + 1j * memory[..., width:]) + np.sqrt(1 - np.abs(eigen) ** 2) * entering
    return np.concatenate([h.real, h.imag], -1)


def recalled(kind, params, memory):
    """What the heads see of a memory: an LSTM shows h and keeps c to itself, an LRU shows relu(C h)."""
    if kind == "lru":
        return np.maximum(dense(params["leave"], memory), 0)
    return memory[..., :4]


@pytest.mark.parametrize("kind", KINDS)
def test_the_units_are_those_of_their_papers(kind):
    policy, params = by_kind(kind)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    g = np.random.default_rng(0)
    memory, ours = np.zeros(policy.memory(3).shape), policy.memory(3)
    act = jax.jit(policy.act)
    for _ in range(6):
        obs = g.normal(size=(3, 3))
        memory = remembered(kind, exact, memory, obs)
        dist, ours = act(params, ours, jnp.asarray(obs, jnp.float32))
        logits = dense(exact["actor_head"]["output"], recalled(kind, exact, memory))
        np.testing.assert_allclose(dist.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours, memory, rtol=1e-4, atol=1e-5)


def test_an_lru_is_stable_at_first_and_turns_slowly():
    """Orvieto et al. 2023, sec. 3.3 and 3.4: |lambda| from .9 to .999, angles from 0 to pi / 10."""
    policy = policies.make(world(), Config(network="lru", hidden=(64,)))
    params = jax.jit(policy.init)(jax.random.key(0))
    radius, angle = np.exp(-np.exp(np.float64(params["nu"]))), np.exp(np.float64(params["theta"]))
    assert np.all((radius > 0.9 - 1e-6) & (radius < 0.999 + 1e-6)) and np.ptp(radius) > 0.08
    assert np.all((angle > 0) & (angle < np.pi / 10 + 1e-6)) and np.ptp(angle) > 0.25


def test_gradients_of_a_sequence_are_those_of_its_steps():
    """With respect to the parameters, through the parallel scan and through the step-by-step form."""
    for kind in ("mingru", "lru"):
        policy, params = by_kind(kind)
        state = rollout.start(jax.random.key(2), world(), policy, 2)
        _, rows = rollout.unroll(jax.random.key(4), world(), policy, params, state, 7)
        done = rows.terminated | rows.truncated

        def stepwise(params, policy=policy, rows=rows, done=done):
            memory, total = rows.memory, 0.0
            for t in range(7):
                dist, memory = policy.act(params, memory, rows.obs[t])
                total += jnp.sum(dist.log_prob(rows.action[t]))
                memory = jnp.where(done[t][:, None], 0.0, memory)
            return total

        summed = lambda p, policy=policy, rows=rows: jnp.sum(policy.evaluate(p, rows).log_prob)  # noqa: E731
        whole = jax.jit(jax.grad(summed))(params)
        each = jax.jit(jax.grad(stepwise))(params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), whole, each)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm", "mingru", "lru"])
def test_a_memory_solves_what_needs_one(kind):
    """MemoryChain: the last step asks for the bit of the first; without a memory nobody does better than 0."""
    settings = {"network": kind, "hidden": (16,), "num_envs": 16, "num_steps": 32, "memory_length": 5}
    run = pgjax.run("ppo", "MemoryChain-bsuite", seeds=4, settings=settings, steps=120_000)
    assert np.median(run.metrics.final_return_greedy) > 0.9
