"""What an update does with a batch: early stops, coefficients that adapt, rates that fall, parameters that lag."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import worlds

from pgjax import algorithms, estimators, policies, rollout, testing
from pgjax.advantages import gae, n_step, v_trace
from pgjax.algorithms import on_policy
from pgjax.algorithms.updates import descent
from pgjax.config import Config
from pgjax.estimators import adaptive_kl, early_stopping, pieces, surrogate
from pgjax.hyperparameters import bind, default_hypers, hyperparameters
from pgjax.losses import actor_critic, policy_gradient, ppo_clip
from pgjax.numerics import returns
from pgjax.optimizers import adam, sgd
from pgjax.sweeps import plan
from pgjax.testing import worlds as testing_worlds
from pgjax.types import Algorithm, Batch, Running

T, B = 8, 4


@pytest.fixture(scope="module")
def maze():
    return worlds.maze()


def made(maze, algorithm, **options):
    """A policy, a learner, its hypers and first state."""
    config = Config(num_envs=B, num_steps=T, **options)
    policy = policies.make(maze, config)
    built = on_policy.make_learner(maze, policy, algorithm, config)
    hypers = default_hypers(algorithm)
    return policy, built, hypers, built.init(jax.random.key(0), hypers)


def with_estimator(hypers, **values):
    return hypers._replace(estimator={**hypers.estimator, **{k: jnp.float32(x) for k, x in values.items()}})


class TestEarlyStop:
    def algorithm(self):
        return Algorithm(gae, early_stopping(surrogate(actor_critic(ppo_clip))), bind(adam, learning_rate=0.05))

    @pytest.mark.slow
    def test_the_steps_up_to_the_first_kl_above_the_limit_are_made_and_none_after(self, maze):
        """By hand: the same four epochs one by one, each with the gradient and the KL of its beginning."""
        algorithm = self.algorithm()
        policy, built, hypers, state = made(maze, algorithm, num_epochs=4)
        key = jax.random.key(1)
        key_rollout, _ = jax.random.split(key)
        gather = jax.jit(lambda: rollout.unroll(key_rollout, maze, policy, state.params, state.rollout, T)[1])
        trajectory = gather()
        now = pieces.evaluate(policy, state.params, trajectory)
        batch = Batch(trajectory, *gae(trajectory, now), now.value)
        params, kls, seen = state.params, [], [state.params]
        transform = adam(learning_rate=0.05)
        optimizer = transform.init(params)
        estimate = jax.jit(lambda params: algorithm.estimator(key, policy, params, batch))
        for _ in range(4):
            gradient, metrics = estimate(params)
            kls.append(float(metrics["kl"]))
            updates, optimizer = transform.update(gradient, optimizer, params)
            params = optax.apply_updates(params, updates)
            seen.append(params)
        assert kls[0] < 1e-6 < kls[1] < kls[2] < kls[3]
        step = jax.jit(built.step)
        for limit, steps in ((math.inf, 4), ((kls[1] + kls[2]) / 2, 2), (kls[1] / 2, 1), (-1.0, 0)):
            following, metrics = step(key, state, with_estimator(hypers, stop_kl=limit))
            assert metrics["gradient_steps"] == steps
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), following.params, seen[steps])

    def test_a_minibatch_that_would_go_on_does_not_begin_again(self):
        """One column of four says stop: what comes before it in the first epoch is all."""
        policy, params, batch = testing_worlds.example()
        batch = batch._replace(advantage=jnp.zeros_like(batch.advantage).at[:, 2].set(1.0))

        def estimator(key, policy, params, batch):
            return jax.tree.map(jnp.ones_like, params), {"stop": jnp.any(batch.advantage > 0)}

        algorithm = Algorithm(gae, estimator, bind(sgd, learning_rate=1.0))
        update = descent(algorithm, Config(num_epochs=2, num_minibatches=4), by_column=True)
        hypers, made = default_hypers(algorithm), set()
        begun = update.init(jax.random.key(0), policy, params, None, hypers)
        apply = jax.jit(lambda key: update.apply(key, policy, params, begun, batch, hypers))
        for u in range(8):
            after, _, metrics = apply(jax.random.key(u))
            moved = np.asarray(params["preference"] - after["preference"])
            np.testing.assert_allclose(moved, metrics["gradient_steps"], atol=1e-5)
            made.add(int(metrics["gradient_steps"]))
        assert max(made) <= 3 and len(made) > 1

    def test_a_later_update_begins_anew(self, maze):
        _, built, hypers, state = made(maze, self.algorithm(), num_epochs=3)
        step = jax.jit(built.step)
        for u in range(3):
            state, metrics = step(jax.random.key(u), state, with_estimator(hypers, stop_kl=1e-5))
            assert metrics["gradient_steps"] == 1

    @pytest.mark.slow
    def test_in_order_of_time_steps_are_counted_too(self, maze):
        _, built, hypers, state = made(maze, self.algorithm(), update="step", rollout="episodes")
        _, metrics = jax.jit(built.step)(jax.random.key(1), state, hypers)
        assert 0 < metrics["gradient_steps"] <= T and metrics["gradient_steps"] == int(metrics["gradient_steps"])

    def test_a_loss_without_a_kl_is_refused(self, maze):
        algorithm = Algorithm(gae, early_stopping(surrogate(actor_critic(policy_gradient))), adam)
        _, built, hypers, state = made(maze, algorithm)
        with pytest.raises(ValueError, match="'policy_gradient' has no metric 'kl'"):
            jax.eval_shape(built.step, jax.random.key(0), state, hypers)


class TestAdaptiveKL:
    def estimator(self):
        return bind(adaptive_kl(surrogate(actor_critic(ppo_clip))), kl_coef=0.5, target_kl=0.01)

    def test_its_hyperparameters_may_be_bound_and_swept(self):
        found = hyperparameters(self.estimator())
        assert found["kl_coef"] == 0.5 and found["target_kl"] == 0.01 and "clip_eps" in found

    @pytest.mark.parametrize(("kl", "factor"), [(0.0151, 2.0), (0.0149, 1.0), (0.0067, 1.0), (0.0066, 0.5)])
    def test_the_coefficient_doubles_halves_or_stays(self, kl, factor):
        estimator = self.estimator()
        assert estimator.after(estimator.init(), {"kl": jnp.float32(kl)}) == (factor, ())

    def test_the_factor_has_bounds(self):
        estimator = self.estimator()
        state = estimator.init()
        for _ in range(30):
            state = estimator.after(state, {"kl": jnp.float32(9.0)})
        assert state == (2.0**20, ())

    def test_the_gradient_is_that_of_the_loss_with_the_coefficient_of_the_moment(self):
        policy, params, batch = testing_worlds.example()
        estimator, key = self.estimator(), jax.random.key(0)
        state, (gradient, metrics) = estimator.apply((jnp.float32(4.0), ()), key, policy, params, batch)
        assert state == (4.0, ())
        expected, _ = surrogate(actor_critic(ppo_clip))(key, policy, params, batch, kl_coef=2.0)
        assert metrics["penalty"] == 2.0
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), gradient, expected)

    def test_the_learner_remembers_it(self, maze):
        algorithm = Algorithm(gae, self.estimator(), bind(adam, learning_rate=0.1))
        _, built, hypers, state = made(maze, algorithm, num_epochs=3)
        step, coefficients = jax.jit(built.step), []
        for u in range(3):
            state, metrics = step(jax.random.key(u), state, with_estimator(hypers, target_kl=1e-6))
            coefficients.append(float(metrics["penalty"]))
        assert coefficients == [0.5, 1.0, 2.0]

    def test_an_estimator_without_a_penalty_is_refused(self):
        with pytest.raises(ValueError, match="needs a loss with a coefficient of its KL"):
            adaptive_kl(surrogate(actor_critic(policy_gradient)))


class TestLag:
    def test_actors_are_k_updates_old(self, maze):
        """What acts at update u are the parameters from before update u - k; before that, the first ones."""
        algorithm = Algorithm(n_step, surrogate(actor_critic(policy_gradient)), bind(adam, learning_rate=0.1))
        _, built, hypers, state = made(maze, algorithm, lag=2)
        step, history = jax.jit(built.step), []
        for u in range(5):
            history.append(state.params)
            acting = built.behaviour(state)[1]
            jax.tree.map(np.testing.assert_array_equal, acting, history[max(0, u - 2)])
            jax.tree.map(np.testing.assert_array_equal, built.policy(state)[1], history[u])
            state, _ = step(jax.random.key(u), state, hypers)
        assert not np.allclose(history[4]["preference"], history[2]["preference"])

    def test_the_trajectory_is_of_the_old_policy_and_is_judged_by_the_new(self, maze):
        algorithm = Algorithm(v_trace, surrogate(actor_critic(policy_gradient)), bind(sgd, learning_rate=1.0))
        policy, built, hypers, state = made(maze, algorithm, lag=1)
        state, _ = jax.jit(built.step)(jax.random.key(0), state, hypers)
        key = jax.random.key(1)
        acting = built.behaviour(state)[1]
        _, trajectory = rollout.unroll(jax.random.split(key)[0], maze, policy, acting, state.rollout, T)
        now = policy.evaluate(state.params, trajectory)
        assert np.abs(now.log_prob - trajectory.log_prob).max() > 1e-3
        batch = Batch(trajectory, *v_trace(trajectory, now), now.value)
        gradient, _ = algorithm.estimator(key, policy, state.params, batch)
        expected = jax.tree.map(lambda p, g: p - g, state.params, gradient)
        following, _ = jax.jit(built.step)(key, state, hypers)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), following.params, expected)

    def test_a_negative_lag_is_refused(self, maze):
        with pytest.raises(ValueError, match="lag must be 0 or more, got -1"):
            made(maze, algorithms.entry("a2c").algorithm, lag=-1)


class TestVTrace:
    def test_on_policy_it_is_the_return_to_the_end_of_the_batch(self):
        policy, params, batch = testing_worlds.example()
        now = policy.evaluate(params, batch.trajectory)
        trajectory = batch.trajectory._replace(log_prob=now.log_prob)
        advantage, target = v_trace(trajectory, now, discount=0.9)
        expected, reference = n_step(trajectory, now, discount=0.9, n=trajectory.mask.shape[0])
        counts = trajectory.mask > 0
        np.testing.assert_allclose(np.where(counts, target, 0), np.where(counts, reference, 0), atol=1e-5)
        np.testing.assert_allclose(np.where(counts, advantage, 0), np.where(counts, expected, 0), atol=1e-5)

    def test_the_ratio_is_of_the_policy_that_learns_to_that_which_acted(self):
        policy, params, batch = testing_worlds.example()
        now = policy.evaluate(params, batch.trajectory)
        trajectory = batch.trajectory
        ends = (trajectory.terminated, trajectory.truncated)
        advantage, target = v_trace(trajectory, now, discount=0.9, v_trace_lambda=0.7, clip_rho=2.0, clip_c=1.5)
        log_rho = now.log_prob - trajectory.log_prob
        found = returns.v_trace(log_rho, trajectory.reward, now.value, now.next_value, *ends, 0.9, 0.7, 2.0, 1.5)
        counts = trajectory.mask > 0
        np.testing.assert_allclose(np.where(counts, target, 0), np.where(counts, found[0], 0), atol=1e-5)
        np.testing.assert_allclose(np.where(counts, advantage, 0), np.where(counts, found[1], 0), atol=1e-5)


def test_the_learning_rate_falls_linearly_to_zero_and_stays():
    transform = adam(learning_rate=0.1, anneal_steps=4.0, max_grad_norm=math.inf)
    plain = adam(learning_rate=0.1, max_grad_norm=math.inf)
    params, gradient = {"w": jnp.ones(3)}, {"w": jnp.array([1.0, -2.0, 0.5])}
    state, reference = transform.init(params), plain.init(params)
    for share in (1.0, 0.75, 0.5, 0.25, 0.0, 0.0):
        moved, state = transform.update(gradient, state, params)
        expected, reference = plain.update(gradient, reference, params)
        np.testing.assert_allclose(moved["w"], share * expected["w"], rtol=1e-6, atol=1e-9)


def test_gae_normalised_over_the_batch_has_mean_0_and_deviation_1_where_it_counts():
    policy, params, batch = testing_worlds.example()
    now = policy.evaluate(params, batch.trajectory)
    advantage, target = gae(batch.trajectory, now, normalize=True)
    counts = np.asarray(batch.trajectory.mask > 0)
    assert abs(np.asarray(advantage)[counts].mean()) < 1e-5 and abs(np.asarray(advantage)[counts].std() - 1) < 1e-4
    np.testing.assert_array_equal(target, gae(batch.trajectory, now)[1])


def test_halves_of_a_step_are_the_step(maze):
    row = algorithms.entry("ppo")
    config = dataclasses.replace(row.config, num_envs=B, num_steps=T, num_epochs=2, num_minibatches=2)
    policy = policies.make(maze, config)
    built, hypers = row.learner(maze, policy, row.algorithm, config), default_hypers(row.algorithm)
    state, key = built.init(jax.random.key(0), hypers), jax.random.key(1)
    key_rollout, key_update = jax.random.split(key)
    acting, params = built.behaviour(state)
    stream, trajectory = rollout.unroll(key_rollout, maze, acting, params, state.rollout, T)
    apart = built.learn(key_update, state, stream, trajectory, hypers)
    together = built.step(key, state, hypers)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, apart[0].params, together[0].params)
    jax.tree.map(close, apart[1], together[1])


def test_an_estimator_that_remembers_goes_wherever_a_plain_one_does():
    """`descent` hands its state on from minibatch to minibatch, and asks again after the update, by the last epoch."""
    asked = []

    def apply(memory, key, policy, params, batch):
        asked.append(memory)
        return memory + 1, (jax.tree.map(jnp.zeros_like, params), {"seen": memory})

    def init(key, policy, params, batch):
        return jnp.zeros(()) + batch.advantage.ndim  # of the shapes of those to come

    counting = Running(init, apply, lambda memory, metrics: memory + 100 + metrics["seen"])
    policy, params, batch = testing_worlds.example()
    algorithm = Algorithm(gae, counting, adam)
    update = descent(algorithm, Config(num_epochs=2, num_minibatches=2), by_column=True)
    hypers = default_hypers(algorithm)
    state = update.init(jax.random.key(0), policy, params, batch, hypers)
    apply = jax.jit(lambda key, state: update.apply(key, policy, params, state, batch, hypers))
    at = 2.0
    for u in range(3):
        _, state, metrics = apply(jax.random.key(u), state)
        # Four gradient steps see at, at + 1, ..., at + 3; the last two are the last epoch.
        assert metrics["seen"] == at + 1.5 and state.estimator == at + 4 + 100 + (at + 2.5)
        at = float(state.estimator)
    assert len(asked) == 1  # traced once for every minibatch and epoch


def test_estimators_that_stop_conform():
    testing.check_estimator(estimators.early_stopping(surrogate(actor_critic(ppo_clip))), stop_kl=0.5)


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("ppo", {"stop_kl": 0.02, "lag": 4}, "stop_kl needs lag=0 and epsilon=0, as it measures the KL"),
        ("ppo", {"stop_kl": [math.inf, 0.02], "epsilon": 0.1}, "stop_kl needs lag=0"),
        ("ppo_kl", {"lag": 1}, "target_kl needs lag=0"),
        ("ppo_kl", {"num_epochs": 1, "num_minibatches": 1}, "num_epochs=2 or more"),
        ("impala", {"importance": True}, "importance=True: v_trace has the ratios in its advantage already"),
        ("impala", {"reevaluate": True}, "reevaluate=True: v_trace has the ratios in its advantage already"),
        ("trpo", {"max_kl": -0.01}, "estimator.max_kl must be above 0"),
        ("trpo", {"cg_steps": 0}, "estimator.cg_steps must be 1 or more"),
        ("ppo", {"anneal_steps": 0}, "optimizer.anneal_steps must lie in"),
        ("impala", {"clip_rho": -1.0}, "advantage.clip_rho must lie in"),
    ],
)
def test_what_would_do_nothing_or_something_else_is_refused(name, chosen, message):
    with pytest.raises(ValueError, match=message):
        plan.plan(name, "CartPole-v1", settings=chosen)


def test_what_the_penalty_begins_with_may_be_swept():
    made = plan.plan("ppo_kl", "CartPole-v1", settings={"kl_coef": [0.5, 1.0], "target_kl": [0.01, 0.02]})
    assert len(made.groups) == 1 and len(made.groups[0].hypers) == 4


def test_an_estimator_that_remembers_may_be_stopped_early(maze):
    """The penalty adapts, and the update ends above the limit: each as it would alone."""
    both = early_stopping(adaptive_kl(surrogate(actor_critic(ppo_clip))))
    assert isinstance(both, Running) and {"stop_kl", "target_kl"} <= set(hyperparameters(both))
    algorithm = Algorithm(gae, bind(both, kl_coef=0.5), bind(adam, learning_rate=0.1))
    _, built, hypers, state = made(maze, algorithm, num_epochs=3)
    step, found = jax.jit(built.step), []
    for u in range(2):
        state, metrics = step(jax.random.key(u), state, with_estimator(hypers, target_kl=1e-6, stop_kl=1e-9))
        found.append((float(metrics["gradient_steps"]), float(metrics["penalty"])))
    assert found == [(1.0, 0.5), (1.0, 1.0)]
