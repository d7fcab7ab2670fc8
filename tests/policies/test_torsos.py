"""Hidden layers, networks for images, heads for Boxes and critics of classes, against float64 and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import nnx
from gymnax.environments import spaces

import pgjax
from pgjax import envs, losses, policies
from pgjax.config import Config
from pgjax.numerics import value_classes
from pgjax.policies.convolutions import ResNet
from pgjax.policies.heads import Head
from pgjax.policies.torsos import Residual, Torso, layer_norm
from pgjax.types import Batch, Env, Evaluation, Step, Trajectory


def normalised(x):
    x = np.asarray(x, np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def doubled(module):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(nnx.state(module, nnx.Param)))


def test_a_layer_norm_is_right_for_rows_whose_mean_is_thousands_of_times_their_spread():
    x = (1e4 + np.random.default_rng(0).normal(size=(3, 64))).astype(np.float32)
    np.testing.assert_allclose(layer_norm(64, nnx.Rngs(0))(jnp.asarray(x)), normalised(x), atol=2e-3)


def test_normalised_and_residual_layers_are_their_formulas():
    x = np.random.default_rng(1).normal(size=(3, 5))
    plain = Torso(5, Config(hidden=(8, 6), layer_norm=True, activation="relu"), rngs=nnx.Rngs(0))
    wanted = x
    for layer in doubled(plain)["layers"].values():
        wanted = np.maximum(normalised(wanted @ layer["kernel"] + layer["bias"]), 0)
    np.testing.assert_allclose(plain(jnp.asarray(x, jnp.float32)), wanted, rtol=1e-4, atol=1e-4)
    block = Residual(5, Config(network="simba", hidden=(8, 8)), rngs=nnx.Rngs(0))
    p = doubled(block)
    wanted = x @ p["first"]["kernel"] + p["first"]["bias"]
    for i in range(2):
        inside = normalised(wanted) @ p["wide"][i]["kernel"] + p["wide"][i]["bias"]
        wanted = wanted + np.maximum(inside, 0) @ p["narrow"][i]["kernel"] + p["narrow"][i]["bias"]
    np.testing.assert_allclose(block(jnp.asarray(x, jnp.float32)), normalised(wanted), rtol=1e-4, atol=1e-4)


def test_the_deep_network_is_made_of_jax_own_convolutions_and_pools():
    net = ResNet((9, 7, 3), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 9, 7, 3))
    layers = iter(net.layers)

    def convolved(x):
        layer = next(layers)
        kernel = layer.kernel[...].reshape(3, 3, x.shape[-1], -1)
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names) + layer.bias[
            ...
        ].reshape(1, 1, 1, -1)

    for _ in range(3):
        x_ = convolved(x)
        edge = [(0, 0), (1, 1), (1, 1), (0, 0)]
        x_ = jax.lax.reduce_window(x_, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edge)
        for _ in range(2):
            x_ = x_ + convolved(jax.nn.relu(convolved(jax.nn.relu(x_))))
        x = x_
    wanted = jax.nn.relu(x).reshape(2, -1)
    got = net(jax.random.normal(jax.random.key(0), (2, 9, 7, 3)))
    assert got.shape == (2, net.width)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)


def test_two_hot_targets_have_the_target_as_their_mean():
    targets = np.array([-3e4, -100.0, -0.3, 0.0, 0.07, 1.0, 499.5, 2e4, 3e4])
    with jax.enable_x64(True):
        p = np.asarray(value_classes.classes(value_classes.TwoHot(jnp.zeros(101)), jnp.asarray(targets)))
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-12)
    assert np.all((p > 0).sum(-1) <= 2) and np.all(p >= 0)
    most = np.expm1(10.0)
    np.testing.assert_allclose(p @ value_classes.BINS, np.clip(targets, -most, most), rtol=1e-9, atol=1e-12)


def test_a_histogram_of_a_gaussian_is_that_of_scipy_and_its_loss_the_cross_entropy():
    # The last two lie in the outermost bin and beyond it, where half of the Gaussian would fall outside.
    targets, logits = np.array([-20.0, 0.4, 7000.0, 22_000.0, -1e6]), np.random.default_rng(0).normal(size=(5, 101))
    x = np.linspace(-10, 10, 101)
    edges = np.append(x - 0.1, 10.1)
    at = np.clip(np.sign(targets) * np.log1p(np.abs(targets)), -10, 10)
    below = scipy.stats.norm.cdf((edges - at[:, None]) / 0.15)
    wanted = np.diff(below) / (below[:, -1:] - below[:, :1])
    with jax.enable_x64(True):
        extra = value_classes.HLGauss(jnp.asarray(logits))
        np.testing.assert_allclose(value_classes.classes(extra, jnp.asarray(targets)), wanted, atol=1e-12)
        loss = value_classes.cross_entropy(extra, jnp.asarray(targets))
    log_q = logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True)
    np.testing.assert_allclose(loss, -(wanted * log_q).sum(-1), rtol=1e-10)


def test_the_value_of_classes_is_the_mean_of_their_bins():
    logits = np.random.default_rng(2).normal(size=(4, 101))
    x = np.linspace(-10, 10, 101)
    wanted = scipy.special.softmax(logits, axis=-1) @ (np.sign(x) * np.expm1(np.abs(x)))
    with jax.enable_x64(True):
        np.testing.assert_allclose(value_classes.expected(jnp.asarray(logits)), wanted, rtol=1e-10)


@pytest.mark.parametrize("critic", ["two_hot", "hl_gauss"])
def test_classes_begin_nearly_uniform(critic):
    """With a gain of 1 the first values would be thousands: the outermost bins stand for 22,025."""
    policy = policies.make(world(), Config(hidden=(8,), critic=critic))
    rows = Trajectory(*[jnp.zeros(5)] * len(Trajectory._fields))._replace(
        obs=jax.random.normal(jax.random.key(1), (5, 3)), action=jnp.zeros((5, 2)), next_obs=jnp.zeros((5, 3))
    )
    now = jax.jit(policy.evaluate)(policy.init(jax.random.key(0)), rows)
    np.testing.assert_allclose(jax.nn.softmax(now.extra.logits), 1 / 101, rtol=0.2)


def test_the_loss_of_a_critic_goes_by_what_the_network_says_besides_its_value():
    target = jnp.asarray([1.0, -2.0])
    row = Trajectory(*[jnp.zeros(2)] * len(Trajectory._fields))
    batch = Batch(row, target, target, jnp.zeros(2))
    now = Evaluation(None, jnp.zeros(2), jnp.zeros(2), jnp.asarray([0.5, 0.5]), jnp.zeros(2))
    extra = value_classes.Ensemble(jnp.asarray([[0.0, 1.0], [1.0, 0.0]]))
    loss, _ = losses.value_error(now._replace(extra=extra), batch)
    np.testing.assert_allclose(loss, [0.25, (9 + 4) / 4])
    hot = value_classes.TwoHot(jnp.zeros((2, 101)))
    np.testing.assert_allclose(losses.value_error(now._replace(extra=hot), batch)[0], np.log(101), rtol=1e-5)


BOX = spaces.Box(jnp.array([10.0, -1.0]), jnp.array([20.0, 1.0]), (2,))


def world(action=BOX):
    seen = Step(jnp.zeros(3), jnp.float32(0), jnp.bool_(False), jnp.bool_(False))

    def step(key, params, state, action):
        return (), seen

    return Env({}, lambda key, params: ((), seen.obs), step, spaces.Box(-1, 1, (3,)), action, 5)


@pytest.mark.parametrize("log_std", ["parameter", "network"])
@pytest.mark.parametrize("kind", ["gaussian", "squashed", "beta", "mixture"])
def test_the_first_distribution_covers_the_box(kind, log_std):
    if log_std == "network" and kind in ("beta", "mixture"):
        with pytest.raises(ValueError, match=f"log_std='network' changes nothing with distribution='{kind}'"):
            policies.make(world(), Config(distribution=kind, log_std=log_std))
        return
    policy = policies.make(world(), Config(hidden=(4,), distribution=kind, log_std=log_std))
    params = policy.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (4000, 3))
    draws = np.asarray(policy.act(params, (), obs)[0].sample(jax.random.key(2)))
    assert np.all(np.abs(draws.mean(0) - [15, 0]) < 0.2 * np.array([5, 1])), draws.mean(0)
    spread = draws.std(0) / [5, 1]
    assert np.all((spread > 0.4) & (spread < 1.2))
    moved = jax.grad(lambda p: jnp.sum(policy.act(p, (), obs)[0].log_prob(draws)))(params)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(moved))
    if log_std == "network":
        deviations = [np.std(x) for x in policy.act(jax.tree.map(lambda x: 3 * x, params), (), obs)[0].log_std.T]
        assert min(deviations) > 0


def test_every_box_of_a_tree_has_deviations_of_its_own():
    space = spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(-1.0, 1.0, (1,))})
    head = Head.of(space)
    assert (head.outputs, head.reals) == (3, 3)
    dist = head(jnp.arange(3.0), jnp.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(dist.parts["a"].log_std, [0.1, 0.2])
    np.testing.assert_allclose(dist.parts["b"].log_std, [0.3])
    np.testing.assert_allclose(dist.parts["b"].mean, [2.0])


def test_deviations_that_are_outputs_stay_within_their_bounds():
    """From exp(-20) to exp(2) halves of the Box; beyond it densities would leave the numbers' range."""
    for config in (Config(distribution="mixture"), Config(log_std="network")):
        head = Head.of(spaces.Box(-1.0, 1.0, (1,)), config)
        for x, bound in ((-1e3, -20.0), (1e3, 2.0)):
            dist = head(jnp.full(head.outputs, x))
            log_std = dist.each.log_std if config.distribution == "mixture" else dist.log_std
            np.testing.assert_allclose(log_std, bound)


OPTIONS = [
    {"network": "simba", "hidden": (8, 8)},
    {"layer_norm": True},
    {"critic": "two_hot"},
    {"critic": "hl_gauss", "shared": True},
    {"critics": 3},
    {"network": "lstm", "layer_norm": True},
    {"network": "mingru", "critic": "two_hot"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_network_trains(options):
    settings = {"hidden": (8,), "num_envs": 2, "num_steps": 8, "num_minibatches": 1, "eval_episodes": 2, **options}
    run = pgjax.run("ppo", "CartPole-v1", seeds=2, settings=settings, updates=3)
    assert bool(run.metrics.finite.all()) and np.all(np.isfinite(run.metrics.value_loss))


BOXES = [{"distribution": "beta"}, {"distribution": "squashed", "log_std": "network"}]


@pytest.mark.parametrize("options", BOXES, ids=str)
def test_each_distribution_trains(options):
    settings = {"hidden": (8,), "num_envs": 2, "num_steps": 8, "eval_episodes": 2, **options}
    run = pgjax.run("ppo", "Pendulum-v1", seeds=2, settings=settings, updates=3)
    assert bool(run.metrics.finite.all())


def test_an_ensemble_is_taught_one_by_one_and_its_value_is_the_mean():
    env = envs.make("CartPole-v1")
    policy = policies.make(env, Config(hidden=(4,), critics=3))
    params = policy.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 4))
    rows = Trajectory(obs, *[jnp.zeros(5)] * 5, obs, jnp.ones(5), jnp.zeros(5), ())
    now = policy.evaluate(params, rows._replace(action=jnp.zeros(5, jnp.int32)))
    assert now.extra.values.shape == (5, 3) and np.all(np.std(now.extra.values, axis=-1) > 0)
    np.testing.assert_allclose(now.value, np.mean(now.extra.values, axis=-1), rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_each_critic_of_an_ensemble_has_a_torso_of_its_own_unless_it_is_shared(shared):
    """The values written out; no critic of three may move the actor, unless it shares its torso."""
    policy = policies.make(world(), Config(hidden=(4,), critics=3, shared=shared))
    params = policy.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 3))
    rows = Trajectory(*[jnp.zeros(5)] * len(Trajectory._fields))._replace(
        obs=obs, action=jnp.zeros((5, 2)), next_obs=obs
    )
    p = jax.tree.map(np.float64, params)
    own = [p["critic_torso"], *(other["torso"] for other in p["others"].values())] if not shared else []
    heads = [p["critic_head"], *(other["head"] for other in p["others"].values())]
    wanted = []
    for torso, head in zip(own or [p["actor_torso"]] * 3, heads, strict=True):
        hidden = np.tanh(np.float64(obs) @ torso["layers"][0]["kernel"] + torso["layers"][0]["bias"])
        wanted.append((hidden @ head["kernel"] + head["bias"])[..., 0])
    found = policy.evaluate(params, rows).extra.values
    np.testing.assert_allclose(found, np.stack(wanted, axis=-1), rtol=1e-4, atol=1e-5)
    moved = jax.grad(lambda p: jnp.sum(policy.evaluate(p, rows).extra.values ** 2))(params)["actor_torso"]
    assert any(np.any(x != 0) for x in jax.tree.leaves(moved)) is shared


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"network": "simba", "hidden": (8, 4)}, "network='simba' needs hidden widths that are all the same, got 8x4"),
        ({"critics": 2, "critic": "two_hot"}, "critics=2 needs critic='value', got 'two_hot'"),
        ({"critics": 2, "network": "gru"}, "critics=2 only applies to network='mlp'.*, but the network is 'gru'"),
        ({"distribution": "beta"}, "distribution='beta' needs a Box of actions, got Discrete"),
        ({"network": "resnet"}, "network='resnet' needs images"),
        ({"layer_norm": True, "kernel": "fused"}, "kernel='fused' has no LayerNorm; use kernel='xla'"),
    ],
)
def test_an_option_that_would_mean_nothing_is_one_line(options, line):
    with pytest.raises(ValueError, match=line):
        policies.make(envs.make("CartPole-v1"), Config(**options))
    with pytest.raises(ValueError, match="distribution='squashed' needs a Box of actions with finite bounds"):
        policies.make(world(spaces.Box(-np.inf, np.inf, (2,))), Config(distribution="squashed"))
