"""Statistics and noise that a policy keeps beside its parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import pgjax
from pgjax import Config, algorithms, envs, policies, rollout
from pgjax.hyperparameters import default_hypers
from pgjax.numerics.running_moments import normalize
from pgjax.policies.distributions import Categorical

SMALL = {"num_epochs": 1, "num_minibatches": 1, "num_envs": 4, "num_steps": 8, "eval_episodes": 2}


class Net(nnx.Module):
    """Both, or one of them."""

    def __init__(self, rngs, norm, drop):
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs) if norm else lambda x: x
        self.drop = nnx.Dropout(0.5, rngs=rngs) if drop else lambda x: x
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, obs):
        out = self.out(self.drop(jnp.tanh(self.norm(self.hidden(obs)))))
        return Categorical(out[..., :2]), out[..., 2]


class LinenNet(linen.Module):
    norm: bool
    drop: bool

    @linen.compact
    def __call__(self, obs, train: bool = False):
        x = linen.Dense(8)(obs)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x) if self.norm else x
        out = linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(jnp.tanh(x)) if self.drop else jnp.tanh(x))
        return Categorical(out[..., :2]), out[..., 2]


def factory(kind):
    name, *parts = kind.split()
    norm, drop = "norm" in parts, "drop" in parts
    if name == "nnx":
        return lambda env, config: policies.from_nnx(lambda rngs: Net(rngs, norm, drop))
    return lambda env, config: policies.from_linen(LinenNet(norm, drop), env)


def learner(kind, **options):
    env, row = envs.make("CartPole-v1"), algorithms.entry("ppo")
    config = Config(**{**SMALL, **options})
    made = row.learner(env, factory(kind)(env, config), row.algorithm, config)
    hypers = default_hypers(row.algorithm)
    return env, made, hypers, jax.jit(made.init)(jax.random.key(0), hypers)


def _names(params):
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        yield from (entry.key for entry in path)


def hidden(params, obs):
    layer = params["hidden"] if "hidden" in params else params["params"]["Dense_0"]
    return np.asarray(obs, np.float64) @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("kind", ["nnx norm", "linen norm", "nnx norm drop"])
def test_statistics_follow_the_batch_that_was_learned_from(kind, normalized):
    """BatchNorm's law: .9 of the old and .1 of the batch's mean and variance, at the parameters after the update."""
    env, made, hypers, state = learner(kind, normalize_obs=normalized)
    step = jax.jit(made.step)
    for u in range(2):
        key = jax.random.key(u)
        acting, params = made.behaviour(state)
        _, rows = made.collect(jax.random.split(key)[0], acting, params, state, hypers)
        following, metrics = step(key, state, hypers)
        obs = normalize(state.obs_moments, rows.obs) if normalized else rows.obs
        before, after = (jax.tree.leaves(s.variables.statistics) for s in (state, following))
        seen = hidden(following.params, obs).reshape(-1, 8)
        for old, new, batch in zip(before, after, (seen.mean(axis=0), seen.var(axis=0)), strict=True):
            np.testing.assert_allclose(new, 0.9 * np.asarray(old) + 0.1 * batch, rtol=1e-4, atol=1e-5)
        # What was evaluated is what acted, whatever the statistics and the noise are.
        assert float(metrics["kl"]) < 1e-10
        state = following
    assert "statistics" not in str(jax.tree.structure(state.params)) and "var" not in str(
        jax.tree.structure(state.params)
    )


@pytest.mark.parametrize("kind", ["nnx drop", "linen drop"])
def test_noise_is_one_draw_for_an_update_and_off_after_training(kind):
    env, made, hypers, state = learner(kind)
    following, metrics = jax.jit(made.step)(jax.random.key(1), state, hypers)
    assert float(metrics["kl"]) < 1e-10
    obs = jnp.ones((3, 4))
    logits = [p.act(params, (), obs)[0].logits for p, params in map(made.behaviour, (state, following))]
    assert np.ptp(logits[0], axis=0).max() == 0  # the same observation, the same draw
    drawn, again = (following._replace(variables=x.variables) for x in (state, following))
    one, other = (p.act(params, (), obs)[0].logits for p, params in map(made.behaviour, (drawn, again)))
    assert np.abs(one - other).max() > 1e-2  # another draw for the next update
    off = [p.act(params, (), obs)[0].logits for p, params in map(made.policy, (drawn, again))]
    np.testing.assert_array_equal(*off)


def test_steps_that_do_not_count_leave_no_trace_in_the_statistics():
    env, made, hypers, state = learner("nnx norm", rollout="episodes", num_steps=20)
    key = jax.random.key(3)
    following, _ = jax.jit(made.step)(key, state, hypers)
    acting, params = made.behaviour(state)
    _, rows = made.collect(jax.random.split(key)[0], acting, params, state, hypers)
    counts = np.asarray(rows.mask) > 0
    assert not counts.all()
    seen = hidden(following.params, rows.obs)[counts]
    # Counted steps fill the places of the others, so a step may count once more than another.
    times = -(-counts.size // counts.sum())
    away = np.asarray(following.variables.statistics["norm"]["mean"]) - 0.1 * seen.mean(axis=0)
    assert np.abs(away).max() < 0.1 * seen.std(axis=0).max() / times


@pytest.mark.parametrize(
    "kind",
    [
        "linen norm",
        pytest.param("nnx norm drop", marks=pytest.mark.slow),
        pytest.param("linen drop", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_extended_bit_for_bit_and_read_back(kind, tmp_path):
    options = dict(seeds=2, settings=SMALL, policy=factory(kind), progress=False)
    pgjax.run("ppo", "CartPole-v1", updates=1, out=tmp_path / "r", **options)
    longer = pgjax.extend(tmp_path / "r", updates=2, policy=factory(kind), progress=False)
    whole = pgjax.run("ppo", "CartPole-v1", updates=2, **options)
    np.testing.assert_array_equal(longer.metrics["loss"].values, whole.metrics["loss"].values)
    env, policy, params = longer.lane(seed=1)
    once = rollout.evaluate(jax.random.key(0), env, policy, params, 2, greedy=True)
    assert np.all(once.episode_return > 0)
    logits = policy.act(params, (), jnp.ones((2, 4)))[0].logits
    fresh = factory(kind)(env, Config()).act(params, (), jnp.ones((2, 4)))[0].logits
    assert ("norm" in kind) == (np.abs(logits - fresh).max() > 1e-6)  # the lane's own statistics


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (LinenNet(True, True), "LinenNet has both batch_stats and noise behind one train=True"),
        (
            linen.BatchNorm(use_running_average=True),
            "BatchNorm has variables that are no params, batch_stats; write",
        ),
    ],
)
def test_a_linen_module_that_can_not_be_carried_is_refused(module, line):
    with pytest.raises(ValueError, match=line):
        policies.from_linen(module, envs.make("CartPole-v1"))


def test_a_wrapper_that_learners_would_leave_behind_is_refused():
    env = envs.make("CartPole-v1")
    policy = factory("nnx norm")(env, Config())

    def always_left(policy):
        def act(params, memory, obs):
            dist, memory = policy.act(params, memory, obs)
            return Categorical(jnp.zeros_like(dist.logits).at[..., 0].set(50.0)), memory

        return policy._replace(act=act)

    run = functools.partial(pgjax.run, "ppo", env, updates=1, settings=SMALL, progress=False)
    with pytest.raises(ValueError, match="make it anew by its `variables.bind`, without the wrapper"):
        run(policy=lambda env, config: always_left(policy))
    held = policy.variables
    bound = held._replace(bind=lambda found, learns: always_left(held.bind(found, learns)))
    found = run(policy=lambda env, config: always_left(policy)._replace(variables=bound))
    assert found.metrics["entropy"].values.max() > 0.1  # of `evaluate`, which was not wrapped
    assert found.metrics["episode_length"].values.max() < 12  # who always goes left falls soon
