"""The average-reward plugs against float64 loops, the oracle, and the exact gradient of the gain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import advantages, envs, oracle, policies, rollout, variance
from pgjax.config import Config
from pgjax.estimators import exact_relative, surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import policy_gradient
from pgjax.numerics import relative_values
from pgjax.types import Batch, Evaluation

S, A = 5, 3


@pytest.fixture(scope="module")
def world():
    """The random MDP, which has no end, with a table of logits and one of action values."""
    env = envs.make("TabularMDP-pgjax", horizon=10**6)
    policy = policies.make(env, Config(critic="action_value"))
    g = np.random.default_rng(3)
    preference, value = jnp.asarray(g.normal(size=(2, S, A)), jnp.float32)
    params = {"preference": preference, "value": value}
    return env, policy, params


@pytest.fixture(scope="module")
def stream(world):
    env, policy, params = world
    state = rollout.start(jax.random.key(0), env, policy, 3)
    _, trajectory = jax.jit(lambda s: rollout.unroll(jax.random.key(1), env, policy, params, s, 12))(state)
    return trajectory, policy.evaluate(params, trajectory)


class TestRelativeValues:
    def test_they_are_the_oracles(self, world):
        env, policy, params = world
        pi = oracle.probabilities(policy, params, S)
        exact = oracle.average_reward(oracle.from_env(env, 1.0), pi)
        found = relative_values.relative_values(env.params.transition, env.params.reward, jnp.asarray(pi, jnp.float32))
        for field in found._fields:
            np.testing.assert_allclose(getattr(found, field), getattr(exact, field), rtol=1e-4, atol=1e-5)

    def test_a_chain_with_a_period_has_them_too(self):
        """Two states that follow each other for ever, rewards 1 and 0: gain 1/2, values 1/4 and -1/4."""
        transition = jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]])
        found = relative_values.relative_values(transition, jnp.array([[1.0], [0.0]]), jnp.ones((2, 1)))
        np.testing.assert_allclose(found.gain, 0.5, rtol=1e-6)
        np.testing.assert_allclose(found.value, [0.25, -0.25], rtol=1e-5)

    def test_transient_states_and_slow_chains(self):
        """One state leads away for ever; two others change places once in 200 steps."""
        slow = 0.005
        chain = np.array([[0.0, 0.5, 0.5], [0.0, 1 - slow, slow], [0.0, slow, 1 - slow]])[:, None]
        reward = np.array([[7.0], [1.0], [0.0]])
        exact = oracle.average_reward(
            oracle.MDP(chain, reward, np.eye(3)[0], np.zeros(3, bool), None, 1.0), np.ones((3, 1))
        )
        found = relative_values.relative_values(jnp.asarray(chain), jnp.asarray(reward), jnp.ones((3, 1)))
        np.testing.assert_allclose(found.stationary, [0, 0.5, 0.5], atol=1e-5)
        np.testing.assert_allclose(found.value, exact.value, rtol=1e-3)


class TestTemporalDifferences:
    @pytest.mark.parametrize("gain", [0.0, 0.7])
    def test_differential_against_a_loop(self, stream, gain):
        trajectory, now = stream
        new, (advantage, target) = advantages.differential.apply(jnp.float32(gain), trajectory, now, gain_rate=0.1)
        reward, value, following = (np.asarray(x, np.float64) for x in (trajectory.reward, now.value, now.next_value))
        delta = np.zeros_like(reward)
        for t in range(reward.shape[0]):
            for b in range(reward.shape[1]):
                delta[t, b] = reward[t, b] - gain + following[t, b] - value[t, b]
        np.testing.assert_allclose(advantage, delta, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(target, delta + value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(new, gain + 0.1 * delta.mean(), rtol=1e-5)
        masked = trajectory._replace(mask=trajectory.mask.at[4:, 1].set(0.0))
        new, _ = advantages.differential.apply(jnp.float32(gain), masked, now, gain_rate=0.1)
        counted = delta[np.asarray(masked.mask) > 0]
        np.testing.assert_allclose(new, gain + 0.1 * counted.mean(), rtol=1e-5)

    def test_relative_against_a_loop(self, world, stream):
        (_, _, params), (trajectory, now) = world, stream
        new, (advantage, target) = advantages.relative.apply(jnp.float32(0.3), trajectory, now, gain_rate=0.1)
        q = np.asarray(params["value"], np.float64)
        pi = np.exp(params["preference"]) / np.exp(params["preference"]).sum(axis=1, keepdims=True)
        errors = []
        for t in range(12):
            for b in range(3):
                s, a, following = (int(x[t, b]) for x in (trajectory.obs, trajectory.action, trajectory.next_obs))
                goal = float(trajectory.reward[t, b]) - 0.3 + pi[following] @ q[following]
                np.testing.assert_allclose(advantage[t, b], q[s, a] - pi[s] @ q[s], rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(target[t, b], goal, rtol=1e-4, atol=1e-5)
                errors.append(goal - q[s, a])
        np.testing.assert_allclose(new, 0.3 + 0.1 * np.mean(errors), rtol=1e-4)

    def test_relative_asks_for_action_values(self, stream):
        with pytest.raises(ValueError, match="set config.critic='action_value'"):
            advantages.relative.apply(jnp.zeros(()), stream[0], stream[1]._replace(action_value=()))


class TestRollouts:
    @pytest.mark.parametrize("length", [1, 4, 11])
    @pytest.mark.parametrize("baseline", ["none", "value"])
    def test_against_a_loop(self, stream, length, baseline):
        trajectory, now = stream
        reward, value = (np.asarray(x, np.float64) for x in (trajectory.reward, now.value))
        advantage, target = advantages.relative_return(trajectory, now, length=length, baseline=baseline)
        gain, whole = reward.mean(axis=0), 12 - length + 1
        for b in range(3):
            for t in range(12):
                g = sum(reward[t + k, b] - gain[b] for k in range(length) if t + k < 12)
                wanted = (g - value[t, b] * (baseline == "value")) * 12 / whole if t < whole else 0.0
                np.testing.assert_allclose(advantage[t, b], wanted, rtol=1e-4, atol=1e-5)
                goal = g if baseline == "value" and t < whole else value[t, b]
                np.testing.assert_allclose(target[t, b], goal, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("whole", [False, True])
    def test_a_sum_goes_on_where_the_next_start_follows_an_end(self, stream, whole):
        """Not behind whole episodes, which nothing follows."""
        trajectory, now = stream
        mask = trajectory.mask.at[6:].set(0.0) if whole else trajectory.mask
        rows = trajectory._replace(mask=mask, terminated=jnp.zeros((12, 3), bool).at[5].set(True))
        advantage, _ = advantages.relative_return(rows, now, length=3)
        reward, mask = np.asarray(rows.reward, np.float64), np.asarray(mask)
        gain = (reward * mask).sum(axis=0) / mask.sum(axis=0)
        stop = 6 if whole else 8
        expected = (reward[5:stop] - gain).sum(axis=0) * 12 / 10
        np.testing.assert_allclose(advantage[5], expected, rtol=1e-4, atol=1e-5)

    def test_no_sum_crosses_a_time_limit(self, stream):
        trajectory, now = stream
        ended = trajectory._replace(truncated=jnp.zeros((12, 3), bool).at[5].set(True))
        far = ended._replace(reward=ended.reward.at[6].add(5.0).at[7].add(-5.0))  # the same gain
        before, after = (advantages.relative_return(x, now, length=3)[0] for x in (ended, far))
        np.testing.assert_allclose(before[:6], after[:6], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "options", [{"length": 0}, {"length": 12}, {"length": 13}, {"length": 4, "baseline": "valeu"}]
    )
    def test_mistakes(self, stream, options):
        with pytest.raises(ValueError, match="relative_return: (length must lie in|baseline must be)"):
            advantages.relative_return(*stream, **options)


@pytest.mark.slow
def test_each_gradient_against_the_exact_one_of_the_gain(world):
    """From the stationary start the exact relative values are unbiased, with a baseline and without.

    Rollouts of length 24 are not, but nearly; cut after one step they are not at all.
    """
    env, policy, params = world
    exact = oracle.average_reward(oracle.from_env(env, 1.0), oracle.probabilities(policy, params, S))
    started = env._replace(params=env.params.replace(start=jnp.asarray(exact.stationary, jnp.float32)))

    def sampler(advantage, estimator, steps):
        def gradient(key, params):
            key_start, key_steps = jax.random.split(key)
            state = rollout.start(key_start, started, policy, 4)
            _, trajectory = rollout.unroll(key_steps, started, policy, params, state, steps)
            now = policy.evaluate(params, trajectory)
            weight, target = advantage(trajectory, now)
            found, _ = estimator(key, policy, params, Batch(trajectory, weight, target, now.value))
            return jax.tree.map(jnp.negative, found)

        return variance.Sampler(gradient)

    plain = surrogate(policy_gradient)
    exactly = exact_relative(env.params.transition, env.params.reward)
    nothing = lambda trajectory, now: (jnp.zeros_like(now.value), now.value)  # noqa: E731
    chosen = {
        "exact": sampler(nothing, exactly, 4),
        "exact without baseline": sampler(nothing, bind(exactly, baseline=False), 4),
        "rollouts": sampler(bind(advantages.relative_return, length=24), plain, 256),
        "one step": sampler(bind(advantages.relative_return, length=1), plain, 256),
    }
    short = env._replace(max_steps=2)
    report = variance.compare(
        chosen,
        short,
        policy,
        params,
        gradient=lambda params: oracle.average_reward_gradient(oracle.from_env(env, 1.0), policy, params)[1],
        episodes=2048,
        batch=(1, 16),
        pilot=1,
    )
    rows = report.summary["estimators"]
    assert report.summary["reference_episodes"] == "exact"
    assert abs(rows["exact"]["bias_z"]) < 5 and abs(rows["exact without baseline"]["bias_z"]) < 5
    assert rows["exact"]["trace"]["value"] < rows["exact without baseline"]["trace"]["value"]
    assert rows["rollouts"]["relative_bias"]["value"] < 0.1 < rows["one step"]["relative_bias"]["value"]


def test_a_gradient_of_ones_own_stands_beside_samplers_alone(world):
    env, policy, params = world
    with pytest.raises(
        ValueError, match="gradient: estimator 'to_go' estimates that of the discounted J; give Samplers alone"
    ):
        variance.compare(["to_go"], env, policy, params, gradient=lambda p: p)
    mine = {"mine": variance.Sampler(lambda key, params: params)}
    with pytest.raises(TypeError, match="gradient must be a function of params, got 3"):
        variance.compare(mine, env, policy, params, gradient=3)
    short = env._replace(max_steps=2)
    with pytest.raises(ValueError, match="gradient must return a tree like params"):
        variance.compare(mine, short, policy, params, gradient=lambda p: 0.0, episodes=8, batch=(1,), pilot=1)


def test_an_evaluation_without_action_values_has_none(world):
    env, _, _ = world
    policy = policies.make(env)
    trajectory, _ = rollout.episodes(jax.random.key(0), env, policy, policy.init(jax.random.key(0)), 2, 2)
    now = policy.evaluate(policy.init(jax.random.key(0)), trajectory)
    assert isinstance(now, Evaluation) and now.action_value == ()
