"""Episodes that an advantage plays by itself, from where a trajectory was: see `declarations.plays`."""

import jax
import jax.numpy as jnp

from pgjax.numerics.scans import scan_while
from pgjax.rollout import RolloutState, advance, interact
from pgjax.types import Array, Env, Policy, PyTree, Trajectory


def play_on(
    key: Array,
    env: Env,
    policy: Policy,
    params: PyTree,
    env_params: PyTree,
    rows: Trajectory,
    *,
    greedy: bool = False,
    samples: int = 1,
    discount: float | Array = 1.0,
) -> Array:
    """The discounted sum of rewards [t, B] that follow where episodes go on from the states of rows [t, B].

    Each is the mean over `samples` episodes by the policy, or by the mode of each of its distributions where `greedy`;
    they end as the environment's episodes do, or at `env.max_steps`, counted from where the row's episode began. Rows
    that don't count have 0.

    Args:
      rows: of `unroll` or `episodes` with `keep_states`.
    """
    copies = lambda x: jnp.repeat(x, samples, axis=0)  # noqa: E731

    def follow(inputs: tuple[Array, Trajectory]) -> Array:
        key, at = inputs
        at = jax.tree.map(copies, at)
        count = at.time.shape[0]
        nothing = jnp.zeros(count, jnp.float32)
        state = RolloutState(at.state[0], at.obs, at.state[1], at.time, nothing, nothing, nothing, jnp.zeros(()))

        def step(carry, t):
            state, alive, weight, total = carry
            keys = jax.random.split(jax.random.fold_in(key, t), 1 + count)
            moved, seen, _, _ = interact(keys[0], keys[1:], env, env_params, policy, params, state, greedy)
            total = total + jnp.where(alive, weight * seen.reward, 0.0)
            still = alive & ~(seen.terminated | seen.truncated)
            return (advance(alive, moved, state, policy), still, weight * discount, total), None

        carry = (state, at.mask > 0, jnp.ones(()), nothing)
        (*_, total), _ = scan_while(step, carry, jnp.arange(env.max_steps), lambda carry, _: carry[1])
        return jnp.mean(total.reshape(-1, samples), axis=1)

    return jax.lax.map(follow, (jax.random.split(key, rows.time.shape[0]), rows._replace(memory=())))
