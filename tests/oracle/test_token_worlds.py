"""Token worlds as tables: the table is the world's, the oracle's J and gradient are sums over answers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from pgjax import advantages, envs, oracle, policies, rollout
from pgjax.config import Config
from pgjax.envs.puzzles import Copying
from pgjax.envs.tokens import TokenWorld
from pgjax.estimators import surrogate
from pgjax.losses import policy_gradient
from pgjax.types import Batch, Evaluation, Trajectory

# A prompt for each of two lengths, answers of up to three letters, and one problem that is kept from training.
WORLDS = {
    "copying": Copying,
    "longer": lambda: TokenWorld([("ab", "bba"), ("b", "ab"), ("aa", "a")], ".ab", "longer"),
}


def _policy(world, scale=0.5):
    """A small transformer of the world that is far from uniform, so that prompts differ in what they are worth."""
    env = envs.from_gymnax(world)
    policy = policies.make(env, Config(hidden=(8,), heads=2))
    flat, tree = ravel_pytree(policy.init(jax.random.key(3)))
    return env, policy, tree(flat + scale * jax.random.normal(jax.random.key(4), flat.shape))


def _answers(world):
    """Every training problem with every answer, written out: whole episodes [T, N], their problems, and what is right.

    Strings and loops, nothing of the world's step: an answer ends with the end or where there is no more room.
    """
    most, length = world.most_answer, world.most_prompt + world.most_answer
    letters = world.vocabulary[1:]
    words = ["".join(w) for n in range(most + 1) for w in itertools.product(letters, repeat=n)]
    rows = []
    for problem in range(len(world.prompts) - world.kept):
        prompt, right = (world.decode(x[problem]) for x in (world.prompts, world.answers))
        for word in words:
            tokens = world.encode(prompt + word, length)
            steps = min(len(word) + 1, most)
            obs = np.stack([np.where(np.arange(length) < len(prompt) + t, tokens, 0) for t in range(most + 1)])
            action = [world.vocabulary.index(word[t]) if t < len(word) else 0 for t in range(most)]
            rows.append((obs[:-1], obs[1:], action, np.arange(most) < steps, problem, float(word == right)))
    obs, next_obs, action, counts, problem, reward = (np.stack(x) for x in zip(*rows, strict=True))
    counts, end = counts.T, np.cumsum(counts.T, axis=0) == counts.T.sum(0)
    trajectory = Trajectory(
        obs=np.swapaxes(obs, 0, 1),
        action=action.T,
        log_prob=np.zeros(counts.shape),
        reward=np.where(end & counts, reward, 0.0),
        terminated=end & counts,
        truncated=np.zeros(counts.shape, bool),
        next_obs=np.swapaxes(next_obs, 0, 1),
        mask=counts.astype(np.float64),
        time=np.tile(np.arange(most)[:, None], (1, counts.shape[1])),
        memory=(),
    )
    return trajectory, problem, reward


def _log_prob(policy, params, trajectory):
    """[N] log-probability of each answer, by the policy's own evaluation of whole episodes."""
    return jnp.sum(jnp.where(trajectory.mask > 0, policy.evaluate(params, trajectory).log_prob, 0.0), axis=0)


def _float64(function, params):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        return jax.tree.map(np.array, jax.jit(function)(params))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("held_out", [False, True])
def test_the_table_steps_as_the_world_does(name, held_out):
    world = WORLDS[name]()
    env, (mdp, obs) = envs.from_gymnax(world), oracle.tabulate(world, held_out)
    params = world.held_out(env.params) if held_out else env.params
    uniform = np.full(mdp.reward.shape, 1 / world.num_actions)
    seen, probability = oracle.trajectories(mdp, uniform)
    np.testing.assert_allclose(probability.sum(), 1)
    # The starts are all those that a reset draws from, and what is written from each are all answers there are.
    drawn = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 200), params)[1]
    assert {tuple(x) for x in np.asarray(drawn)} == {tuple(x) for x in obs[mdp.start > 0]}
    letters, most = world.num_actions - 1, world.most_answer
    assert len(probability) == np.sum(mdp.start > 0) * sum(letters**n for n in range(most + 1))
    first = len(world.prompts) - world.kept if held_out else 0
    state = jax.vmap(world.begin)(first + seen.obs[0])
    for t in range(mdp.horizon):
        counts = seen.mask[t] > 0
        np.testing.assert_array_equal(np.asarray(state.tokens)[counts], obs[seen.obs[t]][counts])
        state, step = jax.vmap(env.step, (None, None, 0, 0))(jax.random.key(1), params, state, seen.action[t])
        for field in ("reward", "terminated", "truncated"):
            np.testing.assert_array_equal(np.asarray(getattr(step, field))[counts], getattr(seen, field)[t][counts])


def test_a_world_too_large_is_refused():
    with pytest.raises(ValueError, match="more than most=20 states"):
        oracle.tabulate(Copying(), most=20)
    assert len(oracle.tabulate(Copying(), most=21)[1]) == 21


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_a_state_is_acted_in_as_after_the_tokens_that_led_there(name):
    """With a memory that took in one token after another, too."""
    world = WORLDS[name]()
    env, policy, params = _policy(world)
    mdp, obs = oracle.tabulate(world)
    table = oracle.observing(policy, obs)
    pi = oracle.probabilities(table, params, len(obs))
    trajectory, _ = jax.jit(lambda key: rollout.episodes(key, env, policy, params, 64))(jax.random.key(0))
    index = np.argmax(np.all(obs == np.asarray(trajectory.obs)[:, :, None], axis=-1), axis=-1)
    taken, counts = np.log(pi)[index, trajectory.action], np.asarray(trajectory.mask) > 0
    np.testing.assert_allclose(np.asarray(trajectory.log_prob)[counts], taken[counts], atol=1e-5)
    now = table.evaluate(params, trajectory._replace(obs=index, next_obs=index))
    np.testing.assert_allclose(np.asarray(now.log_prob)[counts], taken[counts], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_objective_and_gradient_are_those_of_the_sum_over_answers(name):
    world = WORLDS[name]()
    _, policy, params = _policy(world)
    mdp, obs = oracle.tabulate(world)
    table = oracle.observing(policy, obs)
    trajectory, problem, reward = _answers(world)

    def objective(params):
        worth = jnp.exp(_log_prob(policy, params, trajectory)) * reward
        return jnp.sum(worth) / (problem.max() + 1)

    value, gradient = _float64(jax.value_and_grad(objective), params)
    found, exact = oracle.gradient(mdp, table, params)
    np.testing.assert_allclose(found, value, rtol=1e-12)
    pi = oracle.probabilities(table, params, len(obs))
    np.testing.assert_allclose(oracle.values(mdp, pi).objective, value, rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(exact)[0], ravel_pytree(gradient)[0], rtol=0, atol=1e-12)
    assert np.linalg.norm(ravel_pytree(exact)[0]) > 0.01


SAMPLES = 4
GROUPS = {
    "leave_one_out": (advantages.leave_one_out, {}, "episode"),
    "divided by the spread": (advantages.group_relative, {"divide": True}, "episode"),
    "divided by the spread and the length": (advantages.group_relative, {"divide": True}, "episode_mean"),
    "not divided": (advantages.group_relative, {"divide": False}, "episode"),
}


def _factor(p):
    """E[sqrt(q (1 - q))] / (p (1 - p)), K q ~ Binomial(K, p), [X], as `advantages.group_relative` states it."""
    q = np.arange(SAMPLES + 1) / SAMPLES
    spread = scipy.stats.binom.pmf(np.arange(SAMPLES + 1), SAMPLES, p[:, None]) @ np.sqrt(q * (1 - q))
    return spread / (p * (1 - p))


@pytest.mark.parametrize("name", ["leave_one_out", "divided by the spread", "not divided"])
def test_the_mean_advantage_of_an_answer_is_in_proportion_to_what_it_is_worth_above_the_mean(name):
    """Over every outcome of a group; a gradient's mean alone would not tell a baseline that is too small."""
    outcomes = np.array(list(itertools.product([0.0, 1.0], repeat=SAMPLES)))
    row = outcomes.reshape(1, -1)
    drawn = Trajectory(*[row] * len(Trajectory._fields))._replace(mask=np.ones_like(row), time=np.zeros_like(row))
    (advantage, options, _), p = GROUPS[name], np.array([0.1, 0.5, 0.8])
    weight, _ = advantage(drawn, Evaluation(*[row] * len(Evaluation._fields)), samples=SAMPLES, **options)
    chance = np.prod(np.where(outcomes > 0, p[:, None, None], 1 - p[:, None, None]), axis=-1)  # [X, 2^K]
    factor = {"leave_one_out": 1, "divided by the spread": _factor(p), "not divided": 1 - 1 / SAMPLES}[name]
    for r in (0, 1):
        mine = chance * (outcomes[:, 0] == r)
        found = mine @ np.asarray(weight, np.float64).reshape(outcomes.shape)[:, 0] / mine.sum(axis=1)
        np.testing.assert_allclose(found, factor * (r - p), rtol=1e-5)


@pytest.fixture(scope="module")
def sampled():
    """What the pipeline's gradients are, group by group, and the sums over answers that they should have as means."""
    world = Copying()
    env, policy, params = _policy(world)
    trajectory, problem, reward = _answers(world)
    prompts = len(world.prompts) - world.kept

    def group(key):
        drawn, _ = rollout.episodes(key, env, policy, params, SAMPLES, samples=SAMPLES)
        now, found = policy.evaluate(params, drawn), {}
        for name, (advantage, options, reduce) in GROUPS.items():
            batch = Batch(drawn, *advantage(drawn, now, samples=SAMPLES, **options), now.value)
            gradient, _ = surrogate(policy_gradient, reduce=reduce)(key, policy, params, batch)
            found[name] = -ravel_pytree(gradient)[0]
        return jnp.all(drawn.obs[0] == drawn.obs[0, :1]), found

    alike, estimates = jax.jit(jax.vmap(group))(jax.random.split(jax.random.key(5), 8192))
    assert np.all(alike)
    log_prob = _float64(lambda p: _log_prob(policy, p, trajectory), params)
    jacobian = _float64(jax.jacrev(lambda p: _log_prob(policy, p, trajectory)), params)
    scores = np.concatenate([x.reshape(len(reward), -1) for x in jax.tree.leaves(jacobian)], axis=1)
    share = np.exp(log_prob) / prompts  # of an answer among all
    p = np.bincount(problem, np.exp(log_prob) * reward)
    exact = (share * reward) @ scores
    factor = _factor(p)
    # Mean advantages are in proportion to r - p, and every right answer has two tokens: over the length this is half
    # of grad p - p grad P(one token).
    short = p[problem] * (trajectory.mask.sum(0) == 1)
    expected = {
        "leave_one_out": exact,
        "divided by the spread": (share * reward * factor[problem]) @ scores,
        "divided by the spread and the length": (share * factor[problem] * (reward - short) / 2) @ scores,
        "not divided": (SAMPLES - 1) / SAMPLES * exact,
    }
    return {name: np.asarray(x, np.float64) for name, x in estimates.items()}, expected, exact, p


def _z(estimates, expected, directions):
    along = (estimates - expected) @ directions.T
    return np.mean(along, axis=0) / (np.std(along, axis=0, ddof=1) / np.sqrt(len(along)))


def _directions(exact, expected):
    """J's gradient, what each expectation has besides it, and random ones."""
    unit = exact / np.linalg.norm(exact)
    besides = [x - x @ unit * unit for name, x in expected.items() if "divided by" in name]
    rows = [exact, *besides, *np.random.default_rng(0).normal(size=(5, len(exact)))]
    return np.stack([x / np.linalg.norm(x) for x in rows])


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_a_group_s_gradient_has_the_mean_that_its_docstring_states(sampled, name):
    estimates, expected, exact, p = sampled
    assert p.max() > 2 * p.min()  # prompts differ, so that their factors do
    assert np.abs(_z(estimates[name], expected[name], _directions(exact, expected))).max() < 5


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "leave_one_out"])
def test_what_is_divided_or_centred_by_its_own_mean_is_not_the_gradient(sampled, name):
    estimates, expected, exact, _ = sampled
    assert np.abs(_z(estimates[name], exact, _directions(exact, expected))).max() > 5


def test_the_length_turns_the_gradient_and_not_only_its_size(sampled):
    """Along what the expectation has besides the gradient's direction, of which an unbiased estimate has nothing."""
    estimates, expected, exact, _ = sampled
    name = "divided by the spread and the length"
    besides = _directions(exact, {name: expected[name]})[1:2]
    assert _z(estimates[name], exact, besides) > 5 > abs(_z(estimates["leave_one_out"], exact, besides))
