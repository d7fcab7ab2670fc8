"""Networks: initialisers against linear algebra, the convolution against jax's own, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from pgjax import envs, policies
from pgjax.config import Config
from pgjax.policies import orthogonal
from pgjax.policies.distributions import Categorical, DiagGaussian
from pgjax.types import Env, Trajectory

SMALL = Config(num_envs=2, num_steps=2, hidden=(8,))


def world(observation, action):
    """An Env that is nothing but its spaces."""
    return Env(params=(), reset=None, step=None, observation_space=observation, action_space=action, max_steps=1)


VECTOR = spaces.Box(-1.0, 1.0, (5,))
IMAGE = spaces.Box(0.0, 1.0, (6, 7, 3))
TWO = spaces.Discrete(2)


def noisy(policy, seed=0):
    """Parameters of a policy, all of them random: its own initialisers leave every bias zero."""
    g = np.random.default_rng(seed)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.5 * g.normal(size=x.shape), x.dtype), shapes)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (8, 8), (1, 7), (7, 1), (64, 64)])
def test_the_initialiser_is_orthonormal_on_the_short_side_and_scaled(shape):
    scale = 2**0.5
    matrix = np.asarray(orthogonal.orthogonal(scale)(jax.random.key(0), shape), np.float64) / scale
    assert matrix.shape == shape
    gram = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_the_initialiser_draws_uniformly_from_the_orthogonal_matrices(shape):
    draws = 2000
    keys = jax.random.split(jax.random.key(1), draws)
    matrices = np.asarray(jax.jit(jax.vmap(lambda k: orthogonal.orthogonal(1.0)(k, shape)))(keys), np.float64)
    flat = matrices.reshape(draws, -1)
    error = 5 / np.sqrt(draws)
    # First and second moments of the uniform law: mean 0, covariance 1 / (long side) times the identity
    # (any fixed rotation from the left or the right leaves the law as it is).
    long = max(shape)
    np.testing.assert_allclose(flat.mean(0), 0.0, atol=error * long**-0.5)
    np.testing.assert_allclose(flat.T @ flat / draws, np.eye(flat.shape[1]) / long, atol=error / long * 1.5)
    if shape == (3, 3):
        # Rotations and reflections alike.
        assert abs(np.sign(np.linalg.det(matrices)).mean()) < error


def test_the_initialiser_differs_from_lane_to_lane_and_is_the_same_under_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    init = jax.jit(lambda key: orthogonal.orthogonal(1.0)(key, (4, 4)))
    together = jax.vmap(init)(keys)
    alone = jnp.stack([init(key) for key in keys])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert float(jnp.max(jnp.abs(alone[0] - alone[1]))) > 0.1


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def towers(x, params, activation=np.tanh, shared=False):
    """Logits and value of two towers, by hand, in float64."""

    def torso(name):
        h = x
        for i in range(len(params[name]["layers"])):
            h = activation(dense(h, params[name]["layers"][i]))
        return h

    logits = dense(torso("actor_torso"), params["actor_head"]["output"])
    value = dense(torso("actor_torso" if shared else "critic_torso"), params["critic_head"])
    return logits, value[..., 0]


def row(obs):
    """A Trajectory of which nothing matters but the observations [T, B, ...]."""
    nothing = np.zeros(obs.shape[:2], np.int32)
    fields = {name: nothing for name in Trajectory._fields}
    return Trajectory(**{**fields, "obs": obs, "next_obs": obs, "memory": ()})


@pytest.mark.parametrize(("activation", "shared"), [("tanh", False), ("relu", True)])
def test_the_perceptron_is_its_towers_written_out(activation, shared):
    config = Config(num_steps=2, hidden=(8, 4), shared=shared, activation=activation)
    policy = policies.make(world(VECTOR, TWO), config)
    params = noisy(policy)
    assert ("critic_torso" in params) is not shared
    obs = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    logits_here, value_here = policy.act(params, (), obs)[0].logits, policy.evaluate(params, row(obs)).value
    rectify = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}[activation]
    logits, value = towers(obs.astype(np.float64), params, rectify, shared)
    np.testing.assert_allclose(logits_here, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value_here, value, rtol=1e-4, atol=1e-5)


def test_a_matrix_of_observations_is_flattened():
    policy = policies.make(world(spaces.Box(0, 1, (2, 3)), TWO), SMALL)
    params = noisy(policy)
    obs = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    logits, _ = towers(obs.reshape(4, 6).astype(np.float64), params)
    np.testing.assert_allclose(policy.act(params, (), obs)[0].logits, logits, rtol=1e-4, atol=1e-5)


def test_the_convolution_is_a_convolution():
    policy = policies.make(world(IMAGE, TWO), SMALL)
    params = noisy(policy)
    obs = np.random.default_rng(0).normal(size=(4, 6, 7, 3)).astype(np.float32)
    layer = params["eye"]["convolutions"][0]["layer"]
    kernel = layer["kernel"].reshape(3, 3, 3, 16)
    maps = jax.lax.conv_general_dilated(
        obs, kernel, window_strides=(1, 1), padding="VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = np.maximum(np.asarray(maps, np.float64) + np.asarray(layer["bias"], np.float64), 0)
    logits, _ = towers(x.reshape(4, -1), params)
    np.testing.assert_allclose(policy.act(params, (), obs)[0].logits, logits, rtol=1e-4, atol=1e-4)


def test_the_convolution_takes_any_number_of_leading_axes():
    policy = policies.make(world(IMAGE, TWO), SMALL)
    params = noisy(policy)
    obs = jax.random.normal(jax.random.key(0), (2, 3, 6, 7, 3))
    together = policy.act(params, (), obs)[0].logits
    alone = policy.act(params, (), obs[1, 2])[0].logits
    np.testing.assert_allclose(together[1, 2], alone, rtol=1e-4, atol=1e-5)


def test_the_unit_is_that_of_cho_et_al():
    policy = policies.make(world(VECTOR, TWO), Config(num_steps=2, hidden=(6, 4), network="gru"))
    params = noisy(policy)
    g = np.random.default_rng(0)
    obs, h = g.normal(size=(3, 5)).astype(np.float32), g.normal(size=(3, 4)).astype(np.float32)
    dist, memory = policy.act(params, jnp.asarray(h), obs)

    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = obs.astype(np.float64)
    for i in range(2):
        x = np.tanh(dense(x, params["torso"]["layers"][i]))
    gates = sigmoid(dense(np.concatenate([x, h], -1), params["gates"]))
    r, z = gates[:, :4], gates[:, 4:]
    candidate = np.tanh(dense(np.concatenate([x, r * h], -1), params["candidate"]))
    expected = z * h + (1 - z) * candidate
    np.testing.assert_allclose(memory, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dist.logits, dense(expected, params["actor_head"]["output"]), rtol=1e-4, atol=1e-5)


def test_a_table_holds_one_row_for_each_observation_and_starts_uniform():
    env = envs.make("TabularMDP-pgjax")
    policy = policies.make(env, SMALL)
    params = policy.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == {"preference": (5, 3), "value": (5,)}
    assert all(not np.any(x) for x in jax.tree.leaves(params))
    params = {"preference": jnp.arange(15.0).reshape(5, 3), "value": jnp.arange(5.0)}
    dist, _ = policy.act(params, (), jnp.array([4, 0]))
    np.testing.assert_array_equal(dist.logits, [[12.0, 13.0, 14.0], [0.0, 1.0, 2.0]])


@pytest.mark.parametrize("network", ["mlp", "gru", "cnn"])
def test_the_first_policy_is_nearly_uniform(network):
    space = IMAGE if network == "cnn" else VECTOR
    obs = np.random.default_rng(0).normal(size=(16, *space.shape)).astype(np.float32)
    policy = policies.make(world(space, spaces.Discrete(3)), Config(num_steps=2, hidden=(8,), network=network))
    first = jax.jit(lambda key: policy.act(policy.init(key), policy.memory(16), obs)[0])(jax.random.key(0))
    assert isinstance(first, Categorical)
    np.testing.assert_allclose(jnp.exp(first.log_probs()), 1 / 3, atol=0.03)


@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_a_gaussian_has_one_spread_for_all_observations(network):
    policy = policies.make(
        world(VECTOR, spaces.Box(-1.0, 1.0, (2,))), Config(num_steps=2, hidden=(8,), network=network)
    )
    params = noisy(policy)
    obs = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    dist, _ = policy.act(params, policy.memory(16), obs)
    assert isinstance(dist, DiagGaussian)
    assert dist.mean.shape == dist.log_std.shape == (16, 2)
    np.testing.assert_array_equal(dist.log_std, np.tile(params["actor_head"]["log_std"], (16, 1)))
    assert float(jnp.min(jnp.std(dist.mean, axis=0))) > 0.01


@pytest.mark.parametrize("network", ["mlp", "gru", "table"])
def test_the_first_gaussian_covers_a_finite_box_of_actions(network):
    box = spaces.Box(np.float32([10.0, -0.01, -np.inf]), np.float32([20.0, 0.01, 3.0]), (3,))
    seen = spaces.Discrete(4) if network == "table" else VECTOR
    policy = policies.make(world(seen, box), Config(num_steps=2, hidden=(8,), network=network))
    obs = np.arange(4) if network == "table" else np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    first, _ = jax.jit(lambda key: policy.act(policy.init(key), policy.memory(4), obs))(jax.random.key(0))
    np.testing.assert_allclose(np.exp(first.log_std), np.tile(np.float32([5, 0.01, 1]), (4, 1)), rtol=1e-5)
    off = (np.asarray(first.mean) - np.float32([15, 0, 0])) / np.float32([5, 0.01, 1])
    assert np.abs(off).max() < 0.1


def test_a_gaussian_table_has_a_spread_for_each_observation():
    policy = policies.make(world(spaces.Discrete(4), spaces.Box(-1.0, 1.0, (2,))), SMALL)
    params = policy.init(jax.random.key(0))
    params["log_std"] = jnp.arange(8.0).reshape(4, 2)
    dist, _ = policy.act(params, (), jnp.array([3]))
    np.testing.assert_array_equal(dist.log_std, [[6.0, 7.0]])


@pytest.mark.parametrize(
    ("network", "space", "message"),
    [
        (
            "cnn",
            VECTOR,
            r"network='cnn' needs images \[H, W, C\] or \[C, H, W\] of 3 x 3 or more, got Box\(.*network='auto'",
        ),
        ("cnn", spaces.Box(0, 1, (2, 5, 1)), r"network='cnn' needs images \[H, W, C\] or \[C, H, W\] of 3 x 3 or more"),
        ("table", VECTOR, r"network='table' needs a discrete observation, got Box\(.*network='auto'"),
    ],
    ids=["cnn of a vector", "cnn of a small image", "table"],
)
def test_a_network_that_does_not_fit_the_observation_is_refused(network, space, message):
    with pytest.raises(ValueError, match=message):
        policies.make(world(space, TWO), Config(num_steps=2, hidden=(8,), network=network))


@pytest.mark.parametrize("network", ["mlp", "cnn", "gru"])
def test_a_network_without_a_layer_is_refused(network):
    with pytest.raises(ValueError, match=r"hidden=\(\)"):
        policies.make(world(IMAGE, TWO), Config(num_steps=2, hidden=(), network=network))


def test_an_unknown_network_or_activation_is_refused_by_name():
    with pytest.raises(ValueError, match="network must be one of .*; got 'lstn'"):
        policies.make(world(VECTOR, TWO), Config(num_steps=2, network="lstn"))
    with pytest.raises(ValueError, match="activation must be .*'gelu'"):
        policies.make(world(VECTOR, TWO), Config(num_steps=2, activation="gelu"))


def test_actions_of_two_axes_are_refused():
    with pytest.raises(ValueError, match=r"one axis, got shape \(2, 2\)"):
        policies.make(world(VECTOR, spaces.Box(-1.0, 1.0, (2, 2))), SMALL)


def test_auto_chooses_by_the_observation():
    names = {}
    for name, space in (("table", spaces.Discrete(3)), ("mlp", VECTOR), ("cnn", IMAGE)):
        policy = policies.make(world(space, TWO), SMALL)
        names[name] = set(jax.eval_shape(policy.init, jax.random.key(0)))
    assert names["table"] == {"preference", "value"}
    assert "eye" in names["cnn"] and "eye" not in names["mlp"]


def test_a_temperature_that_would_do_nothing_is_refused():
    with pytest.raises(
        ValueError, match="temperature=0.5 only applies to network='table' or 'sigmoid', but the network is 'mlp'"
    ):
        policies.make(world(VECTOR, TWO), Config(num_steps=2, temperature=0.5))


@pytest.mark.parametrize(("name", "value"), [("heads", 2), ("positions", "rotary")])
def test_what_only_a_transformer_has_is_refused_elsewhere(name, value):
    with pytest.raises(
        ValueError, match=f"{name}={value} only applies to network='transformer', but the network is 'mlp'"
    ):
        policies.make(world(VECTOR, TWO), Config(num_steps=2, **{name: value}))
