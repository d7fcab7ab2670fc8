"""Policies: what `evaluate` says of a whole trajectory is what `act` said step by step."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgjax import envs, policies, rollout
from pgjax.config import Config
from pgjax.numerics import running_moments
from pgjax.policies.distributions import Categorical, DiagGaussian
from pgjax.policies.squashed import SquashedGaussian
from pgjax.types import Trajectory

KINDS = {
    "mlp": ("CartPole-v1", dict(max_steps_in_episode=5), dict()),
    "shared": ("CartPole-v1", dict(max_steps_in_episode=5), dict(shared=True)),
    "cnn": ("Breakout-MinAtar", dict(max_steps_in_episode=5), dict()),
    "table": ("TabularMDP-pgjax", dict(horizon=5), dict()),
    "gru": ("MemoryChain-bsuite", dict(memory_length=2), dict(network="gru")),
    "gaussian": ("Pendulum-v1", dict(max_steps_in_episode=5), dict()),
    "gaussian gru": ("Pendulum-v1", dict(max_steps_in_episode=5), dict(network="gru")),
}
T, B = 12, 3


def noisy(policy, seed=0):
    """Parameters of a policy far from its uniform beginning."""
    g = np.random.default_rng(seed)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.5 * g.normal(size=x.shape), x.dtype), shapes)


@pytest.fixture(scope="module", params=KINDS)
def experience(request):
    """A policy of each kind that is far from uniform, and what it did on a real stream."""
    name, params, config = KINDS[request.param]
    env = envs.make(name, **params)
    policy = policies.make(env, Config(num_steps=T, hidden=(8,), **config))

    params = noisy(policy)

    @jax.jit
    def collect(key_start, key_steps, memory):
        # As in the middle of a stream, where the memory at the first step isn't zero.
        state = rollout.start(key_start, env, policy, B)._replace(memory=memory)
        _, trajectory = rollout.unroll(key_steps, env, policy, params, state, T)
        return trajectory, policy.evaluate(params, trajectory)

    memory = jax.tree.map(lambda x: x + jnp.linspace(-0.9, 0.9, x.size).reshape(x.shape), policy.memory(B))
    trajectory, now = collect(*jax.random.split(jax.random.key(0)), memory)
    return policy, params, trajectory, now


def test_evaluate_gives_the_log_probability_that_the_rollout_gave(experience):
    _, _, trajectory, now = experience
    assert bool(jnp.any(trajectory.terminated | trajectory.truncated))
    assert now.log_prob.shape == now.entropy.shape == now.value.shape == now.next_value.shape == (T, B)
    np.testing.assert_allclose(now.log_prob, trajectory.log_prob, rtol=1e-4, atol=1e-5)
    assert float(jnp.std(now.log_prob)) > 1e-3


def test_the_next_value_is_the_value_of_the_next_step_where_the_episode_goes_on(experience):
    _, _, trajectory, now = experience
    goes_on = ~np.asarray(trajectory.terminated | trajectory.truncated)[:-1]
    there, here = np.asarray(now.next_value)[:-1], np.asarray(now.value)[1:]
    np.testing.assert_allclose(there[goes_on], here[goes_on], rtol=1e-4, atol=1e-5)


def test_only_the_recurrent_kind_has_a_memory(experience, request):
    policy, _, trajectory, _ = experience
    recurrent = "gru" in request.node.callspec.id
    assert policies.has_memory(policy) is recurrent
    assert bool(jax.tree.leaves(trajectory.memory)) is recurrent
    if recurrent:
        assert trajectory.memory.shape == (B, 8)
        np.testing.assert_array_equal(policy.memory(4), np.zeros((4, 8)))


def test_rows_and_whole_sequences_are_evaluated_alike_without_a_memory(experience):
    policy, params, trajectory, now = experience
    if policies.has_memory(policy):
        pytest.skip("the order of steps matters to this one")
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)
    again = policy.evaluate(params, rows)
    np.testing.assert_allclose(again.value, now.value.reshape(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again.log_prob, now.log_prob.reshape(-1), rtol=1e-4, atol=1e-5)


class Echo(nnx.Module):
    """memory' = memory / 2 + W obs; logits and value are read from it directly."""

    def __init__(self, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (2, 3)))

    def remember(self, memory, obs):
        return memory / 2 + obs @ self.weight[...]

    def read(self, memory):
        return Categorical(memory[..., :2]), memory[..., 2]


def sequence(g, steps=10, batch=4):
    """Random experience with ends of both kinds inside, and a memory that isn't zero at its start."""
    obs, next_obs = g.normal(size=(2, steps, batch, 2)).astype(np.float32)
    end = g.integers(0, 6, size=(steps, batch))
    return Trajectory(
        obs=jnp.asarray(obs),
        action=jnp.asarray(g.integers(0, 2, size=(steps, batch))),
        log_prob=jnp.zeros((steps, batch)),
        reward=jnp.zeros((steps, batch)),
        terminated=jnp.asarray(end == 0),
        truncated=jnp.asarray(end == 1),
        next_obs=jnp.asarray(next_obs),
        mask=jnp.ones((steps, batch)),
        time=jnp.zeros((steps, batch), jnp.int32),
        memory=jnp.asarray(g.normal(size=(batch, 3)), jnp.float32),
    )


def test_a_recurrent_policy_evaluates_as_it_acts_and_forgets_at_every_end():
    policy = policies.recurrent(lambda rngs: Echo(rngs), 3)
    params = policy.init(jax.random.key(0))
    weight = np.asarray(params["weight"], np.float64)
    trajectory = sequence(np.random.default_rng(0))
    assert trajectory.terminated.any() and trajectory.truncated.any()
    now = policy.evaluate(params, trajectory)

    act = jax.jit(policy.act)
    memory = trajectory.memory
    for t in range(10):
        before = np.asarray(memory, np.float64)
        dist, memory = act(params, memory, trajectory.obs[t])
        remembered = before / 2 + np.asarray(trajectory.obs[t], np.float64) @ weight
        np.testing.assert_allclose(memory, remembered, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(dist.log_prob(trajectory.action[t]), now.log_prob[t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(remembered[:, 2], now.value[t], rtol=1e-4, atol=1e-5)
        # The value of what follows, also across an end: before any reset.
        foreseen = remembered / 2 + np.asarray(trajectory.next_obs[t], np.float64) @ weight
        np.testing.assert_allclose(foreseen[:, 2], now.next_value[t], rtol=1e-4, atol=1e-5)
        done = trajectory.terminated[t] | trajectory.truncated[t]
        memory = jnp.where(done[:, None], 0.0, memory)


def test_no_gradient_reaches_back_across_an_end():
    policy = policies.recurrent(lambda rngs: Echo(rngs), 3)
    params = policy.init(jax.random.key(0))
    trajectory = sequence(np.random.default_rng(1), steps=4, batch=1)
    trajectory = trajectory._replace(
        terminated=jnp.zeros((4, 1), bool).at[1].set(True), truncated=jnp.zeros((4, 1), bool)
    )

    def last_value(obs):
        return policy.evaluate(params, trajectory._replace(obs=obs)).value[3, 0]

    felt = np.any(np.asarray(jax.grad(last_value)(trajectory.obs)) != 0, axis=(1, 2))
    np.testing.assert_array_equal(felt, [False, False, True, True])


class Line(nnx.Module):
    """A user's module without `actor` and `critic` of its own."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self, obs):
        out = self.linear(obs)
        return Categorical(out[..., :2]), out[..., 2]


class LinenLine(linen.Module):
    @linen.compact
    def __call__(self, obs):
        out = linen.Dense(3)(obs)
        return Categorical(out[..., :2]), out[..., 2]


def flat_env():
    return envs.make("MountainCarContinuous-v0")


def test_the_users_own_modules_become_policies():
    trajectory = sequence(np.random.default_rng(0))._replace(memory=())
    for policy in (policies.from_nnx(lambda rngs: Line(rngs)), policies.from_linen(LinenLine(), flat_env())):
        params = policy.init(jax.random.key(0))
        shapes = sorted(x.shape for x in jax.tree.leaves(params))
        assert shapes == [(2, 3), (3,)] or shapes == [(3,), (2, 3)]
        kernel, bias = (next(x for x in jax.tree.leaves(params) if x.ndim == n) for n in (2, 1))
        now = policy.evaluate(params, trajectory)
        np.testing.assert_allclose(now.value, trajectory.obs @ kernel[:, 2] + bias[2], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now.next_value, trajectory.next_obs @ kernel[:, 2] + bias[2], rtol=1e-4, atol=1e-5)
        dist, memory = policy.act(params, (), trajectory.obs[0])
        assert memory == ()
        np.testing.assert_allclose(dist.log_prob(trajectory.action[0]), now.log_prob[0], rtol=1e-5)


def test_a_policy_keeps_no_parameters_of_its_own():
    policy = policies.from_nnx(lambda rngs: Line(rngs))
    first, second = (policy.init(jax.random.key(seed)) for seed in (0, 1))
    assert float(jnp.max(jnp.abs(first["linear"]["kernel"] - second["linear"]["kernel"]))) > 0.1
    obs = jnp.ones((1, 2))
    before = policy.act(first, (), obs)[0].logits
    policy.act(second, (), obs)
    np.testing.assert_array_equal(policy.act(first, (), obs)[0].logits, before)
    gradient = jax.grad(lambda p: jnp.sum(policy.act(p, (), obs)[0].logits))(first)
    np.testing.assert_array_equal(gradient["linear"]["bias"], [1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "constant", [2.0, np.float32([2.0, 2.0]), jnp.float32([2.0, 2.0])], ids=["float", "numpy", "jax"]
)
def test_the_constants_of_a_module_stay_as_they_were_built(constant):
    class Scaled(Line):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.scale = constant * 1.0

        def __call__(self, obs):
            return super().__call__(obs * jnp.broadcast_to(self.scale, obs.shape))

    plain, scaled = (policies.from_nnx(lambda rngs, m=m: m(rngs)) for m in (Line, Scaled))
    params = plain.init(jax.random.key(0))
    obs = jnp.ones((4, 2))
    assert jax.tree.map(jnp.shape, scaled.init(jax.random.key(0))) == jax.tree.map(jnp.shape, params)
    logits = [p.act(params, (), x)[0].logits for p, x in ((scaled, obs), (plain, 2 * obs))]
    np.testing.assert_allclose(*logits, rtol=1e-6)


def test_a_constant_may_hide_in_a_function_of_the_module():
    class Scaled(Line):
        def __init__(self, rngs):
            super().__init__(rngs)
            scale = jnp.array([2.0, 2.0]) * 1.0
            self.scaled = lambda x: x * jnp.broadcast_to(scale, x.shape)

        def __call__(self, obs):
            return super().__call__(self.scaled(obs))

    plain, scaled = (policies.from_nnx(lambda rngs, m=m: m(rngs)) for m in (Line, Scaled))
    params, obs = plain.init(jax.random.key(0)), jnp.ones((4, 2))
    logits = [jax.jit(p.act)(params, (), x)[0].logits for p, x in ((scaled, obs), (plain, 2 * obs))]
    np.testing.assert_allclose(*logits, rtol=1e-6)


def test_a_module_whose_variables_change_as_it_is_called_is_refused():
    class Counting(Line):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.calls = nnx.Variable(jnp.zeros(()))

    with pytest.raises(ValueError, match="nnx.BatchStat or nnx.RngState: calls"):
        policies.from_nnx(lambda rngs: Counting(rngs))


class LinenStates(linen.Module):
    """A module with what is no parameter."""

    kind: str

    @linen.compact
    def __call__(self, obs):
        if self.kind == "cache":
            self.variable("cache", "calls", lambda: jnp.zeros(())).value  # noqa: B018
        layers = {
            "batch_stats": linen.BatchNorm(use_running_average=True),
            "batch_stats, changed": linen.BatchNorm(use_running_average=False),
            "dropout": linen.Dropout(0.5, deterministic=False),
            "none": linen.Dropout(0.5, deterministic=True),
        }
        out = linen.Dense(3)(layers.get(self.kind, layers["none"])(obs))
        return Categorical(out[..., :2]), out[..., 2]


@pytest.mark.parametrize("kind", ["batch_stats", "batch_stats, changed", "cache"])
def test_a_linen_module_whose_other_variables_would_be_trained_is_refused(kind):
    with pytest.raises(ValueError, match=f"has variables that are no params, {kind.split(',')[0]}; write it"):
        policies.from_linen(LinenStates(kind), flat_env())


def test_a_linen_module_without_other_variables_has_params_alone():
    policy = policies.from_linen(LinenStates("none"), flat_env())
    assert set(policy.init(jax.random.key(0))) == {"params"} and policy.variables is None


@pytest.mark.parametrize("state", [nnx.Cache, nnx.Intermediate])
def test_an_nnx_module_with_any_other_state_is_refused(state):
    class Stateful(Line):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.kept = state(jnp.zeros(()))

    with pytest.raises(ValueError, match="nnx.BatchStat or nnx.RngState: kept"):
        policies.from_nnx(lambda rngs: Stateful(rngs))


class Shared(Line):
    """A module whose distribution has a field that all steps share."""

    def __init__(self, kind, rngs):
        super().__init__(rngs)
        self.kind = kind

    def __call__(self, obs):
        out = self.linear(obs)
        mean, one = out[..., :2], jnp.ones(2)
        if self.kind == "log_std":
            return DiagGaussian(mean, one), out[..., 2]
        return SquashedGaussian(mean, jnp.zeros_like(mean), -jnp.ones_like(mean), one), out[..., 2]


@pytest.mark.parametrize("kind", ["log_std", "high"])
@pytest.mark.parametrize("steps", [2, 4, 8])
def test_a_field_that_all_steps_share_is_refused_whatever_T_is(kind, steps):
    trajectory = sequence(np.random.default_rng(0))._replace(memory=())
    trajectory = jax.tree.map(lambda x: x[:steps], trajectory)
    policy = policies.from_nnx(lambda rngs: Shared(kind, rngs))
    params = policy.init(jax.random.key(0))
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=rf"Shared: \w+\.{kind} has shape \(2,\)"):
        policy.evaluate(params, trajectory)
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=rf"{kind} has shape .* jnp.broadcast_to"):
        policy.act(params, (), trajectory.obs[0])


class LogitsAlone(Line):
    def __call__(self, obs):
        return self.linear(obs)


class TallValue(Line):
    def __call__(self, obs):
        out = self.linear(obs)
        return Categorical(out[..., :2]), out[..., 2:]


class LinenLogitsAlone(linen.Module):
    @linen.compact
    def __call__(self, obs):
        return linen.Dense(3)(obs)


class LinenTallValue(linen.Module):
    @linen.compact
    def __call__(self, obs):
        out = linen.Dense(3)(obs)
        return Categorical(out[..., :2]), out[..., 2:]


@pytest.mark.parametrize("module", [LogitsAlone, TallValue, LinenLogitsAlone, LinenTallValue])
def test_a_module_that_returns_the_wrong_thing_is_named(module):
    if issubclass(module, linen.Module):
        policy = policies.from_linen(module(), flat_env())
    else:
        policy = policies.from_nnx(lambda rngs: module(rngs))
    params = policy.init(jax.random.key(0))
    if module in (LogitsAlone, LinenLogitsAlone):
        error, message = TypeError, rf"{module.__name__}: expected \(distribution, value\), got \w+"
    else:
        error, message = ValueError, rf"{module.__name__}: value has shape \(4, 1\), expected \(4,\).*squeeze"
    with pytest.raises(error, match=message):
        policy.act(params, (), jnp.zeros((4, 2)))


class TallEcho(Echo):
    def read(self, memory):
        return Categorical(memory[..., :2]), memory[..., 2:]


class EchoAlone(Echo):
    def read(self, memory):
        return memory


@pytest.mark.parametrize("module", [TallEcho, EchoAlone])
def test_a_recurrent_module_that_returns_the_wrong_thing_is_named(module):
    policy = policies.recurrent(lambda rngs: module(rngs), 3)
    params = policy.init(jax.random.key(0))
    with pytest.raises((TypeError, ValueError), match=module.__name__):
        policy.evaluate(params, sequence(np.random.default_rng(0)))


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_observation_moments_normalise_whatever_reaches_the_policy(kind):
    env = envs.make("CartPole-v1")
    policy = policies.make(env, Config(num_steps=T, hidden=(8,), network=kind))
    params = noisy(policy)
    trajectory = sequence(np.random.default_rng(0))
    wide = lambda x: jnp.concatenate([x, 3 * x], -1) + 5.0  # noqa: E731
    trajectory = trajectory._replace(
        obs=wide(trajectory.obs), next_obs=wide(trajectory.next_obs), memory=policy.memory(4)
    )
    seen = running_moments.update(running_moments.empty(jnp.zeros(4)), trajectory.obs, trajectory.mask)
    mean, std = (np.asarray(f(trajectory.obs, axis=(0, 1))) for f in (np.mean, np.std))
    by_hand = trajectory._replace(
        obs=(trajectory.obs - mean[None, None]) / std[None, None],
        next_obs=(trajectory.next_obs - mean[None, None]) / std[None, None],
    )
    through = policies.with_observation_moments(policy, seen)
    here, there = through.evaluate(params, trajectory), policy.evaluate(params, by_hand)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), here, there)
    act = through.act(params, policy.memory(4), trajectory.obs[0])[0]
    np.testing.assert_allclose(act.log_prob(trajectory.action[0]), here.log_prob[0], rtol=1e-4, atol=1e-5)


def test_a_wrapper_of_the_users_own_keeps_what_a_policy_needs_and_not_what_it_allows():
    policy = policies.make(envs.make("copying"), Config(hidden=(8,), heads=2))
    for wrapped in (policy._replace(evaluate=lambda params, rows: policy.evaluate(params, rows)), policy):
        assert wrapped.whole_episodes and not wrapped.by_observation
    env = envs.make("CartPole-v1")
    plain = policies.make(env, Config(hidden=(8,)))
    assert plain.by_observation and not plain._replace(evaluate=policy.evaluate).by_observation
    fused = policies.make(env, Config(hidden=(8,), kernel="fused"))
    assert fused.by_observation and not fused.whole_episodes
