"""Rollouts against a plain Python loop with the same keys, and time limits end to end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

from pgjax import envs, hyperparameters, policies, rollout
from pgjax.advantages import td
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import actor_critic, policy_gradient
from pgjax.optimizers import adam, sgd
from pgjax.policies.distributions import Categorical
from pgjax.training import loop as training_loop
from pgjax.types import Algorithm, Env, Policy, Step

B = 3


def counting_policy(states, actions):
    """A table of logits, tilted by a memory that counts the observations of the episode so far."""

    def act(params, memory, obs):
        memory = memory + 1.0
        logits = params[obs] + 0.5 * memory * jnp.arange(actions, dtype=jnp.float32)[None]
        return Categorical(logits), memory

    return Policy(
        init=lambda key: jax.random.normal(key, (states, actions)),
        memory=lambda batch: jnp.zeros((batch, 1)),
        act=act,
        evaluate=None,
    )


@pytest.fixture(scope="module")
def world():
    """Five states, of which one is terminal, and at most four steps: ends of both kinds."""
    g = np.random.default_rng(1)
    env = envs.make(
        "TabularMDP-pgjax",
        transition=g.dirichlet(np.ones(5), size=(5, 2)),
        reward=g.normal(size=(5, 2)),
        start=np.array([0.4, 0.3, 0.3, 0.0, 0.0]),
        terminal=np.array([False, False, False, False, True]),
        horizon=4,
    )
    policy = counting_policy(5, 2)
    params = policy.init(jax.random.key(0))
    return env, policy, params


class Loop:
    """One environment step at a time, in Python."""

    def __init__(self, env, policy, params):
        self.reset, self.step = jax.jit(env.reset), jax.jit(env.step)
        self.env, self.policy, self.params = env, policy, params
        self.act = jax.jit(policy.act)

    def begin(self, key):
        pairs = [self.reset(k, self.env.params) for k in jax.random.split(key, B)]
        self.states, self.obs = [s for s, _ in pairs], [o for _, o in pairs]
        self.memory = [np.zeros(1, np.float32)] * B
        self.time, self.running = [0] * B, [0.0] * B
        self.last_return, self.last_length = [np.nan] * B, [np.nan] * B
        self.completed = 0

    def interact(self, key_action, keys):
        """The rows of one step, [B] each; obs and memory move on, nothing is reset."""
        dist, memory = self.act(self.params, jnp.stack(self.memory), jnp.stack(self.obs))
        action = dist.sample(key_action)
        log_prob = np.log(np.take_along_axis(np.asarray(jax.nn.softmax(dist.logits)), action[:, None], 1)[:, 0])
        rows = []
        for b in range(B):
            row = dict(obs=self.obs[b], action=action[b], log_prob=log_prob[b], time=self.time[b])
            self.states[b], seen = self.step(keys[b], self.env.params, self.states[b], action[b])
            row |= dict(next_obs=seen.obs, reward=seen.reward, terminated=seen.terminated, truncated=seen.truncated)
            self.obs[b], self.memory[b] = seen.obs, memory[b]
            self.time[b] += 1
            self.running[b] += float(seen.reward)
            rows.append(row)
        return rows

    def unroll(self, key, steps):
        table = []
        for keys in jax.random.split(key, (steps, 1 + 2 * B)):
            rows, fresh = self.interact(keys[0], keys[1 : 1 + B]), keys[1 + B :]
            for b, row in enumerate(rows):
                if row["terminated"] or row["truncated"]:
                    self.states[b], self.obs[b] = self.reset(fresh[b], self.env.params)
                    self.last_return[b], self.last_length[b] = self.running[b], self.time[b]
                    self.memory[b] = np.zeros(1, np.float32)
                    self.time[b], self.running[b] = 0, 0.0
                    self.completed += 1
            table.append(rows)
        return columns(table)

    def episodes(self, key, limit):
        key_start, key_steps = jax.random.split(key)
        self.begin(key_start)
        alive, table, mask = [True] * B, [], []
        for t, key_row in enumerate(jax.random.split(key_steps, limit)):
            before = (list(self.states), list(self.obs), list(self.memory), list(self.time), list(self.running))
            keys = jax.random.split(key_row, 1 + B)
            rows = self.interact(keys[0], keys[1:])
            mask.append([float(a) for a in alive])
            for b, row in enumerate(rows):
                if not alive[b]:
                    row |= dict(reward=0.0, terminated=False, truncated=False)
                    for now, then in zip(
                        (self.states, self.obs, self.memory, self.time, self.running), before, strict=True
                    ):
                        now[b] = then[b]
                elif t == limit - 1 and not row["terminated"]:
                    row["truncated"] = True
                alive[b] = alive[b] and not (row["terminated"] or row["truncated"])
            table.append(rows)
        return columns(table) | {"mask": np.array(mask)}


def columns(table):
    return {name: np.array([[row[name] for row in rows] for rows in table]) for name in table[0][0]}


def agree(trajectory, expected, where=None):
    for name, there in expected.items():
        here = np.asarray(getattr(trajectory, name))
        keep = np.ones(there.shape[:2], bool) if where is None else where
        np.testing.assert_allclose(here[keep], there[keep], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def stream(world):
    """Two unrolls in a row, here and in the loop."""
    env, policy, params = world
    keys = jax.random.split(jax.random.key(3), 3)

    @jax.jit
    def run(keys):
        state = rollout.start(keys[0], env, policy, B)
        middle, first = rollout.unroll(keys[1], env, policy, params, state, 6)
        last, second = rollout.unroll(keys[2], env, policy, params, middle, 6)
        return middle, first, last, second

    loop = Loop(env, policy, params)
    loop.begin(keys[0])
    rows = [loop.unroll(key, 6) for key in keys[1:]]
    return jax.device_get(run(keys)), rows, loop


def test_unroll_is_the_python_loop(stream):
    (_, first, _, _), (rows, _), _ = stream
    agree(first, rows)
    assert np.all(first.mask == 1)
    assert first.terminated.any() and first.truncated.any()
    assert not np.any(first.terminated & first.truncated)


def test_a_second_unroll_goes_on_where_the_first_stopped(stream):
    (middle, _, last, second), (_, rows), loop = stream
    agree(second, rows)
    np.testing.assert_array_equal(second.obs[0], middle.obs)
    np.testing.assert_array_equal(second.memory, middle.memory)
    np.testing.assert_array_equal(last.time, loop.time)
    np.testing.assert_allclose(last.running_return, loop.running, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last.memory, np.stack(loop.memory))


def test_the_observation_that_follows_is_before_the_reset_and_the_next_row_after_it(stream):
    (_, first, _, _), (rows, _), _ = stream
    done = (first.terminated | first.truncated)[:-1]
    np.testing.assert_array_equal(first.next_obs[:-1][~done], first.obs[1:][~done])
    # State 4 is terminal, and nothing starts there.
    assert np.all(first.next_obs[first.terminated] == 4)
    assert np.all(first.obs != 4)
    assert np.any(first.next_obs[:-1][done] != first.obs[1:][done])


def test_time_counts_the_steps_since_the_episode_began(stream):
    (_, first, _, second), _, _ = stream
    time = np.concatenate([first.time, second.time])
    done = np.concatenate([first.terminated | first.truncated, second.terminated | second.truncated])
    assert np.all(time[0] == 0)
    np.testing.assert_array_equal(time[1:], np.where(done[:-1], 0, time[:-1] + 1))
    assert time.max() == 3 and np.all(done[time == 3])


def test_the_state_tells_of_the_latest_episode_and_counts_them(stream):
    (middle, first, last, second), _, loop = stream
    np.testing.assert_allclose(last.last_return, loop.last_return, rtol=1e-5)
    np.testing.assert_array_equal(last.last_length, loop.last_length)
    assert last.completed == loop.completed
    done = first.terminated | first.truncated
    assert middle.completed == done.sum()
    assert last.completed - middle.completed == (second.terminated | second.truncated).sum()


def test_before_any_end_there_is_no_latest_episode(world):
    env, policy, _ = world
    state = rollout.start(jax.random.key(0), env, policy, B)
    assert np.all(np.isnan(state.last_return)) and np.all(np.isnan(state.last_length))
    assert float(state.completed) == 0


LIMITS = [2, 4]


@pytest.fixture(scope="module", params=LIMITS)
def whole(world, request):
    env, policy, params = world
    limit = request.param
    key = jax.random.key(7)
    run = jax.jit(lambda k: rollout.episodes(k, env, policy, params, B, limit))
    evaluated = jax.jit(lambda k: rollout.evaluate(k, env, policy, params, B, max_steps=limit))
    loop = Loop(env, policy, params)
    return limit, jax.device_get(run(key)), loop.episodes(key, limit), jax.device_get(evaluated(key)), loop


def test_episodes_are_the_python_loop(whole):
    _, (trajectory, _), rows, _, _ = whole
    agree(trajectory, rows, rows["mask"] > 0)
    for name in ("mask", "reward", "terminated", "truncated", "obs", "time"):
        np.testing.assert_allclose(getattr(trajectory, name), rows[name], rtol=1e-6, err_msg=name)


def test_the_mask_counts_the_steps_up_to_and_with_the_end(whole):
    limit, (trajectory, done), _, _, _ = whole
    end = trajectory.terminated | trajectory.truncated
    assert trajectory.mask.shape == (limit, B)
    if limit == 4:
        # Whatever moves on behind an end has the time to show.
        assert set(done.episode_length) >= {1.0, 4.0}
    np.testing.assert_array_equal(end.sum(axis=0), 1)
    np.testing.assert_array_equal(trajectory.mask.sum(axis=0), end.argmax(axis=0) + 1)
    np.testing.assert_array_equal(trajectory.mask.sum(axis=0), done.episode_length)
    assert np.all(np.diff(trajectory.mask, axis=0) <= 0)
    assert np.all(trajectory.reward[trajectory.mask == 0] == 0)
    np.testing.assert_allclose(trajectory.reward.sum(axis=0), done.episode_return, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("whole_episodes", [False, True])
def test_a_memory_stays_after_the_end_but_that_of_a_policy_of_whole_episodes(whole_episodes):
    def reset(key, params):
        length = jax.random.randint(key, (), 1, 5)
        return (length, jnp.int32(0)), jnp.zeros(1)

    def step(key, params, state, action):
        length, time = state
        return (length, time + 1), Step(jnp.zeros(1), jnp.float32(1), time + 1 >= length, jnp.bool_(False))

    env = Env({}, reset, step, spaces.Box(0, 1, (1,)), spaces.Discrete(2), 6)
    policy = Policy(
        init=lambda key: (),
        memory=lambda batch: jnp.zeros(batch, jnp.int32),
        act=lambda params, memory, obs: (Categorical(jnp.zeros((len(obs), 2))), memory + 1),
        evaluate=None,
        whole_episodes=whole_episodes,
    )
    play = jax.jit(lambda key: rollout.episodes(key, env, policy, (), B, keep_states=True))
    trajectory, done = play(jax.random.key(0))
    (_, time), memory = trajectory.state
    longest = int(done.episode_length.max())
    assert 1 <= done.episode_length.min() < longest
    steps = np.arange(longest)[:, None]
    np.testing.assert_array_equal(time[:longest], np.minimum(steps, done.episode_length))
    expected = np.broadcast_to(steps, (longest, B)) if whole_episodes else np.minimum(steps, done.episode_length)
    np.testing.assert_array_equal(memory[:longest], expected)


def test_an_episode_cut_short_is_truncated(whole):
    limit, (trajectory, _), _, _, _ = whole
    running = (trajectory.mask[-1] == 1) & ~trajectory.terminated[-1]
    np.testing.assert_array_equal(trajectory.truncated[-1], running)
    assert not np.any(trajectory.terminated & trajectory.truncated)
    if limit == 2:
        assert running.any()


def test_evaluate_and_episodes_agree_under_the_same_key(whole):
    _, (_, done), _, evaluated, _ = whole
    np.testing.assert_allclose(evaluated.episode_return, done.episode_return, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(evaluated.episode_length, done.episode_length)


def test_an_end_at_the_cut_is_terminated_and_not_truncated():
    chain = np.roll(np.eye(3), 1, axis=1)[:, None]  # 0, then 1, then 2, which ends it
    env = envs.make(
        "TabularMDP-pgjax",
        transition=chain,
        reward=np.zeros((3, 1)),
        start=np.eye(3)[0],
        terminal=np.array([False, False, True]),
        horizon=3,
    )
    policy = policies.make(env, Config(num_steps=2))
    params = {"preference": jnp.zeros((3, 1)), "value": jnp.zeros(3)}
    run = jax.jit(lambda k, limit: rollout.episodes(k, env, policy, params, 2, limit)[0], static_argnums=1)
    ends = {}
    for limit in (1, 2):
        trajectory = run(jax.random.key(0), limit)
        ends[limit] = (trajectory.terminated[:, 0].tolist(), trajectory.truncated[:, 0].tolist())
    assert ends == {1: ([False], [True]), 2: ([False, True], [False, False])}


def fork():
    """From state 0, at even odds, either the end (a return of 0) or nine steps that pay 1 each."""
    transition = np.zeros((3, 1, 3))
    transition[0, 0, 1:] = 0.5
    transition[1, 0, 1] = transition[2, 0, 2] = 1.0
    return envs.make(
        "TabularMDP-pgjax",
        transition=transition,
        reward=np.array([[0.0], [0.0], [1.0]]),
        start=np.array([1.0, 0.0, 0.0]),
        terminal=np.array([False, True, False]),
        horizon=10,
    )


def test_evaluation_counts_each_episode_once_however_short():
    env = fork()
    policy = policies.make(env, Config(num_steps=2))
    params = {"preference": jnp.zeros((3, 1)), "value": jnp.zeros(3)}
    count = 1000
    done = jax.jit(lambda k: rollout.evaluate(k, env, policy, params, count))(jax.random.key(0))
    returns = np.asarray(done.episode_return)
    assert set(returns) == {0.0, 9.0}
    np.testing.assert_array_equal(np.asarray(done.episode_length), np.where(returns == 0, 1, 10))
    # Counted by time instead, as a stream would, the long ones would make 10 / 11 of the mean.
    assert abs(returns.mean() - 4.5) < 5 * 4.5 / np.sqrt(count)


def test_greedy_evaluation_takes_the_mode_and_is_deterministic_from_a_start():
    ring = np.stack([np.roll(np.eye(3), 1, axis=1), np.eye(3)], axis=1)  # on, or stay
    reward = np.arange(6.0).reshape(3, 2)
    env = envs.make("TabularMDP-pgjax", transition=ring, reward=reward, start=np.eye(3)[0], horizon=5)
    policy = policies.make(env, Config(num_steps=2))
    # The mode is to go on, but not by far: samples would stay almost as often.
    params = {"preference": jnp.array([[0.1, 0.0]] * 3), "value": jnp.zeros(3)}
    run = jax.jit(lambda k, greedy: rollout.evaluate(k, env, policy, params, 8, greedy=greedy), static_argnums=1)
    greedy = [run(jax.random.key(seed), True).episode_return for seed in (0, 1)]
    np.testing.assert_array_equal(greedy, np.full((2, 8), reward[[0, 1, 2, 0, 1], 0].sum()))
    assert len(np.unique(run(jax.random.key(0), False).episode_return)) > 2


class Endless(environment.Environment):
    """Pays 1 for every step and never ends by itself; the clock stops it."""

    def __init__(self, discrete):
        super().__init__()
        self.discrete = discrete

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=5)

    def observation(self):
        return jnp.int32(0) if self.discrete else jnp.ones(1)

    def reset_env(self, key, params):
        return self.observation(), environment.EnvState(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        return self.observation(), state, jnp.float32(1.0), jnp.bool_(False), {}

    def action_space(self, params=None):
        return spaces.Discrete(1)

    def observation_space(self, params):
        return spaces.Discrete(1) if self.discrete else spaces.Box(-1.0, 1.0, (1,))


def values_in_float64(discount, limit, truncation_ends, sweeps=300):
    """The value that one-step bootstrapping converges to, with one value for all times of an episode."""
    value = 0.0
    for _ in range(sweeps):
        last = 1.0 + (0.0 if truncation_ends else discount * value)
        value = ((limit - 1) * (1.0 + discount * value) + last) / limit
    return value


@pytest.mark.parametrize("network", ["table", "mlp"])
def test_a_time_limit_does_not_lower_the_value_that_is_learned(network):
    discount = 0.9
    right = values_in_float64(discount, 5, truncation_ends=False)
    wrong = values_in_float64(discount, 5, truncation_ends=True)
    assert right == pytest.approx(1 / (1 - discount)) and wrong < 0.4 * right

    env = envs.from_gymnax(Endless(network == "table"))
    config = Config(num_envs=2, num_steps=10, hidden=(8,), network=network)
    policy = policies.make(env, config)
    optimizer = bind(sgd, learning_rate=1.0) if network == "table" else bind(adam, learning_rate=3e-2)
    algorithm = Algorithm(
        advantage=bind(td, discount=discount),
        estimator=bind(surrogate(actor_critic(policy_gradient)), value_coef=1.0),
        optimizer=optimizer,
    )
    made = on_policy.make_learner(env, policy, algorithm, config)
    hypers = hyperparameters.default_hypers(algorithm)

    @jax.jit
    def run(key):
        state = training_loop.init(key, made, hypers)
        state, _ = training_loop.train(key, made, state, hypers, 400)
        _, trajectory = rollout.unroll(key, env, policy, state.learner.params, state.learner.rollout, 10)
        return trajectory, policy.evaluate(state.learner.params, trajectory)

    trajectory, now = run(jax.random.key(0))
    assert bool(jnp.any(trajectory.truncated)) and not bool(jnp.any(trajectory.terminated))
    np.testing.assert_allclose(now.value, right, rtol=0.01)


def endless(limit, step_to=None):
    """An Env written by hand that counts its steps, pays 1, and never ends by itself, or at `step_to`."""

    def step(key, params, state, action):
        time = state + 1
        over = time == step_to if step_to else jnp.bool_(False)
        return time, Step(time.astype(jnp.float32)[None], jnp.float32(1), over, over)  # both flags at once

    reset = lambda key, params: (jnp.int32(0), jnp.zeros(1))  # noqa: E731
    box = spaces.Box(-jnp.inf, jnp.inf, (1,))
    return Env({}, reset, step, observation_space=box, action_space=spaces.Discrete(2), max_steps=limit)


@pytest.mark.parametrize(("step_to", "length", "terminates"), [(None, 4, False), (3, 3, True), (4, 4, True)])
def test_a_world_that_never_ends_is_truncated_at_its_max_steps_everywhere(step_to, length, terminates):
    env = endless(4, step_to)
    policy = policies.make(env, Config(hidden=(2,)))

    @jax.jit
    def all_three(key):
        params = policy.init(key)
        stream, seen = rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, 2), 9)
        whole, _ = rollout.episodes(key, env, policy, params, 2, 9)  # more rows than the world has time for
        return stream, seen, whole, rollout.evaluate(key, env, policy, params, 2, max_steps=9)

    stream, seen, whole, found = jax.device_get(all_three(jax.random.key(0)))
    ends = np.arange(1, 10) % length == 0
    np.testing.assert_array_equal(seen.truncated, np.repeat(ends & (not terminates), 2).reshape(9, 2))
    np.testing.assert_array_equal(seen.terminated, np.repeat(ends & terminates, 2).reshape(9, 2))
    # What ended the episode is seen before the reset, and what follows begins anew.
    np.testing.assert_array_equal(seen.next_obs[:, 0, 0], np.arange(9) % length + 1)
    np.testing.assert_array_equal(seen.obs[:, 0, 0], np.arange(9) % length)
    np.testing.assert_array_equal(stream.last_length, length)
    np.testing.assert_array_equal(whole.mask.sum(axis=0), length)
    np.testing.assert_array_equal(whole.truncated.sum(axis=0), int(not terminates))
    np.testing.assert_array_equal(found.episode_length, length)
    np.testing.assert_array_equal(found.episode_return, length)
