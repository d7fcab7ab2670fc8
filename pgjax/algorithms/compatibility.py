"""Checks of whether an algorithm's plugs, its `Config` and the environment fit together."""

from typing import Any

import jax
import jax.numpy as jnp

from pgjax.config import Config
from pgjax.hyperparameters import name_of
from pgjax.policies.distributions import Categorical, check_fields
from pgjax.types import Array, Env, Policy


def check_options(advantage: dict[str, Any], estimator: dict[str, Any], config: Config, steps: int) -> None:
    """Options that say nothing false each by itself, and together learn nothing or something else.

    Args:
      steps: of one rollout.
    """
    if estimator.get("reevaluate"):
        lost = [name for name in ("gamma_t", "normalize", "importance") if advantage.get(name)]
        lost += ["normalize_advantage"] if estimator.get("normalize_advantage") else []
        if lost:
            raise ValueError(f"reevaluate=True takes target - value as the advantage, and would lose {lost[0]}=True")
        if advantage.get("baseline", "value") != "value":
            raise ValueError(
                f"reevaluate=True needs baseline='value': with {advantage['baseline']!r} nothing is learned"
            )
    if "clip_rho" in advantage and (estimator.get("importance") or estimator.get("reevaluate")):
        wrong = "importance" if estimator.get("importance") else "reevaluate"
        raise ValueError(f"{wrong}=True: v_trace has the ratios in its advantage already; leave it out")
    if "target_kl" in estimator:
        if config.lag or config.epsilon:
            raise ValueError("target_kl is of the KL to the policy that acted; use lag=0 and epsilon=0 with it")
        if config.num_epochs * config.num_minibatches == 1:
            raise ValueError("target_kl adapts to what earlier steps of an update did: num_epochs=2 or more")
    if config.update == "step" and estimator.get("normalize_advantage"):
        raise ValueError("update='step' sees one step at once, and normalize_advantage would leave nothing of it")
    if (config.epsilon or config.lag) and "importance" in estimator:
        parts = {"estimator": bool(estimator["importance"]), "advantage": bool(advantage.get("importance"))}
        if sum(parts.values()) == 1:
            given, lacking = sorted(parts, key=parts.get, reverse=True)
            raise ValueError(
                f"{given}.importance=True is half of the correction for another policy having acted; set "
                f"{lacking}.importance=True too (the advantage monte_carlo has it), or neither, and learn of the "
                "policy that acts"
            )
    # A trust region's step is of the whole batch.
    at_once = {"normalize": 1, "normalize_advantage": 1 if "max_kl" in estimator else config.num_minibatches}
    for name, pieces in at_once.items():
        if not (advantage if name == "normalize" else estimator).get(name):
            continue
        size = f"num_envs={config.num_envs}, num_steps={steps}, num_minibatches={config.num_minibatches}"
        if config.num_envs * steps == pieces:
            raise ValueError(
                f"{name}=True: one step at once ({size}) has no spread to be divided by; use {name}=False or more steps"
            )
        whole_return = not advantage.get("reward_to_go", True) and advantage.get("baseline") != "value"
        alike = "samples" in advantage or whole_return
        if alike and config.rollout == "episodes" and config.num_envs == pieces:
            raise ValueError(
                f"{name}=True: all steps of an episode weigh the same here, and one at once ({size}) leaves nothing "
                f"of it; use {name}=False or more episodes"
            )


def check_advantage(plug: Any, weight: Array, target: Array, mask: Array) -> None:
    for what, x in (("advantage", weight), ("target", target)):
        if jnp.shape(x) != mask.shape:
            raise ValueError(
                f"advantage {name_of(plug)!r} returned {what} of shape {jnp.shape(x)}, expected [T, B] = {mask.shape}"
            )


def check_acting(env: Env, policy: Policy) -> None:
    """That the policy samples what the environment takes, by one abstract step; ValueError where not."""
    if not isinstance(policy, Policy):
        raise TypeError(f"policy must return a pgjax Policy, got {type(policy).__name__}")

    def sample(key):
        _, obs = env.reset(key, env.params)
        dist, _ = policy.act(policy.init(key), policy.memory(1), jax.tree.map(lambda x: x[None], obs))
        return dist.sample(key), dist

    (action, dist), space = jax.eval_shape(sample, jax.random.key(0)), env.action_space
    if isinstance(dist, Categorical) and dist.logits.shape[-1] != getattr(space, "n", None):
        raise ValueError(f"the policy chooses among {dist.logits.shape[-1]} actions, the action space is {space!r}")
    check_fields(dist, (1,), "the policy")
    continuous = jnp.issubdtype(action.dtype, jnp.floating)
    if action.shape != (1, *space.shape) or continuous != hasattr(space, "low"):
        raise ValueError(
            f"the policy samples actions of shape {action.shape[1:]} and type {action.dtype}, "
            f"the action space is {space!r}; give the policy a distribution that fits"
        )
