"""Every option of the advantages against sums written episode by episode in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import advantages
from pgjax.hyperparameters import bind
from pgjax.numerics import masked, returns, running_moments
from pgjax.policies.distributions import Categorical
from pgjax.types import Evaluation, Trajectory

DISCOUNT, CONSTANT = 0.9, 0.7
LENGTHS = (6, 3, 1, 4, 6)
# The episode of length 6 at the end is cut by the clock, and so is that of length 4.
TRUNCATED = (False, False, False, True, True)
BASELINES = ("none", "constant", "running_mean", "leave_one_out", "value")
WEIGHTS = {"full": (False, False), "to_go": (True, False), "to_go_gamma_t": (True, True)}
OPTIONS = list(itertools.product(WEIGHTS, BASELINES, (False, True), (False, True)))


def _episodes(seed, lengths=LENGTHS, truncated=TRUNCATED):
    """Whole episodes [T, B] as a rollout leaves them: behind an end no reward, no flag, a clock that stands."""
    g = np.random.default_rng(seed)
    shape = (max(lengths), len(lengths))
    t = np.arange(shape[0])[:, None]
    mask = t < np.array(lengths)
    last = t == np.array(lengths) - 1
    value, next_value = g.normal(size=(2, *shape)).astype(np.float32)
    trajectory = Trajectory(
        obs=np.zeros(shape, np.int32),
        action=np.zeros(shape, np.int32),
        log_prob=np.zeros(shape, np.float32),
        reward=np.where(mask, g.normal(size=shape), 0).astype(np.float32),
        terminated=last & ~np.array(truncated),
        truncated=last & np.array(truncated),
        next_obs=np.zeros(shape, np.int32),
        mask=mask.astype(np.float32),
        time=np.minimum(t, np.array(lengths)).astype(np.int32),
        memory=(),
    )
    zeros = np.zeros(shape, np.float32)
    return trajectory, Evaluation(dist=None, log_prob=zeros, entropy=zeros, value=value, next_value=next_value)


def _returns(trajectory, now, bootstrap):
    """G_t of each counted step, 0 behind the end."""
    reward, next_value = np.float64(trajectory.reward), np.float64(now.next_value)
    g = np.zeros(reward.shape)
    for b, length in enumerate(trajectory.mask.sum(0).astype(int)):
        for t in range(length):
            g[t, b] = sum(DISCOUNT ** (k - t) * reward[k, b] for k in range(t, length))
            if bootstrap and trajectory.truncated[length - 1, b]:
                g[t, b] += DISCOUNT ** (length - t) * next_value[length - 1, b]
    return g


def _expected(trajectory, now, weight, baseline, normalize, bootstrap, seen=()):
    """The advantage of each counted step (0 elsewhere), and the target."""
    reward_to_go, gamma_t = WEIGHTS[weight]
    mask = trajectory.mask > 0
    to_go = _returns(trajectory, now, bootstrap)
    weights = to_go if reward_to_go else np.where(mask, to_go[0], 0)
    out = np.zeros(mask.shape)
    for t, b in zip(*np.nonzero(mask), strict=True):
        if baseline == "leave_one_out":
            others = [weights[t if reward_to_go else 0, c] for c in range(mask.shape[1]) if c != b]
            reference = sum(others) / len(others)
        else:
            reference = {
                "none": 0.0,
                "constant": CONSTANT,
                "running_mean": np.mean([*seen, *weights[mask]]),
                "value": np.float64(now.value[t, b]),
            }[baseline]
        out[t, b] = weights[t, b] - reference
    if normalize:
        out[mask] = (out[mask] - out[mask].mean()) / (out[mask].std() + 1e-8)
    if gamma_t:
        out *= DISCOUNT ** np.arange(len(out))[:, None]
    return out, to_go if baseline == "value" else np.float64(now.value)


def _plug(weight, baseline, normalize, bootstrap):
    reward_to_go, gamma_t = WEIGHTS[weight]
    return bind(
        advantages.monte_carlo,
        discount=DISCOUNT,
        reward_to_go=reward_to_go,
        gamma_t=gamma_t,
        baseline=baseline,
        constant=CONSTANT,
        normalize=normalize,
        bootstrap=bootstrap,
    )


@pytest.fixture(scope="module")
def world():
    return _episodes(0)


@pytest.fixture(scope="module")
def monte_carlo(world):
    """Every option's (advantage, target), from one compiled program."""

    @jax.jit
    def everything(trajectory, now):
        start = advantages.monte_carlo.init()
        return [_plug(*option).apply(start, trajectory, now)[1] for option in OPTIONS]

    trajectory, now = world
    return dict(zip(OPTIONS, everything(trajectory, now), strict=True))


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_monte_carlo_equals_the_sum_over_each_episode(weight, baseline, world, monte_carlo):
    trajectory, now = world
    for normalize, bootstrap in itertools.product((False, True), repeat=2):
        option = (weight, baseline, normalize, bootstrap)
        advantage, target = monte_carlo[option]
        expected, expected_target = _expected(trajectory, now, *option)
        np.testing.assert_allclose(advantage * trajectory.mask, expected, rtol=2e-5, atol=2e-5, err_msg=str(option))
        target, expected_target = (x * trajectory.mask for x in (target, expected_target))
        np.testing.assert_allclose(target, expected_target, rtol=2e-5, atol=2e-5, err_msg=str(option))


def test_the_critic_learns_the_return_only_where_it_is_the_baseline(world, monte_carlo):
    trajectory, now = world
    for option, (_, target) in monte_carlo.items():
        learns = not np.allclose(target * trajectory.mask, now.value * trajectory.mask)
        assert learns == (option[1] == "value"), option


def test_the_full_return_is_the_same_at_every_step_of_an_episode(world, monte_carlo):
    trajectory, _ = world
    advantage, _ = monte_carlo[("full", "none", False, False)]
    for b, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(advantage[:length, b], advantage[0, b])
    assert len(np.unique(advantage[0])) == len(LENGTHS)


def test_gamma_t_counts_from_the_start_of_the_episode(world, monte_carlo):
    trajectory, _ = world
    with_factor, _ = monte_carlo[("to_go_gamma_t", "value", False, False)]
    without, _ = monte_carlo[("to_go", "value", False, False)]
    factor = DISCOUNT ** trajectory.time.astype(float)
    np.testing.assert_allclose(with_factor, factor * without, rtol=1e-5, atol=1e-6)
    late = trajectory._replace(time=trajectory.time + 3)
    option = ("to_go_gamma_t", "value", False, False)
    advantage = _plug(*option).apply(advantages.monte_carlo.init(), late, world[1])[1][0]
    np.testing.assert_allclose(advantage, DISCOUNT**3 * with_factor, rtol=1e-5, atol=1e-6)


def test_a_stream_weighs_each_step_by_the_return_of_its_own_episode():
    """Two episodes in a row of the array, the first of which began before it."""
    trajectory, now = _episodes(1, lengths=(6,), truncated=(False,))
    trajectory.terminated[2] = True
    trajectory = trajectory._replace(time=np.array([4, 5, 6, 0, 1, 2], np.int32)[:, None])
    option = ("full", "none", False, False)
    advantage = _plug(*option).apply(advantages.monte_carlo.init(), trajectory, now)[1][0]
    reward = np.float64(trajectory.reward[:, 0])
    powers = DISCOUNT ** np.arange(3)
    expected = np.repeat([powers @ reward[:3], powers @ reward[3:]], 3)
    np.testing.assert_allclose(advantage[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_leave_one_out_does_not_look_at_the_own_return(weight, world):
    """The baseline of episode b, return minus advantage, moves with every reward but those of b."""
    trajectory, now = world

    def advantage(reward, baseline):
        option = (weight, baseline, False, False)
        start = advantages.monte_carlo.init()
        return _plug(*option).apply(start, trajectory._replace(reward=reward), now)[1][0]

    def baseline(reward):
        return (advantage(reward, "none") - advantage(reward, "leave_one_out")) * trajectory.mask

    slopes = np.asarray(jax.jit(jax.jacobian(baseline))(jnp.asarray(trajectory.reward)))
    for b in range(len(LENGTHS)):
        np.testing.assert_allclose(slopes[:, b, :, b], 0, atol=1e-6)
        for c in range(len(LENGTHS)):
            assert b == c or np.abs(slopes[0, b, :, c]).max() > 0.2


def test_the_running_mean_remembers_every_update(world):
    """The mean over all counted steps of both updates, the current one included."""
    plug = _plug("to_go", "running_mean", False, False)
    apply = jax.jit(plug.apply)
    second = _episodes(5)
    state, _ = apply(plug.init(), *world)
    state, (advantage, _) = apply(state, *second)
    first_returns = _returns(*world, False)[world[0].mask > 0]
    expected, _ = _expected(*second, "to_go", "running_mean", False, False, seen=first_returns)
    np.testing.assert_allclose(advantage * second[0].mask, expected, rtol=1e-5, atol=1e-5)
    assert state.count == 2 * sum(LENGTHS)


def test_other_baselines_ignore_the_memory(world):
    poisoned = running_moments.Moments(*(jnp.asarray(x) for x in (100.0, 1e3, 1e3)))
    names = [name for name in BASELINES if name != "running_mean"]
    every = jax.jit(lambda state: {n: _plug("to_go", n, False, False).apply(state, *world)[1][0] for n in names})
    fresh, spoilt = every(advantages.monte_carlo.init()), every(poisoned)
    for name in names:
        np.testing.assert_array_equal(fresh[name], spoilt[name], err_msg=name)


def test_normalized_counts_only_what_the_mask_keeps():
    g = np.random.default_rng(2)
    x, mask = 5 + 3 * g.normal(size=(20, 6)).astype(np.float32), (g.random((20, 6)) < 0.5).astype(np.float32)
    x[mask == 0] = 1e4
    kept = np.asarray(masked.normalized(x, mask))[mask == 1]
    np.testing.assert_allclose([kept.mean(), kept.std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(kept, (x[mask == 1] - x[mask == 1].mean()) / x[mask == 1].std(), rtol=1e-4, atol=1e-5)
    rows = np.asarray(masked.normalized(x.reshape(-1), mask.reshape(-1)))
    np.testing.assert_allclose(rows[mask.reshape(-1) == 1], kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", [0.0, 1.0])
def test_normalized_is_finite_without_spread(mask):
    assert np.isfinite(masked.normalized(jnp.full((3, 2), 2.0), jnp.full((3, 2), mask))).all()


@pytest.mark.parametrize("number", [1.1, 37.3, -1e-12, 1e20])
def test_normalized_equal_advantages_are_0(number):
    np.testing.assert_array_equal(masked.normalized(jnp.full(16, number), jnp.ones(16)), 0.0)


@pytest.mark.parametrize("terms", [10, 200])
def test_normalized_returns_that_differ_by_the_order_of_summation_are_0(terms):
    g = np.random.default_rng(0)
    rewards = g.normal(1.0, 1.0, size=terms).astype(np.float32)
    returned = np.array([np.cumsum(g.permutation(rewards), dtype=np.float32)[-1] for _ in range(64)])
    assert len(set(returned)) > 1
    np.testing.assert_array_equal(masked.normalized(returned, np.ones(64, np.float32)), 0.0)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1e-12), (0.0, 1e-30), (1e-3, 1e-4), (1e4, 0.1)])
def test_normalized_small_spreads_that_are_real_are_1(mean, scale):
    x = (mean + scale * np.random.default_rng(1).normal(size=64)).astype(np.float32)
    found = np.asarray(masked.normalized(x, np.ones(64, np.float32)), np.float64)
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-3)


def test_one_step_by_itself_keeps_its_advantage():
    mask = np.array([0.0, 1.0, 0.0], np.float32)
    np.testing.assert_array_equal(masked.normalized(np.float32([np.nan, 2.5, 7.0]), mask), [0.0, 2.5, 0.0])


def test_where_every_episode_returns_the_same_nothing_is_left_to_normalise():
    """The mean of all returns so far is theirs but for rounding, which must not be blown up."""
    g = np.random.default_rng(0)
    trajectory, now = _episodes(5, (4, 4, 4, 4), (False,) * 4)
    rewards = g.permuted(np.tile(g.normal(3.0, 1.0, size=4).astype(np.float32), (4, 1)), axis=1).T
    assert len(set(np.cumsum(rewards[::-1], axis=0)[-1])) > 1
    trajectory = trajectory._replace(reward=jnp.asarray(rewards))
    plug = bind(advantages.monte_carlo, reward_to_go=False, baseline="running_mean", normalize=True, discount=1.0)
    np.testing.assert_array_equal(plug.apply(plug.init(), trajectory, now)[1][0], 0.0)


@pytest.fixture(scope="module")
def bootstrapping(world):
    """((advantage, target), advantage by `returns`, whose own tests are elsewhere) of each function."""

    @jax.jit
    def everything(trajectory, now):
        ends = (trajectory.terminated, trajectory.truncated, DISCOUNT)
        reward, value, next_value = trajectory.reward, now.value, now.next_value
        return {
            "gae": (
                advantages.gae(trajectory, now, discount=DISCOUNT, gae_lambda=0.6),
                returns.gae(reward, value, next_value, *ends, 0.6),
            ),
            "td": (
                advantages.td(trajectory, now, discount=DISCOUNT),
                returns.gae(reward, value, next_value, *ends, 0.0),
            ),
            "n_step": (
                advantages.n_step(trajectory, now, discount=DISCOUNT, n=3),
                returns.n_step_return(reward, next_value, *ends, 3) - value,
            ),
        }

    return everything(*world)


@pytest.mark.parametrize("name", ["gae", "td", "n_step"])
def test_a_bootstrapping_advantage_is_that_of_returns(name, bootstrapping, world):
    (advantage, target), expected = bootstrapping[name]
    np.testing.assert_allclose(advantage, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(target, expected + world[1].value, rtol=1e-5, atol=1e-6)


def test_every_shipped_advantage_is_listed_under_its_name():
    average = {"differential", "relative", "relative_return"}
    groups = {"leave_one_out", "group_relative", "dynamic_sampling", "opo", "remax"}
    assert set(advantages.ADVANTAGES) == {
        *("gae", "v_trace", "td", "n_step", "q_lambda", "monte_carlo"),
        *average,
        *groups,
    }
    assert tuple(name for name, row in advantages.BASELINES.items() if row.trains) == BASELINES


class TestMistakes:
    def test_unknown_baseline(self, world):
        with pytest.raises(ValueError, match="baseline must be one of none, constant, .*; got 'valeu'"):
            bind(advantages.monte_carlo, baseline="valeu").apply(advantages.monte_carlo.init(), *world)

    def test_gamma_t_with_the_full_return(self, world):
        plug = bind(advantages.monte_carlo, gamma_t=True, reward_to_go=False)
        with pytest.raises(ValueError, match="gamma_t=True needs reward_to_go=True"):
            plug.apply(plug.init(), *world)

    def test_leave_one_out_with_one_environment(self):
        plug = bind(advantages.monte_carlo, baseline="leave_one_out")
        with pytest.raises(ValueError, match="'leave_one_out' needs two environments or more, num_envs is 1"):
            plug.apply(plug.init(), *_episodes(3, (4,), (False,)))

    def test_misspelt_hyperparameter(self):
        with pytest.raises(ValueError, match=r"takes no hyperparameter 'gae_lamda'; did you mean 'gae_lambda'\?"):
            bind(advantages.gae, gae_lamda=0.9)


def test_importance_survives_the_steps_behind_an_end(world):
    """There the time stands still, and a product of ratios above 1 would go on until it overflows."""
    trajectory, now = world
    steps = 200
    long = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], steps, axis=0)]), (trajectory, now))
    trajectory, now = long
    mask = trajectory.mask.at[-steps:].set(0.0)
    ended = trajectory.truncated.at[-steps - 1].set(True)
    trajectory = trajectory._replace(mask=mask, truncated=ended, time=trajectory.time.at[-steps:].set(5))
    now = now._replace(log_prob=trajectory.log_prob + 1.0)
    plug = bind(advantages.monte_carlo, importance=True, normalize=True)
    advantage = plug.apply(plug.init(), trajectory, now)[1][0]
    assert np.isfinite(np.where(mask > 0, advantage, 0.0)).all()


@pytest.mark.parametrize(
    ("table", "message"), [((0.6, 0.4), r"must be \[S, A\], got shape \(2,\)"), ([[0.6]], "has 1 actions, pi 2")]
)
def test_expected_rewards_of_the_wrong_shape_are_refused(world, table, message):
    trajectory, now = world
    of_two = Categorical(jnp.zeros((*trajectory.mask.shape, 2)))
    with pytest.raises(ValueError, match=message):
        advantages.exact_value(table)(trajectory, now._replace(dist=of_two))
