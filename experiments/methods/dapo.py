"""DAPO: clip-higher, a mean over the tokens of all answers, and groups that are all right or all wrong left out.

The sum over tokens of min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A), over the number of tokens, both of those
groups alone whose returns differ; A is that of GRPO. Yu et al. 2025, DAPO: an open-source LLM reinforcement learning
system at scale. They draw further groups until the batch is full; here it is smaller.

    pgjax train experiments/methods/dapo.py:dapo copying --set eps_high=0.2,0.28
"""

from typing import Annotated

import jax.numpy as jnp

from pgjax import Algorithm, Config, Range, Role, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry
from pgjax.declarations import whole_episodes
from pgjax.hyperparameters import Bound, bind, declare


@losses.by_step
def _clip_higher(now, batch, *, eps_low: Bound = 0.2, eps_high: Bound = 0.28):
    ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    clipped = jnp.clip(ratio, 1 - eps_low, 1 + eps_high)
    return -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage), {}


@whole_episodes
def _group_relative(trajectory, now, *, samples: Annotated[int, Range(2), Role.SAMPLES] = 8):
    """GRPO's advantage; and, for the estimator, whether the returns of a step's group differ."""
    advantage, target = advantages.group_relative(trajectory, now, samples=samples)
    differ = jnp.any((advantage != 0).reshape(len(advantage), -1, samples), axis=-1)
    return advantage, target, jnp.repeat(differ, samples, axis=1)


_token_mean = estimators.surrogate(_clip_higher)


def _dynamic_sampling(key, policy, params, batch, **hypers):
    trajectory = batch.trajectory._replace(mask=batch.trajectory.mask * batch.extra)
    return _token_mean(key, policy, params, batch._replace(trajectory=trajectory), **hypers)


dapo = Entry(
    Algorithm(
        _group_relative,
        declare(_dynamic_sampling, _token_mean),
        bind(optimizers.adam, learning_rate=3e-4, warmup_steps=160.0),
    ),
    Config(num_envs=512, num_steps=0, num_minibatches=16, rollout="episodes", pretrain=-1),
)
