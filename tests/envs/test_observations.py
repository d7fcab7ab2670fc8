"""Structured observations and actions through the whole pipeline, and masks of legal actions in every learner."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gymnasium import spaces as theirs
from gymnax.environments import spaces as ours

import pgjax
from pgjax import algorithms, envs, oracle, policies, rollout, testing, variance
from pgjax.config import Config
from pgjax.envs import observations
from pgjax.envs.spaces import MultiDiscrete
from pgjax.hyperparameters import hyperparameters
from pgjax.numerics import running_moments
from pgjax.policies.eyes import Eye
from pgjax.render import frames, play
from pgjax.types import Env, Step

SEEN = ours.Dict(
    {
        "speed": ours.Box(-1.0, 1.0, (2,)),
        "cell": ours.Discrete(3),
        "pair": ours.Tuple((MultiDiscrete([2, 3]), ours.Box(0, 255, (5, 4, 3), jnp.uint8))),
    }
)
ACTED = ours.Dict(
    {"turn": ours.Discrete(2), "arms": MultiDiscrete([3, 2]), "force": ours.Tuple((ours.Box(10.0, 20.0, (2,)),))}
)
SMALL = {"hidden": (4,), "num_envs": 2, "num_steps": 4, "eval_episodes": 2}


def looked(time):
    return {
        "speed": jnp.stack([time * 0.5, -1.0 + 0 * time]).astype(jnp.float32),
        "cell": time % 3,
        "pair": (
            jnp.stack([time % 2, time % 3]).astype(jnp.int32),
            (jnp.arange(60).reshape(5, 4, 3) + time).astype(jnp.uint8),
        ),
    }


def structured(observed=SEEN, acted=ACTED, see=looked):
    """An environment of five steps that pays for turning, for the first arm at 2, and for a force in the middle."""

    def step(key, params, state, action):
        paid = (action["turn"] == 1) + (action["arms"][0] == 2) - 0.1 * jnp.abs(action["force"][0][0] - 15.0)
        return state + 1, Step(see(state + 1), jnp.float32(paid), jnp.bool_(False), jnp.bool_(False))

    return Env({}, lambda key, params: (jnp.int32(0), see(jnp.int32(0))), step, observed, acted, 5)


def test_an_eye_joins_all_parts_one_hot_flattened_and_decoded():
    obs = jax.vmap(looked)(jnp.arange(4))
    eye = Eye(SEEN, rngs=nnx.Rngs(0))
    got = np.asarray(eye(obs))
    rows = []
    for t in range(4):
        picture = (np.arange(60) + t) / 255
        rows.append([*np.eye(3)[t % 3], *np.eye(2)[t % 2], *np.eye(3)[t % 3], *picture, t * 0.5, -1.0])
    np.testing.assert_allclose(got, rows, atol=1e-6)
    assert eye.width == got.shape[-1] == 70
    seeing = Eye(SEEN, convolve=True, rngs=nnx.Rngs(0))
    assert seeing.width == 10 + 3 * 2 * 16 and len(seeing.convolutions) == 1
    np.testing.assert_array_equal(seeing(obs)[:, :8], got[:, :8])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "reinforce", "trpo"])
def test_trees_of_observations_and_actions_are_learned_from(name):
    env = structured()
    testing.check_env(env)
    more = {"normalize_obs": True, **SMALL}
    run = pgjax.run(name, env, seeds=2, settings=more | ({"num_steps": 0} if name == "reinforce" else {}), updates=3)
    assert np.all(np.isfinite(run.metrics.loss)) and bool(run.metrics.finite.all())
    policy, params = run.lane(seed=1)[1:3]
    played = play.play(jax.random.key(0), env, policy, params)
    assert played.action["arms"].shape == (5, 2) and played.obs["pair"][1].dtype == np.uint8
    picture = frames._observation(env, played.obs)(None, jax.tree.map(lambda x: x[0], played.obs))
    assert picture.dtype == np.uint8 and picture.ndim == 3


def test_the_first_policy_covers_the_box_and_factorises():
    env = structured()
    policy = policies.make(env, Config(hidden=(4,)))
    params = policy.init(jax.random.key(0))
    obs = jax.vmap(looked)(jnp.arange(3))
    dist = policy.act(params, (), obs)[0]
    np.testing.assert_allclose(dist.parts["force"][0].mean, 15.0, atol=0.5)
    np.testing.assert_allclose(np.exp(dist.parts["force"][0].log_std), 5.0, rtol=1e-5)
    action = dist.sample(jax.random.key(1))
    force, turn, arms = dist.parts["force"][0], dist.parts["turn"], dist.parts["arms"]
    apart = force.log_prob(action["force"][0]) + turn.log_prob(action["turn"]) + arms.log_prob(action["arms"])
    np.testing.assert_allclose(dist.log_prob(action), apart, rtol=1e-6)


def test_only_numbers_are_normalised_each_by_its_own_moments():
    env = structured()
    obs = jax.vmap(jax.vmap(looked))(jnp.arange(8).reshape(4, 2))
    kept = observations.measured(env.observation_space, obs)
    assert [x.shape for x in jax.tree.leaves(kept)] == [(4, 2, 2)]
    empty = running_moments.empty(observations.measured(env.observation_space, looked(jnp.int32(0))))
    moments = running_moments.update(empty, kept, jnp.ones((4, 2)))
    seen = running_moments.normalize(moments, obs)
    speed = np.arange(8).reshape(4, 2) * 0.5
    np.testing.assert_allclose(seen["speed"][..., 0], (speed - speed.mean()) / speed.std(), rtol=1e-5)
    for name in ("cell", "pair"):
        jax.tree.map(np.testing.assert_array_equal, seen[name], obs[name])


def decoys(legal_rows=((False, True, False, False), (False, False, False, True))):
    """CartPole with four actions of which two are legal: 1 pushes left and 3 right; an illegal one ends the episode."""
    base = envs.make("CartPole-v1", max_steps_in_episode=40)
    mask = jnp.any(jnp.asarray(legal_rows), axis=0)

    def step(key, params, state, action):
        state, seen = base.step(key, params, state, action // 2)
        wrong = ~mask[action]
        return state, seen._replace(
            reward=jnp.where(wrong, -100.0, seen.reward),
            terminated=seen.terminated | wrong,
            truncated=seen.truncated & ~wrong,
        )

    env = base._replace(step=step, action_space=ours.Discrete(4))
    return observations.masked(env, lambda params, state: mask)


REPLAY = {"buffer_size": 64, "warmup": 8, "batch_size": 4, "gradient_steps": 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(algorithms.ROSTER) - {"td3"}))  # which takes a Box alone
def test_no_learner_ever_takes_an_illegal_action(name):
    row = algorithms.entry(name)
    options = dict(SMALL)
    if row.config.rollout == "episodes":
        options["num_steps"] = 0
    if row.own_policy:
        options |= REPLAY
    if row.config.num_envs > 64:  # of language models
        options |= {"num_envs": 8, "num_minibatches": 1, "pretrain": 0}
    if "samples" in hyperparameters(row.algorithm.advantage):
        options |= {"num_envs": 8, "samples": 4}
    run = pgjax.run(name, decoys(), seeds=2, settings=options, updates=8)
    for metric in ("episode_return", "final_return_stochastic", "final_return_greedy"):
        found = np.asarray(run.metrics[metric])
        assert np.all(found[np.isfinite(found)] > 0), metric
    assert bool(run.metrics.finite.all())


@pytest.mark.parametrize("options", [{"network": "gru"}, {"epsilon": 0.5}, {"critic": "action_value"}], ids=str)
def test_memories_exploration_and_action_values_keep_to_the_mask(options):
    name = "relative_actor_critic" if "critic" in options else "a2c"
    run = pgjax.run(name, decoys(), seeds=2, settings={**SMALL, **options}, updates=6)
    found = np.asarray(run.metrics.episode_return)
    assert np.all(found[np.isfinite(found)] > 0) and np.all(np.asarray(run.metrics.final_return_stochastic) > 0)


@pytest.mark.parametrize("network", ["mlp", "gru", "mingru"])  # at once, step by step, and by a parallel scan
def test_a_policy_says_of_its_steps_what_it_acted_by(network):
    env = decoys()
    policy = policies.make(env, Config(network=network, hidden=(4,)))
    params = policy.init(jax.random.key(0))
    state = rollout.start(jax.random.key(1), env, policy, 8)
    rows = jax.jit(lambda s: rollout.unroll(jax.random.key(2), env, policy, params, s, 6)[1])(state)
    assert set(np.unique(rows.action)) == {1, 3}
    now = jax.jit(policy.evaluate)(params, rows)
    np.testing.assert_array_equal(np.isfinite(now.dist.logits), np.broadcast_to([False, True] * 2, (6, 8, 4)))
    np.testing.assert_allclose(now.log_prob, rows.log_prob, rtol=1e-4, atol=1e-5)


def test_the_greedy_action_and_the_target_of_q_learning_are_legal_ones():
    from pgjax.algorithms import dqn
    from pgjax.policies.action_values import Greedy

    env = decoys()
    policy = policies.from_nnx(lambda rngs: Greedy(env, Config(hidden=(4,)), rngs=rngs), constants=False)
    params, targets = (policy.init(jax.random.key(i)) for i in range(2))
    state = rollout.start(jax.random.key(2), env, policy, 3)
    rows = rollout.unroll(jax.random.key(3), env, policy, params, state, 4)[1]
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows._replace(memory=()))
    ahead = rows._replace(obs=rows.next_obs)
    q, later = (np.asarray(policy.evaluate(p, ahead).action_value) for p in (params, targets))
    legal = np.where([False, True, False, True], 0, -np.inf)
    chosen = np.argmax(q + legal, -1)
    for double, wanted in ((True, later[np.arange(12), chosen]), (False, np.max(later + legal, -1))):
        got = dqn.evaluate(policy, params, targets, rows, double).next_value
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def masked_table():
    g = np.random.default_rng(3)
    legal = np.array([[True, False, True], [True, True, False], [False, True, True], [True] * 3])
    return envs.make(
        "TabularMDP-pgjax",
        transition=g.dirichlet(np.ones(4), size=(4, 3)),
        reward=g.normal(size=(4, 3)),
        start=np.array([0.6, 0.4, 0.0, 0.0]),
        terminal=np.array([False, False, False, True]),
        horizon=3,
        legal=legal,
    ), legal


def test_the_gradient_is_exact_against_enumeration_where_actions_are_masked():
    env, legal = masked_table()
    policy = policies.make(env)
    params = jax.tree.map(lambda x: jax.random.normal(jax.random.key(4), x.shape), policy.init(jax.random.key(0)))
    mdp = oracle.from_env(env, 0.9)
    theta = np.asarray(params["preference"], np.float64)

    def brute(theta):
        """Sum over all trajectories of their probability times the return."""
        pi = np.exp(theta) * legal
        pi = pi / pi.sum(-1, keepdims=True)
        total = 0.0
        stack = [(p, s, 0, 0.0) for s, p in enumerate(mdp.start) if p > 0]
        while stack:
            p, s, t, g = stack.pop()
            if t == 3 or (t and mdp.terminal[s]):
                total += p * g
                continue
            for a in range(3):
                for x in range(4):
                    chance = p * pi[s, a] * mdp.transition[s, a, x]
                    if chance > 0:
                        stack.append((chance, x, t + 1, g + 0.9**t * mdp.reward[s, a]))
        return total

    value, gradient = oracle.gradient(mdp, policy, params)
    np.testing.assert_allclose(value, brute(theta), atol=1e-9)
    for i in range(4):
        for j in range(3):
            step = np.zeros((4, 3))
            step[i, j] = 1e-5
            near = (brute(theta + step) - brute(theta - step)) / 2e-5
            np.testing.assert_allclose(gradient["preference"][i, j], near, atol=1e-7)
    assert np.all(gradient["preference"][~legal] == 0)


def test_the_laboratory_measures_masked_policies():
    env, _ = masked_table()
    policy = policies.make(env)
    params = jax.tree.map(lambda x: jax.random.normal(jax.random.key(4), x.shape), policy.init(jax.random.key(0)))
    rows = ["to_go", "exact_all_action", "exact_gae", "optimal_state", "no_gamma_t"]
    found = variance.compare(rows, env, policy, params, discount=0.7, episodes=2048, batch=(1,)).summary["estimators"]
    for name in rows[:-1]:
        assert found[name]["bias_z"] < 5, name
        assert found[name]["exact_bias"]["value"] < 1e-6, name
    assert found["no_gamma_t"]["exact_bias"]["value"] > 1e-3


class Hosted(gymnasium.Env):
    """A Gymnasium environment of trees that pays 1 where its action is the one that it shows."""

    observation_space = theirs.Dict(
        {
            "where": theirs.Discrete(3, start=1),
            "flags": theirs.MultiBinary(2),
            "rest": theirs.Tuple([theirs.Box(-1, 1, (2,), np.float64), theirs.MultiDiscrete([2, 3])]),
        }
    )
    action_space = theirs.Dict({"go": theirs.Discrete(3, start=1), "arms": theirs.MultiDiscrete([2, 3])})

    def look(self):
        where = 1 + self.time % 3
        rest = (np.array([self.time / 10, -0.5]), np.array([self.time % 2, self.time % 3]))
        return {"where": where, "flags": np.array([self.time % 2, 1], np.int8), "rest": rest}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        paid = float(action["go"] == 1 + self.time % 3) + float(action["arms"][1] == 2)
        self.time += 1
        return self.look(), paid, False, self.time >= 4, {}


def test_a_host_environment_of_trees_is_learned_from_and_its_last_observation_kept():
    env = envs.from_gymnasium(Hosted, 4)
    worlds = env.host(2)
    first = worlds.reset(np.arange(2))
    np.testing.assert_array_equal(first["where"], [0, 0])
    action = {"go": np.array([0, 1], np.int32), "arms": np.array([[0, 2], [1, 1]], np.int32)}
    for t in range(4):
        obs, seen = worlds.step(action)
        np.testing.assert_array_equal(seen.obs["where"], [(t + 1) % 3] * 2)
        np.testing.assert_array_equal(seen.reward, [(t % 3 == 0) + 1, t % 3 == 1])
    np.testing.assert_array_equal(obs["where"], [0, 0])
    assert seen.truncated.all() and obs["rest"][0].dtype == np.float32
    run = pgjax.run("ppo", env, seeds=2, settings={**SMALL, "normalize_obs": True}, updates=3)
    assert bool(run.metrics.finite.all())
    policy, params = run.lane(seed=1)[1:3]
    assert play.play(jax.random.key(0), env, policy, params).action["arms"].shape == (4, 2)


@pytest.mark.parametrize(
    ("mask", "actions", "line"),
    [
        (
            ours.Box(0, 1, (3,), jnp.bool_),
            ours.Discrete(2),
            r"shape \(3,\), and actions are Discrete.*expected \(2,\)",
        ),
        (ours.Box(0, 1, (2,), jnp.bool_), ours.Box(0, 1, (2,)), "has no finite number of them"),
        (ours.Box(0, 1, (4,), jnp.bool_), MultiDiscrete([2, 3]), r"expected \(2, 3\) or \(5,\)"),
        (ours.Box(0, 1, (2,), jnp.bool_), ours.Dict({"a": ours.Discrete(2)}), "must be a tree like the actions"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(mask, actions, line):
    with pytest.raises(ValueError, match=line):
        observations.legal(ours.Dict({"x": ours.Discrete(2), observations.MASK: mask}), actions)


def test_what_can_not_be_had_is_one_line():
    env = structured()
    with pytest.raises(ValueError, match="a learner with replay needs a Discrete or a Box of actions, got Dict"):
        pgjax.run("sac", env, updates=1)
    with pytest.raises(ValueError, match="dqn needs a finite number of actions"):
        pgjax.run("dqn", env, updates=1)
    with pytest.raises(ValueError, match="normalize_obs needs a Box of observations that are numbers"):
        pgjax.run("ppo", "TabularMDP-pgjax", settings={"normalize_obs": True}, updates=1)
    with pytest.raises(ValueError, match="the observations have an 'action_mask' already"):
        observations.masked(decoys(), lambda params, state: jnp.ones(4, bool))
    with pytest.raises(ValueError, match=r"legal must be \[S, A\] = \[5, 3\] bool, with a legal action in each state"):
        envs.make("TabularMDP-pgjax", legal=np.zeros((5, 3), bool))
    with pytest.raises(ValueError, match=r"nvec must be \[D\] numbers of choices of 1 or more"):
        MultiDiscrete([2, 0])
