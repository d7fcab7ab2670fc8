"""The short corridor learned as the book's boxes have it, and the options of the package that it takes."""

import itertools
import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, hyperparameters, oracle, policies, rollout
from pgjax.advantages import monte_carlo
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import actor_critic, policy_gradient
from pgjax.optimizers import adam, sgd
from pgjax.training import vectorised
from pgjax.types import Algorithm, Batch

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def corridor():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import corridor
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return corridor


def box(seed, runs, episodes, rate, critic=0.0, per_episode=False, start=0.05, limit=1000):
    """Returns [runs, episodes] of REINFORCE (with baseline), float64; NaN from an episode on that the limit cut.

    Sutton & Barto 2018, boxes of sec. 13.3 and 13.4; `critic` is the baseline's step size, 0 without one.
    """
    g = np.random.default_rng(seed)
    theta, w = np.tile(np.log([1 - start, start]), (runs, 1)), np.zeros(runs)
    returns, alive = np.full((runs, episodes), np.nan), np.arange(runs)

    def right_of(theta):
        return 1 / (1 + np.exp(theta[:, 0] - theta[:, 1]))

    for episode in range(episodes):
        p, v = right_of(theta), w.copy()
        position, length, running = np.zeros(runs, int), np.zeros(runs, int), alive
        actions = np.zeros((limit, runs), bool)
        for t in range(limit):
            right = g.random(len(running)) < p[running]
            actions[t, running], length[running] = right, t + 1
            moved = position[running] + np.where(right == (position[running] == 1), -1, 1)
            position[running] = np.maximum(moved, 0)
            running = running[moved < 3]
            if not len(running):
                break
        alive = np.setdiff1d(alive, running)
        returns[alive, episode] = -length[alive]
        for t in range(length[alive].max(initial=0)):
            now = alive[length[alive] > t]
            delta = t - length[now] - (v if per_episode else w)[now]
            w[now] += critic * delta
            score = actions[t, now] - (p[now] if per_episode else right_of(theta[now]))
            theta[now] += rate * delta[:, None] * np.stack([-score, score], axis=1)
    return returns


def softmax(theta):
    return np.exp(theta) / np.exp(theta).sum()


def by_hand(trajectory, params, rate, reduce, critic, moments):
    """update="step" in float64, from a trajectory [T, B] of the corridor; and how many steps were taken."""
    theta, w = np.float64(params["preference"][0]), float(params["value"][0])
    mask, action = np.asarray(trajectory.mask, float), np.asarray(trajectory.action)
    length, m, v = mask.sum(axis=0), np.zeros(3), np.zeros(3)
    for t in range(int(length.max())):
        up = np.zeros(3)
        for b in np.flatnonzero(length > t):
            delta = t - length[b] - (w if critic else 0)
            up += delta * np.array([*(np.eye(2)[action[t, b]] - softmax(theta)), critic])
        up /= np.sum(length > t) if reduce == "step" else mask.shape[1]
        if moments:  # Adam, Kingma & Ba 2015, algorithm 1
            m, v = 0.9 * m + 0.1 * up, 0.999 * v + 0.001 * up**2
            up = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-5)
        theta, w = theta + rate * up[:2], w + rate * up[2]
    return theta, w, t + 1


class TestOneUpdateForEachStep:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("num_envs", "reduce", "baseline", "moments"),
        [(1, "episode", "none", False), (1, "step", "value", False), (2, "step", "value", False)]
        + [(2, "episode", "none", False), (2, "step", "none", True), (3, "episode", "value", True)],
    )
    def test_it_is_the_box_by_hand(self, num_envs, reduce, baseline, moments):
        """The same actions, and the updates once more; behind the end of all episodes nothing moves, Adam neither."""
        env = envs.make("ShortCorridor-pgjax", max_steps_in_episode=120)
        policy = policies.make(env)
        loss, critic = policy_gradient, 0.0
        if baseline == "value":
            loss, critic = bind(actor_critic(policy_gradient), reevaluate=True, value_coef=8.0), 8.0
        advantage = bind(monte_carlo, discount=1.0, baseline=baseline)
        optimizer = bind(adam, max_grad_norm=np.inf) if moments else sgd
        algorithm = Algorithm(advantage, surrogate(loss, reduce=reduce), optimizer)
        config = Config(num_envs=num_envs, num_steps=0, rollout="episodes", update="step")
        one = on_policy.make_learner(env, policy, algorithm, config)
        hypers = hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": 2.0**-7})
        state, key = one.init(jax.random.key(0), hypers), jax.random.key(3)
        following, metrics = jax.jit(one.step)(key, state, hypers)
        trajectory, done = rollout.episodes(jax.random.split(key)[0], env, policy, state.params, num_envs)
        lengths = np.asarray(done.episode_length)
        assert len(set(lengths)) == num_envs and lengths.max() < 120
        theta, w, steps = by_hand(trajectory, state.params, 2.0**-7, reduce, critic, moments)
        np.testing.assert_allclose(following.params["preference"][0], theta, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(following.params["value"], [w], rtol=2e-5, atol=1e-6)
        counted = [x for x in jax.tree.leaves(following.updater.optimizer) if jnp.issubdtype(x.dtype, jnp.integer)]
        assert {int(x) for x in counted} == ({steps} if moments else set())
        assert np.isfinite(metrics["loss"]) and metrics["env_steps"] == lengths.sum()

    def test_the_metrics_are_means_over_the_steps_that_count(self):
        """The entropy of a policy that hardly moves is ln 2 at each step; rows behind the end would dilute it."""
        env = envs.make("ShortCorridor-pgjax", max_steps_in_episode=200)
        algorithm = Algorithm(bind(monte_carlo, discount=1.0), surrogate(actor_critic(policy_gradient)), sgd)
        config = Config(num_envs=1, num_steps=0, rollout="episodes", update="step")
        one = on_policy.make_learner(env, policies.make(env), algorithm, config)
        hypers = hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": 0.0})
        _, metrics = jax.jit(one.step)(jax.random.key(1), one.init(jax.random.key(0), hypers), hypers)
        assert metrics["env_steps"] < 100
        np.testing.assert_allclose(metrics["entropy"], np.log(2), rtol=1e-6)


def test_reevaluate_takes_the_value_as_it_is_now():
    """Target minus V, whatever the batch remembers of either; no gradient through that V."""
    env = envs.make("ShortCorridor-pgjax", max_steps_in_episode=16)
    policy = policies.make(env)
    params = {"preference": jnp.array([[0.3, -0.2]]), "value": jnp.array([-2.5])}
    trajectory, _ = rollout.episodes(jax.random.key(0), env, policy, params, 2)
    target = jnp.arange(32.0).reshape(16, 2)
    batch = Batch(trajectory, jnp.full_like(target, 7.0), target, jnp.full_like(target, 9.0))

    def total(params, **options):
        return jnp.sum(policy_gradient(policy.evaluate(params, trajectory), batch, **options)[0])

    found = jax.grad(total)(params, reevaluate=True)
    pi = softmax(np.array([0.3, -0.2]))
    score = np.eye(2)[np.asarray(trajectory.action)] - pi
    np.testing.assert_allclose(found["preference"][0], -np.einsum("tb,tba->a", target + 2.5, score), rtol=1e-5)
    assert found["value"][0] == 0
    plain = jax.grad(total)(params)
    np.testing.assert_allclose(plain["preference"][0], -7 * score.sum(axis=(0, 1)), rtol=1e-4, atol=1e-4)


class TestEpsilon:
    def test_the_trajectory_is_the_behaviour_policys(self):
        """b = (1 - epsilon) pi + epsilon / A: its log_prob, its frequencies; `evaluate` stays pi's."""
        env = envs.make("ShortCorridor-pgjax", max_steps_in_episode=4)
        policy = policies.make(env)
        params = {**policy.init(jax.random.key(0)), "preference": jnp.log(jnp.array([[0.9, 0.1]]))}
        acting = policies.exploring(policy, 0.4)
        trajectory, _ = rollout.episodes(jax.random.key(1), env, acting, params, 4096)
        right, counts = np.asarray(trajectory.action) == 1, np.asarray(trajectory.mask) > 0
        b = 0.6 * 0.1 + 0.2
        np.testing.assert_allclose(trajectory.log_prob[counts], np.log(np.where(right, b, 1 - b))[counts], rtol=1e-5)
        assert abs(right[counts].mean() - b) < 5 * np.sqrt(b * (1 - b) / counts.sum())
        now = acting.evaluate(params, trajectory)
        np.testing.assert_allclose(now.log_prob[counts], np.log(np.where(right, 0.1, 0.9))[counts], rtol=1e-5)

    def test_training_explores_and_evaluation_does_not(self):
        """At P(right) = .02 an episode is long; the learner's rollouts are b's, what is evaluated is pi."""
        env = envs.make("ShortCorridor-pgjax", max_steps_in_episode=300)
        policy = policies.make(env)
        policy = policy._replace(
            init=lambda key: {"preference": jnp.log(jnp.array([[0.98, 0.02]])), "value": jnp.zeros(1)}
        )
        algorithm = Algorithm(bind(monte_carlo, discount=1.0), surrogate(policy_gradient), sgd)
        config = Config(num_envs=256, num_steps=0, rollout="episodes", epsilon=0.8)
        one = on_policy.make_learner(env, policy, algorithm, config)
        hypers = hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": 0.0})
        keys, lanes = vectorised.lanes([hypers], [0])
        states, metrics = jax.jit(lambda k, h: vectorised.segment(k, one, vectorised.init(k, one, h), h, 1))(
            keys, lanes
        )
        right = 0.2 * 0.02 + 0.4
        assert abs(metrics["episode_length"][0, 0] - (4 - 2 * right) / (right * (1 - right))) < 5 * 12 / 16
        done = jax.jit(lambda k, s, h: vectorised.evaluate(k, env, one, s, h, 64))(keys, states, lanes)
        # Within 300 steps pi has J = -(4 - 2 p) / (p (1 - p)) cut short: more than 100 steps.
        assert np.mean(done["stochastic"].episode_length) > 100

    @pytest.mark.parametrize(
        ("world", "options", "message"),
        [
            ("ShortCorridor-pgjax", dict(epsilon=1.5), r"^epsilon must lie in \[0, 1\], got 1.5$"),
            ("ShortCorridor-pgjax", dict(epsilon=-0.1), r"^epsilon must lie in \[0, 1\], got -0.1$"),
            ("Pendulum-v1", dict(epsilon=0.1), r"^epsilon=0.1 needs a discrete action space, got .*Box"),
            ("ShortCorridor-pgjax", dict(update="step", num_epochs=2), "^update='step' goes .* got num_epochs=2"),
            ("ShortCorridor-pgjax", dict(update="step", num_minibatches=2), "^update='step' .* num_minibatches=2$"),
            ("CartPole-v1", dict(update="step", network="gru", hidden=(4,)), "^update='step' needs a policy without"),
            ("ShortCorridor-pgjax", dict(update="steps"), "^update must be one of batch, step; got 'steps'$"),
        ],
    )
    def test_mistakes(self, world, options, message):
        env = envs.make(world)
        config = Config(num_envs=2, num_steps=4, **options)
        algorithm = Algorithm(monte_carlo, surrogate(policy_gradient), sgd)
        with pytest.raises(ValueError, match=message) as caught:
            on_policy.make_learner(env, policies.make(env, config), algorithm, config)
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def world():
    """Two states and an end, reached after 1 to 3 steps or not at all."""
    g = np.random.default_rng(7)
    env = envs.make(
        "TabularMDP-pgjax",
        transition=g.dirichlet(np.ones(3), size=(3, 2)),
        reward=g.normal(size=(3, 2)),
        start=np.array([0.7, 0.3, 0.0]),
        terminal=np.array([False, False, True]),
        horizon=3,
    )
    return env, policies.make(env), {"preference": g.normal(size=(3, 2)), "value": g.normal(size=3)}


class TestImportance:
    """Every trajectory of a small MDP under b, in float64: the expected update, to rounding."""

    def expected(self, world, epsilon, corrected, baseline):
        """`corrected`: whether the loss corrects its share and the advantage its own; one bool says it of both."""
        by_loss, by_advantage = corrected if isinstance(corrected, tuple) else (corrected, corrected)
        env, policy, params = world
        mdp, acting = oracle.from_env(env, 0.9), policies.exploring(policy, epsilon)
        pi = oracle.probabilities(policy, params, 3)
        b = oracle.probabilities(acting, params, 3)
        np.testing.assert_allclose(b, (1 - epsilon) * pi + epsilon / 2, rtol=1e-12)
        trajectory, probability = oracle.trajectories(mdp, b)
        with jax.enable_x64(True):
            s, a = trajectory.obs, trajectory.action
            wide = {"log_prob": np.log(b[s, a]), "reward": mdp.reward[s, a] * trajectory.mask}
            trajectory = jax.tree.map(jnp.asarray, trajectory._replace(**wide))
            params = jax.tree.map(jnp.asarray, params)
            now = policy.evaluate(params, trajectory)
            options = dict(discount=0.9, gamma_t=True, baseline=baseline, importance=by_advantage)
            _, (weight, target) = monte_carlo.apply(monte_carlo.init(), trajectory, now, **options)
            batch = Batch(trajectory, weight, target, now.value)

            def loss(params):
                per_step, _ = policy_gradient(policy.evaluate(params, trajectory), batch, importance=by_loss)
                return -jnp.sum(probability * jnp.sum(trajectory.mask * per_step, axis=0))

            found = np.asarray(jax.grad(loss)(params)["preference"])
        return found, oracle.gradient(mdp, policy, params)[1]["preference"]

    @pytest.mark.parametrize("baseline", ["none", "value"])
    def test_the_corrected_update_is_the_gradient(self, world, baseline):
        found, exact = self.expected(world, 0.4, True, baseline)
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("baseline", ["none", "value"])
    def test_without_correction_it_is_not(self, world, baseline):
        found, exact = self.expected(world, 0.4, False, baseline)
        assert np.linalg.norm(found - exact) > 0.1 * np.linalg.norm(exact)
        np.testing.assert_allclose(*self.expected(world, 0.0, False, baseline), rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("corrected", [(True, False), (False, True)])
    def test_half_a_correction_is_none(self, world, corrected):
        """Why learners refuse one half without the other: exact, so that a percent is a bias and no rounding."""
        found, exact = self.expected(world, 0.4, corrected, "none")
        assert np.linalg.norm(found - exact) > 0.01 * np.linalg.norm(exact)

    def test_the_whole_return_is_refused(self, world):
        env, policy, _ = world
        params = policy.init(jax.random.key(0))
        trajectory, _ = rollout.episodes(jax.random.key(0), env, policy, params, 2)
        now = policy.evaluate(params, trajectory)
        with pytest.raises(ValueError, match="^monte_carlo: importance=True needs reward_to_go=True"):
            monte_carlo.apply(monte_carlo.init(), trajectory, now, importance=True, reward_to_go=False)


class TestTheExperiment:
    def test_the_gradient_is_two_at_even_odds(self, corridor):
        """dJ / d theta = 2 (p^2 - 4 p + 2) / (p (1 - p)) of the log-odds: here of the package's own sigmoid policy."""
        env = envs.make("ShortCorridor-pgjax")
        sigmoid = policies.make(env, Config(network="sigmoid"))
        blind = sigmoid._replace(act=lambda params, memory, obs: sigmoid.act(params, memory, 0 * obs))
        for p, known in ((0.5, 2.0), (corridor.BEST, 0.0), (0.05, 2 * (0.0025 - 0.2 + 2) / 0.0475)):
            params = {"preference": np.log([p / (1 - p)]), "value": np.zeros(1)}
            found, gradient = oracle.gradient(corridor.tables(), blind, params)
            np.testing.assert_allclose(gradient["preference"], [known], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(found, corridor.objective(p), rtol=1e-11)

    def test_keys_of_a_shorter_rollout_begin_those_of_a_longer(self):
        for n, m in itertools.pairwise((64, 128, 256, 512, 1000)):
            short, long = (jax.random.key_data(jax.random.split(jax.random.key(5), k)) for k in (n, m))
            np.testing.assert_array_equal(short, long[:n])

    @pytest.mark.slow
    @pytest.mark.parametrize("baseline", ["none", "value"])
    def test_short_rollouts_change_nothing(self, corridor, baseline, monkeypatch):
        """The ladder of lengths against the full length: returns, policies, and which runs diverged when."""
        monkeypatch.setattr(corridor, "MARGIN", 0.1)  # too small, so that many a segment is run again
        rate, lengths, diverged = 2.0**-12 if baseline == "none" else 2.0**-8, [], []
        for update in ("step", "batch"):
            ladders, own = ((16, 80, 112), (112,)), corridor.book(baseline)
            short, full = (
                corridor.learn(corridor.programs(own, update, x, start=0.2), 16, 60, optimizer={"learning_rate": rate})
                for x in ladders
            )
            np.testing.assert_array_equal(short.diverged, full.diverged)
            np.testing.assert_array_equal(short.returns, full.returns)
            np.testing.assert_allclose(short.right, full.right, rtol=1e-5)
            lengths.append(list(short.lengths.values()))
            diverged.extend(full.diverged)
        # Some segments were thrown away and run again, some never came to the last length, and some runs diverged.
        assert np.sum(lengths) > 12 > np.sum(lengths, axis=0)[-1] and 0 < np.count_nonzero(diverged) < 32

    @pytest.mark.slow
    @pytest.mark.parametrize(("baseline", "rate", "critic"), [("none", 2.0**-12, 0.0), ("value", 2.0**-9, 2.0**-6)])
    def test_it_learns_as_the_box_does(self, corridor, baseline, rate, critic):
        """Mean returns of 100 runs, early and late, and the number diverged, against a loop from the book."""
        program = corridor.programs(corridor.book(baseline), ladder=(256, 1000))
        found = corridor.learn(program, 100, 100, optimizer={"learning_rate": rate})
        theirs = box(0, 200, 100, rate, critic)
        kept = theirs[np.isfinite(theirs[:, -1])]
        for rows in (slice(0, 10), slice(30, 50), slice(80, 100)):
            a, b = (x[:, rows].mean(axis=1) for x in (found.kept()[0], kept))
            error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
            assert abs(a.mean() - b.mean()) < 5 * error
        lost = np.array([(found.diverged > 0).sum(), np.isnan(theirs[:, -1]).sum()])
        share = (lost.sum() + 1) / 300
        assert abs(lost[0] / 100 - lost[1] / 200) < 5 * np.sqrt(share * (1 - share) * (1 / 100 + 1 / 200))

    @pytest.mark.slow
    def test_smoke(self, tmp_path):
        main = runpy.run_path(str(EXPERIMENTS / "corridor.py"))["main"]
        curves, rows = main(["--smoke", "--out", str(tmp_path)])
        assert (tmp_path / "corridor.png").stat().st_size > 10_000 and (tmp_path / "summary.json").is_file()
        for name, row in rows.items():
            assert row["diverged"] == len(row["diverged_at_episode"]) == np.isnan(curves[name].returns[:, -1]).sum()


class TestExploration:
    @pytest.fixture
    def exploration(self, monkeypatch):
        """The experiment imports the corridor's, which stands beside it."""
        monkeypatch.syspath_prepend(str(EXPERIMENTS))
        return runpy.run_path(str(EXPERIMENTS / "exploration.py"))

    def test_the_exact_moments_of_an_update(self, exploration, corridor):
        """By two other ways: the known variance on policy; visits, values and scores by linear solves off policy."""
        exact = exploration["exact"]
        np.testing.assert_allclose(exact(0.5, 0.0, False), (2, 733), rtol=1e-9)
        p, score = 0.3, np.array([-0.3, 0.7])
        for epsilon in (0.0, 0.1, 0.3):
            b = np.tile((1 - epsilon) * np.array([1 - p, p]) + epsilon / 2, (4, 1))
            found = oracle.values(corridor.tables(), b)
            uncorrected = np.einsum("s,sa,sa,a->", found.occupancy, b, found.action_value, score)
            np.testing.assert_allclose(exact(p, epsilon, False)[0], uncorrected, rtol=1e-9)
            np.testing.assert_allclose(exact(p, epsilon, True)[0], 2 * (p * p - 4 * p + 2) / (p * (1 - p)), rtol=1e-9)

    def test_every_learner_of_it_is_accepted(self, exploration):
        for epsilon, corrected, _ in exploration["LEARNERS"].values():
            algorithm = exploration["algorithm"](corrected)
            exploration["corridor"].programs(algorithm, "batch", (4,), exploration["AT"], epsilon)

    @pytest.mark.slow
    def test_smoke(self, exploration, tmp_path):
        """Unbiased with the correction, and at epsilon = .3 of the wrong sign without it."""
        updates, _ = exploration["main"](["--smoke", "--out", str(tmp_path)])
        assert (tmp_path / "exploration.png").stat().st_size > 10_000 and (tmp_path / "summary.json").is_file()
        for (epsilon, corrected), row in updates.items():
            assert abs(row["sampled"] - row["expected"]) < 5 * row["se"]
            if corrected or not epsilon:
                assert abs(row["z"]) < 5
        assert updates[0.3, False]["z"] < -5 and updates[0.3, False]["sampled"] < 0
