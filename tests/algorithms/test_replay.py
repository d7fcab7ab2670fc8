"""What goes into the buffer comes out, each lane's its own; a step's cost doesn't grow with it."""

import re

import flashbax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import algorithms, envs, losses, policies, rollout
from pgjax.advantages import gae, monte_carlo, td
from pgjax.algorithms import dqn, sac, td3
from pgjax.algorithms.replay_options import replayed
from pgjax.config import Config
from pgjax.declarations import in_order, whole_episodes
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, default_hypers, hyperparameters
from pgjax.losses import action_value_error
from pgjax.optimizers import adam
from pgjax.policies import action_values, distributions
from pgjax.policies.action_values import Critic, exploring_actor
from pgjax.training import loop
from pgjax.types import Algorithm, Policy

SMALL = {"batch_size": 4, "buffer_size": 20, "warmup": 12, "gradient_steps": 2}
CONFIG = Config(num_envs=2, num_steps=3, hidden=(4,))
TABLE = envs.make("TabularMDP-pgjax", horizon=5)
PENDULUM = envs.make("Pendulum-v1")


def q_learner(env=TABLE, config=CONFIG, **options):
    algorithm = Algorithm(td, bind(dqn.dqn, **{**SMALL, **options}), adam)
    return dqn.make_learner(env, None, algorithm, config), default_hypers(algorithm)


def sac_learner(env=PENDULUM, config=CONFIG, **options):
    algorithm = Algorithm(td, bind(sac.sac, **{**SMALL, **options}), adam)
    return sac.make_learner(env, None, algorithm, config), default_hypers(algorithm)


def numbered(first, count):
    """`count` rows that tell their number."""
    return {"n": jnp.arange(first, first + count), "x": jnp.arange(first, first + count) / 2}


@pytest.fixture(scope="module")
def buffer():
    made = flashbax.make_item_buffer(10, 1, 10, add_batches=True)

    def sample(state, key):
        with jax.numpy_rank_promotion("allow"):
            return made.sample(state, key).experience

    return made, jax.jit(made.add), jax.jit(sample)


def test_what_goes_in_comes_out_and_nothing_else(buffer):
    made, add, sample = buffer
    state = made.init({"n": jnp.int32(0), "x": jnp.float32(0)})
    for i in range(7):
        state = add(state, numbered(1 + 4 * i, 4))
        drawn = sample(state, jax.random.key(i))
        newest = 4 + 4 * i
        # 10 rows are kept, the oldest are written over; row 0 of an unfilled place never comes.
        assert set(np.asarray(drawn["n"]).tolist()) <= set(range(max(1, newest - 9), newest + 1))
        np.testing.assert_array_equal(drawn["x"], drawn["n"] / 2)
    seen = {int(n) for i in range(40) for n in sample(state, jax.random.key(100 + i))["n"]}
    assert seen == set(range(19, 29))


def test_sampling_is_uniform(buffer):
    made, add, sample = buffer
    state = made.init({"n": jnp.int32(0), "x": jnp.float32(0)})
    for i in range(3):
        state = add(state, numbered(4 * i, 4))
    drawn = jax.vmap(sample, (None, 0))(state, jax.random.split(jax.random.key(0), 3200))["n"]
    count = np.bincount(np.asarray(drawn).ravel() - 2, minlength=10)
    assert (abs(count - 3200) < 5 * np.sqrt(3200)).all()


def test_a_lane_has_its_own_buffer_and_key(buffer):
    made, add, sample = buffer
    start = made.init({"n": jnp.int32(0), "x": jnp.float32(0)})
    states = jax.tree.map(lambda x: jnp.stack([x, x]), start)
    rows = jax.tree.map(lambda *x: jnp.stack(x), numbered(0, 6), numbered(1000, 6))
    states = jax.vmap(add)(states, rows)
    keys = jax.random.split(jax.random.key(0), 2)
    drawn = jax.vmap(sample)(states, keys)["n"]
    assert drawn[0].max() < 6 and drawn[1].min() >= 1000
    for i in range(2):
        alone = sample(jax.tree.map(lambda x: x[i], states), keys[i])["n"]  # noqa: B023
        np.testing.assert_array_equal(drawn[i], alone)
    assert not np.array_equal(drawn[0], drawn[1] - 1000)


@pytest.mark.parametrize("make", [q_learner, sac_learner])
def test_the_buffer_holds_the_steps_that_were_made(make):
    made, hypers = make()
    env = TABLE if make is q_learner else PENDULUM
    state, seen = jax.jit(made.init)(jax.random.key(0), hypers), []

    @jax.jit
    def step(key, state):
        acting, params = made.behaviour(state)
        _, trajectory = rollout.unroll(jax.random.split(key)[0], env, acting, params, state.rollout, 3)
        return made.step(key, state, hypers), trajectory

    for u in range(5):
        (state, metrics), trajectory = step(jax.random.key(u), state)
        seen.append(jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), trajectory._replace(memory=())))
    rows = jax.tree.map(lambda *x: np.concatenate(x), *seen)
    kept = state.buffer.value
    assert int(kept.current_index) == 10 and bool(kept.is_full)
    order = (np.arange(20) + 10) % 20  # the oldest first
    same = lambda x, y: np.testing.assert_allclose(x[0][order], y[10:], rtol=1e-5, atol=1e-5)  # noqa: E731
    jax.tree.map(same, kept.experience, rows)
    assert int(state.env_steps) == 30 and float(metrics["env_steps"]) == 6


@pytest.mark.parametrize("make", [q_learner, sac_learner])
def test_until_it_is_warm_actions_are_uniform_and_nothing_is_learned(make):
    made, hypers = make(config=Config(num_envs=2, num_steps=3, hidden=(4,)))
    state = start = jax.jit(made.init)(jax.random.key(0), hypers)
    step = jax.jit(made.step)
    for u, (learned, share) in enumerate([(0, 1.0), (2, 1.0), (2, None)]):
        before = state
        state, metrics = step(jax.random.key(u), state, hypers)
        same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), made.policy(before)[1], made.policy(state)[1])
        assert all(jax.tree.leaves(same)) == (learned == 0)
        assert float(metrics["gradient_steps"]) == learned and (share is None or float(metrics["epsilon"]) == share)
    assert int(state.gradient_steps) == 4 and float(start.explore) == 1 and float(state.explore) < 1


def test_exploring_draws_a_share_of_uniform_actions():
    policy = Policy(lambda key: (), lambda n: (), lambda p, m, obs: (Critical, m), None)
    keys = jax.random.split(jax.random.key(0), 40_000)
    for share in (0.0, 0.3, 1.0):
        acting, params = exploring_actor(PENDULUM, policy, (), jnp.float32(share))
        dist, _ = acting.act(params, (), jnp.zeros((1, 3)))
        a = np.asarray(jax.vmap(lambda k: dist.sample(k)[0, 0])(keys))  # noqa: B023
        inside = 0.5 * 0.1 / 2 * 2  # of the uniform: |a - 1| < 0.1 within [-2, 2]
        expected = (1 - share) + share * inside
        assert abs(np.mean(np.abs(a - 1) < 0.1) - expected) < 5 * np.sqrt(0.25 / 40_000) + 1e-6
        grid = jnp.linspace(-1.999, 1.999, 8001)
        p = np.exp(np.float64(jax.vmap(lambda x: dist.log_prob(x[None, None])[0])(grid)))  # noqa: B023
        np.testing.assert_allclose(np.trapezoid(p, grid), 1, atol=2e-3)


Critical = action_values.SquashedGaussian(  # all its mass near 1
    jnp.full((1, 1), np.arctanh(0.5), jnp.float32),
    jnp.full((1, 1), -4.5),
    jnp.full((1, 1), -2.0),
    jnp.full((1, 1), 2.0),
)


def test_exploring_mixes_finitely_many_actions():
    logits = jnp.array([[0.0, -jnp.inf, 1.0]])
    policy = Policy(lambda key: (), lambda n: (), lambda p, m, obs: (distributions.Categorical(logits), m), None)
    env = envs.make("Acrobot-v1")
    for share in (0.0, 0.3, 1.0):
        acting, params = exploring_actor(env, policy, (), jnp.float32(share))
        dist, _ = acting.act(params, (), jnp.zeros((1, 6)))
        p = np.exp([float(dist.log_prob(jnp.array([a]))[0]) for a in range(3)])
        pi = np.array([1, 0, np.e]) / (1 + np.e)
        np.testing.assert_allclose(p, (1 - share) * pi + share / 3, atol=1e-6)
        drawn = jax.vmap(lambda k: dist.sample(k)[0])(jax.random.split(jax.random.key(1), 4000))  # noqa: B023
        np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, p, atol=0.04)


def test_a_failed_update_gives_all_back_but_the_buffer():
    made, hypers = q_learner(warmup=0)
    key = jax.random.key(0)
    state = loop.init(key, made, hypers)
    poisoned = hypers._replace(optimizer={**hypers.optimizer, "learning_rate": jnp.float32(np.nan)})
    after, metrics = jax.jit(lambda s, h: loop.train(key, made, s, h, 2))(state, poisoned)
    assert not bool(after.finite) and np.isnan(metrics["loss"]).all()
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b, equal_nan=True)), after.learner, state.learner)
    assert all(jax.tree.leaves(same._replace(buffer=())))
    assert int(after.learner.buffer.value.current_index) == 12


@pytest.mark.slow
@pytest.mark.parametrize(("make", "lanes"), [(q_learner, None), (q_learner, 2), (sac_learner, 2)])
def test_no_instruction_copies_the_buffer(make, lanes):
    """In the compiled loop over updates nothing of the buffer's size is computed but its update in place."""
    size = 7_919
    made, hypers = make(buffer_size=size)
    run = lambda key, state: loop.train(key, made, state, hypers, 3)  # noqa: E731
    init = lambda key: loop.init(key, made, hypers)  # noqa: E731
    key = jax.random.key(0)
    if lanes:
        run, init, key = jax.vmap(run), jax.vmap(init), jax.random.split(key, lanes)
    text = jax.jit(run, donate_argnums=1).lower(key, jax.eval_shape(init, key)).compile().as_text()
    found = set()
    for line in text.splitlines():
        made_here = re.match(r"\s*(?:ROOT )?\S+ = \w+\[([\d,]*)\]\S* ([\w-]+)\(", line)
        if made_here and str(size) in made_here[1].split(","):
            found.add(made_here[2])
    assert found and not found & {"copy", "select", "transpose", "concatenate", "pad", "convert"}, found


def test_options_that_mean_nothing_here_are_refused():
    wrong = {
        "normalize_obs": True,
        "scale_rewards": True,
        "epsilon": 0.1,
        "lag": 2,
        "rollout": "episodes",
        "num_epochs": 2,
        "num_minibatches": 2,
        "critic": "action_value",
        "shared": True,
        "update": "step",
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=rf"{name}={value!r} has no meaning with replay; use"):
            q_learner(config=Config(num_envs=2, num_steps=3, **{name: value}))
    with pytest.raises(ValueError, match="network must be one of auto, .*got 'gru'"):
        q_learner(config=Config(num_envs=2, num_steps=3, network="gru"))[0].init(jax.random.key(0), None)
    with pytest.raises(ValueError, match="buffer_size=5 holds neither"):
        q_learner(buffer_size=5)
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        q_learner(batch_size=0)
    with pytest.raises(ValueError, match="'gae' needs steps in order"):
        dqn.make_learner(TABLE, None, Algorithm(gae, dqn.dqn, adam), CONFIG)
    with pytest.raises(ValueError, match="needs steps in order, replay has rows; use td"):
        dqn.make_learner(TABLE, None, Algorithm(monte_carlo, dqn.dqn, adam), CONFIG)
    with pytest.raises(ValueError, match="has no hyperparameter 'tau'; use `replayed`"):
        dqn.make_learner(TABLE, None, Algorithm(td, dqn.annealed(surrogate(action_value_error)), adam), CONFIG)
    with pytest.raises(ValueError, match="finite number of actions"):
        q_learner(env=PENDULUM)


def test_what_is_a_float_can_be_swept_and_the_rest_is_static():
    swept = {name for name, x in hyperparameters(dqn.dqn).items() if isinstance(x, float)}
    assert swept == {"tau", "epsilon_start", "epsilon_end", "epsilon_steps", "huber_delta"}
    swept = {name for name, x in hyperparameters(sac.sac).items() if isinstance(x, float)}
    assert swept == {"tau", "initial_alpha", "target_entropy_box", "target_entropy_finite"}
    swept = {name for name, x in hyperparameters(td3.td3).items() if isinstance(x, float)}
    assert swept == {"tau", "exploration_noise", "target_noise", "noise_clip"}


@pytest.mark.parametrize("name", ["TabularMDP-pgjax", "Breakout-MinAtar", "CartPole-v1", "Pendulum-v1"])
def test_critics_fit_every_kind_of_observation(name):
    env = envs.make(name)
    init, merge = policies.functional(lambda rngs: Critic(env, Config(hidden=(4,)), rngs=rngs), False)
    _, obs = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 3), env.params)
    action = jnp.zeros((3, 1)) if name == "Pendulum-v1" else None
    q = jax.jit(lambda obs: merge(init(jax.random.key(1)))(obs, action))(obs)
    assert q.shape == ((3,) if action is not None else (3, env.action_space.n))


@pytest.mark.parametrize("need", [in_order, whole_episodes])
def test_a_loss_that_needs_steps_in_order_is_refused(need):
    loss = need(lambda now, batch: losses.q_error(now, batch))
    row = algorithms.entry("dqn")
    estimator = bind(dqn.annealed(replayed(surrogate(loss))), batch_size=4, buffer_size=64)
    with pytest.raises(ValueError, match="needs steps in order, and replay has rows$"):
        dqn.make_learner(envs.make("CartPole-v1"), None, row.algorithm._replace(estimator=estimator), row.config)


def test_an_estimator_without_the_options_of_its_learner_is_refused():
    row, estimator = algorithms.entry("dqn"), replayed(surrogate(losses.q_error))
    with pytest.raises(ValueError, match="has no hyperparameter 'epsilon_start'; use dqn.annealed$"):
        dqn.make_learner(envs.make("CartPole-v1"), None, row.algorithm._replace(estimator=estimator), row.config)
    row = algorithms.entry("sac")
    with pytest.raises(ValueError, match="has no hyperparameter 'initial_alpha'; use sac.losses inside$"):
        sac.make_learner(envs.make("Pendulum-v1"), None, row.algorithm._replace(estimator=estimator), row.config)
