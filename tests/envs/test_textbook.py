"""The textbook systems: their exact values by the oracle and in closed form, their worlds by sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, oracle, policies, rollout
from pgjax.envs.textbook import PAYOFF, BernoulliBandit


def corridor(limit=None):
    """The short corridor as tables: three states and the end."""
    transition = np.zeros((4, 2, 4))
    for state, (left, right) in enumerate([(0, 1), (2, 0), (1, 3), (3, 3)]):
        transition[state, 0, left] = transition[state, 1, right] = 1
    return oracle.MDP(transition, -np.ones((4, 2)), np.eye(4)[0], np.arange(4) == 3, limit, 1.0)


def blind(p):
    return np.tile([1 - p, p], (4, 1))


class TestCorridor:
    @pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 2 - 2**0.5, 0.95])
    def test_its_value_in_closed_form(self, p):
        np.testing.assert_allclose(
            oracle.values(corridor(), blind(p)).objective, -(4 - 2 * p) / (p * (1 - p)), rtol=1e-10
        )

    def test_the_known_figures(self):
        known = {0.05: -82.1052631579, 0.95: -44.2105263158, 0.5: -12, 0.585786437626905: -11.656854249492380}
        for p, value in known.items():
            np.testing.assert_allclose(oracle.values(corridor(), blind(p)).objective, value, rtol=1e-11)

    def test_the_world_is_the_tables(self):
        """At P(right) = 1/2: the mean return of whole episodes, and every transition."""
        env = envs.make("ShortCorridor-pgjax")
        policy = policies.make(env)
        params = policy.init(jax.random.key(0))
        done = jax.jit(lambda key: rollout.evaluate(key, env, policy, params, 4096))(jax.random.key(1))
        returns = np.asarray(done.episode_return, float)
        assert abs(returns.mean() + 12) < 5 * returns.std() / 64
        np.testing.assert_array_equal(returns, -np.asarray(done.episode_length))
        state, _ = env.reset(jax.random.key(0), env.params)
        for position in range(3):
            for action in range(2):
                moved, seen = env.step(
                    jax.random.key(0), env.params, state.replace(position=jnp.int32(position)), jnp.int32(action)
                )
                following = int(np.argmax(corridor().transition[position, action]))
                assert int(moved.position) == following and bool(seen.terminated) == (following == 3)
                assert float(seen.reward) == -1 and int(seen.obs) == 0


class TestBandit:
    def test_an_arm_pays_as_often_as_it_says(self):
        env = envs.make("BernoulliBandit-pgjax", probability=(0.2, 0.7, 0.5), reward=(1.0, 2.0, -1.0))
        state, _ = env.reset(jax.random.key(0), env.params)
        pull = jax.jit(jax.vmap(lambda key, arm: env.step(key, env.params, state, arm)[1], (0, None)))
        for arm, (chance, paid) in enumerate([(0.2, 1.0), (0.7, 2.0), (0.5, -1.0)]):
            seen = pull(jax.random.split(jax.random.key(arm), 4096), arm)
            assert seen.terminated.all() and not seen.truncated.any()
            assert set(np.unique(seen.reward)) == {0.0, paid}
            assert abs((seen.reward == paid).mean() - chance) < 5 * np.sqrt(chance * (1 - chance) / 4096)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(probability=(0.5,)), "probability must be 2 chances or more"),
            (dict(probability=(0.5, 1.2)), r"in \[0, 1\]"),
            (dict(reward=(1.0,)), "reward must be one for each of 2 arms"),
        ],
    )
    def test_mistakes(self, options, message):
        with pytest.raises(ValueError, match=message):
            BernoulliBandit(**options)


def test_rock_paper_scissors():
    """Zero-sum, and paper against an opponent of known habits wins as often as it should."""
    np.testing.assert_array_equal(PAYOFF, -PAYOFF.T)
    env = envs.make("RockPaperScissors-pgjax")
    params = env.params.replace(opponent=jnp.array([0.5, 0.2, 0.3]))
    state, _ = env.reset(jax.random.key(0), params)
    play = jax.jit(jax.vmap(lambda key: env.step(key, params, state, jnp.int32(1))[1].reward))
    reward = np.asarray(play(jax.random.split(jax.random.key(1), 4096)))
    assert abs(reward.mean() - (0.5 - 0.3)) < 5 * reward.std() / 64
