"""Reinforcement learning from human feedback: pairs of answers in; a reward model, or a policy, out.

Christiano et al. 2017; Stiennon et al. 2020; the person who prefers one answer to the other is a hidden gold reward
and a coin.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.algorithms import imitation
from pgjax.types import Array, Env, Policy, PyTree, Step, Trajectory

Score = Callable[[PyTree, Array], Array]  # (params, obs [N, L]) -> [N]


class Pairs(NamedTuple):
    """N pairs of answers to the same prompts: whole episodes [N, T, ...], rows first, as `fit` has them."""

    chosen: Trajectory
    rejected: Trajectory


def collect(key: Array, env: Env, policy: Policy, params: PyTree, count: int) -> Pairs:
    """`count` prompts, two answers of the policy to each, ordered by a coin (Bradley & Terry 1952).

    P(a is preferred to b) = sigmoid(R(a) - R(b)), R the undiscounted return in `env`: the hidden gold reward.
    """
    key_answers, key_coin = jax.random.split(key)
    both, found = rollout.episodes(key_answers, env, policy, params, 2 * count, samples=2)
    both = imitation.swapped(both._replace(memory=()))
    a, b = (jax.tree.map(lambda x, i=i: x[i::2], both) for i in (0, 1))
    margin = found.episode_return[0::2] - found.episode_return[1::2]
    first = jax.random.bernoulli(key_coin, jax.nn.sigmoid(margin))
    return Pairs(chosen=rollout.where(first, a, b), rejected=rollout.where(first, b, a))


def bradley_terry(score: Score) -> Callable[[PyTree, tuple[Array, Array]], Array]:
    """loss(params, (chosen [B, L], rejected [B, L])) -> -E log sigmoid(score(chosen) - score(rejected)).

    The likelihood of the coins (Christiano et al. 2017, eq. 1). It leaves a constant in the score open.
    """

    def loss(params: PyTree, pairs: tuple[Array, Array]) -> Array:
        chosen, rejected = pairs
        both = score(params, jnp.concatenate([chosen, rejected]))
        return -jnp.mean(jax.nn.log_sigmoid(both[: len(chosen)] - both[len(chosen) :]))

    return loss


def dpo(policy: Policy, reference: PyTree, beta: float | Array) -> Callable[[PyTree, Pairs], Array]:
    """loss(params, Pairs [N, T, ...]) -> direct preference optimisation (Rafailov et al. 2023, eq. 7).

    -E log sigmoid(beta (log pi / ref of the chosen answer - log pi / ref of the rejected one)).
    """

    def loss(params: PyTree, pairs: Pairs) -> Array:
        away = [_log_ratio(policy, params, reference, imitation.swapped(x)) for x in pairs]
        return -jnp.mean(jax.nn.log_sigmoid(beta * (away[0] - away[1])))

    return loss


def _log_ratio(policy: Policy, params: PyTree, reference: PyTree, episodes: Trajectory) -> Array:
    episodes = episodes._replace(memory=policy.memory(episodes.mask.shape[1]))
    away = policy.evaluate(params, episodes).log_prob - policy.evaluate(reference, episodes).log_prob
    return jnp.sum(jnp.where(episodes.mask > 0, away, 0.0), axis=0)


def rescored(env: Env, score: Score, params: PyTree) -> Env:
    """The environment with a model's score of each whole episode as its reward: score(params, obs [1, L]) -> [1].

    The model's parameters are parameters of the environment, so each lane may have its own. An episode that a rollout
    cuts short of the environment's own time limit gets no reward.
    """

    def reset(key, both):
        return env.reset(key, both["env"])

    def step(key, both, state, action):
        state, seen = env.step(key, both["env"], state, action)
        ended = seen.terminated | seen.truncated
        reward = jnp.where(ended, score(both["model"], seen.obs[None])[0], 0.0)
        return state, Step(seen.obs, reward, seen.terminated, seen.truncated)

    kept, shown = env.held_out, env.expert
    held_out = kept and (lambda both: {**both, "env": kept(both["env"])})
    expert = shown and (lambda both, state: shown(both["env"], state))
    both = {"env": env.params, "model": params}
    return env._replace(params=both, reset=reset, step=step, expert=expert, held_out=held_out)


def best_of_n(score: Array, worth: Array, n: int) -> Array:
    """[] the mean worth of the best of n answers by `score`, over all subsets of the K in [N, K].

    The answer of rank r among K is the best of a random n with probability C(r - 1, n - 1) / C(K, n), as in the
    unbiased pass@k of Chen et al. 2021. Of equal scores the later ranks higher.

    Raises:
      ValueError: where n is no whole number from 1 to K.
    """
    total = score.shape[1]
    if not (isinstance(n, int) and 1 <= n <= total):
        raise ValueError(f"best_of_n: n must lie between 1 and the {total} samples, got {n}")
    chance = jnp.asarray([math.comb(rank, n - 1) / math.comb(total, n) for rank in range(total)], jnp.float32)
    order = jnp.argsort(score, axis=1)
    return jnp.mean(jnp.sum(chance[None] * jnp.take_along_axis(worth, order, axis=1), axis=1))
