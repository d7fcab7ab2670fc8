"""Learners: every algorithm of the roster, what joins its state, and the probes that isolate each ability."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from compiled import LAPACK, custom_calls
from gymnax.environments import spaces
from scipy import stats

from pgjax import algorithms, envs, policies, rollout
from pgjax import hyperparameters as hyperparameters_module
from pgjax.advantages import gae, monte_carlo, td
from pgjax.algorithms import minibatches as algorithms_minibatches
from pgjax.algorithms import on_policy, reward_scaling
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, declare, default_hypers, hyperparameters
from pgjax.losses import actor_critic, policy_gradient, ppo_clip
from pgjax.optimizers import adam, sgd
from pgjax.policies.distributions import Categorical
from pgjax.training import failures, loop, vectorised
from pgjax.types import Algorithm, Env, Evaluation, Policy, Running, Step, Trajectory

T, B = 8, 4


def close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.fixture(scope="module")
def cartpole():
    """Short episodes, so that both ends fall into a rollout."""
    return envs.make("CartPole-v1", max_steps_in_episode=6, theta_threshold_radians=0.1)


@pytest.fixture(scope="module")
def maze():
    return worlds.maze()


@pytest.fixture(scope="module", params=algorithms.ROSTER)
def made(request, maze):
    """A learner of each row of the roster, two lanes of its states, and its step compiled once."""
    row = algorithms.entry(request.param)
    algorithm, config = row.algorithm, dataclasses.replace(row.config, num_envs=B, num_steps=T)
    if row.own_policy:
        small = bind(algorithm.estimator, batch_size=16, buffer_size=64, warmup=0, gradient_steps=2)
        algorithm = algorithm._replace(estimator=small)
    else:
        config = dataclasses.replace(config, num_epochs=2, num_minibatches=2)
    if "samples" in hyperparameters(algorithm.advantage):
        algorithm = algorithm._replace(advantage=bind(algorithm.advantage, samples=2))
    env = worlds.stretched((0, 0), (1, 1)) if request.param == "td3" else maze
    built = row.learner(env, row.policy(env, config), algorithm, config)
    hypers = default_hypers(algorithm)
    traces = []

    def counted(key, state, hypers):
        traces.append(1)
        return built.step(key, state, hypers)

    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.jit(jax.vmap(lambda key: built.init(key, hypers)))(keys)
    return built, hypers, keys, states, jax.jit(counted), traces


def lane(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def test_a_step_is_finite_reports_scalars_and_is_traced_once(made):
    built, hypers, keys, states, step, traces = made
    state = lane(states, 0)
    for u in range(4):
        state, metrics = step(jax.random.fold_in(keys[0], u), state, hypers)
    # Other hyperparameters of the same types cost no compilation.
    step(keys[1], state, jax.tree.map(lambda x: x * 0.5, hypers))
    assert len(traces) == 1
    assert all(jnp.shape(value) == () for value in metrics.values())
    expected = {"episode_return", "episode_length", "grad_norm"}
    # With replay the losses are the learner's own.
    assert expected | (set() if hasattr(state, "buffer") else {"loss", "entropy"}) <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert bool(failures.all_finite(state.params))
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), state.params, lane(states, 0).params)
    assert max(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.slow
def test_lanes_together_and_run_eagerly_equal_compiled_steps_one_by_one(made):
    built, hypers, keys, states, step, _ = made
    both = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), hypers)
    # Not compiled as a whole: what vmap and what jit may change is seen at once.
    together = jax.vmap(built.step)(keys, states, both)
    for i in range(2):
        close(lane(together, i), step(keys[i], lane(states, i), lane(both, i)))


def test_the_state_says_what_to_act_with(made):
    built, _, _, states, _, _ = made
    policy, params = built.policy(lane(states, 0))
    assert params is not None and isinstance(policy, Policy)
    close(params, lane(states, 0).params)


SLOW = ("reinforce", "ppo", "npg", "trpo", "sac", "td3")


@pytest.mark.parametrize("name", ["a2c", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_linear_change_of_the_units_of_actions_changes_nothing_that_is_learned(name):
    row = algorithms.entry(name)
    algorithm, config = row.algorithm, dataclasses.replace(row.config, num_envs=B, num_steps=T, hidden=(4,))
    if row.own_policy:
        small = bind(algorithm.estimator, batch_size=16, buffer_size=64, warmup=0, gradient_steps=2)
        algorithm = algorithm._replace(estimator=small)
    hypers = default_hypers(algorithm)

    def learned(env):
        built = row.learner(env, policies.make(env, config), algorithm, config)

        @jax.jit
        def run(key):
            state = start = built.init(key, hypers)
            for u in range(2):
                state, metrics = built.step(jax.random.fold_in(key, u), state, hypers)
            return start.params, state.params, metrics["episode_return"]

        return run(jax.random.key(0))

    before, after, score = learned(worlds.stretched((0, 0), (1, 1)))
    moved = [float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)]
    _, there, other = learned(worlds.stretched((500, -0.3), (500, 0.01)))
    # An action of the second kind has 5 digits of its range.
    close(there, after, rtol=0, atol=2e-2 * max(moved))
    np.testing.assert_allclose(other, score, rtol=1e-3)


IMAGE, VECTOR, TWO = spaces.Box(0.0, 1.0, (3, 3, 2)), spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2)
FITTING = {
    "mlp": (VECTOR, TWO, "mlp"),
    "cnn": (IMAGE, TWO, "cnn"),
    "gru": (VECTOR, TWO, "gru"),
    "gaussian": (VECTOR, spaces.Box(-1.0, 1.0, (2,)), "mlp"),
}


def noise(observation, action):
    """A world without a state, whose observations are noise."""

    def reset(key, params):
        return jnp.zeros(()), 2.0 + 3.0 * jax.random.normal(key, observation.shape)

    def step(key, params, state, action):
        obs = reset(key, params)[1]
        # Ends of both kinds, read off the noise.
        first = obs.reshape(-1)[0]
        return state, Step(obs, jnp.sum(obs), first > 5.0, first < -1.0)

    return Env((), reset, step, observation, action, max_steps=8)


def test_the_reader_of_compiled_programs_sees_a_lapack_call():
    lowered = jax.jit(jax.vmap(jnp.linalg.qr)).lower(jnp.ones((2, 3, 3)))
    assert any(LAPACK.search(name) for name in custom_calls(lowered))


@pytest.mark.slow
@pytest.mark.parametrize("network", FITTING)
def test_no_program_over_lanes_holds_a_lapack_call(network):
    # On CPU two batched LAPACK calls in one program can wait for each other for ever.
    observation, action, kind = FITTING[network]
    env = noise(observation, action)
    row = algorithms.entry("ppo")
    config = Config(num_envs=2, num_steps=2, hidden=(4,), network=kind)
    built = row.learner(env, policies.make(env, config), row.algorithm, config)
    keys, hypers = vectorised.lanes([default_hypers(row.algorithm)], [0, 1])

    def program(keys, hypers):
        return vectorised.segment(keys, built, vectorised.init(keys, built, hypers), hypers, 1)

    found = custom_calls(jax.jit(program).lower(keys, hypers))
    assert not [name for name in found if LAPACK.search(name)]


def plain(env, config, advantage=gae, estimator=None, optimizer=adam):
    estimator = surrogate(actor_critic(policy_gradient)) if estimator is None else estimator
    return on_policy.make_learner(env, policies.make(env, config), Algorithm(advantage, estimator, optimizer), config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_minibatches=3), "num_minibatches=3 doesn't divide the batch of 32 steps; choose a divisor of 32"),
        (
            dict(num_minibatches=8, network="gru"),
            "num_minibatches=8 doesn't divide the batch of 4 environments; choose a divisor of 4",
        ),
        (
            dict(num_minibatches=8, rollout="episodes"),
            "num_minibatches=8 doesn't divide the batch of 4 environments; choose a divisor of 4",
        ),
        (dict(num_steps=0), "num_steps must be 1 or more with rollout='unroll', got 0"),
        (dict(num_steps=-1, rollout="episodes"), "num_steps must be 0 or more"),
        (dict(num_envs=0), "num_envs must be 1 or more, got 0"),
        (dict(num_epochs=0), "num_epochs must be 1 or more, got 0"),
        (dict(num_minibatches=0), "num_minibatches must be 1 or more, got 0"),
        (dict(eval_episodes=0), "eval_episodes must be 1 or more, got 0"),
        (dict(rollout="episode"), "rollout must be one of unroll, episodes; got 'episode'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_anything_is_traced(change, message, cartpole):
    config = Config(num_envs=B, num_steps=T, hidden=(8,))
    with pytest.raises(ValueError, match=re.escape(message)):
        plain(cartpole, dataclasses.replace(config, **change))


@pytest.mark.parametrize("field", ["network", "activation"])
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(field, cartpole):
    config = Config(num_envs=B, num_steps=T, hidden=(8,))
    policy = policies.make(cartpole, config)
    algorithm = Algorithm(gae, surrogate(actor_critic(policy_gradient)), adam)
    with pytest.raises(ValueError, match=f"{field} must be one of .*; got 'other'"):
        on_policy.make_learner(cartpole, policy, algorithm, dataclasses.replace(config, **{field: "other"}))


def test_normalisation_that_makes_no_sense_is_refused(cartpole):
    with pytest.raises(ValueError, match="normalize_obs needs a Box of observations that are numbers, got Discrete"):
        plain(envs.make("TabularMDP-pgjax"), Config(num_envs=B, num_steps=T, normalize_obs=True))

    def undiscounted(trajectory, now):
        return trajectory.reward, now.value

    with pytest.raises(ValueError, match="scale_rewards needs an advantage with a discount; undiscounted has none"):
        plain(cartpole, Config(num_envs=B, num_steps=T, hidden=(8,), scale_rewards=True), undiscounted)


def test_an_advantage_of_the_wrong_shape_is_named(cartpole):
    def lopsided(trajectory, now, *, discount=0.9):
        return trajectory.reward[0], now.value

    built = plain(cartpole, Config(num_envs=B, num_steps=T, hidden=(8,)), lopsided)
    hypers = default_hypers(Algorithm(lopsided, surrogate(actor_critic(policy_gradient)), adam))
    state = jax.eval_shape(built.init, jax.random.key(0), hypers)
    with pytest.raises(ValueError, match=r"advantage 'lopsided' returned advantage of shape \(4,\).*\(8, 4\)"):
        jax.eval_shape(built.step, jax.random.key(0), state, hypers)


def test_default_hypers_are_the_numbers_that_may_be_swept():
    algorithm = algorithms.entry("ppo").algorithm
    hypers = default_hypers(algorithm, optimizer={"learning_rate": 1e-2}, env={"gravity": 12.0})
    assert float(hypers.optimizer["learning_rate"]) == pytest.approx(1e-2)
    assert float(hypers.env["gravity"]) == 12.0
    assert set(hypers.advantage) == {"discount", "gae_lambda"}
    assert "normalize_advantage" not in hypers.estimator and "clip_eps" in hypers.estimator
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(hypers))
    with pytest.raises(ValueError, match="no part 'optimiser'"):
        default_hypers(algorithm, optimiser={})
    with pytest.raises(ValueError, match="takes no hyperparameter 'clip_epz'; did you mean 'clip_eps'"):
        default_hypers(algorithm, estimator={"clip_epz": 0.1})


@pytest.mark.parametrize("value", [1, np.float32(1.0), jnp.float32(1.0)], ids=["int", "numpy", "jax"])
def test_a_hyperparameter_given_as_another_kind_of_number_is_not_lost(value):
    hypers = default_hypers(algorithms.entry("ppo").algorithm, optimizer={"max_grad_norm": value})
    assert float(hypers.optimizer["max_grad_norm"]) == 1.0


def test_a_static_choice_given_as_a_sweepable_one_is_not_lost():
    # What can't be swept must be bound to the plug; dropping it in silence would train something else.
    with pytest.raises((ValueError, TypeError), match="normalize_advantage"):
        default_hypers(algorithms.entry("vpg").algorithm, estimator={"normalize_advantage": False})


def linear(inputs, actions):
    """The smallest policy there is of observations [..., inputs]."""

    def act(params, memory, obs):
        return Categorical(obs @ params[:, :actions]), memory

    def evaluate(params, trajectory):
        dist = Categorical(trajectory.obs @ params[:, :actions])
        value, next_value = trajectory.obs @ params[:, actions], trajectory.next_obs @ params[:, actions]
        return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), value, next_value)

    return Policy(lambda key: jax.random.normal(key, (inputs, actions + 1)), lambda batch: (), act, evaluate)


def several_updates(env, config, updates=3):
    """The states after each of a few updates, and the experience [U, T, B] that made them."""
    algorithm = Algorithm(gae, surrogate(actor_critic(policy_gradient)), adam)
    built = on_policy.make_learner(env, linear(3, 2), algorithm, config)
    hypers = default_hypers(algorithm)

    def update(state, key):
        policy, params = built.policy(state)
        # The learner splits its key in two, and rolls out with the first.
        seen = rollout.unroll(jax.random.split(key)[0], env, policy, params, state.rollout, config.num_steps)[1]
        following, _ = built.step(key, state, hypers)
        return following, (following, seen)

    def run(key):
        return jax.lax.scan(update, built.init(key, hypers), jax.random.split(key, updates))[1]

    return jax.device_get(jax.jit(run)(jax.random.key(0))), hypers


@pytest.fixture(scope="module")
def normalised():
    config = Config(num_envs=B, num_steps=T, normalize_obs=True, scale_rewards=True)
    return several_updates(noise(VECTOR, TWO), config)


def test_observation_moments_are_those_of_every_observation_seen(normalised):
    (states, seen), _ = normalised
    for u in range(3):
        obs = seen.obs[: u + 1].reshape(-1, 3).astype(np.float64)
        now = jax.tree.map(lambda x, u=u: x[u], states.obs_moments)
        assert now.count == len(obs)
        np.testing.assert_allclose(now.mean, obs.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(now.deviation / now.count, obs.var(axis=0), rtol=1e-4, atol=1e-7)


def discounted_returns(reward, terminated, truncated, discount):
    """Gymnasium's NormalizeReward: what the stream's return came to at each step, over [T, B]."""
    running, seen = np.zeros(reward.shape[1]), []
    for r, end in zip(reward.astype(np.float64), terminated | truncated, strict=True):
        running = running + r
        seen.append(running)
        running = discount * running * ~end
    return np.array(seen)


def test_the_reward_scale_is_the_spread_of_the_discounted_return_of_the_stream(normalised):
    (states, seen), hypers = normalised
    merged = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen._replace(memory=()))
    assert merged.terminated.any() and merged.truncated.any()
    discount = float(hypers.advantage["discount"])
    stream = discounted_returns(merged.reward, merged.terminated, merged.truncated, discount)
    for u in range(3):
        so_far = stream[: (u + 1) * T]
        now = jax.tree.map(lambda x, u=u: x[u], states.reward_scale.moments)
        assert now.count == so_far.size
        np.testing.assert_allclose(now.deviation / now.count, so_far.var(), rtol=1e-4)


def test_rewards_are_divided_by_the_spread_seen_so_far():
    g = np.random.default_rng(0)
    discount, scale = 0.9, reward_scaling.start(B)
    reward = g.normal(2.0, 1.0, size=(3, T, B)).astype(np.float32)
    end = g.integers(0, 8, size=(3, T, B))
    time = np.zeros((3 * T, B), np.int32)
    done = (end <= 1).reshape(3 * T, B)
    for t in range(1, 3 * T):
        time[t] = np.where(done[t - 1], 0, time[t - 1] + 1)
    stream = discounted_returns(reward.reshape(-1, B), (end == 0).reshape(-1, B), (end == 1).reshape(-1, B), discount)
    for u in range(3):
        nothing = {name: jnp.zeros((T, B)) for name in Trajectory._fields}
        trajectory = Trajectory(**nothing)._replace(
            reward=jnp.asarray(reward[u]),
            terminated=jnp.asarray(end[u] == 0),
            truncated=jnp.asarray(end[u] == 1),
            mask=jnp.ones((T, B)),
            time=jnp.asarray(time.reshape(3, T, B)[u]),
        )
        scale, scaled = jax.jit(reward_scaling.scale)(scale, trajectory, discount)
        spread = stream[: (u + 1) * T].std()
        np.testing.assert_allclose(scaled.reward, reward[u] / spread, rtol=1e-4)


def test_rewards_stay_as_they_are_until_their_spread_is_known():
    """With one step for each update the first returns are the first rewards, here all alike."""
    scale = reward_scaling.start(B)
    nothing = {name: jnp.zeros((1, B)) for name in Trajectory._fields}
    for u in range(2):
        rows = Trajectory(**nothing)._replace(reward=jnp.full((1, B), 1.1), mask=jnp.ones((1, B)))
        rows = rows._replace(terminated=jnp.arange(B)[None] == 0, truncated=rows.mask < 1, time=jnp.full((1, B), u))
        scale, scaled = jax.jit(reward_scaling.scale)(scale, rows._replace(time=rows.time.at[0, 0].set(0)), 0.9)
        seen = np.float32([1.1] * B + ([1.1] + [1.1 * 1.9] * (B - 1)) * u)
        np.testing.assert_allclose(scaled.reward, 1.1 / (seen.std() if u else 1.0), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_the_explained_variance_is_a_share_whatever_the_rewards_are_measured_in(scale):
    g = np.random.default_rng(0)
    target, error, mask = (scale * g.normal(size=(2, T, B))).astype(np.float32).tolist() + [np.ones((T, B), np.float32)]
    target, error = np.float32(target), 0.5 * np.float32(error)
    found = on_policy._explained_variance(target - error, target, mask)
    np.testing.assert_allclose(found, 1 - np.var(np.float64(error)) / np.var(np.float64(target)), rtol=1e-3)
    # Of equal targets all is explained or nothing.
    equal = np.full((T, B), np.float32(1.1 * scale))
    assert on_policy._explained_variance(equal, equal, mask) == 1
    assert on_policy._explained_variance(target, equal, mask) == 0


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 1000, 1025])
def test_a_shuffle_is_a_permutation(rows):
    order = np.asarray(jax.jit(algorithms_minibatches.shuffle, static_argnums=1)(jax.random.key(rows), rows))
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    assert order.dtype == np.int32
    if rows >= 100:
        assert np.mean(order == np.arange(rows)) < 0.1


def test_every_order_is_equally_likely():
    draws = 6000
    many = jax.jit(jax.vmap(algorithms_minibatches.shuffle, (0, None)), static_argnums=1)
    orders = np.asarray(many(jax.random.split(jax.random.key(0), draws), 3))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
    places = np.asarray(many(jax.random.split(jax.random.key(1), draws), 7))
    for position in range(7):
        assert stats.chisquare(np.bincount(places[:, position], minlength=7)).pvalue > 1e-4


def tallying(env, config):
    """A learner whose parameters count how often each step of the batch was learned from."""
    rows = config.num_steps * config.num_envs
    number = lambda trajectory: 10.0 * trajectory.obs + trajectory.time  # noqa: E731

    def act(params, memory, obs):
        memory = memory if config.network == "mlp" else memory + 1.0
        return Categorical(jnp.zeros((obs.shape[0], 2))), memory

    def evaluate(params, trajectory):
        dist = Categorical(jnp.zeros((*trajectory.reward.shape, 2)))
        zero = jnp.zeros(trajectory.reward.shape)
        return Evaluation(dist, dist.log_prob(trajectory.action), dist.entropy(), zero, zero)

    def memory(batch):
        return () if config.network == "mlp" else jnp.zeros((batch, 1))

    def advantage(trajectory, now):
        return jnp.arange(rows, dtype=jnp.float32).reshape(trajectory.reward.shape), number(trajectory)

    def estimator(key, policy, params, batch):
        index = batch.advantage.astype(jnp.int32)
        tally = jnp.zeros(rows).at[index.reshape(-1)].add(1.0)
        # A row's target was made from its own observation and time: they must have moved together.
        apart = jnp.max(jnp.abs(batch.target - number(batch.trajectory)))
        columns = batch.advantage % config.num_envs
        split = jnp.max(jnp.abs(columns - columns[:1])) if batch.advantage.ndim == 2 else jnp.zeros(())
        return -tally, {"apart": apart, "split": split, "rank": jnp.float32(batch.advantage.ndim)}

    policy = Policy(init=lambda key: jnp.zeros(rows), memory=memory, act=act, evaluate=evaluate)
    algorithm = Algorithm(advantage, estimator, bind(sgd, learning_rate=1.0))
    built = on_policy.make_learner(env, policy, algorithm, config)
    hypers = default_hypers(algorithm)
    key = jax.random.key(0)
    state, metrics = jax.jit(lambda k: built.step(k, built.init(k, hypers), hypers))(key)
    return np.asarray(state.params), metrics


@pytest.mark.parametrize(
    ("network", "minibatches", "rank"),
    [("mlp", 1, 2), ("mlp", 4, 1), ("gru", 2, 2)],
    ids=["the whole batch", "rows", "columns"],
)
def test_every_step_of_the_batch_is_learned_from_once_in_each_epoch(maze, network, minibatches, rank):
    config = Config(num_envs=B, num_steps=T, num_epochs=3, num_minibatches=minibatches, network=network)
    tally, metrics = tallying(maze, config)
    np.testing.assert_array_equal(tally, 3.0)
    assert (float(metrics["apart"]), float(metrics["split"]), float(metrics["rank"])) == (0.0, 0.0, rank)


# Observations asked about, the values there, and the best actions; the discount is 0.5.
PROBES = {
    "ValueProbe": ([1.0, 1.0], [1.0, 1.0], None),
    "ObservationProbe": ([-1.0, 1.0], [-1.0, 1.0], None),
    "DiscountProbe": ([0.0, 1.0], [0.5, 1.0], None),
    "ActionProbe": ([1.0, 1.0], [1.0, 1.0], [1, 1]),
    "PolicyProbe": ([-1.0, 1.0], [1.0, 1.0], [0, 1]),
}


@pytest.fixture(scope="module")
def learned():
    """What PPO makes of the five probes: one program, the probe of a lane chosen by a parameter."""
    worlds = [envs.make(f"{name}-pgjax") for name in PROBES]

    def chosen(function):
        # A world with one action takes no notice of which it is.
        branches = [lambda *a, w=w: getattr(w, function)(a[0], w.params, *a[1:]) for w in worlds]
        return lambda key, params, *rest: jax.lax.switch(params["which"].astype(int), branches, key, *rest)

    env = worlds[-1]._replace(params={"which": jnp.zeros(())}, reset=chosen("reset"), step=chosen("step"))
    config = Config(num_envs=8, num_steps=4, num_epochs=4, num_minibatches=2, hidden=(8,))
    algorithm = Algorithm(
        advantage=bind(gae, discount=0.5),
        estimator=surrogate(actor_critic(ppo_clip)),
        optimizer=bind(adam, learning_rate=1e-2),
    )
    policy = policies.make(env, config)
    built = on_policy.make_learner(env, policy, algorithm, config)
    keys, hypers = vectorised.lanes(
        [default_hypers(algorithm, env={"which": float(i)}) for i in range(len(PROBES))], [0]
    )
    asked = jnp.asarray([obs for obs, _, _ in PROBES.values()])[:, None, :, None]
    blank = {field: jnp.zeros((1, 2), jnp.int32) for field in Trajectory._fields}

    @jax.jit
    def run(keys, hypers):
        states, _ = vectorised.segment(keys, built, vectorised.init(keys, built, hypers), hypers, 200)
        about = lambda p, x: policy.evaluate(p, Trajectory(**{**blank, "obs": x, "next_obs": x}))  # noqa: E731
        now = jax.vmap(about)(states.learner.params, asked)
        return now.value[:, 0], jnp.exp(now.dist.log_probs())[:, 0]

    value, probability = jax.device_get(run(keys, hypers))
    return dict(zip(PROBES, zip(value, probability, strict=True), strict=True))


@pytest.mark.parametrize("name", PROBES)
def test_ppo_learns_every_probe(name, learned):
    _, values, best = PROBES[name]
    value, probability = learned[name]
    np.testing.assert_allclose(value, values, atol=0.05)
    if best is not None:
        assert np.all(probability[np.arange(2), best] > 0.95)


@pytest.mark.slow
def test_a_memory_solves_what_no_memoryless_policy_can():
    # The bit is shown at the start and asked for three steps later: the best without a memory is a mean of 0.
    env = envs.make("MemoryChain-bsuite", memory_length=3)
    config = Config(num_envs=32, num_steps=16, num_epochs=4, num_minibatches=2, hidden=(16,), network="gru")
    row = algorithms.entry("ppo")
    algorithm = row.algorithm._replace(optimizer=bind(adam, learning_rate=1e-2))
    built = row.learner(env, policies.make(env, config), algorithm, config)
    hypers = default_hypers(algorithm)

    @jax.jit
    def run(key):
        state, _ = loop.train(key, built, loop.init(key, built, hypers), hypers, 60)
        policy, params = built.policy(state.learner)
        return rollout.evaluate(key, env, policy, params, 400, max_steps=4)

    assert float(jnp.mean(run(jax.random.key(0)).episode_return)) > 0.8


def test_the_three_plugs_may_be_the_users_own(cartpole):
    def own_loss(now, batch, *, weight=2.0):
        return -weight * now.log_prob * batch.advantage, {"mine": now.entropy}

    algorithm = Algorithm(td, surrogate(own_loss), bind(sgd, learning_rate=0.0))
    assert hyperparameters_module.hyperparameters(algorithm.estimator)["weight"] == 2.0
    config = Config(num_envs=B, num_steps=T, hidden=(8,))
    built = on_policy.make_learner(cartpole, policies.make(cartpole, config), algorithm, config)
    hypers = default_hypers(algorithm)
    state = jax.eval_shape(built.init, jax.random.key(0), hypers)
    _, metrics = jax.eval_shape(built.step, jax.random.key(0), state, hypers)
    assert metrics["mine"].shape == ()


def test_an_advantage_in_a_wrapper_corrects_as_it_says(maze):
    """What a wrapper declares is seen: both halves of the correction are there, and the learner takes them."""
    inner = bind(monte_carlo, importance=True)

    def apply(state, trajectory, now, **hypers):
        return inner.apply(state, trajectory, now, **hypers)

    wrapped = Running(inner.init, declare(apply, inner))
    algorithm = Algorithm(wrapped, bind(surrogate(policy_gradient), importance=True), sgd)
    config = Config(num_envs=2, num_steps=4, rollout="episodes", epsilon=0.1)
    built = on_policy.make_learner(maze, policies.make(maze, config), algorithm, config)
    hypers = default_hypers(algorithm)
    assert "discount" in hypers.advantage
    jax.eval_shape(lambda key: built.step(key, built.init(key, hypers), hypers), jax.random.key(0))


@pytest.mark.parametrize(
    ("advantage", "estimator", "config", "message"),
    [
        ({"baseline": "none"}, {"reevaluate": True}, {}, "reevaluate=True needs baseline='value': with 'none'"),
        ({"baseline": "value", "gamma_t": True}, {"reevaluate": True}, {}, "would lose gamma_t=True"),
        ({"baseline": "value", "importance": True}, {"reevaluate": True}, {}, "would lose importance=True"),
        ({}, {"normalize_advantage": True}, {"update": "step"}, "normalize_advantage=True cannot be used with update="),
        (None, {"importance": True}, {"epsilon": 0.1, "rollout": "unroll"}, "estimator.importance=True is half of the"),
        ({"importance": False}, {"importance": True}, {"epsilon": 0.1}, "set advantage.importance=True too"),
        ({"importance": True}, {"importance": False}, {"epsilon": 0.1}, "advantage.importance=True is half of the"),
        ({"importance": True}, {}, {"lag": 2}, "set estimator.importance=True too"),
        (
            None,
            {"normalize_advantage": True},
            {"rollout": "unroll", "num_minibatches": 8},
            r"normalize_advantage=True: one step at once \(num_envs=2, num_steps=4, num_minibatches=8\) has no spread",
        ),
        ({"normalize": True}, {}, {"num_envs": 1, "num_steps": 1}, "normalize=True: one step at once"),
        (
            {"normalize": True, "reward_to_go": False},
            {},
            {"num_envs": 1},
            "normalize=True: all steps of an episode weigh the same here, and one at once",
        ),
        (
            {"reward_to_go": False},
            {"normalize_advantage": True},
            {"num_minibatches": 2},
            "normalize_advantage=True: all steps of an episode weigh the same here",
        ),
    ],
)
def test_options_that_together_learn_nothing_or_something_else_are_refused(maze, advantage, estimator, config, message):
    plug = td if advantage is None else bind(monte_carlo, **advantage)
    algorithm = Algorithm(plug, bind(surrogate(actor_critic(policy_gradient)), **estimator), sgd)
    chosen = Config(**{"num_envs": 2, "num_steps": 4, "rollout": "episodes", **config})
    with pytest.raises(ValueError, match=message):
        on_policy.make_learner(maze, policies.make(maze, chosen), algorithm, chosen)
