"""Fused towers against the same layers in plain JAX: values, gradients, lanes, and what they become for a GPU.

Here the kernels go through Pallas' interpreter; for CUDA they are lowered, and not run.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from jax.extend.core import jaxpr_as_fun
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from pgjax import algorithms, envs, hyperparameters, policies
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.optimizers import sgd
from pgjax.policies import kernels
from pgjax.policies.kernels import towers
from pgjax.types import Env, Trajectory

# jax 0.11 says so of every kernel that it lowers for a GPU.
pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")

TANH, RELU = jnp.tanh, lambda z: jnp.where(z > 0, z, 0.0)
BLOCK = towers.TILES[jax.lax.Precision.HIGHEST][0]
MANY = towers.SPAN + 1  # rows, too many for one program


def written_out(layers, x, activation):
    """The tower by its definition."""
    for kernel, bias in layers[:-1]:
        z = jnp.einsum("...i,io->...o", x, kernel) + jnp.broadcast_to(bias, (*x.shape[:-1], len(bias)))
        x = {"tanh": TANH, "relu": RELU}[activation](z)
    kernel, bias = layers[-1]
    return jnp.einsum("...i,io->...o", x, kernel) + jnp.broadcast_to(bias, (*x.shape[:-1], len(bias)))


def example(widths, *axes, lanes=(), seed=0):
    """Layers of these widths, an input [*axes, widths[0]], and a weight for each output of each row."""
    g = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(g.normal(size=(*lanes, *shape)), jnp.float32)  # noqa: E731
    layers = [(draw(i, o) * i**-0.5, 0.5 * draw(o)) for i, o in zip(widths[:-1], widths[1:], strict=True)]
    return layers, draw(*axes, widths[0]), draw(*axes, widths[-1])


def gradients(tower, activation="tanh"):
    """(layers, x, weight) -> gradients to layers and x of a loss that is not linear in the output."""

    def loss(layers, x, weight):
        return jnp.mean(weight * jnp.sin(tower(layers, x, activation)))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))


def close(a, b, tolerance):
    def one(a, b):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1e-3, float(jnp.abs(b).max())))

    jax.tree.map(one, a, b)


@pytest.mark.parametrize("hidden", [(), (8,), (16, 16), (12, 8, 20)], ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_outputs_and_gradients_are_those_of_the_layers_written_out(activation, hidden):
    rows = BLOCK + 6  # a block, and a part of one
    layers, x, weight = example((4, *hidden, 2), rows)
    expected = written_out(layers, x, activation)
    close(jax.jit(lambda *a: kernels.tower(*a, activation))(layers, x), expected, 1e-6)
    close(kernels.plain(layers, x, activation), expected, 1e-6)
    theirs = gradients(written_out, activation)(layers, x, weight)
    assert all(float(jnp.abs(g).max()) > 1e-3 for g in jax.tree.leaves(theirs))
    close(gradients(kernels.tower, activation)(layers, x, weight), theirs, 1e-5)


@pytest.mark.parametrize("axes", [(), (1,), (3, 5), (2, 3, 4)], ids=str)
def test_any_leading_axes_will_do(axes):
    layers, x, weight = example((3, 8, 1), *axes)
    close(kernels.tower(layers, x), written_out(layers, x, "tanh"), 1e-6)
    close(gradients(kernels.tower)(layers, x, weight), gradients(written_out)(layers, x, weight), 1e-5)


def test_no_rows_give_no_outputs():
    layers, x, _ = example((3, 8, 2), 0)
    assert kernels.tower(layers, x).shape == (0, 2)


def test_many_rows_are_split_over_programs():
    layers, x, weight = example((4, 16, 2), MANY)
    close(kernels.tower(layers, x), written_out(layers, x, "tanh"), 1e-6)
    close(gradients(kernels.tower)(layers, x, weight), gradients(written_out)(layers, x, weight), 1e-5)
    programs = lambda rows: re.findall(r"grid=\((\d+),\)", str(jax.make_jaxpr(kernels.tower)(layers, x[:rows])))  # noqa: E731
    assert set(programs(MANY)) == {"2"} and set(programs(MANY - 1)) == {"1"}


def test_an_input_wider_than_a_program_holds_leaves_its_layer_to_xla():
    layers, x, weight = example((towers.WIDEST + 2, 8, 2), 5)
    close(kernels.tower(layers, x), written_out(layers, x, "tanh"), 1e-6)
    close(gradients(kernels.tower)(layers, x, weight), gradients(written_out)(layers, x, weight), 1e-5)
    alone = layers[:1]
    close(kernels.tower(alone, x), written_out(alone, x, "tanh"), 1e-6)


@pytest.mark.parametrize("shared", [False, True], ids=["input of each lane", "one input"])
def test_lanes_with_weights_of_their_own_equal_a_loop(shared):
    lanes = 3
    layers, x, weight = example((4, 8, 16, 2), 70, lanes=(lanes,))
    axes, x = ((0, None, 0), x[0]) if shared else (0, x)
    together = jax.vmap(gradients(kernels.tower), axes)(layers, x, weight)
    outputs = jax.vmap(kernels.tower, axes if axes == 0 else axes[:2])(layers, x)
    for lane in range(lanes):
        own = jax.tree.map(lambda a, lane=lane: a[lane], (layers, weight))
        mine = x if shared else x[lane]
        close(outputs[lane], written_out(own[0], mine, "tanh"), 1e-6)
        found = jax.tree.map(lambda a, lane=lane: a[lane], together)
        close(found, gradients(written_out)(own[0], mine, own[1]), 1e-5)


def test_second_and_forward_derivatives_are_refused():
    layers, x, _ = example((3, 8, 1), 2)
    loss = lambda x: jnp.sum(kernels.tower(layers, x) ** 2)  # noqa: E731
    with pytest.raises(NotImplementedError, match="first derivatives only.*kernel='xla'"):
        jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) ** 2))(x)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss, (x,), (x,))


def triton_calls(function, *args):
    """The lines in which `function`, lowered for CUDA, calls a Triton kernel."""
    device = AbstractDevice("NVIDIA H100", num_cores=None, platform="gpu")
    with use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device)):
        text = jax.jit(function).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
    return [line for line in text.splitlines() if "custom_call" in line and "triton" in line]


@pytest.mark.parametrize("widths", [(4, 64, 64, 2), (17, 64, 32, 64, 1), (70, 8, 2)], ids=str)
@pytest.mark.parametrize("rows", [1, 5 * BLOCK + 1, MANY])
def test_for_cuda_the_forward_and_the_backward_pass_are_one_kernel_each(widths, rows):
    layers, x, weight = example(widths, rows)
    assert len(triton_calls(kernels.tower, layers, x)) == 1
    assert len(triton_calls(gradients(kernels.tower, "relu"), layers, x, weight)) == 2
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), (layers, x, weight))
    assert len(triton_calls(jax.vmap(gradients(kernels.tower)), *stacked)) == 2


def results(line):
    return line.rpartition("->")[2].count("tensor<")


def test_the_gradient_to_the_input_is_computed_where_it_is_asked_for():
    layers, x, _ = example((4, 8, 2), 5)
    loss = lambda layers, x: jnp.sum(kernels.tower(layers, x) ** 2)  # noqa: E731
    both = triton_calls(jax.grad(loss, argnums=(0, 1)), layers, x)
    some = triton_calls(jax.grad(loss), layers, x)
    assert [results(line) for line in both] == [1, 5]
    assert [results(line) for line in some] == [1, 4]


def test_products_are_of_float32_unless_told_otherwise():
    layers, x, _ = example((4, 8, 2), 5)

    def jaxpr(**options):
        loss = lambda layers: jnp.sum(kernels.tower(layers, x, **options) ** 2)  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(layers))

    for exact in (jaxpr(), jaxpr(precision="highest")):
        assert "Precision.HIGHEST" in exact and not re.search(r"Precision\.HIGH\b|precision=None", exact)
    assert "Precision.HIGHEST" not in jaxpr(precision="tf32")
    assert "tanh.approx" in jaxpr(approximate=True)
    assert "tanh.approx" not in jaxpr() + jaxpr(approximate=True, activation="relu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(activation="gelu"), "activation must be one of tanh, relu; got 'gelu'"),
        (dict(precision="bf16"), "precision must be None, 'highest' or 'tf32'; got 'bf16'"),
        (dict(layers=[]), "needs layers"),
        (dict(x=np.zeros((2, 4))), "computes in float32, x is float64; use kernel='xla'"),
        (dict(x=jnp.zeros((2, 3), jnp.float32)), r"layers\[0\] must be \[3, O\] and \[O\], got \(4, 8\) and \(8,\)"),
        (dict(x=jnp.float32(1.0)), r"x \[..., D\]"),
        (dict(layers=example((4, 8, 65, 2))[0]), r"layers\[1\] has 65 outputs.* at most 64; use kernel='xla'"),
        (dict(layers=example((4, *6 * (8,), 2))[0]), "layers are 7, of a fused tower at most 6; use kernel='xla'"),
        (dict(layers=jax.tree.map(jnp.bfloat16, example((4, 8, 2))[0])), r"layers\[0\] is bfloat16"),
    ],
)
def test_what_a_kernel_cannot_do_is_refused_by_name(change, message):
    layers, x, _ = example((4, 8, 2), 2)
    with pytest.raises(ValueError, match=message):
        kernels.tower(**{"layers": layers, "x": x, **change})


TWO = spaces.Discrete(2)
VECTOR, IMAGE = spaces.Box(-1.0, 1.0, (5,)), spaces.Box(0.0, 1.0, (5, 6, 2))


def world(observation, action):
    """An Env that is nothing but its spaces."""
    return Env(params=(), reset=None, step=None, observation_space=observation, action_space=action, max_steps=1)


@pytest.mark.parametrize(
    ("observation", "action", "options"),
    [
        (VECTOR, TWO, dict()),
        (VECTOR, TWO, dict(shared=True, activation="relu")),
        (VECTOR, TWO, dict(critic="action_value")),
        (VECTOR, spaces.Box(-1.0, 1.0, (2,)), dict()),
        (IMAGE, TWO, dict()),
    ],
    ids=["two towers", "one torso", "action values", "gaussian", "images"],
)
def test_a_fused_network_is_the_same_function_of_the_same_parameters(observation, action, options):
    configs = [Config(hidden=(8, 4), kernel=kernel, **options) for kernel in ("xla", "fused")]
    plain, fused = (policies.make(world(observation, action), config) for config in configs)
    g = np.random.default_rng(0)
    shapes = jax.eval_shape(plain.init, jax.random.key(0))
    assert shapes == jax.eval_shape(fused.init, jax.random.key(0))
    params = jax.tree.map(lambda s: jnp.asarray(0.5 * g.normal(size=s.shape), jnp.float32), shapes)
    obs = jnp.asarray(g.normal(size=(3, 2, *observation.shape)), jnp.float32)

    actions = jnp.zeros((3, 2, *action.shape), action.dtype)
    fields = {name: jnp.zeros((3, 2)) for name in Trajectory._fields}
    trajectory = Trajectory(**{**fields, "obs": obs, "next_obs": obs, "action": actions, "memory": ()})

    def outputs(policy, params):
        now = policy.evaluate(params, trajectory)
        return now.log_prob, now.entropy, now.value, now.next_value, policy.act(params, (), obs)[0].log_prob(actions)

    def loss(params, policy):
        found = outputs(policy, params)
        return sum(jnp.sum(jnp.sin(x)) for x in found), found

    graphs = [jax.make_jaxpr(jax.grad(loss, has_aux=True), static_argnums=1)(params, p) for p in (plain, fused)]
    assert ["pallas_call" in str(graph) for graph in graphs] == [False, True]
    theirs, ours = (jax.jit(jaxpr_as_fun(graph))(*jax.tree.leaves(params)) for graph in graphs)
    close(ours, theirs, 1e-5)


@pytest.mark.parametrize("kind", ["gru", "table", "sigmoid"])
def test_a_network_without_towers_refuses_the_kernel(kind):
    observation = VECTOR if kind == "gru" else spaces.Discrete(3)
    line = f"kernel=fused only applies to network='mlp' or 'cnn' or 'resnet', but the network is '{kind}'"
    with pytest.raises(ValueError, match=line):
        policies.make(world(observation, TWO), Config(network=kind, kernel="fused"))


def test_a_kernel_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="kernel must be one of xla, fused; got 'cuda'"):
        policies.make(world(VECTOR, TWO), Config(kernel="cuda"))


@pytest.mark.slow
def test_an_update_of_ppo_over_lanes_is_the_same_with_either_kernel():
    row, env = algorithms.entry("ppo"), envs.make("CartPole-v1")
    # Adam would make a step of full size of a gradient that is zero but for rounding.
    algorithm = row.algorithm._replace(optimizer=sgd)
    hypers = hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": 0.1})
    keys = jax.random.split(jax.random.key(0), 2)
    before, after = {}, {}
    for kernel in ("xla", "fused"):
        config = Config(num_envs=4, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(8, 8), kernel=kernel)
        built = on_policy.make_learner(env, policies.make(env, config), algorithm, config)
        state = jax.jit(jax.vmap(lambda key, built=built: built.init(key, hypers)))(keys)
        step = jax.jit(jax.vmap(lambda key, state, built=built: built.step(key, state, hypers)[0]))
        before[kernel], after[kernel] = state.params, step(keys, state).params
    jax.tree.map(np.testing.assert_array_equal, before["xla"], before["fused"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), after["fused"], after["xla"])
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before["xla"], after["xla"])
    assert min(jax.tree.leaves(moved)) > 1e-4
