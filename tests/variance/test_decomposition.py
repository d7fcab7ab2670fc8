"""The variance decomposition against every trajectory of a small MDP, and Q one step ahead by hand."""

import collections
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, oracle, policies, rollout
from pgjax.advantages.baselines import Fitted
from pgjax.config import Config
from pgjax.envs.gymnax import from_gymnax
from pgjax.envs.tabular import TabularMDP
from pgjax.types import Env, Step
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.estimators.weights import Tables
from pgjax.variance.measurement import decomposition, lookahead, scores

DISCOUNT, HORIZON, LAMBDA = 0.9, 3, 0.8
TRANSITION = np.array([[[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]], [[0.6, 0.1, 0.3], [0.1, 0.3, 0.6]], [[0, 0, 1]] * 2])
REWARD = np.array([[1.0, -0.5], [0.3, 2.0], [9.0, 9.0]])  # 9 is never received: state 2 is terminal
START, TERMINAL = np.array([0.6, 0.4, 0.0]), np.array([False, False, True])
PREFERENCE, VALUE = np.random.default_rng(1).normal(size=(3, 2)), np.random.default_rng(2).normal(size=3)
ROWS = {
    "to_go": ScoreFunction(),
    "full": ScoreFunction(returns="full"),
    "value": ScoreFunction(baseline="value"),
    "exact_value": ScoreFunction(baseline="value", critic="exact"),
    "constant": ScoreFunction(baseline="constant", constant=1.5),
    "time": ScoreFunction(baseline="time"),
    "gae": ScoreFunction(returns="gae", lambda_=LAMBDA),
    "gae_0": ScoreFunction(returns="gae", lambda_=0.0),
    "n_step": ScoreFunction(returns="n_step", n=2),
    "no_gamma_t": ScoreFunction(gamma_t=False),
}
BY_TIME = np.array([2.0, 1.0, 0.5])
TERMS = ("trajectory", "action", "state", "total")


def table(transition=TRANSITION, horizon=HORIZON):
    env = from_gymnax(TabularMDP(transition, REWARD, START, TERMINAL, horizon))
    policy = policies.make(env, Config(network="table"))
    params = {"preference": jnp.asarray(PREFERENCE, jnp.float32), "value": jnp.asarray(VALUE, jnp.float32)}
    return env, policy, params


def layout(env, policy, params):
    return scores.layout(policy, params, rollout.episodes(jax.random.key(0), env, policy, params, 1)[0])


@functools.cache
def measured(states=8192, calls=8):
    env, policy, params = table()
    mdp = oracle.from_env(env, DISCOUNT)
    values = oracle.values(mdp, oracle.probabilities(policy, params, 3))
    tables = Tables(jnp.asarray(values.value, jnp.float32), jnp.asarray(values.action_value, jnp.float32))
    fitted = dict.fromkeys(ROWS, Fitted.none()._replace(by_time=jnp.asarray(BY_TIME, jnp.float32)))
    where = layout(env, policy, params)

    @jax.jit
    def decompose(key):
        return decomposition.decompose(
            key, ROWS, env, policy, params, fitted, tables, DISCOUNT, where, states=states, actions=3
        )

    results = [jax.device_get(decompose(jax.random.key(seed))) for seed in range(calls)]
    return decomposition.merge(results), results


def pi():
    e = np.exp(PREFERENCE)
    return e / e.sum(axis=1, keepdims=True)


def trajectories(probability=1.0, past=()):
    """(probability, steps (s, a, r, s', terminated)) of every episode."""
    state = past[-1][3] if past else None
    if len(past) == HORIZON or (past and past[-1][4]):
        yield probability, past
    elif not past:
        for s in np.flatnonzero(START):
            yield from onward(START[s], past, s)
    else:
        yield from onward(probability, past, state)


def onward(probability, past, s):
    for a in range(2):
        for following in np.flatnonzero(TRANSITION[s, a]):
            step = (s, a, REWARD[s, a], following, TERMINAL[following])
            yield from trajectories(probability * pi()[s, a] * TRANSITION[s, a, following], (*past, step))


def exact_values():
    v = np.zeros((HORIZON + 1, 3))
    for t in reversed(range(HORIZON)):
        v[t] = np.sum(pi() * (REWARD + DISCOUNT * TRANSITION @ v[t + 1]), axis=1) * ~TERMINAL
    return v


def weight(name, steps, t):
    """The weight of step t, written from its definition."""

    def to_go(t):
        return sum(DISCOUNT ** (k - t) * steps[k][2] for k in range(t, len(steps)))

    def ahead(k):
        return steps[k][2] + DISCOUNT * (0.0 if steps[k][4] else VALUE[steps[k][3]])

    s = steps[t][0]
    lambda_ = {"gae": LAMBDA, "gae_0": 0.0}.get(name)
    if name == "full":
        return to_go(0)
    if lambda_ is not None:
        deltas = [(DISCOUNT * lambda_) ** (k - t) * (ahead(k) - VALUE[steps[k][0]]) for k in range(t, len(steps))]
        return DISCOUNT**t * sum(deltas)
    if name == "n_step":
        later = t + 1 < len(steps)
        return DISCOUNT**t * (steps[t][2] + DISCOUNT * ahead(t + 1) if later else ahead(t))
    baseline = {"value": VALUE[s], "exact_value": exact_values()[t, s], "constant": 1.5, "time": BY_TIME[t]}
    factor = 1.0 if name == "no_gamma_t" else DISCOUNT**t
    return factor * (to_go(t) - baseline.get(name, 0.0))


def exact(name):
    """The three terms, from every trajectory."""
    sums = collections.defaultdict(lambda: np.zeros(3))  # (history, a) -> P, E[w], E[w^2]
    for p, steps in trajectories():
        for t, (s, a, *_) in enumerate(steps):
            w = weight(name, steps, t)
            sums[steps[:t], s, a] += p * np.array([1.0, w, w**2])
    total = sum(x[0] for x in sums.values())  # the mean length
    trajectory, second, whole, by_history = 0.0, 0.0, np.zeros((3, 2)), {}
    for (past, s, a), (p, w, square) in sums.items():
        phi = np.zeros((3, 2))
        phi[s] = np.eye(2)[a] - pi()[s]
        trajectory += (square - w**2 / p) / total * np.sum(phi**2)
        second += w**2 / p / total * np.sum(phi**2)
        whole += w * phi / total
        probability, mean = by_history.get((past, s), (0.0, 0.0))
        by_history[past, s] = (probability + p, mean + w * phi)
    between = sum(np.sum(mean**2) / p for p, mean in by_history.values()) / total
    found = {"trajectory": trajectory, "action": second - between, "state": between - np.sum(whole**2)}
    return found | {"total": sum(found.values())}


def test_the_enumeration_is_whole():
    assert np.isclose(sum(p for p, _ in trajectories()), 1.0)
    values = oracle.values(oracle.from_env(table()[0], DISCOUNT), pi())
    np.testing.assert_allclose(values.value, exact_values(), rtol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_every_term_is_that_of_the_enumeration(name):
    found, expected = measured()[0][name], exact(name)
    for term in TERMS:
        value, error = found[term]
        assert abs(value - expected[term]) < 5 * error + 1e-6, (term, value, error, expected[term])
        assert error < 0.1 * expected[term], (term, value, error, expected[term])


def test_standard_errors_are_the_spread_over_calls():
    _, results = measured()
    alone = [decomposition.merge([found]) for found in results]
    for term in TERMS:
        # Over rows and calls: one standard deviation of 8 calls is itself uncertain by a quarter.
        spread = [np.std([m[name][term][0] for m in alone], ddof=1) for name in ROWS]
        claimed = [np.sqrt(np.mean([m[name][term][1] ** 2 for m in alone])) for name in ROWS]
        assert 0.5 < np.mean(spread) / np.mean(claimed) < 1.7


def test_an_action_independent_baseline_leaves_the_trajectory_term():
    found = measured()[0]
    for name in ("value", "exact_value", "constant", "time"):
        assert np.isclose(found[name]["trajectory"][0], found["to_go"]["trajectory"][0], rtol=1e-5)
        assert not np.isclose(found[name]["action"][0], found["to_go"]["action"][0], rtol=1e-2)
    assert found["gae_0"]["trajectory"][0] < found["gae"]["trajectory"][0] < found["to_go"]["trajectory"][0]


def test_the_total_is_the_sum_of_the_terms():
    for found in measured()[0].values():
        assert np.isclose(found["total"][0], sum(found[term][0] for term in TERMS[:3]), rtol=1e-12)


def test_a_jackknife_by_deletion_gives_the_same_standard_errors():
    _, results = measured()
    found, one = decomposition.merge(results[:1])["full"], results[0]["full"]
    groups = len(one.vector)
    assert groups == 16
    size = len(one.length) // groups
    left_out = []
    for g in range(groups):
        keep = np.delete(np.arange(len(one.length)), np.arange(g * size, (g + 1) * size))
        rest = decomposition.Terms(*(x[keep] for x in one[:-1]), np.delete(one.vector, g, axis=0))
        left_out.append([decomposition.merge([{"full": rest}])["full"][term][0] for term in TERMS])
    expected = np.sqrt((groups - 1) * np.var(left_out, axis=0))
    np.testing.assert_allclose([found[term][1] for term in TERMS], expected, rtol=1e-9)


def test_the_squared_mean_is_taken_over_pairs_of_different_states():
    g = np.random.default_rng(0)
    y, length, square = g.normal(1.0, 1.0, (5, 3)), np.array([1.0, 3.0, 2.0, 2.0, 5.0]), g.random(5)
    terms = decomposition.Terms(length, square, square, square, np.sum(y**2, axis=1), length[:, None] * y)
    product = (length[:, None] * y) @ (length[:, None] * y).T / np.mean(length) ** 2
    pairs = np.mean([product[i, j] for i in range(5) for j in range(5) if i != j])
    found = decomposition.merge([{"mine": terms}])["mine"]["state"][0]
    assert np.isclose(found, np.average(square, weights=length) - pairs)
    # With equal lengths and no noise within a state, that is the unbiased sample variance.
    equal = terms._replace(length=np.full(5, 3.0), square=terms.norm, vector=3.0 * y)
    found = decomposition.merge([{"mine": equal}])["mine"]["state"][0]
    assert np.isclose(found, np.trace(np.cov(y.T)))


class Clockless(NamedTuple):
    """A world whose state doesn't know the time, and whose limit only the runner keeps."""

    position: jax.Array


def clockless():
    def reset(key, params):
        state = Clockless(jax.random.normal(key))
        return state, state.position[None]

    def step(key, params, state, action):
        state = Clockless(state.position + action[0] + jax.random.normal(key))
        ended = jnp.abs(state.position) > 4
        return state, Step(state.position[None], state.position, ended, jnp.zeros((), bool))

    world = envs.make("Pendulum-v1")
    box = type(world.observation_space)(-10.0, 10.0, (1,))
    return Env({}, reset, step, box, world.action_space, 6)


def test_branches_keep_their_own_past_and_end_as_episodes_do():
    env = clockless()
    policy = policies.make(env, Config(hidden=(4,)))
    params = policy.init(jax.random.key(1))
    seen, done = rollout.episodes(jax.random.key(2), *lookahead.with_states(env, policy), params, 5)
    plain, worlds = lookahead.split(seen)
    start = (done.episode_length - 1).astype(jnp.int32) // 2
    found = decomposition._branches(jax.random.key(3), env, policy, params, plain._replace(memory=()), worlds, start, 3)
    same = rollout.episodes(jax.random.key(2), env, policy, params, 5)[0]
    # Two programs, which round otherwise.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), plain, same)
    np.testing.assert_array_equal(worlds.position[..., None], plain.obs)
    assert found.reward.shape == (6, 30)
    found = jax.tree.map(lambda x: np.asarray(x).reshape(6, 5, 3, 2, *x.shape[2:]), found)
    plain = jax.device_get(plain._replace(memory=()))
    for i, t in enumerate(np.asarray(start)):
        for before, after in zip(plain[:-3], found[:-3], strict=True):  # no memory, reference or state
            past = np.broadcast_to(before[:t, i, None, None], after[:t, i].shape)
            np.testing.assert_array_equal(after[:t, i], past)
        action = found.action[t, i, ..., 0]
        assert np.all(found.obs[t, i] == plain.obs[t, i]) and len(set(action.ravel())) == 3
        assert np.all(action[:, 0] == action[:, 1]) and len(set(found.reward[t, i].ravel())) == 6
    ended, alive = found.terminated | found.truncated, found.mask > 0
    assert np.all(ended.sum(axis=0) == 1) and found.terminated.any() and found.truncated.any()
    assert np.all(alive == (np.cumsum(ended, axis=0) - ended == 0)) and np.all(found.reward[~alive] == 0)
    assert np.all(found.truncated[-1] == (alive[-1] & ~found.terminated[-1])) and not found.truncated[:-1].any()
    assert np.all(found.time[alive] == np.nonzero(alive)[0])
    # To rounding: the compiler may compute what is carried and what is recorded apart.
    np.testing.assert_allclose(found.next_obs[:-1][alive[1:]], found.obs[1:][alive[1:]], rtol=1e-5, atol=1e-5)
    log_prob = policy.evaluate(params, jax.tree.map(jnp.asarray, found)).log_prob
    np.testing.assert_allclose(log_prob[alive], found.log_prob[alive], rtol=1e-5, atol=1e-5)


def test_a_network_with_continuous_actions_is_decomposed():
    env = clockless()
    policy = policies.make(env, Config(hidden=(4,)))
    params, rows = policy.init(jax.random.key(1)), {"gae": ScoreFunction(returns="gae")}
    where, fitted = layout(env, policy, params), {"gae": Fitted.none()}
    found = jax.jit(
        lambda key: decomposition.decompose(key, rows, env, policy, params, fitted, None, 0.9, where, states=16)
    )(jax.random.key(0))
    terms = found["gae"]
    assert terms.vector.shape == (16, sum(where.sizes))
    # One state in each group: its vector is its own.
    np.testing.assert_allclose(np.sum(terms.vector**2, axis=1), terms.length**2 * terms.norm, rtol=1e-4)
    for value, error in decomposition.merge([found])["gae"].values():
        assert np.isfinite(value) and error > 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ScoreFunction(normalize="std"), "batch"),
        (ScoreFunction(baseline="leave_one_out"), "batch"),
        (ScoreFunction(returns="all_action"), "all_action"),
        (ScoreFunction(precondition="natural"), "natural"),
        (ScoreFunction(surrogate="ppo_clip"), "ppo_clip"),
    ],
)
def test_a_row_without_a_decomposition_is_refused_by_name(row, reason):
    env, policy, params = table()
    with pytest.raises(ValueError, match=f"(?s)'mine'.*{reason}"):
        decomposition.decompose(jax.random.key(0), {"mine": row}, env, policy, params, {}, None, 0.9, None)


def test_memory_and_sizes_that_give_no_variance_are_refused():
    env, policy, params = table()
    pair = ({"mine": ScoreFunction()}, env, policy, params, {}, None, 0.9, None)
    with pytest.raises(ValueError, match="2 states and 2 actions"):
        decomposition.decompose(jax.random.key(0), *pair, actions=1)
    remembering = policy._replace(memory=lambda batch: jnp.zeros((batch, 1)))
    with pytest.raises(ValueError, match="memory"):
        decomposition.decompose(jax.random.key(0), *pair[:2], remembering, *pair[3:])
    with pytest.raises(ValueError, match="memory"):
        lookahead.action_values(jax.random.key(0), env, remembering, params, None, None, 0.9)
    one = {"mine": decomposition.Terms(*[np.ones(4)] * 5, np.ones((1, 3)))}
    with pytest.raises(ValueError, match="2 groups"):
        decomposition.merge([one])
    with pytest.raises(ValueError, match="equal size"):
        decomposition.merge([one, {"mine": one["mine"]._replace(vector=np.ones((2, 3)))}])


def test_action_values_are_the_reward_and_the_value_of_what_follows():
    following = np.array([[0, 1], [0, 2], [2, 2]])
    env, policy, params = table(np.eye(3)[following])
    seen, _ = rollout.episodes(jax.random.key(0), *lookahead.with_states(env, policy), params, 32)
    plain, worlds = lookahead.split(seen)
    found = jax.jit(lambda key: lookahead.action_values(key, env, policy, params, plain, worlds, DISCOUNT))(
        jax.random.key(1)
    )
    # The last step is truncated, and bootstraps all the same; only state 2 is terminal.
    q = REWARD + DISCOUNT * np.where(TERMINAL, 0.0, VALUE)[following]
    alive = np.asarray(plain.mask) > 0
    assert found.shape == (HORIZON, 32, 2) and plain.truncated.any() and plain.terminated.any()
    np.testing.assert_allclose(found[alive], q[np.asarray(plain.obs)[alive]], rtol=1e-5)
    assert np.all(found[~alive] == 0)


def test_action_values_draw_the_world_anew():
    env, policy, params = table(horizon=1)
    seen, _ = rollout.episodes(jax.random.key(0), *lookahead.with_states(env, policy), params, 4000)
    plain, worlds = lookahead.split(seen)
    found = np.asarray(lookahead.action_values(jax.random.key(1), env, policy, params, plain, worlds, DISCOUNT))[0]
    obs, ahead = np.asarray(plain.obs[0]), DISCOUNT * np.where(TERMINAL, 0.0, VALUE)
    mean = REWARD + TRANSITION @ ahead
    for s in (0, 1):
        q, follows = found[obs == s], np.asarray(plain.next_obs[0])[obs == s]
        assert np.all(np.abs(q.mean(axis=0) - mean[s]) < 5 * q.std(axis=0) / np.sqrt(len(q)))
        # Independent of what the trajectory drew, and of the other action's draw.
        correlation = np.corrcoef([*q.T, ahead[follows]])
        assert np.all(np.abs(correlation[np.triu_indices(3, 1)]) < 5 / np.sqrt(len(q)))


def test_continuous_actions_have_no_action_values():
    env = clockless()
    with pytest.raises(ValueError, match=r"Box.*Discrete"):
        lookahead.action_values(jax.random.key(0), env, policies.make(env), {}, None, None, 0.9)
