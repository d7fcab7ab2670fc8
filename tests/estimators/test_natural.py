"""Fisher information, conjugate gradients and the natural gradient against dense float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from jax.flatten_util import ravel_pytree

from pgjax import envs, losses, oracle, policies, testing
from pgjax.config import Config
from pgjax.estimators import fisher_vector_product, natural, surrogate
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.numerics.conjugate_gradients import conjugate_gradients
from pgjax.types import Batch, Env, Policy, Trajectory

T, B, STATES, ACTIONS = 5, 4, 5, 3
KEY = jax.random.key(0)


def run(estimator, policy, params, batch, **hypers):
    return jax.jit(lambda params, batch, hypers: estimator(KEY, policy, params, batch, **hypers))(params, batch, hypers)


@pytest.fixture(scope="module")
def policy():
    return policies.make(envs.make("TabularMDP-pgjax"))


def softmax(theta):
    weights = np.exp(theta - theta.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def table(seed):
    g = np.random.default_rng(seed)
    return {
        "preference": g.normal(size=(STATES, ACTIONS)).astype(np.float32),
        "value": g.normal(size=STATES).astype(np.float32),
    }


def batch_of(seed, obs=None, action=None, mask=None):
    """Experience [T, B] whose columns end after 5, 1, 2 and 3 steps."""
    g = np.random.default_rng(seed)
    obs = g.integers(0, STATES, size=(T, B), dtype=np.int32) if obs is None else obs
    action = g.integers(0, ACTIONS, size=(T, B), dtype=np.int32) if action is None else action
    mask = (np.arange(T)[:, None] < np.array([T, 1, 2, 3])).astype(np.float32) if mask is None else mask
    no, zeros = np.zeros(mask.shape, bool), np.zeros(mask.shape, np.float32)
    trajectory = Trajectory(obs, action, zeros - 1, zeros, no, no, obs, mask, zeros.astype(np.int32), ())
    return Batch(trajectory, *g.normal(size=(3, *mask.shape)).astype(np.float32))


def dense(params, batch):
    """F and the gradient of -mean A log pi in the preferences, as numpy has them: E_a[score score^T] in float64."""
    pi, mask = softmax(np.float64(params["preference"])), batch.trajectory.mask
    f, gradient = np.zeros((STATES, ACTIONS) * 2), np.zeros((STATES, ACTIONS))
    for i in zip(*np.nonzero(mask), strict=True):
        s, a = batch.trajectory.obs[i], batch.trajectory.action[i]
        scores = np.eye(ACTIONS) - pi[s]
        f[s, :, s] += np.einsum("a,ab,ac->bc", pi[s], scores, scores) / mask.sum()
        gradient[s] -= batch.advantage[i] * scores[a] / mask.sum()
    return f.reshape(STATES * ACTIONS, -1), gradient.reshape(-1)


def test_a_product_is_that_of_the_dense_matrix_of_a_softmax(policy):
    params, batch, v = table(0), batch_of(1), table(2)
    f, _ = dense(params, batch)
    got = jax.jit(lambda v: fisher_vector_product(policy, params, batch.trajectory, v, 0.3))(v)
    expected = f @ v["preference"].reshape(-1) + 0.3 * v["preference"].reshape(-1)
    np.testing.assert_allclose(got["preference"].reshape(-1), expected, rtol=1e-5, atol=1e-6)
    # A critic has no Fisher information.
    np.testing.assert_allclose(got["value"], 0.3 * v["value"], rtol=1e-6)
    rows = jax.tree.map(lambda x: x.reshape(-1), batch.trajectory)
    again = fisher_vector_product(policy, params, rows, v, 0.3)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), got, again)


def test_a_product_is_that_of_the_dense_matrix_of_a_gaussian():
    box = spaces.Box(-1.0, 1.0, (2,))
    env = Env((), None, None, spaces.Discrete(STATES), box, 1)
    gaussian = policies.make(env, Config())
    g = np.random.default_rng(0)
    params, v = (
        {
            "preference": g.normal(size=(STATES, 2)).astype(np.float32),
            "log_std": 0.3 * g.normal(size=(STATES, 2)).astype(np.float32),
            "value": np.zeros(STATES, np.float32),
        }
        for _ in range(2)
    )
    batch = batch_of(1, action=g.normal(size=(T, B, 2)).astype(np.float32))
    counts = np.zeros(STATES)
    for i in zip(*np.nonzero(batch.trajectory.mask), strict=True):
        counts[batch.trajectory.obs[i]] += 1 / batch.trajectory.mask.sum()
    got = fisher_vector_product(gaussian, params, batch.trajectory, v)
    # E score score^T of a normal law: 1 / std^2 for the mean, 2 for log std, nothing between them.
    precision = np.exp(-2 * np.float64(params["log_std"]))
    np.testing.assert_allclose(got["preference"], counts[:, None] * precision * v["preference"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["log_std"], counts[:, None] * 2 * v["log_std"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["value"], np.zeros(STATES))


NETWORKS = {
    "mlp": ("CartPole-v1", {}),
    "gaussian": ("Pendulum-v1", {}),
    "shared": ("CartPole-v1", {"shared": True}),
    "gru": ("CartPole-v1", {"network": "gru"}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_product_is_that_of_the_hessian_of_the_mean_kl(name):
    world, options = NETWORKS[name]
    env = envs.make(world)
    policy = policies.make(env, Config(hidden=(3,), **options))
    params = jax.jit(policy.init)(KEY)
    # Off the initial point, at which all actions are nearly alike.
    params = jax.tree.map(lambda x: x + 0.3, params)
    g = np.random.default_rng(0)
    obs = g.normal(size=(T, B, *env.observation_space.shape)).astype(np.float32)
    action = g.normal(size=(T, B, 1)).astype(np.float32) if name == "gaussian" else g.integers(0, 2, size=(T, B))
    trajectory = batch_of(0, obs, action).trajectory._replace(memory=policy.memory(B))
    mask = trajectory.mask
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def both(x, v):
        old = policy.evaluate(unravel(x), trajectory).dist
        kl = lambda x: jnp.sum(mask * old.kl(policy.evaluate(unravel(x), trajectory).dist)) / jnp.sum(mask)  # noqa: E731
        product = fisher_vector_product(policy, unravel(x), trajectory, unravel(v), 0.1)
        return jax.jvp(jax.grad(kl), (x,), (v,))[1] + 0.1 * v, ravel_pytree(product)[0]

    expected, got = both(flat, jax.random.normal(KEY, flat.shape))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [1, 7, 12])
def test_conjugate_gradients_solve_what_numpy_solves(size):
    g = np.random.default_rng(size)
    root = g.normal(size=(size, size))
    a, b = root @ root.T + 0.5 * np.eye(size), g.normal(size=size)
    cut = size // 2
    tree = {"one": jnp.asarray(b[:cut], jnp.float32), "two": jnp.asarray(b[cut:], jnp.float32).reshape(-1, 1)}

    def product(v):
        image = jnp.asarray(a, jnp.float32) @ jnp.concatenate([v["one"], v["two"][:, 0]])
        return {"one": image[:cut], "two": image[cut:, None]}

    x, residual = jax.jit(lambda b: conjugate_gradients(product, b, 40))(tree)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(np.r_[x["one"], x["two"][:, 0]], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert float(residual) < 1e-5


def diagonal(*values):
    return lambda v: jnp.asarray(values) * v


def test_the_curvature_along_the_solution_is_its_product_with_b_at_every_iteration():
    b = jnp.array([1.0, -2.0, 3.0, 0.5])
    product = diagonal(1.0, 2.0, 5.0, 9.0)
    for iterations in (0, 1, 3, 6):
        x, residual = conjugate_gradients(product, b, iterations)
        np.testing.assert_allclose(x @ product(x), x @ b, rtol=1e-5)
        true = np.linalg.norm(b - product(x)) / np.linalg.norm(b)
        np.testing.assert_allclose(residual, true, atol=1e-6)


@pytest.fixture(scope="module")
def singular():
    """Twelve softmax tables and batches, which make Fisher matrices of rank S (A - 1) at most, and F^+ g in float64."""
    g = np.random.default_rng(0)
    tables = [{name: 1.3 * x for name, x in table(seed).items()} for seed in range(12)]
    batches = [batch_of(seed, mask=(g.random((T, B)) < 0.9).astype(np.float32)) for seed in range(12)]
    pairs = [dense(*pair) for pair in zip(tables, batches, strict=True)]
    exact = np.stack([np.linalg.pinv(f, rcond=1e-10) @ b for f, b in pairs])
    assert max(np.linalg.matrix_rank(f) for f, _ in pairs) <= STATES * (ACTIONS - 1)
    stacked = [jax.tree.map(lambda *x: np.stack(x), *trees) for trees in (tables, batches)]
    return *stacked, exact


@pytest.mark.parametrize("steps", [10, 12, 15, 20, 40])
def test_iterations_beyond_the_rank_of_a_singular_matrix_change_nothing(policy, singular, steps):
    """They would go off along what F doesn't feel, each lane from its own iteration on."""
    params, batch, exact = singular
    estimator = bind(natural(losses.policy_gradient), damping=0.0, cg_steps=steps)
    got, metrics = jax.jit(jax.vmap(lambda p, b: estimator(KEY, policy, p, b)))(params, batch)
    error = np.linalg.norm(np.reshape(got["preference"], (12, -1)) - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert np.median(error) < 1e-3 and error.max() < (0.3 if steps < 20 else 1e-2), error
    assert steps < 20 or np.asarray(metrics["cg_residual"]).max() < 1e-5


@pytest.mark.parametrize("noise", [1e-6, 1e-5])
def test_what_rounding_puts_outside_the_range_of_a_singular_matrix_is_not_followed(noise):
    """x is that of the pseudo-inverse within what noise can do; without a stop it is hundreds of times as long."""
    g = np.random.default_rng(0)
    root = g.normal(size=(12, 6))
    a = root @ root.T
    exact = g.normal(size=6) @ root.T
    b = a @ exact
    b = b + noise * np.abs(b).max() * g.normal(size=12)
    for steps in (6, 8, 12, 20, 40):
        x, _ = conjugate_gradients(lambda v: jnp.asarray(a, jnp.float32) @ v, jnp.asarray(b, jnp.float32), steps)
        assert np.linalg.norm(x - exact) < 1e3 * noise * np.linalg.norm(exact)


@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e-30, 1e30])
def test_iterations_beyond_convergence_change_nothing_at_any_scale(scale):
    b = scale * jnp.array([1.0, -2.0, 3.0])
    x, residual = conjugate_gradients(diagonal(0.1, 0.1, 0.1), b, 50)
    np.testing.assert_allclose(x, 10 * b, rtol=1e-5)
    assert float(residual) < 1e-6


def test_no_gradient_gives_no_step_and_what_is_no_number_stays_none():
    still, residual = conjugate_gradients(diagonal(1.0, 2.0), jnp.zeros(2), 5)
    np.testing.assert_array_equal(still, 0.0)
    assert float(residual) == 0
    flat, _ = conjugate_gradients(diagonal(0.0, 0.0), jnp.ones(2), 5)
    np.testing.assert_array_equal(flat, 0.0)
    for b in (jnp.array([jnp.nan, 1.0]), jnp.array([jnp.inf, 1.0])):
        assert not np.isfinite(conjugate_gradients(diagonal(1.0, 2.0), b, 5)[0]).any()
    assert not np.isfinite(conjugate_gradients(diagonal(jnp.nan, 2.0), jnp.ones(2), 5)[0]).all()


def test_the_natural_gradient_is_the_inverse_of_the_fisher_matrix_times_the_gradient(policy):
    params, batch = table(0), batch_of(1)
    f, gradient = dense(params, batch)
    estimator = bind(natural(losses.policy_gradient), damping=0.05, cg_steps=30)
    got, metrics = run(estimator, policy, params, batch)
    expected = np.linalg.solve(f + 0.05 * np.eye(len(f)), gradient)
    np.testing.assert_allclose(got["preference"].reshape(-1), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(got["value"], np.zeros(STATES))
    np.testing.assert_allclose(metrics["quadratic_kl"], expected @ gradient / 2, rtol=1e-4)
    assert float(metrics["cg_residual"]) < 1e-5


def test_of_a_softmax_table_it_is_the_advantage_whatever_states_were_visited(policy):
    """Kakade 2001, theorem 1, with a feature for each pair: F^-1 g = -A up to a constant of each state."""
    g = np.random.default_rng(0)
    pi = np.array([0.5, 0.25, 0.25])  # so that a few steps hold each action as often as it is likely
    params = table(0) | {"preference": np.tile(np.log(pi), (STATES, 1)).astype(np.float32)}
    mdp = oracle.from_env(envs.make("TabularMDP-pgjax"), 0.9)._replace(horizon=None)
    advantage = oracle.values(mdp, np.tile(pi, (STATES, 1))).advantage
    obs = np.repeat([0, 0, 1, 2, 3, 3, 3, 4], 4).astype(np.int32)
    action = np.tile([0, 0, 1, 2], 8).astype(np.int32)
    order = g.permutation(len(obs))
    batch = batch_of(1, obs[order], action[order], np.ones(len(obs), np.float32))
    batch = batch._replace(advantage=advantage[obs, action][order].astype(np.float32))
    estimator = bind(natural(losses.policy_gradient), damping=0.0, cg_steps=20)
    got, _ = run(estimator, policy, params, batch)
    centred = advantage - advantage.mean(1, keepdims=True)
    np.testing.assert_allclose(got["preference"], -centred, rtol=1e-3, atol=1e-4)


def test_it_moves_the_policy_the_same_way_however_it_is_parametrised():
    env = Env((), None, None, spaces.Discrete(STATES), spaces.Discrete(2), 1)
    plain = policies.make(env, Config(network="sigmoid"))
    g = np.random.default_rng(1)
    mixing = (np.eye(STATES) + 0.4 * g.normal(size=(STATES, STATES))).astype(np.float32)
    mixed = lambda p: p | {"preference": mixing @ p["preference"]}  # noqa: E731
    other = Policy(
        init=plain.init,
        memory=plain.memory,
        act=lambda p, *rest: plain.act(mixed(p), *rest),
        evaluate=lambda p, trajectory: plain.evaluate(mixed(p), trajectory),
    )
    w = {"preference": g.normal(size=STATES).astype(np.float32), "value": np.zeros(STATES, np.float32)}
    obs, action = np.arange(20, dtype=np.int32) % STATES, g.integers(0, 2, size=20, dtype=np.int32)
    batch = batch_of(2, obs, action, np.ones(20, np.float32))

    def moves(damping):
        estimator = bind(natural(losses.policy_gradient), damping=damping, cg_steps=20)
        here, _ = run(estimator, other, w, batch)
        there, _ = run(estimator, plain, mixed(w), batch)
        return mixing @ here["preference"], there["preference"]

    np.testing.assert_allclose(*moves(0.0), rtol=1e-3, atol=1e-4)
    # Of the plain gradient, to which it tends with much damping, that is not so.
    here, there = moves(100.0)
    assert np.abs(here - there).max() > 0.1 * np.abs(there).max()


def test_a_critic_adds_its_plain_gradient_and_its_hyperparameters(policy):
    params, batch = table(0), batch_of(1)
    both = natural(losses.policy_gradient, losses.value_error)
    assert hyperparameters(both) == {
        "damping": 0.1,
        "cg_steps": 10,
        "normalize_advantage": False,
        "entropy_coef": 0.0,
        "importance": False,
        "reevaluate": False,
        "value_coef": 0.5,
        "value_clip": np.inf,
    }
    got, metrics = run(both, policy, params, batch, value_coef=0.7)
    alone, actor = run(natural(losses.policy_gradient), policy, params, batch)
    critic, value = run(surrogate(losses.value_error), policy, params, batch)
    np.testing.assert_allclose(got["preference"], alone["preference"], rtol=1e-6)
    np.testing.assert_allclose(got["value"], 0.7 * critic["value"], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], actor["loss"] + 0.7 * value["loss"], rtol=1e-5)
    assert {"cg_residual", "quadratic_kl", "entropy", "value_loss"} <= set(metrics)


def test_an_entropy_bonus_is_part_of_what_is_climbed(policy):
    params, batch = table(0), batch_of(1)
    batch = batch._replace(advantage=np.zeros_like(batch.advantage))
    got, _ = run(natural(losses.policy_gradient), policy, params, batch, entropy_coef=0.1)
    moved = params | {"preference": params["preference"] - got["preference"]}
    entropies = [policy.evaluate(p, batch.trajectory).entropy * batch.trajectory.mask for p in (params, moved)]
    assert entropies[1].sum() > entropies[0].sum()


def test_what_stands_behind_an_end_may_be_anything(policy):
    params, batch = table(0), batch_of(1)
    dead = batch.trajectory.mask == 0
    garbled = batch._replace(advantage=np.where(dead, np.nan, batch.advantage))
    seen = np.where(dead, 0, batch.trajectory.obs)
    garbled = garbled._replace(trajectory=garbled.trajectory._replace(obs=seen))
    expected, _ = run(natural(losses.policy_gradient), policy, params, batch)
    got, _ = run(natural(losses.policy_gradient), policy, params, garbled)
    np.testing.assert_allclose(got["preference"], expected["preference"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("critic_loss", [None, losses.value_error], ids=["actor", "actor and critic"])
def test_it_conforms(critic_loss):
    testing.check_estimator(natural(losses.policy_gradient, critic_loss))


def test_a_fused_kernel_is_refused_in_one_line():
    env = envs.make("CartPole-v1")
    policy = policies.make(env, Config(hidden=(4,), kernel="fused"))
    batch = batch_of(0, obs=np.zeros((T, B, 4), np.float32))
    with pytest.raises(ValueError, match="a fused kernel, as any custom_vjp, has none; use kernel='xla'"):
        jax.eval_shape(lambda key: natural(losses.policy_gradient)(key, policy, policy.init(key), batch), KEY)


def test_a_distribution_without_a_divergence_is_named(policy):
    class Plain(tuple):
        pass

    jax.tree_util.register_pytree_node(Plain, lambda x: (tuple(x), None), lambda _, x: Plain(x))
    params, batch = table(0), batch_of(1)

    def evaluate(params, trajectory):
        now = policy.evaluate(params, trajectory)
        return now._replace(dist=Plain([now.dist.logits]))

    with pytest.raises(TypeError, match=r"needs a distribution with kl\(other\); Plain has none"):
        fisher_vector_product(policy._replace(evaluate=evaluate), params, batch.trajectory, params)


def test_a_policy_of_ones_own_without_a_forward_derivative_is_refused_in_one_line(policy):
    @jax.custom_vjp
    def through(x):
        return x

    through.defvjp(lambda x: (x, None), lambda _, g: (g,))
    bent = policy._replace(
        evaluate=lambda params, trajectory: policy.evaluate(jax.tree.map(through, params), trajectory)
    )
    with pytest.raises(ValueError, match="^the natural gradient needs a forward derivative of the policy"):
        run(natural(losses.policy_gradient), bent, policy.init(KEY), batch_of(0))
