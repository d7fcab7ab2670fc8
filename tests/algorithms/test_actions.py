"""Actions that are trees go through rollouts, minibatches, losses, evaluation, folders and the laboratory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gymnax.environments import spaces

import pgjax
from pgjax import Env, Step, policies, rollout, testing, variance
from pgjax.algorithms.acting import check_acting
from pgjax.policies.distributions import Categorical, DiagGaussian, Joint
from pgjax.render import frames, play
from pgjax.sweeps import plan


class Action(NamedTuple):
    move: jax.Array  # [] int: whether the first number is positive
    aim: jax.Array  # [1]: the second number


class Own:
    """A space of the user's own: its sample alone says what an action is."""

    def sample(self, key):
        return Action(jax.random.randint(key, (), 0, 2), jax.random.uniform(key, (1,)))

    def __repr__(self):
        return "Own()"


PARTS = (spaces.Discrete(2), spaces.Box(-3, 3, (1,)))
DICT = spaces.Dict({"move": PARTS[0], "aim": PARTS[1]})
SPACES = {"dict": DICT, "tuple": spaces.Tuple(PARTS), "own": Own()}
AS = {"dict": lambda move, aim: {"move": move, "aim": aim}, "tuple": lambda *parts: parts, "own": Action}


def reward(obs, move, aim):
    return (move == (obs[0] > 0)) - jnp.sum((aim - obs[1:]) ** 2)


def world(kind):
    """One step: say the sign of the first number that is seen, and aim at the second. The best return is 1."""

    def reset(key, params):
        obs = jax.random.normal(key, (2,))
        return obs, obs

    def step(key, params, state, action):
        taken = {"dict": lambda: (action["move"], action["aim"]), "tuple": lambda: action, "own": lambda: action}
        move, aim = taken[kind]() if kind != "own" else (action.move, action.aim)
        return state, Step(state, reward(state, move, aim), jnp.bool_(True), jnp.bool_(False))

    return Env({}, reset, step, spaces.Box(-np.inf, np.inf, (2,)), SPACES[kind], 1)


class Net(nnx.Module):
    def __init__(self, kind, rngs, choices=2, width=1):
        self.kind, self.log_std = kind, nnx.Param(jnp.zeros(width))
        self.move, self.aim = nnx.Linear(2, choices, rngs=rngs), nnx.Linear(2, width, rngs=rngs)
        self.critic = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, obs):
        mean = self.aim(obs)
        aim = DiagGaussian(mean, jnp.broadcast_to(self.log_std[...], mean.shape))
        return Joint(AS[self.kind](Categorical(self.move(obs)), aim)), self.critic(obs)[..., 0]


def acting(kind, **sizes):
    return policies.from_nnx(lambda rngs: Net(kind, rngs, **sizes))


@pytest.mark.parametrize("kind", SPACES)
def test_the_kit_accepts_each_kind_of_tree(kind):
    testing.check_env(world(kind), steps=2)
    check_acting(world(kind), acting(kind))


@pytest.mark.slow
def test_the_kit_accepts_a_policy_over_trees():
    testing.check_policy(acting("dict"), world("dict"), num_steps=4)


@pytest.mark.slow
def test_ppo_learns_both_halves_of_an_action(tmp_path):
    env, policy = world("dict"), lambda env, config: acting("dict")
    settings = {"num_envs": 32, "num_steps": 8, "learning_rate": 0.02}
    options = {"policy": policy, "settings": settings, "progress": False}
    pgjax.run("ppo", env, updates=20, out=tmp_path / "run", **options)
    run = pgjax.load(tmp_path / "run", env=env, policy=policy)
    returns = run.metrics.episode_return.values.ravel()
    assert returns[0] < -1 and returns[-1] > 0.7  # each half alone leaves -.5 or less
    trained, policy, params = run.lane(seed=0)
    played = play.play(jax.random.key(3), trained, policy, params, greedy=True)
    assert played.action["move"].shape == (1,) and played.action["aim"].shape == (1, 1)
    assert len(list(frames.pictures(trained, played).every)) == 2


def test_greedy_episodes_take_the_mode_of_every_part():
    env, policy = world("own"), acting("own")
    params = policy.init(jax.random.key(0))
    evaluated = jax.jit(lambda greedy: rollout.evaluate(jax.random.key(1), env, policy, params, 64, greedy=greedy))
    sharp = jax.tree.map(lambda x: x, params)
    sharp["log_std"] = jnp.full(1, -20.0)
    sharp["move"] = jax.tree.map(lambda x: 1e4 * x, params["move"])
    certain = rollout.evaluate(jax.random.key(1), env, policy, sharp, 64)
    np.testing.assert_allclose(evaluated(True).episode_return, certain.episode_return, rtol=1e-4, atol=1e-4)
    assert not np.allclose(evaluated(False).episode_return, certain.episode_return)


@pytest.mark.parametrize("name", ["reinforce", "a2c", "ppo", "npg", "trpo"])
def test_algorithms_plan_an_update_of_trees(name):
    plan.plan(name, world("tuple"), policy=lambda env, config: acting("tuple"), updates=1, settings={"num_envs": 4})


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        (
            "tuple",
            {},
            r"samples the action \(int32\[\], float32\[1\]\), the action space is Dict\(.*; give the policy a",
        ),
        ("own", {}, r"samples the action Action\(.*\), the action space is Dict"),
        ("dict", {"width": 2}, r"samples the action \{aim: float32\[2\], move: int32\[\]\}, the action space is Dict"),
        ("dict", {"choices": 3}, r"chooses among 3 actions, the action space is Dict"),
    ],
)
def test_a_tree_that_does_not_fit_is_one_line(kind, sizes, message):
    with pytest.raises(ValueError, match=f"^the policy {message}") as caught:
        check_acting(world("dict"), acting(kind, **sizes))
    assert "\n" not in str(caught.value)


def test_a_named_tuple_is_a_tuple_of_a_tuple_space_and_no_space_of_names():
    check_acting(world("tuple"), acting("own"))
    with pytest.raises(ValueError, match=r"the policy samples the action \(int32.*, the action space is Own\(\)"):
        check_acting(world("own")._replace(step=world("tuple").step), acting("tuple"))


def test_learners_with_replay_refuse_a_tree_in_one_line():
    for name, line in (
        ("sac", "needs a Discrete or a Box of actions, got Dict"),
        ("dqn", "finite number of actions, got"),
    ):
        with pytest.raises(ValueError, match=line):
            plan.plan(name, world("dict"), updates=1)


def test_a_distribution_without_batch_axes_is_found_where_it_acts_and_where_it_evaluates():
    own = acting("dict")

    def shared(dist):
        parts = dist.parts
        return Joint({**parts, "aim": parts["aim"]._replace(log_std=jnp.zeros(1))})

    def evaluate(params, trajectory):
        now = own.evaluate(params, trajectory)
        return now._replace(dist=shared(now.dist))

    def act(params, memory, obs):
        dist, memory = own.act(params, memory, obs)
        return shared(dist), memory

    line = r"Joint.parts\['aim'\].log_std has shape \(1,\), expected the batch axes .* use jnp.broadcast_to"
    with pytest.raises(ValueError, match=f"^the policy: {line}"):
        check_acting(world("dict"), own._replace(act=act))
    with pytest.raises(ValueError, match=f"^the policy's evaluate: {line}"):
        check_acting(world("dict"), own._replace(evaluate=evaluate, stepwise=evaluate))


@pytest.mark.slow
def test_the_laboratory_measures_a_policy_over_trees():
    env, policy = world("dict"), acting("dict")
    params = policy.init(jax.random.key(0))
    report = variance.compare(["to_go", "full"], env, policy, params, episodes=512, batch=(1, 4), pilot=64)
    rows = report.summary["estimators"]
    # Episodes of one step: what follows is all there is.
    assert np.isclose(rows["to_go"]["trace"]["value"], rows["full"]["trace"]["value"], rtol=1e-5)
    with pytest.raises(ValueError, match="'all_action' sums over actions, and the action space is Dict"):
        variance.compare(["all_action"], env, policy, params, episodes=512, batch=(1,))
