"""Whole episodes of a lane's policy, sampled and greedy: after training, and every so many updates along it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.envs.parameters import with_params
from pgjax.numerics import keys as reserved
from pgjax.numerics.scans import any_lane
from pgjax.types import Array, Env, Hypers, Learner, PyTree

KINDS = ("stochastic", "greedy")

# (key of a lane, the learner's state, hypers, updates made) -> metrics, NaN where none was due
Along = Callable[[Array, PyTree, Hypers, Array], dict[str, Array]]


def episodes(
    keys: Array, env: Env, learner: Learner, state: PyTree, hypers: Hypers, num_episodes: int
) -> dict[str, rollout.Episodes]:
    """`num_episodes` whole episodes of each kind of KINDS, with its key [2]: Episodes of [B]."""
    policy, params = learner.policy(state)
    env_params = with_params(env, hypers.env)
    if env.held_out:
        env_params = env.held_out(env_params)

    def run(inputs):
        key, greedy = inputs
        return rollout.evaluate(key, env, policy, params, num_episodes, greedy=greedy, env_params=env_params)

    # One after the other, so that the episodes are compiled only once.
    both = jax.lax.map(run, (keys, jnp.array([False, True])))
    return {kind: jax.tree.map(lambda x, i=i: x[i], both) for i, kind in enumerate(KINDS)}


def along(env: Env, learner: Learner, num_episodes: int, every: int) -> Along:
    """The mean return of each kind of KINDS after every `every` updates, as metrics `eval_return_stochastic` and so on.

    Its keys are those of no update, so the learner's draws are the same with it and without; the program is another
    one, though, and may round otherwise. Lanes of one program make equally many updates: it runs in those alone.
    """

    def measure(key: Array, state: PyTree, hypers: Hypers, updates: Array) -> dict[str, Array]:
        due = updates % every == 0
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, reserved.ALONG), updates))

        def run():
            found = episodes(keys, env, learner, state, hypers, num_episodes)
            return tuple(jnp.mean(found[kind].episode_return) for kind in KINDS)

        means = jax.lax.cond(any_lane(due), run, lambda: (jnp.float32(jnp.nan),) * len(KINDS))
        return {f"eval_return_{kind}": jnp.where(due, x, jnp.nan) for kind, x in zip(KINDS, means, strict=True)}

    return measure
