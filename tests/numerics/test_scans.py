"""A scan that ends early is the scan; so are a gradient in pieces and a next value read off the next step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pgjax import algorithms, envs, estimators, hyperparameters, losses, policies, rollout
from pgjax.config import Config
from pgjax.estimators import pieces as estimators_pieces
from pgjax.estimators.pieces import row_pieces
from pgjax.losses import contract
from pgjax.numerics import scans
from pgjax.policies.distributions import Categorical
from pgjax.training import vectorised
from pgjax.types import Batch
from pgjax.variance.measurement import measure

T, B = 12, 5


def countdown(carry, x):
    """Counts down to 0 and stays there."""
    following = jnp.maximum(carry - 1, 0)
    return following, jnp.where(carry > 0, carry * x, 0.0)


@pytest.mark.parametrize("starts", [[3], [0], [9, 2], [1, 4, 20]])
def test_a_scan_that_ends_early_gives_what_the_scan_gives(starts):
    inputs = jnp.arange(1.0, 8.0)
    early = lambda start: scans.scan_while(countdown, start, inputs, lambda carry, _: carry > 0)  # noqa: E731
    whole = lambda start: jax.lax.scan(countdown, start, inputs)  # noqa: E731
    for got, want in zip(
        *(jax.tree.leaves(jax.jit(jax.vmap(f))(jnp.float32(starts))) for f in (early, whole)), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_it_takes_no_step_more_than_the_longest_lane_needs():
    steps = []

    def step(carry, x):
        jax.debug.callback(lambda: steps.append(1))
        return countdown(carry, x)

    run = jax.jit(jax.vmap(lambda start: scans.scan_while(step, start, jnp.ones(50), lambda carry, _: carry > 0)))
    jax.block_until_ready(run(jnp.float32([2, 4])))
    jax.effects_barrier()
    assert len(steps) in (4, 8)  # the callback may be of the step, or of each lane's


def test_what_remains():
    mask = jnp.array([[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(scans.remaining(mask), [True, True, True, True, False])


def stream(name, terminal=None, **config):
    """A policy, parameters and T steps of B environments."""
    env = envs.make(name) if terminal is None else envs.make(name, terminal=terminal)
    policy = policies.make(env, Config(hidden=(4,), **config))

    @jax.jit
    def build(key):
        params = policy.init(key)
        params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(key, x.shape), params)
        state = rollout.start(key, env, policy, B)
        return params, rollout.unroll(key, env, policy, params, state, T)[1]

    return policy, *build(jax.random.key(0))


@pytest.mark.parametrize("critic", ["value", "action_value"])
@pytest.mark.parametrize("cut", [0.0, 0.3, 1.0])
def test_the_next_value_is_the_critics_word_on_the_next_observation(critic, cut):
    """Whatever number of a column's steps is truncated; where the world terminated it isn't asked."""
    policy, params, trajectory = stream("TabularMDP-pgjax", np.arange(5) == 4, critic=critic)
    generator = np.random.default_rng(0)
    truncated = jnp.asarray(generator.random((T, B)) < cut) & ~trajectory.terminated
    # Where a step isn't truncated the next row is what followed; elsewhere anything may stand there.
    obs = trajectory.obs.at[1:].set(jnp.where(truncated[:-1], 0, trajectory.obs[1:]))
    trajectory = trajectory._replace(truncated=truncated, obs=obs)
    got = jax.jit(functools.partial(estimators_pieces.evaluate, policy))(params, trajectory)
    want = policy.evaluate(params, trajectory)
    counts = np.asarray(~trajectory.terminated)
    assert 0 < counts.sum() < counts.size
    np.testing.assert_allclose(got.next_value[counts], want.next_value[counts], rtol=1e-6)
    np.testing.assert_allclose(got.value, want.value, rtol=1e-6)


def batch_of(rows, columns):
    policy, params, trajectory = stream("CartPole-v1")
    generator = np.random.default_rng(1)
    index = generator.integers(0, T * B, (rows, columns) if columns else rows)
    taken = jax.tree.map(lambda x: x.reshape(T * B, *x.shape[2:])[index], trajectory._replace(memory=()))
    mask = jnp.asarray(generator.random(index.shape) < 0.7, jnp.float32)
    numbers = [jnp.asarray(generator.normal(size=index.shape), jnp.float32) for _ in range(3)]
    return policy, params, Batch(taken._replace(mask=mask), *numbers)


@pytest.mark.slow
@pytest.mark.parametrize("normalize_advantage", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns", "reduce", "lengths"),
    [
        (384, 0, "step", None),
        (96, 4, "step", None),
        (96, 4, "episode", (96, 96, 96, 96)),
        (96, 4, "episode", (1, 57, 0, 70)),
        (96, 4, "episode", (0, 0, 3, 0)),
        (96, 4, "episode", (32, 64, 16, 16)),
    ],
)
def test_a_gradient_in_pieces_is_the_gradient(rows, columns, reduce, lengths, normalize_advantage):
    """Masked steps within and behind the pieces included; metrics too. Whole episodes are packed."""
    policy, params, batch = batch_of(rows, columns)
    mask = batch.trajectory.mask.at[-rows // 3 :].set(0.0)  # so that pieces at the end are left out
    if lengths:
        mask = (jnp.arange(rows)[:, None] < jnp.array(lengths)[None]).astype(jnp.float32)
    batch = batch._replace(trajectory=batch.trajectory._replace(mask=mask))
    assert row_pieces(batch.advantage.shape) > 1
    loss = losses.actor_critic(losses.ppo_clip)
    whole = losses.actor_critic(lambda now, batch: losses.ppo_clip(now, batch))  # not declared: all at once
    assert contract.is_by_step(loss) and not contract.is_by_step(whole)
    options = {"normalize_advantage": normalize_advantage, "value_clip": 0.1, "entropy_coef": 0.1}
    pair = [
        jax.jit(lambda p, b, f=f: estimators.surrogate(f, reduce)(jax.random.key(0), policy, p, b, **options))(
            params, batch
        )
        for f in (loss, whole)
    ]
    for got, want in zip(*map(jax.tree.leaves, pair), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-6)


def test_a_lane_of_episodes_is_the_same_beside_one_whose_episodes_are_longer():
    """To the last bit, though it is computed for as long as the longer one goes on."""
    row = algorithms.entry("reinforce")
    config = Config(num_envs=2, num_steps=60, rollout="episodes", hidden=(4,), eval_episodes=2)
    env = envs.make("CartPole-v1")
    reinforce = row.learner(env, policies.make(env, config), row.algorithm, config)
    hypers = hyperparameters.default_hypers(row.algorithm)
    run = jax.jit(lambda k, s, h: vectorised.segment(k, reinforce, s, h, 1))
    begin = jax.jit(lambda k, h: vectorised.init(k, reinforce, h))
    first = None
    lengths = set()
    for other in range(1, 6):
        keys, stacked = vectorised.lanes([hypers], [0, other])
        states, metrics = run(keys, begin(keys, stacked), stacked)
        mine = jax.tree.map(lambda x: np.asarray(x[0]), (states.learner.params, metrics))
        first = mine if first is None else first
        jax.tree.map(np.testing.assert_array_equal, mine, first)
        lengths.add(float(metrics["env_steps"][1, 0]))
    assert len(lengths) > 1


class Unit(nnx.Module):
    """Knows nothing of an observation 0, which CartPole never shows."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, obs):
        out = self.linear(obs / jnp.linalg.norm(obs, axis=-1, keepdims=True))
        return Categorical(out[..., :2]), out[..., 2]


def test_behind_the_end_of_all_episodes_stand_steps_that_the_world_knows():
    env, policy = envs.make("CartPole-v1"), policies.from_nnx(lambda rngs: Unit(rngs))

    @jax.jit
    def run(key):
        params = policy.init(key)
        trajectory, _ = rollout.episodes(key, env, policy, params, 2, 300)
        batch = Batch(trajectory, *[jnp.ones_like(trajectory.mask)] * 3)
        estimator = estimators.surrogate(losses.policy_gradient, "episode")
        return trajectory, estimator(key, policy, params, batch)[0]

    trajectory, gradient = run(jax.random.key(0))
    behind = np.asarray(trajectory.mask).sum(0).astype(int).max()
    assert behind < 300 and not np.any(trajectory.mask[behind:] + np.abs(trajectory.reward[behind:]))
    np.testing.assert_array_equal(
        trajectory.obs[behind:], np.broadcast_to(trajectory.obs[:1], trajectory.obs[behind:].shape)
    )
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))


def test_the_laboratorys_next_value_where_the_clock_of_the_world_runs_out_first():
    env = envs.make("CartPole-v1")

    def step(key, params, state, action):
        state, seen = env.step(key, params, state, action)
        return state, seen._replace(truncated=(state.time >= 5) & ~seen.terminated)

    policy = policies.make(env, Config(hidden=(4,)))

    @jax.jit
    def run(key):
        params = policy.init(key)
        trajectory, _ = rollout.episodes(key, env._replace(step=step, max_steps=10), policy, params, 3)
        return trajectory, measure._evaluated(policy, params, trajectory), policy.evaluate(params, trajectory)

    trajectory, got, want = run(jax.random.key(0))
    counts = np.asarray(trajectory.mask) > 0
    assert np.asarray(trajectory.truncated).any() and not counts[5:].any()
    np.testing.assert_allclose(got.next_value[counts], want.next_value[counts], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.value[counts], want.value[counts], rtol=1e-5, atol=1e-6)


def test_a_scalar_metric_stays_what_it_is_in_pieces():
    policy, params, batch = batch_of(384, 0)
    loss = losses.by_step(lambda now, batch, *, beta=0.5: (-now.log_prob * batch.advantage, {"beta": beta}))
    for mask in (batch.trajectory.mask, batch.trajectory.mask.at[128:].set(0.0)):
        here = batch._replace(trajectory=batch.trajectory._replace(mask=mask))
        metrics = estimators.surrogate(loss)(jax.random.key(0), policy, params, here)[1]
        np.testing.assert_allclose(metrics["beta"], 0.5, rtol=1e-6)


@pytest.mark.parametrize(("shape", "pieces"), [((128,), 1), ((512,), 4), ((65536,), 8), ((1031,), 1), ((500, 16), 100)])
def test_into_how_many_pieces(shape, pieces):
    """Not into a thousand of one step, where the length has no better divisor."""
    assert row_pieces(shape) == pieces


def test_who_is_by_step():
    @functools.wraps(losses.ppo_clip)
    def normalised(now, batch):
        return now.log_prob / jnp.sum(now.log_prob), {}

    assert contract.is_by_step(functools.partial(losses.ppo_clip, clip_eps=0.1))
    assert contract.is_by_step(losses.by_step(functools.partial(normalised)))
    assert not contract.is_by_step(normalised)
    assert not contract.is_by_step(losses.actor_critic(normalised))


def test_a_policy_of_ones_own_is_asked_for_its_own_next_value():
    policy, params, trajectory = stream("CartPole-v1")
    mine = policy._replace(evaluate=lambda p, t: policy.evaluate(p, t)._replace(next_value=7.0 * t.reward))
    np.testing.assert_array_equal(
        estimators_pieces.evaluate(mine, params, trajectory).next_value, 7.0 * trajectory.reward
    )


@pytest.mark.parametrize("option", [{"generator": "philox4x32"}, {"precision": "float32"}])
def test_options_of_how_numbers_are_made(option):
    import pgjax

    result = pgjax.run(
        "a2c",
        "PolicyProbe-pgjax",
        seeds=2,
        updates=2,
        progress=False,
        settings={"hidden": (4,), "eval_episodes": 2, **option},
    )
    assert np.isfinite(result.metrics.loss).all()
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be one of .*; got 'none'"):
        pgjax.run("a2c", "PolicyProbe-pgjax", updates=2, progress=False, settings={next(iter(option)): "none"})
