"""A token environment whose answers go on to the last place, for decoding.py and targets.py."""

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from pgjax.envs.tokens import Tokens
from pgjax.types import Env, Step

VOCABULARY, PROMPT = ".abcdefghijklmno", 4


def world(length=64):
    """A random prompt, and an answer of length - PROMPT tokens; each token "c" of it earns 1."""

    def reset(key, params):
        prompt = jax.random.randint(key, (PROMPT,), 1, len(VOCABULARY))
        tokens = jnp.zeros(length, jnp.int32).at[:PROMPT].set(prompt)
        return tokens, tokens

    def step(key, params, tokens, action):
        count = jnp.sum(tokens != 0)
        # The end, token 0, is written as token 1.
        tokens = jnp.where(jnp.arange(length) == count, jnp.maximum(action, 1), tokens).astype(jnp.int32)
        return tokens, Step(tokens, (action == 3).astype(jnp.float32), count + 1 >= length, jnp.bool_(False))

    seen = Tokens(VOCABULARY, PROMPT, length)
    return Env({}, reset, step, seen, spaces.Discrete(len(VOCABULARY)), length - PROMPT)
