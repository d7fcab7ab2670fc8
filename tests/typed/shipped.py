"""Every plug that ships is of its type, and so is README's loss, for mypy and for pyright alike."""

import jax.numpy as jnp

import pgjax
from pgjax import advantages, algorithms, estimators, losses, optimizers
from pgjax.types import AdvantageFn, Algorithm, EstimatorFn, LossFn, Running


def kl_penalised(now, batch, *, beta=1.0):
    log_ratio = now.log_prob - batch.trajectory.log_prob
    kl = jnp.expm1(log_ratio) - log_ratio
    return -jnp.exp(log_ratio) * batch.advantage + beta * kl, {"kl": kl}


LOSSES: list[LossFn] = [
    losses.policy_gradient,
    losses.importance_weighted,
    losses.ppo_clip,
    losses.awr,
    losses.cispo,
    losses.spo,
    losses.value_error,
    losses.action_value_error,
    losses.sequence_clip,
]

ADVANTAGES: list[AdvantageFn | Running] = [
    advantages.gae,
    advantages.v_trace,
    advantages.td,
    advantages.n_step,
    advantages.q_lambda,
    advantages.monte_carlo,
    advantages.leave_one_out,
    advantages.group_relative,
    advantages.dynamic_sampling,
    advantages.opo,
    advantages.remax,
    advantages.differential,
    advantages.relative,
    advantages.relative_return,
]


def lifted(loss: LossFn) -> list[EstimatorFn | Running]:
    plain: EstimatorFn = estimators.surrogate(losses.actor_critic(loss))
    return [
        plain,
        estimators.natural(loss),
        estimators.trust_region_step(loss),
        estimators.early_stopping(plain),
        estimators.adaptive_kl(plain),
        estimators.selected(plain),
        pgjax.bind(plain, normalize_advantage=True),
    ]


def composed() -> list[Algorithm]:
    estimator = lifted(losses.actor_critic(kl_penalised))[0]
    found = [Algorithm(advantage, estimator, optimizers.adam) for advantage in ADVANTAGES]
    return found + [row.algorithm for row in algorithms.ROSTER.values()]
