"""Another reward in training than in what is reported."""

import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import Algorithm, Config, Running, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry
from pgjax.hyperparameters import hyperparameters
from pgjax.testing import check_advantage, worlds

CONFIG = Config(num_envs=4, num_steps=40, hidden=(4,), eval_episodes=2)


def doubled(trajectory, now, *, scale: float = 2.0):
    return scale * trajectory.reward


def test_it_is_the_advantage_of_the_other_reward():
    policy, params, batch = worlds.example()
    now = policy.evaluate(params, batch.trajectory)
    plug = advantages.shaped(advantages.gae, doubled)
    assert list(hyperparameters(plug)) == ["scale", *hyperparameters(advantages.gae)]
    found = plug(batch.trajectory, now, scale=3.0, discount=0.9)
    wanted = advantages.gae(batch.trajectory._replace(reward=3 * batch.trajectory.reward), now, discount=0.9)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(x, y)
    check_advantage(plug)
    check_advantage(advantages.shaped(advantages.monte_carlo, doubled), baseline="value")


@pytest.mark.slow
def test_a_multiplier_learns_beside_the_policy_and_returns_stay_the_environments():
    """A Lagrange multiplier on a cost of .5 a step with a limit of .2: it grows by rate x .3 with each update."""

    def apply(multiplier, trajectory, now, *, rate: float = 0.1):
        return multiplier + rate * (0.5 - 0.2), trajectory.reward - multiplier * 0.5

    cost = Running(lambda *_: jnp.zeros(()), apply)
    row = lambda advantage: Entry(  # noqa: E731
        Algorithm(advantage, estimators.surrogate(losses.actor_critic(losses.ppo_clip)), optimizers.adam), CONFIG
    )
    plain = pgjax.run(row(advantages.gae), "CartPole-v1", updates=1, progress=False)
    run = pgjax.run(row(advantages.shaped(advantages.gae, cost)), "CartPole-v1", updates=3, progress=False)
    first = [x.metrics["episode_return"].values.reshape(-1)[0] for x in (run, plain)]
    np.testing.assert_array_equal(*first)
    assert np.isfinite(first[0])
    longer = pgjax.run(row(advantages.shaped(advantages.gae, cost)), "CartPole-v1", updates=1, progress=False)
    np.testing.assert_array_equal(longer.metrics["loss"].values, plain.metrics["loss"].values)  # 0 to begin with
    assert not np.array_equal(run.metrics["loss"].values.reshape(-1)[1:], plain.metrics["loss"].values.reshape(-1))


def test_a_reward_of_the_wrong_shape_is_named():
    policy, params, batch = worlds.example()
    plug = advantages.shaped(advantages.gae, lambda trajectory, now: jnp.zeros(3))
    with pytest.raises(ValueError, match=r"shaped: .* returned shape \(3,\), expected one reward for each step"):
        plug(batch.trajectory, policy.evaluate(params, batch.trajectory))
