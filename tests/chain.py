"""A row of states whose values and greedy episodes are simple loops, and episodes on it that can be played on."""

import functools

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from pgjax import policies, rollout
from pgjax.algorithms import playing
from pgjax.types import Env, Step

LIMIT, COUNT = 6, 10


def chain():
    """States 0 to 4 in a row; action 1 goes right, 0 left; a step pays a tenth of where it leads; 4 ends it."""

    def step(key, params, state, action):
        state = jnp.clip(state + 2 * action - 1, 0, 4)
        return state, Step(state, 0.1 * state, terminated=state == 4, truncated=jnp.bool_(False))

    start = lambda key, params: (jax.random.randint(key, (), 0, 3),) * 2  # noqa: E731
    return Env({}, start, step, spaces.Discrete(5), spaces.Discrete(2), LIMIT)


def played():
    """(params, trajectory with states, evaluation, play) on the chain; the greedy policy turns at 2 and 3."""
    env = chain()
    policy = policies.make(env)
    params = {"preference": jnp.array([[0.0, 1], [0, 0.5], [0, 0.4], [0, -0.3], [0, 0]]), "value": jnp.zeros(5)}
    key = jax.random.key(0)
    trajectory = jax.jit(lambda: rollout.episodes(key, env, policy, params, COUNT, LIMIT, keep_states=True)[0])()
    play = jax.jit(
        functools.partial(playing.play_on, jax.random.key(1), env, policy, params, env.params),
        static_argnames=("greedy", "samples"),
    )
    return params, trajectory, policy.evaluate(params, trajectory), play
