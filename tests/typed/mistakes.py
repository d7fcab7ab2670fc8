"""Mistakes that the type checker finds: in its strict mode an ignore that hides nothing is an error itself."""

import pgjax
from pgjax import Algorithm, advantages, estimators, losses, optimizers


def names() -> None:
    pgjax.rum("ppo", "CartPole-v1")  # type: ignore[attr-defined]
    losses.ppo_clop  # type: ignore[attr-defined]  # noqa: B018


def plugs() -> None:
    Algorithm(advantages.gae, losses.ppo_clip, optimizers.adam)  # type: ignore[arg-type]
    estimators.surrogate(advantages.gae)  # type: ignore[arg-type]
    losses.actor_critic(optimizers.adam)  # type: ignore[arg-type]


def right() -> None:
    estimator = estimators.early_stopping(estimators.surrogate(losses.actor_critic(losses.ppo_clip)))
    Algorithm(advantages.gae, estimator, optimizers.adam)
    Algorithm(advantages.monte_carlo, estimators.adaptive_kl(estimator), optimizers.sgd)
    Algorithm(pgjax.bind(advantages.td, discount=0.9), estimators.natural(losses.policy_gradient), optimizers.adam)
