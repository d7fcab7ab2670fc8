"""ReMax: the greedy episode's return as a loop, the mean over all actions, and the reward's penalty."""

import chain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.advantages import penalised, remax
from pgjax.declarations import Trait, traits_of
from pgjax.types import Evaluation

DISCOUNT = 0.9


@pytest.fixture(scope="module")
def played():
    return chain.played()


def greedy_return(preference, state, discount):
    total = 0.0
    for t in range(chain.LIMIT):
        state = min(max(state + 2 * int(np.argmax(preference[state])) - 1, 0), 4)
        total += discount**t * 0.1 * state
        if state == 4:
            break
    return total


@pytest.mark.parametrize("discount", [1.0, DISCOUNT])
def test_remax_takes_off_the_return_of_the_greedy_episode(played, discount):
    params, trajectory, now, play = played
    found, target = remax(play, trajectory, now, discount=discount)
    lengths = np.asarray(trajectory.mask).sum(axis=0).astype(int)
    assert len(set(lengths.tolist())) > 1
    for b, n in enumerate(lengths):
        rewards = np.float64(trajectory.reward[:n, b])
        total = sum(discount**t * r for t, r in enumerate(rewards))
        expected = total - greedy_return(params["preference"], int(trajectory.obs[0, b]), discount)
        np.testing.assert_allclose(found[:n, b], expected, atol=1e-5)
    np.testing.assert_array_equal(target, now.value)


def test_its_mean_gradient_is_exact_over_all_actions(played):
    """One step, four actions: sum_a pi(a) A(a) grad log pi(a) is the gradient of sum_a pi(a) R(a)."""
    g = np.random.default_rng(0)
    theta, worth = jnp.asarray(g.normal(size=4), jnp.float32), jnp.asarray(g.normal(size=4), jnp.float32)
    one = jax.tree.map(lambda x: jnp.zeros((1, 4), x.dtype), played[1]._replace(state=()))
    one = one._replace(reward=worth[None], mask=jnp.ones((1, 4)), memory=())
    now = Evaluation(None, *[jnp.zeros((1, 4))] * 4)
    best = worth[jnp.argmax(theta)]
    advantage, _ = remax(lambda rows, **options: jnp.full((1, 4), best), one, now)
    np.testing.assert_allclose(advantage[0], worth - best, rtol=1e-6)
    chance = jax.nn.softmax(theta)
    found = jax.grad(lambda theta: jnp.sum(chance * advantage[0] * jax.nn.log_softmax(theta)))(theta)
    exact = jax.grad(lambda theta: jnp.sum(jax.nn.softmax(theta) * worth))(theta)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6)


def test_penalised_it_still_plays_and_takes_off_the_rewards_of_the_environment(played):
    _, trajectory, now, play = played
    lifted = penalised(remax)
    assert {Trait.PLAYS, Trait.WHOLE_EPISODES} <= traits_of(lifted)
    trajectory = trajectory._replace(reference=trajectory.log_prob - 0.5)
    found, _ = lifted(play, trajectory, now, reference_penalty=0.2)
    plain, _ = remax(play, trajectory, now)
    lengths = np.asarray(trajectory.mask).sum(axis=0)
    np.testing.assert_allclose(found, plain - 0.2 * 0.5 * lengths[None], atol=1e-5)
