"""One step of the policy in a trust region, planted cases of the line search, and learners that use it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import LAPACK, custom_calls
from gymnax.environments import spaces

from pgjax import envs, losses, policies, testing
from pgjax.advantages import gae
from pgjax.algorithms import trust_region
from pgjax.algorithms.on_policy import make_learner
from pgjax.algorithms.trust_region import depends
from pgjax.config import Config
from pgjax.envs.tabular import TabularMDP
from pgjax.estimators import natural, surrogate, trust_region_step
from pgjax.hyperparameters import bind, default_hypers, hyperparameters
from pgjax.optimizers import adam
from pgjax.training import failures, vectorised
from pgjax.types import Algorithm, Batch, Env, Step, Trajectory

KEY = jax.random.key(0)
N, STATES, ACTIONS = 24, 5, 3
POLICY = policies.make(envs.make("TabularMDP-pgjax"))


def table(seed):
    g = np.random.default_rng(seed)
    return {"preference": jnp.asarray(g.normal(size=(STATES, ACTIONS)), jnp.float32), "value": jnp.zeros(STATES)}


def batch_of(params, seed=0, dead=6):
    """Rows [N], of which the last `dead` don't count, of experience of the policy itself."""
    g = np.random.default_rng(seed)
    obs, action = g.integers(0, STATES, size=N, dtype=np.int32), g.integers(0, ACTIONS, size=N, dtype=np.int32)
    log_prob = np.asarray(jax.nn.log_softmax(params["preference"]))[obs, action]
    no, zeros = np.zeros(N, bool), np.zeros(N, np.float32)
    mask = (np.arange(N) < N - dead).astype(np.float32)
    trajectory = Trajectory(obs, action, log_prob, zeros, no, no, obs, mask, zeros.astype(np.int32), ())
    return Batch(trajectory, *g.normal(size=(3, N)).astype(np.float32))


@functools.cache
def compiled(loss, **static):
    estimator = bind(trust_region_step(loss), **static)
    return jax.jit(lambda params, batch, hypers: estimator(KEY, POLICY, params, batch, **hypers))


def run(params, batch, loss=losses.importance_weighted, normalize_advantage=False, line_search=10, **hypers):
    step = compiled(loss, normalize_advantage=normalize_advantage, line_search=line_search, cg_steps=20)
    gradient, metrics = step(params, batch, hypers)
    moved = jax.tree.map(jnp.subtract, params, gradient)
    return moved, {name: float(x) for name, x in metrics.items()}


def exact(old, new, batch):
    """The mean KL(old || new), and by how much -mean(rho A) fell, in float64 numpy."""
    p, q = (np.float64(jax.nn.log_softmax(np.float64(x["preference"]))) for x in (old, new))
    counts = np.asarray(batch.trajectory.mask) > 0
    obs, action = batch.trajectory.obs[counts], batch.trajectory.action[counts]
    kl = np.mean(np.sum(np.exp(p) * (p - q), axis=1)[obs])
    return kl, np.mean((np.exp(q - p)[obs, action] - 1) * batch.advantage[counts])


@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.3])
def test_a_step_stays_within_the_region_and_says_truly_how_far_it_went(max_kl):
    params = table(0)
    batch = batch_of(params)
    moved, metrics = run(params, batch, max_kl=max_kl)
    kl, improvement = exact(params, moved, batch)
    assert metrics["accepted"] == 1 and 0 < kl <= max_kl * 1.001 and improvement > 0
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-2, atol=1e-7)
    np.testing.assert_allclose(metrics["improvement"], improvement, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(moved["value"], params["value"])


def test_with_little_damping_and_a_small_region_the_exact_kl_is_that_of_the_quadratic_model():
    params = table(0)
    batch = batch_of(params)
    for max_kl in (1e-4, 1e-3):
        moved, _ = run(params, batch, max_kl=max_kl, damping=1e-6, line_search=0)
        np.testing.assert_allclose(exact(params, moved, batch)[0], max_kl, rtol=0.05)


def test_a_whole_step_is_the_natural_gradient_with_its_length_normalised():
    params = table(0)
    batch = batch_of(params)
    moved, metrics = run(params, batch, line_search=0, damping=0.05, max_kl=0.02)
    # Where the ratio is 1, the loss has the gradient of REINFORCE's.
    estimator = bind(natural(losses.policy_gradient), damping=0.05, cg_steps=20)
    x, told = jax.jit(lambda p: estimator(KEY, POLICY, p, batch))(params)
    length = np.sqrt(0.02 / told["quadratic_kl"])
    np.testing.assert_allclose(params["preference"] - moved["preference"], length * x["preference"], rtol=1e-3)
    assert metrics["accepted"] == 1 and metrics["backtracks"] == 0


@pytest.mark.parametrize("cg_steps", [10, 15, 40])
def test_undamped_a_step_is_that_of_the_pseudo_inverse_however_many_iterations(cg_steps):
    """The Fisher matrix of a softmax table is singular: a constant of each state moves no probability."""
    params = table(3)
    batch = batch_of(params, seed=4)
    obs = batch.trajectory.obs[batch.trajectory.mask > 0]
    pi = np.exp(np.float64(params["preference"]))
    pi /= pi.sum(axis=1, keepdims=True)
    f = np.zeros((STATES, ACTIONS) * 2)
    for s in range(STATES):
        f[s, :, s] = np.mean(obs == s) * (np.diag(pi[s]) - np.outer(pi[s], pi[s]))
    b = np.zeros((STATES, ACTIONS))
    for i in np.nonzero(batch.trajectory.mask)[0]:
        s, a = batch.trajectory.obs[i], batch.trajectory.action[i]
        b[s] -= batch.advantage[i] * (np.eye(ACTIONS)[a] - pi[s]) / len(obs)
    x = np.linalg.pinv(f.reshape(STATES * ACTIONS, -1), rcond=1e-10) @ b.reshape(-1)
    step = x * np.sqrt(2 * 1e-3 / (x @ b.reshape(-1)))
    estimator = bind(trust_region_step(), line_search=0, max_kl=1e-3, damping=0.0, cg_steps=cg_steps)
    got, _ = jax.jit(lambda params: estimator(KEY, POLICY, params, batch))(params)
    np.testing.assert_allclose(np.reshape(got["preference"], -1), step, rtol=1e-2, atol=1e-3 * np.abs(step).max())


def test_a_step_does_not_depend_on_the_scale_of_the_advantage():
    params = table(0)
    batch = batch_of(params)
    moved, _ = run(params, batch)
    for scale in (1e-6, 1e4):
        other, _ = run(params, batch._replace(advantage=scale * batch.advantage))
        np.testing.assert_allclose(other["preference"], moved["preference"], rtol=1e-4, atol=1e-5)


def test_a_step_too_long_is_shortened_to_the_first_that_fits():
    """The quadratic model of the KL is far off over such a region; lengths are tried from the longest."""
    params = table(2)
    batch = batch_of(params, seed=1)
    whole, _ = run(params, batch, max_kl=0.5, damping=1e-3, line_search=0)
    kl, _ = exact(params, whole, batch)
    assert kl > 0.5
    moved, metrics = run(params, batch, max_kl=0.5, damping=1e-3, backtrack=0.7)
    step = np.asarray(params["preference"] - whole["preference"])
    fits = []
    for k in range(10):
        candidate = params | {"preference": params["preference"] - 0.7**k * step}
        kl, improvement = exact(params, candidate, batch)
        fits.append(kl <= 0.5 and improvement > 0)
    first = fits.index(True)
    assert first > 0 and metrics["backtracks"] == first and metrics["accepted"] == 1
    np.testing.assert_allclose(params["preference"] - moved["preference"], 0.7**first * step, rtol=1e-4, atol=1e-6)


def test_where_no_loop_is_left_early_the_same_step_is_made(monkeypatch):
    params = table(2)
    batch = batch_of(params, seed=1)
    hypers = dict(max_kl=0.5, damping=1e-3, backtrack=0.7)
    moved, metrics = run(params, batch, **hypers)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    estimator = bind(trust_region_step(), normalize_advantage=False, cg_steps=20)
    gradient, others = jax.jit(lambda params: estimator(KEY, POLICY, params, batch, **hypers))(params)
    np.testing.assert_allclose(params["preference"] - gradient["preference"], moved["preference"], rtol=1e-4, atol=1e-5)
    assert metrics["backtracks"] == float(others["backtracks"]) > 0


@losses.by_step
def misleading(now, batch):
    """A loss whose gradient points the wrong way."""
    per_step, _ = losses.importance_weighted(now, batch)
    return 2 * jax.lax.stop_gradient(per_step) - per_step, {}


@pytest.mark.parametrize("loss", [losses.importance_weighted, misleading], ids=["no advantage", "no way down"])
def test_where_nothing_improves_the_parameters_stay(loss):
    params = table(0)
    batch = batch_of(params)
    if loss is not misleading:
        batch = batch._replace(advantage=np.zeros(N, np.float32))
    moved, metrics = run(params, batch, loss)
    jax.tree.map(np.testing.assert_array_equal, moved, params)
    assert (metrics["accepted"], metrics["backtracks"], metrics["kl"], metrics["improvement"]) == (0, 10, 0, 0)


def test_advantages_that_are_all_alike_or_not_counted_give_no_step_and_no_nan():
    params = table(0)
    batch = batch_of(params)
    for other, line_search in ((np.ones(N, np.float32), 10), (np.ones(N, np.float32), 0)):
        moved, metrics = run(params, batch._replace(advantage=other), normalize_advantage=True, line_search=line_search)
        np.testing.assert_allclose(moved["preference"], params["preference"], atol=1e-6)
        assert all(np.isfinite(x) for x in metrics.values())
    moved, metrics = run(params, batch_of(params, dead=N))
    jax.tree.map(np.testing.assert_array_equal, moved, params)
    assert all(np.isfinite(x) for x in metrics.values())


@pytest.mark.parametrize("line_search", [0, 10])
def test_what_is_no_number_is_not_hidden_by_the_line_search(line_search):
    params = table(0)
    batch = batch_of(params)
    for wrong in (np.nan, np.inf):
        advantage = np.where(np.arange(N) == 3, np.float32(wrong), batch.advantage)
        moved, _ = run(params, batch._replace(advantage=advantage), line_search=line_search)
        assert not failures.all_finite(moved)
    # Behind an end it may stand.
    behind = np.where(np.arange(N) >= N - 6, np.float32(np.nan), batch.advantage)
    moved, _ = run(params, batch._replace(advantage=behind), line_search=line_search)
    expected, _ = run(params, batch, line_search=line_search)
    np.testing.assert_allclose(moved["preference"], expected["preference"], rtol=1e-4, atol=1e-6)


def test_lanes_that_shorten_their_steps_differently_equal_a_loop():
    params = [table(0), table(2), table(1)]
    batches = [batch_of(params[0]), batch_of(params[1], seed=1), batch_of(params[2], seed=4)]
    batches[2] = batches[2]._replace(advantage=np.zeros(N, np.float32))
    hypers = [dict(max_kl=m, damping=1e-3) for m in (1e-3, 0.5, 0.1)]
    apart = [run(*each, **own) for *each, own in zip(params, batches, hypers, strict=True)]
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)  # noqa: E731
    step = compiled(losses.importance_weighted, normalize_advantage=False, line_search=10, cg_steps=20)
    gradient, metrics = jax.jit(jax.vmap(step))(stack(params), stack(batches), stack(hypers))
    assert len(set(metrics["backtracks"].tolist())) == 3
    for i, (moved, own) in enumerate(apart):
        got = params[i]["preference"] - gradient["preference"][i]
        np.testing.assert_allclose(got, moved["preference"], rtol=1e-4, atol=1e-5)
        for name in ("accepted", "backtracks"):
            assert float(metrics[name][i]) == own[name]


def test_its_loss_is_that_of_ppo_without_clipping():
    params = table(0)
    batch = batch_of(table(1))
    now = POLICY.evaluate(params, batch.trajectory)
    ours, metrics = losses.importance_weighted(now, batch)
    clipped, others = losses.ppo_clip(now, batch, clip_eps=np.inf)
    np.testing.assert_allclose(ours, clipped, rtol=1e-6)
    np.testing.assert_array_equal(metrics["kl"], others["kl"])


def test_its_hyperparameters_are_those_of_the_region_and_of_the_loss():
    assert hyperparameters(trust_region_step(losses.ppo_clip)) == {
        "max_kl": 0.01,
        "damping": 0.1,
        "cg_steps": 10,
        "line_search": 10,
        "backtrack": 0.8,
        "normalize_advantage": False,
        "entropy_coef": 0.0,
        "clip_eps": 0.2,
        "clip_high": 0.0,
        "kl_coef": 0.0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"line_search": 0}], ids=["trpo", "npg"])
def test_the_estimator_conforms(options):
    testing.check_estimator(trust_region_step(), **options)


@pytest.mark.parametrize("without", [False, True], ids=["with jax's own", "without it"])
def test_what_a_function_may_depend_on_is_read_off_its_trace(monkeypatch, without):
    if without:
        monkeypatch.setattr(trust_region, "dce_jaxpr", None)
    params = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(()), "d": jnp.ones(3)}

    def function(p):
        unused = jnp.sin(p["b"])
        total, _ = jax.lax.scan(lambda s, x: (s + x * p["c"], None), jnp.zeros(()), p["a"])
        return {"total": total, "none": jnp.zeros(3), "left": 0 * unused.size}

    assert depends(function, params) == {"a": True, "b": False, "c": True, "d": False}
    assert depends(lambda p: p["a"], params) == {"a": True, "b": False, "c": False, "d": False}


ALGORITHM = Algorithm(gae, trust_region_step(), bind(adam, learning_rate=1e-2), trust_region.trust_region)
SHARING = {
    "table": (spaces.Discrete(4), {}, {"value"}),
    "mlp": (spaces.Box(-1.0, 1.0, (3,)), {"hidden": (4,)}, {"critic_torso", "critic_head"}),
    "cnn": (spaces.Box(0.0, 1.0, (3, 3, 1)), {"hidden": (4,)}, {"critic_torso", "critic_head"}),
    "gru": (spaces.Box(-1.0, 1.0, (3,)), {"hidden": (4,), "network": "gru"}, {"critic_head"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARING)
def test_fitting_the_critic_does_not_move_the_policy(name):
    space, options, critic = SHARING[name]

    def reset(key, params):
        if not hasattr(space, "low"):
            return jnp.zeros(()), jax.random.randint(key, (), 0, 4)
        return jnp.zeros(()), jax.random.uniform(key, space.shape)

    def step(key, params, state, action):
        obs = reset(key, params)[1]
        return state, Step(obs, 1.0 + action, jax.random.bernoulli(key, 0.3), jnp.bool_(False))

    env = Env((), reset, step, space, spaces.Discrete(2), 8)
    config = Config(num_envs=4, num_steps=4, num_epochs=3, num_minibatches=2, **options)
    policy = policies.make(env, config)
    # A region so small that the policy stands still, as far as can be told.
    algorithm = ALGORITHM._replace(estimator=bind(ALGORITHM.estimator, max_kl=0.0))
    made = make_learner(env, policy, algorithm, config)
    hypers = default_hypers(algorithm)

    @jax.jit
    def both(key):
        before = made.init(key, hypers)
        return before.params, *made.step(key, before, hypers)

    before, after, metrics = both(KEY)
    moved = {name: not jax.tree.all(jax.tree.map(np.array_equal, before[name], after.params[name])) for name in before}
    assert {name for name in moved if moved[name]} == critic
    assert {"loss", "value_loss", "entropy", "grad_norm", "kl", "accepted", "improvement"} <= set(metrics)


@pytest.mark.parametrize(
    ("change", "estimator", "message"),
    [
        ({"shared": True}, ALGORITHM.estimator, "a trust region needs shared=False"),
        ({"update": "step"}, bind(ALGORITHM.estimator, normalize_advantage=False), "one step for the whole batch"),
        ({}, surrogate(losses.policy_gradient), "policy_gradient has no bound of the KL, max_kl"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_traced(change, estimator, message):
    env = envs.make("CartPole-v1")
    config = Config(num_envs=2, num_steps=4, hidden=(4,), **change)
    with pytest.raises(ValueError, match=message):
        make_learner(env, policies.make(env, config), ALGORITHM._replace(estimator=estimator), config)


@pytest.fixture(scope="module")
def maze():
    return envs.from_gymnax(TabularMDP(horizon=4))


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["value", "action_value"])
def test_the_learner_conforms(maze, critic):
    config = Config(num_envs=4, num_steps=4, num_epochs=2, num_minibatches=2, critic=critic)
    testing.check_learner(make_learner(maze, policies.make(maze, config), ALGORITHM, config), default_hypers(ALGORITHM))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_no_program_over_lanes_holds_a_lapack_call(network):
    env = envs.make("CartPole-v1")
    config = Config(num_envs=2, num_steps=2, hidden=(4,), network=network)
    made = make_learner(env, policies.make(env, config), ALGORITHM, config)
    keys, hypers = vectorised.lanes([default_hypers(ALGORITHM)], [0, 1])

    def program(keys, hypers):
        return vectorised.segment(keys, made, vectorised.init(keys, made, hypers), hypers, 1)

    assert not [name for name in custom_calls(jax.jit(program).lower(keys, hypers)) if LAPACK.search(name)]


@pytest.mark.slow
@pytest.mark.parametrize("line_search", [10, 0], ids=["trpo", "npg"])
def test_it_learns_the_probe_of_a_policy(line_search):
    env = envs.make("PolicyProbe-pgjax")
    config = Config(num_envs=16, num_steps=4, num_epochs=2, hidden=(8,))
    algorithm = ALGORITHM._replace(estimator=bind(ALGORITHM.estimator, line_search=line_search, max_kl=0.05))
    policy = policies.make(env, config)
    made, hypers = make_learner(env, policy, algorithm, config), default_hypers(algorithm)
    keys, hypers = vectorised.lanes([hypers], [0, 1])
    states, metrics = jax.jit(lambda k, h: vectorised.segment(k, made, vectorised.init(k, made, h), h, 25))(
        keys, hypers
    )
    obs = jnp.array([[-1.0], [1.0]])
    for i in range(2):
        dist, _ = policy.act(jax.tree.map(lambda x: x[i], states.learner.params), (), obs)  # noqa: B023
        assert np.all(np.exp(dist.log_probs())[[0, 1], [0, 1]] > 0.9)
    if line_search:
        assert np.all(metrics["kl"] <= 0.05)


def test_a_critic_inside_one_compiled_call_is_still_told_apart():
    """A forward pass that is one jitted or rematerialised equation says nothing as a whole."""

    def both(p):
        return p["actor"] * 2.0, p["critic"] * 3.0

    params = {"actor": jnp.ones(2), "critic": jnp.ones(2)}
    for function in (jax.jit(both), jax.checkpoint(both)):
        assert depends(lambda p: function(p)[0], params) == {"actor": True, "critic": False}  # noqa: B023
