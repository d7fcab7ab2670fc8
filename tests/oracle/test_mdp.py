"""Exact values against the known ones, against enumeration, and against each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgjax import oracle
from pgjax.envs.registry import make
from pgjax.oracle import MDP
from pgjax.policies import from_nnx
from pgjax.policies import make as make_policy
from pgjax.policies.distributions import Categorical, DiagGaussian
from pgjax.rollout import episodes
from pgjax.types import Policy

CLOSE = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)


def _random():
    """The MDP and the policy parameters of GROUND_TRUTH.md."""
    g = np.random.default_rng(0)
    transition = g.dirichlet(np.ones(5), size=(5, 3))
    reward = g.normal(size=(5, 3))
    start = g.dirichlet(np.ones(5))
    return MDP(transition, reward, start, np.zeros(5, bool), 10, 0.9), g.normal(size=(5, 3))


def _ending():
    """Two states and an end, reached after 1 to 3 steps or not at all."""
    g = np.random.default_rng(7)
    transition = g.dirichlet(np.ones(3), size=(3, 2))
    reward, terminal = g.normal(size=(3, 2)), np.array([False, False, True])
    return MDP(transition, reward, np.array([0.7, 0.3, 0.0]), terminal, 3, 0.9), g.normal(size=(3, 2))


def _corridor(p):
    """Three states that look alike, actions reversed in the second; a table of P(left), P(right)."""
    transition = np.zeros((4, 2, 4))
    for s, (left, right) in enumerate([(0, 1), (2, 0), (1, 3), (3, 3)]):
        transition[s, 0, left] = transition[s, 1, right] = 1
    mdp = MDP(transition, -np.ones((4, 2)), np.eye(4)[0], np.arange(4) == 3, None, 1.0)
    return mdp, np.tile([1 - p, p], (4, 1))


def _act_by(log_pi, init=None):
    """A policy from params -> Categorical logits [S, A]."""
    return Policy(
        init=init,
        memory=lambda batch: (),
        act=lambda params, memory, obs: (Categorical(log_pi(params)[obs]), memory),
        evaluate=None,
    )


SOFTMAX = _act_by(lambda theta: theta)


def _vector(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def _theorem(mdp, found, phi, pi, gamma_t=True):
    """sum_t gamma^t sum_s P(s_t = s) sum_a pi q d log pi (Sutton et al. 2000, theorem 1)."""
    weight = (mdp.discount if gamma_t else 1.0) ** np.arange(mdp.horizon)
    return np.einsum("t,ts,sa,tsa,sap->p", weight, found.occupancy, pi, found.action_value, phi)


def _coordinates(mdp, baseline=None):
    """z = (1, G, c), c the coordinates of reward-to-go with gamma^t, less a baseline [T, S]."""
    s, a = mdp.reward.shape
    size, i, j = 2 + s * a, *np.indices((s, a))
    mine = 2 + i * a + j

    def step(t):
        x = np.zeros((s, a, 1, size, size))
        x[..., 0, 0] = 1
        x[:, :, 0, 1, 0], x[..., 1, 1] = mdp.reward, mdp.discount
        x[..., range(2, size), range(2, size)] = mdp.discount
        x[i, j, 0, mine, 0] = mdp.reward - (0 if baseline is None else baseline[t][:, None])
        x[i, j, 0, mine, 1] = mdp.discount
        return x

    return step, lambda ended: np.tile(np.eye(size)[0], (s, 1))


def _full_return(mdp):
    """z = (1, G, n, n G), n how often a was taken in s."""
    s, a = mdp.reward.shape
    k, i, j = s * a, *np.indices((s, a))
    size, n, ng = 2 + 2 * k, 2 + i * a + j, 2 + k + i * a + j

    def step(t):
        x = np.zeros((s, a, s, size, size))
        x[..., 0, 0] = 1
        x[..., 1, 0], x[..., 1, 1] = mdp.reward[:, :, None], mdp.discount
        for m in range(k):
            x[..., 2 + m, 2 + m] = 1
            x[..., 2 + k + m, 2 + m] = mdp.reward[:, :, None]
            x[..., 2 + k + m, 2 + k + m] = mdp.discount
        x[i, j, :, n, 0] = 1
        x[i, j, :, ng, 0], x[i, j, :, ng, 1] = mdp.reward[:, :, None], mdp.discount
        return x

    return step, lambda ended: np.tile(np.eye(size)[0], (s, 1))


def _last(pair, count):
    return pair[0][-count:], pair[1][-count:, -count:]


class TestTheRandomMDP:
    def test_values_and_gradients(self):
        mdp, theta = _random()
        pi, phi = oracle.probabilities(SOFTMAX, theta, 5), oracle.scores(SOFTMAX, theta, 5)
        found = oracle.values(mdp, pi)
        objective, gradient = oracle.gradient(mdp, SOFTMAX, theta)
        update = _theorem(mdp, found, phi, pi, gamma_t=False)
        known = functools.partial(np.testing.assert_allclose, rtol=0)
        known(found.objective, -1.202990748691508, atol=1e-14)
        CLOSE(objective, found.objective)
        known(np.linalg.norm(gradient), 1.098609058672, atol=1e-12)
        CLOSE(_theorem(mdp, found, phi, pi), gradient.ravel())
        known(np.linalg.norm(update), 1.636707940743, atol=1e-12)
        known(np.linalg.norm(update - gradient.ravel()), 0.5398770296, atol=1e-10)
        cosine = update @ gradient.ravel() / np.linalg.norm(update) / np.linalg.norm(gradient)
        known(cosine, 0.999466993520, atol=1e-12)

    def test_covariances_without_sampling(self):
        mdp, theta = _random()
        pi, phi = oracle.probabilities(SOFTMAX, theta, 5), oracle.scores(SOFTMAX, theta, 5)
        found = oracle.values(mdp, pi)
        gradient = oracle.gradient(mdp, SOFTMAX, theta)[1].ravel()
        constant = np.full((10, 5), found.objective)
        ways = {
            "full": _full_return(mdp),
            "to go": _coordinates(mdp),
            "value": _coordinates(mdp, found.value),
            "constant": _coordinates(mdp, constant),
        }
        traces = {}
        for name, way in ways.items():
            projected = oracle.project(*_last(oracle.moments(mdp, pi, *way), 15), phi)
            CLOSE(projected.mean, gradient)
            traces[name] = projected.trace
        np.testing.assert_allclose(traces["full"], 27.6115314628, rtol=0, atol=1e-10)
        np.testing.assert_allclose(traces["to go"], 9.5191950272, rtol=0, atol=1e-10)
        np.testing.assert_allclose(traces["value"], 9.2637979665, rtol=0, atol=1e-10)
        assert traces["constant"] > traces["to go"]

    def test_the_environment_holds_the_same_tables(self):
        mdp, theta = _random()
        read = oracle.from_env(make("TabularMDP-pgjax"), 0.9)
        assert (read.horizon, read.discount, read.terminal.dtype) == (10, 0.9, bool)
        for name in ("transition", "reward", "start"):
            assert getattr(read, name).dtype == np.float64
            np.testing.assert_allclose(getattr(read, name), getattr(mdp, name), rtol=2e-7, atol=1e-8)
        CLOSE(read.transition.sum(-1), 1, rtol=1e-15)
        assert abs(oracle.gradient(read, SOFTMAX, theta)[0] + 1.202990748691508) < 1e-6


class TestTheCorridor:
    """Its policy has one parameter, P(right) = sigmoid(theta)."""

    policy = _act_by(lambda theta: jnp.tile(jax.nn.log_sigmoid(jnp.stack([-theta, theta])), (4, 1)))

    @pytest.mark.parametrize("p", [0.05, 0.5, 0.585786437626905, 0.95])
    def test_value_and_gradient_in_closed_form(self, p):
        mdp, pi = _corridor(p)
        objective, gradient = oracle.gradient(mdp, self.policy, np.log(p / (1 - p)))
        np.testing.assert_allclose(objective, -(4 - 2 * p) / (p * (1 - p)), rtol=1e-12)
        np.testing.assert_allclose(gradient, 2 * (p * p - 4 * p + 2) / (p * (1 - p)), rtol=1e-11, atol=1e-10)
        found = oracle.values(mdp, pi)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-12)
        # With reward -1 a step, J counts the steps.
        np.testing.assert_allclose(found.occupancy.sum(), -objective, rtol=1e-12)
        assert found.value[3] == found.action_value[3].any() == found.advantage[3].any() == found.occupancy[3] == 0

    def test_variances(self):
        mdp, pi = _corridor(0.5)
        phi = oracle.scores(self.policy, np.zeros(()), 4)
        assert phi.shape == (4, 2, 1)
        v = oracle.values(mdp, pi).value
        mdp = mdp._replace(horizon=600)
        # The known 277 is with the value of the start as everyone's baseline; each state's own is worse.
        baselines = (np.full((600, 4), v[0]), np.tile(v, (600, 1)))
        ways = (_full_return(mdp), _coordinates(mdp), *(_coordinates(mdp, b) for b in baselines))
        for way, variance in zip(ways, (1959, 733, 277, 295), strict=True):
            projected = oracle.project(*_last(oracle.moments(mdp, pi, *way), 8), phi)
            np.testing.assert_allclose(projected.mean, 2, rtol=1e-8)
            np.testing.assert_allclose(projected.variance, variance, rtol=1e-8)


def _weights(mdp, trajectory, baseline):
    """c [N, S A]: gamma^t (G_t - b_t) of the steps that took a in s."""
    steps, count = trajectory.mask.shape
    c, g = np.zeros((count, *mdp.reward.shape)), np.zeros(count)
    for t in reversed(range(steps)):
        alive = trajectory.mask[t] > 0
        obs, action = trajectory.obs[t], trajectory.action[t]
        g = np.where(alive, mdp.reward[obs, action] + mdp.discount * g, g)
        c[np.arange(count), obs, action] += alive * mdp.discount**t * (g - baseline[t][obs])
    return c.reshape(count, -1)


class TestEnumeration:
    def test_probabilities_sum_to_one(self):
        mdp, theta = _ending()
        trajectory, probability = oracle.trajectories(mdp, oracle.probabilities(SOFTMAX, theta, 3))
        CLOSE(probability.sum(), 1)
        # 2 starts; (2 states x 2 actions) ways on from each step, 2 into the end.
        assert probability.shape == (2 * (2 + 4 * 2 + 16 * 6),)
        assert len(np.unique(np.concatenate([trajectory.obs, trajectory.action, trajectory.next_obs]), axis=1).T) == 212

    def test_moments(self):
        mdp, theta = _ending()
        pi, phi = oracle.probabilities(SOFTMAX, theta, 3), oracle.scores(SOFTMAX, theta, 3)
        trajectory, probability = oracle.trajectories(mdp, pi)
        found = oracle.values(mdp, pi)
        c = _weights(mdp, trajectory, found.value)
        mean, second = _last(oracle.moments(mdp, pi, *_coordinates(mdp, found.value)), 6)
        CLOSE(mean, probability @ c)
        CLOSE(second, np.einsum("n,ni,nj->ij", probability, c, c))
        g = c @ phi.reshape(6, -1)
        CLOSE(probability @ g, oracle.gradient(mdp, SOFTMAX, theta)[1].ravel())
        covariance = np.einsum("n,ni,nj->ij", probability, g, g) - np.outer(probability @ g, probability @ g)
        CLOSE(oracle.covariance(mean, second, phi), covariance)
        projected = oracle.project(mean, second, phi)
        CLOSE(projected.mean, probability @ g)
        CLOSE(projected.variance, np.diag(covariance))
        CLOSE(projected.trace, np.trace(covariance))

    def test_moments_may_look_at_the_state_entered_and_at_how_the_episode_ended(self):
        """A TD(0)-like quantity under a behaviour policy: c_t = r + gamma w(s') - w(s), plus a closing 5 or w(s)."""
        mdp, _ = _ending()
        g = np.random.default_rng(1)
        pi, w = g.dirichlet(np.ones(2), size=3), g.normal(size=3)

        def step(t):
            x = np.zeros((3, 2, 3, 2, 2))
            x[..., 0, 0], x[..., 1, 1] = 1, 0.5
            x[..., 1, 0] = (t + 1) * (mdp.reward[:, :, None] + 0.9 * w - w[:, None, None])
            return x

        def last(ended):
            return np.stack([np.ones(3), np.full(3, 5.0) if ended else w], axis=1)

        trajectory, probability = oracle.trajectories(mdp, pi)
        z = np.zeros(len(probability))
        for t in reversed(range(3)):
            s, a, x = trajectory.obs[t], trajectory.action[t], trajectory.next_obs[t]
            z = np.where(trajectory.terminated[t], 5.0, np.where(trajectory.truncated[t], w[x], z))
            z = np.where(trajectory.mask[t] > 0, (t + 1) * (mdp.reward[s, a] + 0.9 * w[x] - w[s]) + 0.5 * z, z)
        mean, second = oracle.moments(mdp, pi, step, last)
        CLOSE(mean, [1, probability @ z])
        CLOSE(second, [[1, probability @ z], [probability @ z, probability @ z**2]])

    def test_values_and_occupancy(self):
        mdp, theta = _ending()
        pi = oracle.probabilities(SOFTMAX, theta, 3)
        trajectory, probability = oracle.trajectories(mdp, pi)
        found = oracle.values(mdp, pi)
        alive = trajectory.mask * probability
        seen = np.stack([np.bincount(trajectory.obs[t], alive[t], minlength=3) for t in range(3)])
        CLOSE(found.occupancy, seen)
        total = np.sum(
            trajectory.mask * 0.9 ** np.arange(3)[:, None] * mdp.reward[trajectory.obs, trajectory.action], 0
        )
        CLOSE(found.objective, probability @ total)
        assert found.value.shape == (4, 3) and found.action_value.shape == found.advantage.shape == (3, 3, 2)
        assert not found.value[:, 2].any() and not found.action_value[:, 2].any() and not found.value[3].any()

    def test_trajectories_are_those_of_a_rollout(self):
        mdp, theta = _ending()
        env = make("TabularMDP-pgjax", **{k: v for k, v in mdp._asdict().items() if k != "discount"})
        theta = jnp.asarray(theta, jnp.float32)
        mdp = oracle.from_env(env, 0.9)
        every, probability = oracle.trajectories(mdp, oracle.probabilities(SOFTMAX, theta, 3))
        sampled, _ = jax.jit(lambda key: episodes(key, env, SOFTMAX, theta, 4096))(jax.random.key(0))
        sampled = jax.tree.map(np.asarray, sampled)

        def identity(x):
            alive = x.mask > 0
            parts = (x.obs, *(np.where(alive, part, -1) for part in (x.action, x.next_obs)))
            return [tuple(column) for column in np.concatenate(parts).T]

        index = {name: n for n, name in enumerate(identity(every))}
        match = np.array([index[name] for name in identity(sampled)])
        alive = sampled.mask > 0
        for name in ("obs", "mask", "time", "terminated", "truncated", "reward"):
            ours, theirs = getattr(every, name)[:, match], getattr(sampled, name)
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)
        for name in ("action", "next_obs", "log_prob"):
            ours, theirs = getattr(every, name)[:, match], getattr(sampled, name)
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_allclose(ours[alive], theirs[alive], rtol=1e-5, err_msg=name)
        assert every.memory == () and np.all(np.isfinite(every.log_prob))
        # Frequencies: the largest of some 200 deviations, in standard errors.
        count = np.bincount(match, minlength=len(probability))
        assert np.max(np.abs(count - 4096 * probability) / np.sqrt(4096 * probability + 1)) < 5


class TestWithoutTimeLimit:
    def test_a_long_horizon_comes_near(self):
        mdp, theta = _random()
        pi = oracle.probabilities(SOFTMAX, theta, 5)
        endless, long = (oracle.values(mdp._replace(horizon=h), pi) for h in (None, 400))
        CLOSE(endless.objective, long.objective)
        for name in ("value", "action_value", "advantage"):
            CLOSE(getattr(endless, name), getattr(long, name)[0])
        CLOSE(endless.occupancy, 0.9 ** np.arange(400) @ long.occupancy)
        objective, gradient = oracle.gradient(mdp._replace(horizon=None), SOFTMAX, theta)
        CLOSE(objective, endless.objective)
        CLOSE(gradient, endless.occupancy[:, None] * pi * endless.advantage)
        CLOSE(gradient, oracle.gradient(mdp._replace(horizon=400), SOFTMAX, theta)[1])

    def test_terminal_states_too(self):
        mdp, theta = _ending()
        pi = oracle.probabilities(SOFTMAX, theta, 3)
        for discount in (0.9, 1.0):
            endless = mdp._replace(horizon=None, discount=discount)
            found, long = oracle.values(endless, pi), oracle.values(endless._replace(horizon=300), pi)
            CLOSE(found.value, long.value[0])
            CLOSE(found.action_value, long.action_value[0])
            CLOSE(found.occupancy, discount ** np.arange(300) @ long.occupancy)
            gradient = oracle.gradient(endless, SOFTMAX, theta)[1]
            CLOSE(gradient, found.occupancy[:, None] * pi * found.advantage)


class TestAverageReward:
    def test_the_theorem_is_the_gradient(self):
        mdp, theta = _random()
        pi, phi = oracle.probabilities(SOFTMAX, theta, 5), oracle.scores(SOFTMAX, theta, 5)
        found = oracle.average_reward(mdp, pi)
        gain, gradient = oracle.average_reward_gradient(mdp, SOFTMAX, theta)
        CLOSE(gain, found.gain)
        by_theorem = np.einsum("s,sa,sa,sap->p", found.stationary, pi, found.action_value, phi)
        CLOSE(by_theorem, gradient.ravel())

    def test_bellman(self):
        mdp, theta = _random()
        pi = oracle.probabilities(SOFTMAX, theta, 5)
        found = oracle.average_reward(mdp, pi)
        following = np.einsum("sax,xb,xb->sa", mdp.transition, pi, found.action_value)
        CLOSE(found.action_value, mdp.reward - found.gain + following)
        CLOSE(np.sum(pi * found.action_value, axis=1), found.value)
        CLOSE(found.stationary @ found.value, 0)
        CLOSE(found.stationary, found.stationary @ np.einsum("sa,sax->sx", pi, mdp.transition))
        # gain = lim (1 - gamma) J_gamma
        near = oracle.values(mdp._replace(horizon=None, discount=1 - 1e-7), pi)
        np.testing.assert_allclose(1e-7 * near.objective, found.gain, rtol=1e-5)

    def test_a_transient_and_periodic_chain_is_unichain(self):
        transition = np.array([[[0, 1, 0]], [[0, 0, 1]], [[0, 1, 0]]], float)
        mdp = MDP(transition, np.array([[7.0], [1.0], [3.0]]), np.eye(3)[0], np.zeros(3, bool), None, 1.0)
        found = oracle.average_reward(mdp, np.ones((3, 1)))
        CLOSE(found.stationary, [0, 0.5, 0.5])
        CLOSE(found.gain, 2)

    def test_where_episodes_end_the_gain_is_their_reward_over_their_length(self):
        """The renewal theorem (Puterman 1994, sec. 8.2; Ross 1996, theorem 3.6.1), whatever the time limit."""
        mdp, theta = _ending()
        pi = oracle.probabilities(SOFTMAX, theta, 3)
        found = oracle.average_reward(mdp, pi)
        whole = oracle.values(mdp._replace(horizon=None, discount=1.0), pi)
        length = oracle.values(mdp._replace(horizon=None, discount=1.0, reward=np.ones_like(mdp.reward)), pi)
        CLOSE(found.gain, whole.objective / length.objective)
        # h(s) - h(start) = J(s) - gain x length(s), in states that don't end; an end is worth what a start is.
        relative = whole.value - found.gain * length.value
        CLOSE(found.value - mdp.start @ found.value, relative)
        CLOSE(found.action_value[mdp.terminal], mdp.start @ found.value)
        CLOSE(found.stationary[mdp.terminal], 0)
        gain, gradient = oracle.average_reward_gradient(mdp, SOFTMAX, theta)
        CLOSE(gain, found.gain)
        phi = oracle.scores(SOFTMAX, theta, 3)
        CLOSE(np.einsum("s,sa,sa,sap->p", found.stationary, pi, found.action_value, phi), gradient.ravel())

    def test_two_states_in_turn(self):
        """Rewards 0 and 2, episodes of two steps: 1 per step."""
        transition = np.array([[[0, 1, 0]], [[0, 0, 1]], [[0, 0, 1]]], float)
        mdp = MDP(transition, np.array([[0.0], [2.0], [9.0]]), np.eye(3)[0], np.eye(3)[2] > 0, 10, 1.0)
        found = oracle.average_reward(mdp, np.ones((3, 1)))
        CLOSE(found.gain, 1)
        CLOSE(found.value, [-0.5, 0.5, -0.5])


class OneHot(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)
        self.critic_head = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, obs):
        x = jnp.tanh(self.hidden(jax.nn.one_hot(obs, 3)))
        return Categorical(self.head(x)), self.critic_head(x)[..., 0]


@pytest.fixture(scope="module")
def network():
    policy = from_nnx(lambda rngs: OneHot(rngs))
    return policy, policy.init(jax.random.key(3))


class TestNetworks:
    @pytest.mark.parametrize("kind", ["limit", "endless", "average"])
    def test_gradient_against_finite_differences(self, network, kind):
        policy, params = network
        mdp, _ = _ending()
        if kind == "average":
            mdp, function = mdp._replace(terminal=np.zeros(3, bool)), oracle.average_reward_gradient
        else:
            mdp, function = mdp._replace(horizon=3 if kind == "limit" else None), oracle.gradient

        def value(params):
            pi = oracle.probabilities(policy, params, 3)
            return oracle.average_reward(mdp, pi).gain if kind == "average" else oracle.values(mdp, pi).objective

        objective, gradient = function(mdp, policy, params)
        CLOSE(objective, value(params))
        assert jax.tree.structure(gradient) == jax.tree.structure(params)
        assert all(x.dtype == np.float64 and type(x) is np.ndarray for x in jax.tree.leaves(gradient))
        g = np.random.default_rng(0)
        for _ in range(5):
            way = jax.tree.map(lambda x: g.normal(size=x.shape), params)
            up, down = (
                value(jax.tree.map(lambda x, d, e=e: np.float64(x) + e * d, params, way)) for e in (1e-5, -1e-5)
            )
            np.testing.assert_allclose((up - down) / 2e-5, _vector(gradient) @ _vector(way), rtol=1e-6, atol=1e-9)

    def test_scores_count_every_leaf_in_tree_order(self, network):
        policy, params = network
        mdp, _ = _ending()
        pi, phi = oracle.probabilities(policy, params, 3), oracle.scores(policy, params, 3)
        assert phi.shape == (3, 2, len(_vector(params))) and phi.dtype == np.float64
        CLOSE(np.einsum("sa,sap->sp", pi, phi), 0)
        CLOSE(_theorem(mdp, oracle.values(mdp, pi), phi, pi), _vector(oracle.gradient(mdp, policy, params)[1]))
        critic = _vector({k: jax.tree.map(lambda x, k=k: np.full(x.shape, k), v) for k, v in params.items()})
        assert not phi[..., critic == "critic_head"].any() and phi[..., critic != "critic_head"].any()

    def test_own_table_policy(self):
        env = make("TabularMDP-pgjax")
        mdp, theta = _random()
        params = {"preference": theta, "value": np.ones(5)}
        _, gradient = oracle.gradient(mdp, make_policy(env), params)
        CLOSE(gradient["preference"], oracle.gradient(mdp, SOFTMAX, theta)[1])
        assert not gradient["value"].any()


class TestPrecision:
    def test_of_the_caller_is_left_alone(self):
        mdp, theta = _random()

        def broken(params):
            assert params.dtype == jnp.float64
            raise RuntimeError("broken")

        calls = (oracle.probabilities, oracle.scores, lambda *a: oracle.gradient(mdp, *a[:2]))
        for call in (*calls, lambda *a: oracle.average_reward_gradient(mdp, *a[:2])):
            assert jnp.zeros(()).dtype == jnp.float32
            call(SOFTMAX, theta, 5)
            assert jnp.zeros(()).dtype == jnp.float32
            with pytest.raises(RuntimeError, match="broken"):
                call(_act_by(broken), theta, 5)
            assert jnp.zeros(()).dtype == jnp.float32

    def test_parameters_in_float32_and_in_float64_mean_the_same(self):
        theta = np.float32(_random()[1])
        pi = oracle.probabilities(SOFTMAX, jnp.asarray(theta), 5)
        assert pi.dtype == np.float64
        np.testing.assert_array_equal(pi, oracle.probabilities(SOFTMAX, np.float64(theta), 5))


class TestBadInput:
    def test_an_environment_without_tables(self):
        with pytest.raises(
            ValueError,
            match="an enumerable env needs a TabularMDP.*EnvParams has no transition, reward, start, terminal$",
        ) as error:
            oracle.from_env(make("CartPole-v1"), 0.9)
        assert "\n" not in str(error.value)

    def test_a_policy_with_a_memory(self):
        env = make("TabularMDP-pgjax")
        policy = SOFTMAX._replace(memory=lambda batch: jnp.zeros((batch, 1)))
        with pytest.raises(ValueError, match="the policy has a memory"):
            oracle.probabilities(policy, np.zeros((5, 3)), env.observation_space.n)

    def test_a_policy_that_is_no_categorical(self):
        policy = SOFTMAX._replace(act=lambda params, memory, obs: (DiagGaussian(params[obs], params[obs]), memory))
        with pytest.raises(TypeError, match="must act by a Categorical, got DiagGaussian"):
            oracle.scores(policy, np.zeros((5, 3)), 5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"reward": np.zeros((5, 2))}, r"must be \[S, A, S\].* got \[\(5, 3, 5\), \(5, 2\), \(5,\)"),
            ({"transition": np.ones((5, 3, 5))}, "transition must be probabilities"),
            ({"start": np.array([2.0, -1, 0, 0, 0])}, "start must be probabilities"),
            ({"terminal": np.ones(5, bool)}, "no episode starts in a terminal state"),
            ({"horizon": None, "discount": 1.0}, "1 where every state leads to a terminal one, got 1.0"),
            ({"horizon": None, "discount": 1.1}, "must be below 1, .* got 1.1"),
            ({"horizon": 0}, "finite horizon of at least 1, got 0"),
        ],
    )
    def test_an_mdp_that_has_no_values(self, change, message):
        mdp, theta = _random()
        mdp = mdp._replace(**change)
        with pytest.raises(ValueError, match=message):
            oracle.values(mdp, oracle.probabilities(SOFTMAX, theta, 5))
        with pytest.raises(ValueError, match=message):
            oracle.gradient(mdp, SOFTMAX, theta)

    def test_a_policy_table_that_is_none(self):
        mdp, theta = _random()
        for pi in (theta, np.full((5, 3), np.nan)):
            with pytest.raises(ValueError, match="pi must be probabilities"):
                oracle.values(mdp, pi)
        with pytest.raises(ValueError, match=r"must be \[S, A, S\]"):
            oracle.values(mdp, np.full((4, 3), 1 / 3))

    def test_a_gain_that_does_not_exist(self):
        apart = MDP(np.eye(2)[:, None], np.zeros((2, 1)), np.eye(2)[0], np.zeros(2, bool), None, 1.0)
        with pytest.raises(ValueError, match="not unichain"):
            oracle.average_reward(apart, np.ones((2, 1)))
        with pytest.raises(ValueError, match="not unichain"):
            oracle.average_reward_gradient(apart, SOFTMAX, np.zeros((2, 1)))

    def test_moments_of_another_shape(self):
        mdp, theta = _ending()
        pi = oracle.probabilities(SOFTMAX, theta, 3)
        step, last = _coordinates(mdp)
        with pytest.raises(ValueError, match=r"step\(2\) has shape \(3, 2, 1, 8, 8\), expected .* \(3, 2, 3, 7, 7\)"):
            oracle.moments(mdp, pi, step, lambda ended: np.zeros((3, 7)))
        with pytest.raises(ValueError, match=r"last has shapes \(4, 8\) and \(4, 8\), expected \[S, K\]"):
            oracle.moments(mdp, pi, step, lambda ended: np.zeros((4, 8)))

    def test_whole_episodes_need_an_end(self):
        mdp, theta = _ending()
        pi, mdp = oracle.probabilities(SOFTMAX, theta, 3), mdp._replace(horizon=None)
        with pytest.raises(ValueError, match="need a finite horizon"):
            oracle.trajectories(mdp, pi)
        with pytest.raises(ValueError, match="need a finite horizon"):
            oracle.moments(mdp, pi, *_coordinates(mdp))

    def test_too_many_trajectories(self):
        mdp, theta = _random()
        pi = oracle.probabilities(SOFTMAX, theta, 5)
        with pytest.raises(ValueError, match=f"there are {5 * 15**10}, more than most=200000"):
            oracle.trajectories(mdp, pi)
        mdp, theta = _ending()
        pi = oracle.probabilities(SOFTMAX, theta, 3)
        with pytest.raises(ValueError, match="there are 212, more than most=211"):
            oracle.trajectories(mdp, pi, most=211)
