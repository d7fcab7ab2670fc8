"""Deep Q-learning against a float64 loop written from the paper, and rlax; and whether it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, hyperparameters, losses, policies, rollout, testing
from pgjax.advantages import td
from pgjax.algorithms import dqn
from pgjax.config import Config
from pgjax.hyperparameters import bind
from pgjax.optimizers import adam, sgd
from pgjax.policies.action_values import Greedy
from pgjax.training import loop
from pgjax.types import Algorithm, Batch, Trajectory

TABLE = envs.make("TabularMDP-pgjax", horizon=3, terminal=np.arange(5) == 4)
CARTPOLE = envs.make("CartPole-v1")
TINY = Config(num_envs=2, num_steps=3, hidden=(4,))
OPTIONS = {"batch_size": 4, "buffer_size": 50, "warmup": 0, "gradient_steps": 2}


def make(env, config=TINY, optimizer=adam, swept=(), **options):
    algorithm = Algorithm(td, bind(dqn.dqn, **{**OPTIONS, **options}), optimizer)
    return dqn.make_learner(env, None, algorithm, config), hyperparameters.default_hypers(algorithm, **dict(swept))


@pytest.fixture(scope="module")
def case():
    """A policy of Q, two sets of parameters, and rows [N] of every kind of ending."""
    policy = policies.from_nnx(lambda rngs: Greedy(CARTPOLE, TINY, rngs=rngs), constants=False)
    params, targets = (policy.init(jax.random.key(i)) for i in range(2))
    g, n = np.random.default_rng(0), 16
    rows = Trajectory(
        obs=jnp.asarray(g.normal(size=(n, 4)), jnp.float32),
        action=jnp.asarray(g.integers(0, 2, n)),
        log_prob=jnp.zeros(n),
        reward=jnp.asarray(3 * g.normal(size=n), jnp.float32),
        terminated=jnp.asarray(np.arange(n) % 4 == 0),
        truncated=jnp.asarray(np.arange(n) % 4 == 1),
        next_obs=jnp.asarray(g.normal(size=(n, 4)), jnp.float32),
        mask=jnp.ones(n),
        time=jnp.zeros(n, jnp.int32),
        memory=(),
    )
    return policy, params, targets, rows


@pytest.fixture(scope="module")
def rlax():
    return pytest.importorskip("rlax", exc_type=ImportError)


@pytest.mark.parametrize("double", [False, True])
def test_rlax_agrees(rlax, case, double):
    """Its temporal difference is minus our error; a truncated row has the discount of any other."""
    policy, params, targets, rows = case
    q = lambda p, obs: policy.evaluate(p, rows._replace(obs=obs)).action_value  # noqa: E731
    discount = jnp.where(rows.terminated, 0.0, 0.9)
    now, ahead = q(params, rows.obs), q(targets, rows.next_obs)
    if double:
        chooser = q(params, rows.next_obs)
        theirs = jax.vmap(rlax.double_q_learning)(now, rows.action, rows.reward, discount, ahead, chooser)
        assert (jnp.argmax(chooser, -1) != jnp.argmax(ahead, -1)).any()
    else:
        theirs = jax.vmap(rlax.q_learning)(now, rows.action, rows.reward, discount, ahead)
    said = dqn.evaluate(policy, params, targets, rows, double)
    advantage, target = td(rows, said, discount=0.9)
    np.testing.assert_allclose(advantage, theirs, rtol=1e-4, atol=1e-5)
    for delta in (1.0, jnp.inf):
        loss, _ = losses.q_error(said, Batch(rows, advantage, target, said.value), huber_delta=delta)
        their_loss = rlax.huber_loss(theirs, delta) if delta == 1 else rlax.l2_loss(theirs)
        np.testing.assert_allclose(loss, their_loss, rtol=1e-4, atol=1e-5)
    assert (jnp.abs(theirs) > 1).any() and (jnp.abs(theirs) < 1).any()


def test_the_slope_of_the_loss_is_the_clipped_error(case):
    """Mnih et al. 2015, Methods."""
    policy, params, _, rows = case
    now = policy.evaluate(params, rows)
    error = jnp.linspace(-3, 3, 16)
    target = jnp.take_along_axis(now.action_value, rows.action[:, None], 1)[:, 0] - error
    batch = Batch(rows, target, target, target)
    slope = jax.grad(lambda q: losses.q_error(now._replace(action_value=q), batch, huber_delta=1.0)[0].sum())(
        now.action_value
    )
    np.testing.assert_allclose(slope.sum(-1), np.clip(error, -1, 1), atol=1e-5)
    np.testing.assert_array_equal(jnp.take_along_axis(slope, 1 - rows.action[:, None], 1), 0)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("tau", "period"), [(1.0, 5), (0.2, 1)])
def test_on_a_buffer_of_one_row_learning_is_the_loop_of_the_paper(double, tau, period):
    """Mnih et al. 2015, alg. 1, with a table and plain gradient descent: step by step, all ends included."""
    rate, gamma = 0.4, 0.9
    swept = {"advantage": {"discount": gamma}, "optimizer": {"learning_rate": rate}, "estimator": {"tau": tau}}
    swept["estimator"]["huber_delta"] = 1.0
    options = {"batch_size": 1, "buffer_size": 1, "gradient_steps": 1, "target_period": period, "double": double}
    made, hypers = make(TABLE, Config(num_envs=1, num_steps=1), sgd, swept, **options)
    step = jax.jit(made.step)
    state = jax.jit(made.init)(jax.random.key(0), hypers)
    read = lambda p: [np.array(p["q"]["output"][name], np.float64) for name in ("kernel", "bias")]  # noqa: E731
    (kernel, bias), kinds = read(state.params), set()
    old = [kernel.copy(), bias.copy()]
    for u in range(15):
        state, metrics = step(jax.random.key(u), state, hypers)
        row = jax.tree.map(lambda x: np.asarray(x)[0, 0], state.buffer.value.experience)
        s, a, s2 = row.obs, row.action, row.next_obs
        ahead = old[0][s2] + old[1]
        best = np.argmax(kernel[s2] + bias) if double else np.argmax(ahead)
        y = row.reward + (0.0 if row.terminated else gamma * ahead[best])
        slope = np.clip(kernel[s, a] + bias[a] - y, -1, 1)
        kernel[s, a] -= rate * slope
        bias[a] -= rate * slope
        if (u + 1) % period == 0:
            old = [tau * new + (1 - tau) * x for new, x in zip((kernel, bias), old, strict=True)]
        for got, expected in zip((*read(state.params), *read(state.targets)), (kernel, bias, *old), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(metrics["grad_norm"], np.sqrt(2) * abs(slope), rtol=1e-3, atol=1e-5)
        kinds.add((bool(row.terminated), bool(row.truncated)))
    assert kinds == {(True, False), (False, True), (False, False)}, "the stream had not every kind of ending"


def test_epsilon_falls_linearly_by_environment_steps():
    swept = {"estimator": {"epsilon_start": 0.8, "epsilon_end": 0.2, "epsilon_steps": 24.0}}
    made, hypers = make(TABLE, swept=swept, warmup=12)
    state, step, seen = jax.jit(made.init)(jax.random.key(0), hypers), jax.jit(made.step), []
    for u in range(6):
        state, metrics = step(jax.random.key(u), state, hypers)
        seen.append(float(metrics["epsilon"]))
    np.testing.assert_allclose(seen, [1, 1, 0.5, 0.35, 0.2, 0.2], rtol=1e-5)


def test_what_is_evaluated_is_greedy():
    made, hypers = make(CARTPOLE)
    state = made.init(jax.random.key(0), hypers)
    policy, params = made.policy(state)
    obs = jax.random.normal(jax.random.key(1), (50, 4))
    dist, _ = policy.act(params, (), obs)
    q = made.behaviour(state)[0].evaluate(params, Trajectory(*[obs] * 10)._replace(action=jnp.zeros(50, int)))
    np.testing.assert_array_equal(dist.sample(jax.random.key(2)), jnp.argmax(q.action_value, -1))
    np.testing.assert_array_equal(dist.mode(), jnp.argmax(q.action_value, -1))
    np.testing.assert_allclose(q.value, jnp.max(q.action_value, -1), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("env", [TABLE, CARTPOLE], ids=["table", "network"])
def test_it_conforms(env):
    made, hypers = make(env)
    testing.check_learner(made, hypers)
    policy, _ = made.policy(jax.eval_shape(lambda: made.init(jax.random.key(0), hypers)))
    testing.check_policy(policy, env, num_steps=6)


def test_its_loss_and_its_gradient_conform():
    testing.check_loss(losses.q_error)
    testing.check_estimator(dqn.dqn)


def test_images_are_seen_by_a_convolution():
    env = envs.make("Breakout-MinAtar")
    made, hypers = make(env)
    shapes = jax.eval_shape(lambda: made.init(jax.random.key(0), hypers))
    assert "convolutions" in shapes.params["q"]["trunk"]["eye"]
    jax.eval_shape(lambda s: made.step(jax.random.key(0), s, hypers), shapes)


def test_a_run_cut_in_two_goes_on_as_if_it_had_not_been():
    made, hypers = make(TABLE, warmup=7, target_period=3)
    key = jax.random.key(5)
    run = jax.jit(lambda s, n: loop.train(key, made, s, hypers, n), static_argnums=1)
    start = jax.jit(lambda: loop.init(key, made, hypers))()
    whole, _ = run(start, 4)
    halves, _ = run(run(start, 2)[0], 2)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(halves), jax.tree.leaves(whole))


@pytest.mark.slow
def test_it_balances_the_pole():
    config = Config(num_envs=4, num_steps=4, hidden=(64, 64), activation="relu")
    plain = bind(adam, learning_rate=1e-3, max_grad_norm=10.0)
    made, hypers = make(CARTPOLE, config, plain, batch_size=64, buffer_size=50_000, warmup=1000, gradient_steps=8)
    key = jax.random.key(0)
    state = jax.jit(lambda: loop.init(key, made, hypers))()
    state, _ = jax.jit(lambda s: loop.train(key, made, s, hypers, 1500), donate_argnums=0)(state)
    policy, params = made.policy(state.learner)
    found = jax.jit(lambda p: rollout.evaluate(key, CARTPOLE, policy, p, 16, greedy=True))(params)
    assert float(found.episode_return.mean()) > 100  # at random 22
