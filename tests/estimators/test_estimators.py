"""Estimators against score functions in closed form, and in expectation against exact gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import losses
from pgjax.advantages import monte_carlo
from pgjax.envs.registry import make
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.policies import make as make_policy
from pgjax.rollout import episodes
from pgjax.types import Batch, Trajectory

T, B, STATES, ACTIONS = 5, 4, 5, 3
DISCOUNT = 0.9
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def policy():
    return make_policy(make("TabularMDP-pgjax"))


def _params(seed):
    g = np.random.default_rng(seed)
    return {
        "preference": g.normal(size=(STATES, ACTIONS)).astype(np.float32),
        "value": g.normal(size=STATES).astype(np.float32),
    }


def _batch(seed, mask=None):
    """Random experience [T, B]; the first environment runs to the end, the others for 1, 2 and 3 steps."""
    g = np.random.default_rng(seed)
    if mask is None:
        mask = np.arange(T)[:, None] < np.array([T, 1, 2, 3])
    zeros, no = np.zeros((T, B), np.float32), np.zeros((T, B), bool)
    trajectory = Trajectory(
        obs=g.integers(0, STATES, size=(T, B), dtype=np.int32),
        action=g.integers(0, ACTIONS, size=(T, B), dtype=np.int32),
        log_prob=zeros - np.log(ACTIONS).astype(np.float32),
        reward=zeros,
        terminated=no,
        truncated=no,
        next_obs=g.integers(0, STATES, size=(T, B), dtype=np.int32),
        mask=mask.astype(np.float32),
        time=np.broadcast_to(np.arange(T, dtype=np.int32)[:, None], (T, B)),
        memory=(),
    )
    advantage, target, value = g.normal(size=(3, T, B)).astype(np.float32)
    return Batch(trajectory, advantage=advantage, target=target, value=value)


def _softmax(theta):
    weights = np.exp(theta - theta.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _score_sum(params, batch, weight):
    """Sum over the counted steps of weight * d log pi(a | s) / d theta = onehot(a) - pi(. | s), in float64."""
    pi = _softmax(np.float64(params["preference"]))
    out = np.zeros((STATES, ACTIONS))
    for i in zip(*np.nonzero(batch.trajectory.mask), strict=True):
        s, a = int(batch.trajectory.obs[i]), int(batch.trajectory.action[i])
        out[s] += weight[i] * (np.eye(ACTIONS)[a] - pi[s])
    return out


class TestSurrogate:
    @pytest.mark.parametrize("reduce", ["step", "episode"])
    def test_its_gradient_is_the_weighted_score(self, reduce, policy):
        params, batch = _params(0), _batch(1)
        estimator = jax.jit(surrogate(losses.policy_gradient, reduce), static_argnums=1)
        gradient, metrics = estimator(KEY, policy, params, batch)
        advantage = np.float64(batch.advantage)
        # 5 + 1 + 2 + 3 steps; 4 episodes.
        scale = {"step": 11, "episode": 4}[reduce]
        np.testing.assert_allclose(
            gradient["preference"], -_score_sum(params, batch, advantage) / scale, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(gradient["value"], 0)
        log_pi = np.log(_softmax(np.float64(params["preference"])))
        mask, obs, action = (np.asarray(getattr(batch.trajectory, name)) for name in ("mask", "obs", "action"))
        loss = -np.sum(mask * advantage * log_pi[obs, action]) / scale
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)

    def test_the_critic_follows_its_error(self, policy):
        params, batch = _params(0), _batch(2)
        estimator = jax.jit(surrogate(losses.actor_critic(losses.policy_gradient), "step"), static_argnums=1)
        gradient, metrics = estimator(KEY, policy, params, batch, value_coef=0.7)
        mask, obs = np.asarray(batch.trajectory.mask), np.asarray(batch.trajectory.obs)
        error = mask * (np.float64(params["value"])[obs] - np.float64(batch.target))
        expected = np.zeros(STATES)
        np.add.at(expected, obs, 0.7 * error / mask.sum())
        np.testing.assert_allclose(gradient["value"], expected, rtol=1e-5, atol=1e-6)
        # Metrics are means over the steps that count.
        np.testing.assert_allclose(metrics["value_loss"], 0.5 * np.sum(error**2) / mask.sum(), rtol=1e-5)

    @pytest.mark.parametrize("reduce", ["step", "episode"])
    @pytest.mark.parametrize("normalize_advantage", [False, True])
    def test_what_stands_behind_an_end_does_not_count(self, reduce, normalize_advantage, policy):
        params, batch = _params(0), _batch(3)
        behind = batch.trajectory.mask == 0
        spoilt = Batch(
            trajectory=batch.trajectory._replace(
                obs=np.where(behind, 1, batch.trajectory.obs),
                action=np.where(behind, 2, batch.trajectory.action),
                log_prob=np.where(behind, np.float32(-20), batch.trajectory.log_prob),
            ),
            advantage=np.where(behind, np.float32(1e6), batch.advantage),
            target=np.where(behind, np.float32(-1e6), batch.target),
            value=np.where(behind, np.float32(1e6), batch.value),
        )
        plug = bind(surrogate(losses.actor_critic(losses.ppo_clip), reduce), normalize_advantage=normalize_advantage)
        estimator = jax.jit(plug, static_argnums=1)
        clean, same = (jax.tree.leaves(estimator(KEY, policy, params, x)) for x in (batch, spoilt))
        for a, b in zip(clean, same, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    def test_normalize_advantage_normalizes_over_the_counted_steps(self, policy):
        params, batch = _params(0), _batch(4)
        estimator = bind(surrogate(losses.policy_gradient), normalize_advantage=True)
        gradient, _ = jax.jit(estimator, static_argnums=1)(KEY, policy, params, batch)
        counted = np.float64(batch.advantage)[np.asarray(batch.trajectory.mask) > 0]
        advantage = (np.float64(batch.advantage) - counted.mean()) / counted.std()
        expected = -_score_sum(params, batch, advantage) / len(counted)
        np.testing.assert_allclose(gradient["preference"], expected, rtol=1e-4, atol=1e-6)

    def test_advantages_that_are_the_rounding_of_large_values_move_nothing(self, policy):
        """Each is a difference of numbers around 100 that are equal but for a rounding."""
        params, batch = _params(0), _batch(4)
        value = 100 + np.spacing(np.float32(100)) * jnp.sign(batch.advantage)
        rounded = batch._replace(advantage=100 - value, value=value, target=jnp.full_like(value, 100.0))
        estimator = bind(surrogate(losses.policy_gradient), normalize_advantage=True)
        gradient, _ = jax.jit(estimator, static_argnums=1)(KEY, policy, params, rounded)
        assert all((x == 0).all() for x in jax.tree.leaves(gradient))

    def test_rows_and_sequences_have_the_same_mean_over_steps(self, policy):
        params, batch = _params(0), _batch(5)
        rows = jax.tree.map(lambda x: x.reshape(-1), batch)
        estimator = jax.jit(surrogate(losses.actor_critic(losses.ppo_clip)), static_argnums=1)
        sequences, flat = (jax.tree.leaves(estimator(KEY, policy, params, x)) for x in (batch, rows))
        for a, b in zip(sequences, flat, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    def test_a_batch_in_which_nothing_counts_has_gradient_0(self, policy):
        batch = _batch(6, np.zeros((T, B), bool))
        for reduce in ("step", "episode"):
            estimator = jax.jit(surrogate(losses.policy_gradient, reduce), static_argnums=1)
            gradient, metrics = estimator(KEY, policy, _params(0), batch)
            assert all((x == 0).all() for x in jax.tree.leaves((gradient, metrics)))

    def test_jit_equals_eager(self, policy):
        estimator = surrogate(losses.policy_gradient)
        arguments = (KEY, policy, _params(0), _batch(7))
        eager, compiled = estimator(*arguments), jax.jit(estimator, static_argnums=1)(*arguments)
        for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(compiled), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    def test_vmap_equals_a_loop_and_traces_once(self, policy):
        """Over parameters, batches and hyperparameters at once."""
        traces = []

        def loss(now, batch, *, clip_eps=0.2):
            traces.append(now.log_prob.shape)
            return losses.ppo_clip(now, batch, clip_eps=clip_eps)

        estimator = surrogate(losses.actor_critic(loss))

        def gradient(params, batch, clip_eps, value_coef):
            return estimator(KEY, policy, params, batch, clip_eps=clip_eps, value_coef=value_coef)

        lanes = [(_params(i), _batch(10 + i), np.float32(0.1 * (i + 1)), np.float32(i)) for i in range(4)]
        one = jax.jit(gradient)
        alone = [one(*lane) for lane in lanes]
        assert traces == [(T, B)]
        together = jax.jit(jax.vmap(gradient))(*jax.tree.map(lambda *x: np.stack(x), *lanes))
        assert len(traces) == 2
        for i in range(4):
            for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone[i]), strict=True):
                np.testing.assert_allclose(np.asarray(a)[i], b, rtol=1e-5, atol=1e-6)

    def test_its_hyperparameters_are_those_of_the_loss_and_two_more(self):
        estimator = surrogate(bind(losses.ppo_clip, clip_eps=0.3))
        assert hyperparameters(estimator) == {
            "normalize_advantage": False,
            "noise": False,
            "clip_eps": 0.3,
            "clip_high": 0.0,
            "kl_coef": 0.0,
        }
        assert estimator.__name__ == "ppo_clip"

    def test_the_loss_is_the_negative_objective(self, policy):
        """A step against the gradient makes a rewarded action likelier."""
        params, batch = _params(0), _batch(8)
        batch = batch._replace(advantage=np.ones((T, B), np.float32))
        gradient, _ = jax.jit(surrogate(losses.policy_gradient), static_argnums=1)(KEY, policy, params, batch)
        moved = jax.tree.map(lambda x, g: x - 0.1 * g, params, gradient)
        before, after = (policy.evaluate(p, batch.trajectory).log_prob for p in (params, moved))
        mask = batch.trajectory.mask
        assert (mask * after).sum() > (mask * before).sum()


class TestMistakes:
    """Each names the function, what it returned and what was expected."""

    def run(self, loss, policy, reduce="step", batch=None):
        estimator = surrogate(loss, reduce)
        batch = _batch(0) if batch is None else batch
        # The checks are made while tracing; nothing needs to be compiled.
        return jax.eval_shape(lambda params, batch: estimator(KEY, policy, params, batch), _params(0), batch)

    def test_unknown_reduction(self):
        with pytest.raises(ValueError, match="reduce must be one of step, episode, episode_mean; got 'mean'"):
            surrogate(losses.policy_gradient, "mean")

    def test_a_hyperparameter_without_default(self):
        def my_loss(now, batch, *, beta):
            return beta * now.log_prob, {}

        with pytest.raises(TypeError, match="my_loss: keyword-only argument 'beta' has no default"):
            surrogate(my_loss)

    def test_a_loss_that_takes_the_mean(self, policy):
        def my_loss(now, batch):
            return -jnp.mean(now.log_prob * batch.advantage), {}

        with pytest.raises(ValueError, match=r"loss 'my_loss' returned shape \(\), .* \[T, B\] = \(5, 4\)"):
            self.run(my_loss, policy)

    def test_a_loss_that_sums_over_time(self, policy):
        def my_loss(now, batch):
            return -jnp.sum(now.log_prob * batch.advantage, axis=0), {}

        with pytest.raises(ValueError, match=r"loss 'my_loss' returned shape \(4,\), .* \(5, 4\)"):
            self.run(my_loss, policy)
        rows = jax.tree.map(lambda x: x.reshape(-1), _batch(0))
        with pytest.raises(ValueError, match=r"loss 'my_loss' returned shape \(\), .* \[N\] = \(20,\)"):
            self.run(my_loss, policy, batch=rows)

    def test_a_metric_of_another_shape(self, policy):
        def my_loss(now, batch):
            return -now.log_prob, {"spread": jnp.zeros(T)}

        with pytest.raises(ValueError, match=r"loss 'my_loss': metric 'spread' has shape \(5,\), .* \(5, 4\)"):
            self.run(my_loss, policy)

    def test_episodes_cannot_be_told_from_rows(self, policy):
        rows = jax.tree.map(lambda x: x.reshape(-1), _batch(0))
        with pytest.raises(ValueError, match=r"reduce='episode'\) needs whole episodes \[T, B\], got rows \(20,\)"):
            self.run(losses.policy_gradient, policy, "episode", rows)


class Tables(NamedTuple):
    """A finite MDP of a fixed horizon, and a softmax policy on it, in float64."""

    transition: np.ndarray  # [S, A, S]
    reward: np.ndarray  # [S, A]
    start: np.ndarray  # [S]
    terminal: np.ndarray  # [S] bool
    horizon: int
    theta: np.ndarray  # [S, A]


def _random_tables():
    g = np.random.default_rng(0)
    transition = g.dirichlet(np.ones(5), size=(5, 3))
    reward = g.normal(size=(5, 3))
    start = g.dirichlet(np.ones(5))
    return Tables(transition, reward, start, np.zeros(5, bool), 10, g.normal(size=(5, 3)))


def _ending_tables():
    """Two states and an end, reached after 1 to 3 steps; the fourth step is never taken."""
    g = np.random.default_rng(7)
    transition = g.dirichlet(np.ones(3), size=(3, 2))
    return Tables(
        transition,
        reward=g.normal(size=(3, 2)),
        start=np.array([0.7, 0.3, 0.0]),
        terminal=np.array([False, False, True]),
        horizon=3,
        theta=g.normal(size=(3, 2)),
    )


def _exact(tables):
    """J, its gradient, the expected update without gamma^t, and V_t [T + 1, S], by dynamic programming."""
    pi, alive = _softmax(tables.theta), ~tables.terminal
    v = np.zeros((tables.horizon + 1, len(pi)))
    q = np.zeros((tables.horizon, *pi.shape))
    for t in reversed(range(tables.horizon)):
        q[t] = tables.reward + DISCOUNT * tables.transition @ (alive * v[t + 1])
        v[t] = np.sum(pi * q[t], axis=1)
    occupancy = tables.start
    gradient, update = np.zeros_like(pi), np.zeros_like(pi)
    for t in range(tables.horizon):
        # The policy gradient theorem; for a softmax, sum_a grad pi(a | s) Q = pi (Q - V).
        term = occupancy[:, None] * pi * (q[t] - v[t][:, None])
        gradient += DISCOUNT**t * term
        update += term
        occupancy = alive * np.einsum("s,sa,sax->x", occupancy, pi, tables.transition)
    return tables.start @ v[0], gradient, update, v


def _by_enumeration(tables):
    """E[sum_t] and E[sum_t / length] of gamma^t G_t d log pi(a_t | s_t) / d theta, over every episode."""
    pi = _softmax(tables.theta)
    total, mean = np.zeros_like(pi), np.zeros_like(pi)

    def follow(state, probability, steps):
        nonlocal total, mean
        if len(steps) == tables.horizon or tables.terminal[state]:
            gradient = np.zeros_like(pi)
            for t, (s, a) in enumerate(steps):
                # gamma^t G_t
                weight = sum(DISCOUNT**k * tables.reward[steps[k]] for k in range(t, len(steps)))
                gradient[s] += weight * (np.eye(pi.shape[1])[a] - pi[s])
            total += probability * gradient
            mean += probability * gradient / len(steps)
            return
        for a in range(pi.shape[1]):
            for following, p in enumerate(tables.transition[state, a]):
                follow(following, probability * pi[state, a] * p, [*steps, (state, a)])

    for state, p in enumerate(tables.start):
        if p > 0:
            follow(state, p, [])
    return total, mean


def _z(samples, expected):
    """The largest distance of the mean of [K, ...] from what is expected, in standard errors."""
    samples = samples.reshape(len(samples), -1)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return np.abs((samples.mean(axis=0) - expected.reshape(-1)) / error).max()


CHUNKS, SIZE = 8192, 4
EPISODES = 60_000


@pytest.fixture(scope="module")
def exact():
    return _exact(_random_tables())


@pytest.fixture(scope="module")
def reinforce(policy, exact):
    """Estimates of the gradient of J, [chunk, S, A], by each choice of weights."""
    tables = _random_tables()
    j, _, _, values = exact
    values = jnp.asarray(values, jnp.float32)
    params = {"preference": jnp.asarray(tables.theta, jnp.float32), "value": jnp.zeros(STATES)}
    env = make("TabularMDP-pgjax")
    to_go = bind(monte_carlo, discount=DISCOUNT, gamma_t=True)
    weights = {
        "full": bind(monte_carlo, discount=DISCOUNT, reward_to_go=False),
        "full, leave one out": bind(monte_carlo, discount=DISCOUNT, reward_to_go=False, baseline="leave_one_out"),
        "to go": to_go,
        "to go, constant": bind(to_go, baseline="constant", constant=j),
        "to go, leave one out": bind(to_go, baseline="leave_one_out"),
        "to go, exact value": bind(to_go, baseline="value"),
        "to go, no gamma^t": bind(to_go, gamma_t=False),
    }
    estimator = surrogate(losses.policy_gradient, reduce="episode")

    @jax.jit
    def sample(key):
        trajectory, _ = episodes(key, env, policy, params, CHUNKS * SIZE)
        split = jax.tree.map(lambda x: x.reshape(len(x), CHUNKS, SIZE), trajectory)

        def estimate(chunk, plug):
            now = policy.evaluate(params, chunk)._replace(value=values[chunk.time, chunk.obs])
            _, (advantage, target) = plug.apply(plug.init(), chunk, now)
            batch = Batch(chunk, advantage=advantage, target=target, value=now.value)
            return -estimator(KEY, policy, params, batch)[0]["preference"]

        return {
            name: jax.vmap(lambda chunk, plug=plug: estimate(chunk, plug), in_axes=1)(split)
            for name, plug in weights.items()
        }

    return {name: np.float64(x) for name, x in sample(jax.random.key(2024)).items()}


class TestBias:
    """REINFORCE on a tabular MDP: 32,768 episodes in chunks of 4."""

    def test_the_exact_values_are_the_known_ones(self, exact):
        j, gradient, update, _ = exact
        np.testing.assert_allclose(j, -1.202990748691508, rtol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(gradient), 1.098609058672, rtol=1e-11)
        np.testing.assert_allclose(np.linalg.norm(update), 1.636707940743, rtol=1e-11)
        np.testing.assert_allclose(np.linalg.norm(update - gradient), 0.5398770296, rtol=1e-9)

    @pytest.mark.parametrize(
        "name",
        ["full", "full, leave one out", "to go", "to go, constant", "to go, leave one out", "to go, exact value"],
    )
    def test_unbiased(self, name, reinforce, exact):
        assert _z(reinforce[name], exact[1]) < 5

    def test_without_gamma_t_it_is_another_vector(self, reinforce, exact):
        _, gradient, update, _ = exact
        assert _z(reinforce["to go, no gamma^t"], update) < 5
        assert _z(reinforce["to go, no gamma^t"], gradient) > 20

    @pytest.mark.parametrize(
        ("name", "trace"),
        [("full", 27.6115314628), ("to go", 9.5191950272), ("to go, exact value", 9.2637979665)],
    )
    def test_the_variance_is_the_known_one(self, name, trace, reinforce, exact):
        """The trace of the covariance of one episode's gradient: 4 times that of a chunk of 4."""
        square = SIZE * np.sum((reinforce[name] - exact[1]) ** 2, axis=(1, 2))
        error = square.std() / np.sqrt(CHUNKS)
        assert error < 0.03 * trace
        assert abs(square.mean() - trace) < 5 * error

    def test_a_constant_baseline_is_worse_than_none_for_the_reward_to_go(self, reinforce, exact):
        square = {name: np.sum((reinforce[name] - exact[1]) ** 2, axis=(1, 2)) for name in ("to go", "to go, constant")}
        difference = square["to go, constant"] - square["to go"]
        assert difference.mean() > 5 * difference.std() / np.sqrt(CHUNKS)


@pytest.fixture(scope="module")
def reduced():
    tables = _ending_tables()
    names = ("transition", "reward", "start", "terminal", "horizon")
    env = make("TabularMDP-pgjax", **{name: getattr(tables, name) for name in names})
    policy = make_policy(env)
    params = {"preference": jnp.asarray(tables.theta, jnp.float32), "value": jnp.zeros(3)}
    plug = bind(monte_carlo, discount=DISCOUNT, gamma_t=True)

    @jax.jit
    def sample(key):
        trajectory, done = episodes(key, env, policy, params, EPISODES)

        def estimate(episode, reduce):
            episode = jax.tree.map(lambda x: x[:, None], episode)
            now = policy.evaluate(params, episode)
            _, (advantage, target) = plug.apply(plug.init(), episode, now)
            batch = Batch(episode, advantage=advantage, target=target, value=now.value)
            estimator = surrogate(losses.policy_gradient, reduce)
            return -estimator(KEY, policy, params, batch)[0]["preference"]

        return done.episode_length, {
            reduce: jax.vmap(lambda episode, reduce=reduce: estimate(episode, reduce), in_axes=1)(trajectory)
            for reduce in ("step", "episode")
        }

    length, gradients = sample(jax.random.key(7))
    assert set(np.unique(length)) == {1, 2, 3}
    return {name: np.float64(x) for name, x in gradients.items()}


@pytest.fixture(scope="module")
def enumerated():
    total, mean = _by_enumeration(_ending_tables())
    # Dynamic programming agrees, terminal state included.
    np.testing.assert_allclose(total, _exact(_ending_tables())[1], atol=1e-12)
    return total, mean


class TestReduction:
    """Episodes of 1 to 3 steps, one in each batch: 60,000 estimates."""

    # The terminal state is never acted in: its rows are 0 without spread.
    def test_the_sum_over_an_episode_is_unbiased(self, reduced, enumerated):
        assert _z(reduced["episode"][:, :2], enumerated[0][:2]) < 5

    def test_the_mean_over_steps_is_another_vector(self, reduced, enumerated):
        total, mean = enumerated
        assert _z(reduced["step"][:, :2], mean[:2]) < 5
        # No multiple of the gradient either: what is left across its direction is far from 0.
        direction = total / np.linalg.norm(total)
        across = reduced["step"] - np.einsum("ksa,sa->k", reduced["step"], direction)[:, None, None] * direction
        assert _z(across[:, :2], np.zeros((2, 2))) > 20


@pytest.mark.parametrize("reduce", ["step", "episode"])
@pytest.mark.parametrize("normalize_advantage", [False, True])
def test_even_nan_behind_an_end_does_not_count(reduce, normalize_advantage):
    env = make("TabularMDP-pgjax")
    policy = make_policy(env)
    params = policy.init(jax.random.key(0))
    index, no = np.zeros((3, 2), np.int32), np.zeros((3, 2), bool)
    mask = np.array([[1, 1], [1, 0], [0, 0]], np.float32)
    zeros = np.zeros((3, 2), np.float32)
    nan = np.where(mask > 0, np.float32(1), np.float32(np.nan))
    trajectory = Trajectory(index, index, zeros, zeros, no, no, index, mask, index, ())
    estimator = bind(surrogate(losses.actor_critic(losses.ppo_clip), reduce), normalize_advantage=normalize_advantage)
    clean, spoilt = (
        jax.tree.leaves(
            jax.jit(estimator, static_argnums=1)(jax.random.key(0), policy, params, Batch(trajectory, x, x, x))
        )
        for x in (np.where(mask > 0, nan, 0), nan)
    )
    for a, b in zip(clean, spoilt, strict=True):
        np.testing.assert_array_equal(a, b)
