"""The transformer: cached decoding, whole sequences and a forward pass in float64 numpy say the same."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgjax import algorithms, envs, estimators, losses, policies, rollout, testing
from pgjax.config import Config
from pgjax.envs.tokens import END, TokenWorld
from pgjax.estimators.pieces import REDUCTIONS, column_pieces
from pgjax.hyperparameters import default_hypers, hyperparameters
from pgjax.losses import actor_critic
from pgjax.policies import transformer
from pgjax.policies.transformer import rotated
from pgjax.types import Batch

# Prompts and answers of unlike length.
PROBLEMS = [("a", "b"), ("ab", "ba"), ("abc", "cba"), ("aabb", "c"), ("b", "aa"), ("cc", "c"), ("bca", "ab")]
B, STEPS = 6, 14


@functools.cache
def world():
    return envs.from_gymnax(TokenWorld(PROBLEMS, END + "abc", "letters"))


def config(positions, layers=2):
    return Config(network="transformer", hidden=(8,) * layers, heads=2, positions=positions)


def noisy(policy, seed=0):
    """Parameters of a policy far from its uniform beginning, norms near 1."""
    g = np.random.default_rng(seed)
    like = jax.eval_shape(policy.init, jax.random.key(0))
    drawn = jax.tree.map(lambda x: jnp.asarray(0.4 * g.normal(size=x.shape), x.dtype), like)
    return jax.tree_util.tree_map_with_path(lambda path, x: x + ("scale" in jax.tree_util.keystr(path)), drawn)


def norm(params, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * params["scale"] + params["bias"]


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def turned(x):
    """Su et al. 2021: the pair (x_i, x_{i + d/2}) as a complex number, by the angle place / 10000^(2 i / d)."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * 10_000.0 ** (-2 * np.arange(half) / x.shape[-1])
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], axis=-1)


def forward(params, tokens, heads, rotary):
    """(log-probabilities [V], value) at the last of `tokens`, in float64: Vaswani et al. 2017, Radford et al. 2019."""
    x = params["embedding"][tokens]
    if not rotary:
        x = x + params["position"][: len(tokens)]
    for i in range(len(params["blocks"])):
        block = params["blocks"][i]
        q, k, v = np.split(linear(block["qkv"], norm(block["norm_attention"], x)), 3, axis=-1)
        read = []
        for head in zip(*(np.split(y, heads, axis=-1) for y in (q, k, v)), strict=True):
            a, b = map(turned, head[:2]) if rotary else head[:2]
            weights = np.tril(np.exp(a @ b.T / np.sqrt(a.shape[-1])))
            read.append(weights / weights.sum(-1, keepdims=True) @ head[2])
        x = x + linear(block["project"], np.concatenate(read, axis=-1))
        up = linear(block["up"], norm(block["norm_mlp"], x))
        gelu = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        x = x + linear(block["down"], gelu)
    last = norm(params["norm"], x)[-1]
    logits = last @ params["embedding"].T
    return logits - np.log(np.exp(logits).sum()), linear(params["value_head"], last)[0]


@functools.cache
def experience(positions):
    """(policy, params, whole episodes, what `evaluate` says of them, a stream with resets inside)."""
    env = world()
    policy = policies.make(env, config(positions))
    params = noisy(policy)

    @jax.jit
    def collect(key):
        whole, _ = rollout.episodes(key, env, policy, params, 24)
        stream = rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, B), STEPS)[1]
        return whole, policy.evaluate(params, whole), stream

    return policy, params, *collect(jax.random.key(1))


@functools.cache
def reference(positions):
    """tokens [L] as a tuple -> (log-probabilities, value) in float64."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), experience(positions)[1])
    return functools.cache(lambda seen: forward(params, np.array([t for t in seen if t]), 2, positions == "rotary"))


both = pytest.mark.parametrize("positions", ["learned", "rotary"])


@both
def test_what_acts_from_its_cache_is_what_evaluate_says_of_whole_episodes(positions):
    _, _, whole, now, _ = experience(positions)
    counts = np.asarray(whole.mask) > 0
    prompts = np.sum(np.asarray(whole.obs)[0] != 0, axis=-1)
    assert len(set(prompts.tolist())) >= 3 and len(set(counts.sum(axis=0).tolist())) == 3
    assert now.log_prob.shape == now.value.shape == now.next_value.shape == now.entropy.shape == whole.mask.shape
    np.testing.assert_allclose(now.log_prob[counts], whole.log_prob[counts], rtol=1e-5, atol=1e-5)
    assert np.std(now.log_prob[counts]) > 0.1


@both
def test_whole_episodes_are_evaluated_as_a_forward_pass_in_float64_says(positions):
    _, _, whole, now, _ = experience(positions)
    ask = reference(positions)
    for t, b in zip(*np.nonzero(np.asarray(whole.mask)), strict=True):
        log_probs, value = ask(tuple(whole.obs[t, b].tolist()))
        np.testing.assert_allclose(now.dist.log_probs()[t, b], log_probs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now.log_prob[t, b], log_probs[whole.action[t, b]], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now.value[t, b], value, rtol=1e-4, atol=1e-5)
        if not whole.terminated[t, b]:
            ahead = ask(tuple(whole.next_obs[t, b].tolist()))[1]
            np.testing.assert_allclose(now.next_value[t, b], ahead, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(now.next_value[t, b], now.value[t + 1, b], rtol=1e-4, atol=1e-5)
    assert np.std(now.value[np.asarray(whole.mask) > 0]) > 0.1


@both
def test_a_stream_that_begins_again_acts_as_the_same_forward_pass_says(positions):
    stream = experience(positions)[-1]
    ask = reference(positions)
    ends = np.asarray(stream.terminated)[:-1]
    assert ends.sum() > B and (ends.any(axis=1) & ~ends.all(axis=1)).any()
    for t, b in np.ndindex(STEPS, B):
        expected = ask(tuple(stream.obs[t, b].tolist()))[0][stream.action[t, b]]
        np.testing.assert_allclose(stream.log_prob[t, b], expected, rtol=1e-4, atol=1e-5, err_msg=f"{t} {b}")


@both
@pytest.mark.parametrize("fields", [("next_obs", "action"), ("obs",), ("obs", "next_obs", "action", "reward")])
def test_what_stands_behind_an_end_changes_nothing(positions, fields):
    policy, params, whole, now, _ = experience(positions)
    counts = np.asarray(whole.mask) > 0
    assert not counts.all()
    g = np.random.default_rng(0)
    garbage = {}
    for name in fields:
        x = np.asarray(getattr(whole, name))
        drawn = g.integers(1, 4, size=x.shape).astype(x.dtype)
        garbage[name] = jnp.asarray(np.where(counts.reshape(counts.shape + (1,) * (x.ndim - 2)), x, drawn))
    again = jax.jit(policy.evaluate)(params, whole._replace(**garbage))
    for name in ("log_prob", "entropy", "value"):
        np.testing.assert_allclose(getattr(again, name)[counts], getattr(now, name)[counts], rtol=1e-5, atol=1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(again))


@both
def test_the_gradient_is_finite_and_reaches_every_parameter(positions):
    policy, params, whole, _, _ = experience(positions)

    def total(params):
        now = policy.evaluate(params, whole)
        return jnp.sum(jnp.where(whole.mask > 0, now.log_prob + now.value**2, 0.0))

    for path, x in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(total))(params)):
        assert np.isfinite(x).all() and np.abs(x).max() > 0, jax.tree_util.keystr(path)


def test_lanes_with_parameters_of_their_own_equal_one_after_the_other():
    env = world()
    policy = policies.make(env, config("learned", layers=1))
    lanes = [noisy(policy, seed) for seed in range(3)]
    keys = jax.random.split(jax.random.key(5), 3)

    def stream(key, params):
        trajectory = rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, 4), 9)[1]
        return trajectory._replace(memory=())

    together = jax.jit(jax.vmap(stream))(keys, jax.tree.map(lambda *x: jnp.stack(x), *lanes))
    fresh = np.asarray(together.time) == 0  # [lane, T, B]: a lane takes prompts in while others don't
    assert (fresh.any(axis=(0, 2)) & ~fresh.any(axis=2).all(axis=0)).any()
    alone = jax.jit(stream)
    for i, (key, params) in enumerate(zip(keys, lanes, strict=True)):
        mine = jax.tree.map(lambda x: x[i], together)  # noqa: B023
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), mine, alone(key, params))


def test_rotary_products_depend_on_distances_alone():
    q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 6)).astype(np.float32)
    product = lambda m, n: float(jnp.sum(rotated(q, jnp.array([[m]])) * rotated(k, jnp.array([[n]]))))  # noqa: E731
    assert product(7, 4) == pytest.approx(product(3, 0), rel=1e-5) and product(7, 4) != pytest.approx(product(4, 7))
    np.testing.assert_array_equal(rotated(q, jnp.array([[0]])), q)


def test_a_prompt_of_one_token_is_taken_in_too():
    env = envs.from_gymnax(TokenWorld([("a", "ab"), ("b", "b")], END + "ab", "short"))
    policy = policies.make(env, config("learned", layers=1))
    params = noisy(policy)
    run = jax.jit(lambda key: rollout.episodes(key, env, policy, params, 8)[0])
    whole = run(jax.random.key(0))
    counts = whole.mask > 0
    np.testing.assert_allclose(
        policy.evaluate(params, whole).log_prob[counts], whole.log_prob[counts], rtol=1e-5, atol=1e-5
    )


def test_a_large_vocabulary_is_looked_up_as_a_small_one_is():
    letters = "".join(chr(0x4E00 + i) for i in range(300))
    env = envs.from_gymnax(TokenWorld([(c, c) for c in letters], END + letters, "large"))
    policy = policies.make(env, config("learned", layers=1))
    params = noisy(policy)
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    whole = jax.jit(lambda key: rollout.episodes(key, env, policy, params, 4)[0])(jax.random.key(0))
    for b in range(4):
        log_probs, _ = forward(wide, np.array([int(whole.obs[0, b, 0])]), 2, False)
        np.testing.assert_allclose(whole.log_prob[0, b], log_probs[whole.action[0, b]], rtol=1e-4, atol=1e-5)


def test_its_first_policy_is_nearly_uniform_and_its_first_value_0():
    policy, _, whole, _, _ = experience("learned")
    now = policy.evaluate(policy.init(jax.random.key(0)), whole)
    np.testing.assert_allclose(jnp.exp(now.log_prob), 0.25, atol=0.1)
    np.testing.assert_array_equal(now.value, 0.0)


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("loss", [losses.policy_gradient, actor_critic(losses.ppo_clip)], ids=["plain", "ppo"])
def test_a_batch_cut_by_columns_has_the_gradient_of_the_whole(monkeypatch, reduce, loss):
    policy, _, whole, now, _ = experience("learned")
    g = np.random.default_rng(0)
    advantage, target = jnp.asarray(g.normal(size=(2, *whole.mask.shape)), jnp.float32)
    batch = Batch(whole, advantage, target, now.value)
    estimator = estimators.surrogate(loss, reduce)
    key, params = jax.random.key(0), noisy(policy, 7)
    options = {"clip_eps": 0.1} if "clip_eps" in hyperparameters(estimator) else {}

    def estimate(pieces):
        monkeypatch.setattr(sys.modules["pgjax.estimators.surrogate"], "column_pieces", lambda batch: pieces)
        bound = functools.partial(estimator, normalize_advantage=True, **options)
        return jax.jit(lambda params, batch: bound(key, policy, params, batch))(params, batch)

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), estimate(4), estimate(1))


@pytest.mark.parametrize(("envs_", "length", "most"), [(128, 8, 64), (96, 7, 73), (7, 600, 1), (5, 4, 128)])
def test_pieces_of_columns_are_equal_and_hold_no_more_than_they_should(envs_, length, most):
    whole = experience("learned")[2]
    shaped = whole._replace(mask=jnp.ones((2, envs_)), obs=jnp.zeros((2, envs_, length), jnp.int32))
    pieces = column_pieces(Batch(shaped, (), (), ()))
    assert envs_ % pieces == 0 and envs_ // pieces <= most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rloo", "ppo"])
def test_a_learner_with_it_conforms(name):
    row = algorithms.entry(name)
    made = Config(num_envs=8, num_steps=0, rollout="episodes", hidden=(8,), heads=2)
    learner = row.learner(world(), policies.make(world(), made), row.algorithm, made)
    testing.check_learner(learner, default_hypers(row.algorithm))


def test_it_conforms():
    testing.check_policy(policies.make(world(), config("rotary", layers=1)), world(), num_steps=3)


class TestMistakes:
    @pytest.mark.parametrize(
        ("env", "options", "message"),
        [
            ("letters", {"hidden": (8, 16)}, r"hidden=\(8, 16\): a transformer's layers all have one width"),
            ("letters", {"hidden": ()}, r"hidden=\(\): a transformer's layers all have one width"),
            ("letters", {"heads": 3}, "heads=3 must divide the width 64; choose another number"),
            ("letters", {"hidden": (6,), "heads": 2, "positions": "rotary"}, "6 into an even number"),
            ("letters", {"positions": "relative"}, "positions must be one of learned, rotary; got 'relative'"),
            (
                "letters",
                {"kernel": "fused"},
                "kernel=fused only applies to .* is 'transformer'; remove kernel",
            ),
            ("letters", {"critic": "action_value"}, "critic='action_value' does not apply to network='transformer'"),
            ("letters", {"heads": 0}, "heads"),
            ("CartPole-v1", {"network": "transformer"}, "network='transformer' needs observations of tokens, got Box"),
            ("TabularMDP-pgjax", {"network": "transformer"}, "network='transformer' needs observations of tokens"),
        ],
    )
    def test_networks(self, env, options, message):
        with pytest.raises(ValueError, match=message):
            policies.make(world() if env == "letters" else envs.make(env), Config(**options))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_steps": 8}, "the policy learns from whole episodes alone; use rollout='episodes' with num_steps=0"),
            ({"num_steps": 0, "rollout": "episodes", "normalize_obs": True}, "normalize_obs"),
        ],
    )
    def test_learners(self, options, message):
        row, made = algorithms.entry("a2c"), Config(num_envs=4, hidden=(8,), heads=2, **options)
        with pytest.raises(ValueError, match=message):
            row.learner(world(), policies.make(world(), made), row.algorithm, made)


def test_norms_keep_their_digits_far_from_0():
    """Rows around 10,000 with a spread of 1, whose squares have no digits left for it in float32."""
    x = np.float32(10_000 + np.random.default_rng(0).normal(size=(6, 64)))
    layer = transformer.Block(transformer.Shape(5, 4, 64, 1, 4, "learned"), rngs=nnx.Rngs(0)).norm_mlp
    exact = norm({"scale": 1.0, "bias": 0.0}, np.float64(x))
    np.testing.assert_allclose(layer(jnp.asarray(x)), exact, rtol=1e-3, atol=2e-3)
