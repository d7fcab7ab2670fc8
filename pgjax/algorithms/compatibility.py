"""Checks of whether an algorithm's plugs, its `Config` and the environment fit together."""

from typing import Any

import jax
import jax.numpy as jnp

from pgjax import errors
from pgjax.config import Config
from pgjax.declarations import Role, Trait, traits_of
from pgjax.envs.observations import leaves
from pgjax.envs.spaces import is_measured
from pgjax.hyperparameters import by_role, name_of, value_of
from pgjax.policies.traits import has_memory
from pgjax.types import Algorithm, Array, Env, Policy, PyTree


def check_rollout(env: Env, policy: Policy, algorithm: Algorithm, config: Config, steps: int) -> bool:
    """Whether minibatches are whole columns; ValueError where the plugs can't learn from such rollouts.

    Args:
      steps: of one rollout.
    """
    whole, memory = config.rollout == "episodes", has_memory(policy)
    learning = (algorithm.estimator, algorithm.updater) if algorithm.updater else (algorithm.estimator,)
    by_column = whole or memory or any(Trait.IN_ORDER in traits_of(plug) for plug in learning)
    rows = config.num_envs if by_column else config.num_envs * steps
    if rows % config.num_minibatches:
        unit = "environments" if by_column else "steps"
        raise ValueError(
            f"num_minibatches={config.num_minibatches} doesn't divide the batch of {rows} {unit}; "
            f"choose a divisor of {rows}"
        )
    check_options(algorithm.advantage, algorithm.estimator, config, steps)
    if config.epsilon and not hasattr(env.action_space, "n"):
        raise ValueError(f"epsilon={config.epsilon:g} needs a discrete action space, got {env.action_space!r}")
    if config.update == "step" and memory:
        raise ValueError("update='step' needs a policy without a memory; use update='batch'")
    for plug in learning if config.update == "step" else ():
        if traits_of(plug) & {Trait.IN_ORDER, Trait.WHOLE_EPISODES}:
            raise ValueError(f"update='step' gives {name_of(plug)} one step at once; use update='batch'")
    if config.normalize_obs and not any(is_measured(part) for _, part in leaves(env.observation_space)):
        raise ValueError(f"normalize_obs needs a Box of observations that are numbers, got {env.observation_space!r}")
    if config.scale_rewards and Role.DISCOUNT not in by_role(algorithm.advantage):
        raise ValueError(
            f"scale_rewards needs an advantage with a discount; {name_of(algorithm.advantage)} has none, declared as "
            "discount: Annotated[float, Role.DISCOUNT]"
        )
    samples = value_of(algorithm.advantage, Role.SAMPLES, 1)
    named = by_role(algorithm.advantage).get(Role.SAMPLES, "samples")
    if not isinstance(samples, int) or samples < 1 or config.num_envs % samples:
        raise ValueError(f"{named} must be a whole number that divides num_envs={config.num_envs}, got {samples!r}")
    if samples > 1 and value_of(algorithm.estimator, Role.NOISE, False):
        noise = by_role(algorithm.estimator)[Role.NOISE]
        raise ValueError(
            f"{noise}=True takes environments for independent samples, and {named}={samples} of them begin alike; "
            f"leave {noise} out, or measure by pgjax variance"
        )
    if samples > 1 and not whole:
        raise ValueError(f"{named}={samples} needs rollout='episodes': a group of episodes must start alike")
    if samples > 1 and env.host:
        raise ValueError(f"{named}={samples}: an environment stepped in Python can't start alike; choose another")
    if policy.whole_episodes and not whole:
        raise ValueError("the policy learns from whole episodes alone; use rollout='episodes' with num_steps=0")
    if Trait.PLAYS in traits_of(algorithm.advantage) and env.host:
        raise ValueError(
            f"{name_of(algorithm.advantage)} plays on from states of the environment, and one stepped in Python keeps "
            "them to itself; choose another"
        )
    if Trait.PLAYS in traits_of(algorithm.advantage) and config.scale_rewards:
        raise ValueError(
            f"{name_of(algorithm.advantage)} plays for rewards that scale_rewards leaves as they are; use "
            "scale_rewards=False"
        )
    for plug in (algorithm.advantage, *learning):
        if Trait.WHOLE_EPISODES in traits_of(plug) and not whole:
            raise ValueError(f"{name_of(plug)} learns from whole episodes; use rollout='episodes' with num_steps=0")
    return by_column


def check_options(advantage: Any, estimator: Any, config: Config, steps: int) -> None:
    """Reject options that are each valid but together learn nothing, or something else than they say.

    Args:
      advantage, estimator: the plugs, whose hyperparameters are known by their roles.
      steps: of one rollout.
    """
    for plug, role in ((advantage, Role.DISCOUNT), (estimator, Role.STOP_KL)):
        if not isinstance(value_of(plug, role, 1.0), float):
            raise ValueError(f"{name_of(plug)}: {by_role(plug)[role]} must have a float as its default, as {role} has")
    _check_corrections(advantage, estimator, config)
    _check_spreads(advantage, estimator, config, steps)
    if name := by_role(estimator).get(Role.TARGET_KL):
        if config.lag or config.epsilon:
            raise ValueError(
                f"{name} needs lag=0 and epsilon=0, because it measures the KL to the acting policy; set those"
            )
        if config.num_epochs * config.num_minibatches == 1:
            raise ValueError(f"{name} adapts to what earlier steps of an update did: num_epochs=2 or more")


def _check_corrections(advantage: Any, estimator: Any, config: Config) -> None:
    """For another policy having acted, and for a critic that has moved since."""
    ours, theirs = by_role(advantage), by_role(estimator)
    both = {"advantage": ours, "estimator": theirs}
    if value_of(estimator, Role.REEVALUATE):
        name = theirs[Role.REEVALUATE]
        lost = [ours[x] for x in (Role.GAMMA_T, Role.NORMALIZE, Role.IMPORTANCE) if value_of(advantage, x)]
        lost += [theirs[Role.NORMALIZE]] if value_of(estimator, Role.NORMALIZE) else []
        if lost:
            raise ValueError(f"{name}=True takes target - value as the advantage, and would lose {lost[0]}=True")
        if (baseline := value_of(advantage, Role.BASELINE, "value")) != "value":
            raise ValueError(f"{name}=True needs {ours[Role.BASELINE]}='value': with {baseline!r} nothing is learned")
    if Role.RATIOS in ours:
        for role in (Role.IMPORTANCE, Role.REEVALUATE):
            if value_of(estimator, role):
                raise ValueError(
                    f"{theirs[role]}=True: {name_of(advantage)} has the ratios in its advantage already; leave it out"
                )
    if (config.epsilon or config.lag) and Role.IMPORTANCE in theirs:
        parts = {"estimator": value_of(estimator, Role.IMPORTANCE), "advantage": value_of(advantage, Role.IMPORTANCE)}
        if sum(map(bool, parts.values())) == 1:
            given, lacking = sorted(parts, key=lambda part: bool(parts[part]), reverse=True)
            names = {part: roles.get(Role.IMPORTANCE, "importance") for part, roles in both.items()}
            raise ValueError(
                f"{given}.{names[given]}=True is half of the correction for another policy having acted; set "
                f"{lacking}.{names[lacking]}=True too (the advantage monte_carlo has it), or neither, and learn of the "
                "policy that acts"
            )


def _check_spreads(advantage: Any, estimator: Any, config: Config, steps: int) -> None:
    """That whatever is divided by a spread has one: more than one step, and more than one weight among them."""
    if config.update == "step" and value_of(estimator, Role.NORMALIZE):
        name = by_role(estimator)[Role.NORMALIZE]
        raise ValueError(
            f"{name}=True cannot be used with update='step': a single step has no spread; use {name}=False"
        )
    in_one = Role.MAX_KL in by_role(estimator)  # a trust region's step is of the whole batch
    for plug, pieces in ((advantage, 1), (estimator, 1 if in_one else config.num_minibatches)):
        if not value_of(plug, Role.NORMALIZE):
            continue
        name = by_role(plug)[Role.NORMALIZE]
        size = f"num_envs={config.num_envs}, num_steps={steps}, num_minibatches={config.num_minibatches}"
        if config.num_envs * steps == pieces:
            raise ValueError(
                f"{name}=True: one step at once ({size}) has no spread to be divided by; use {name}=False or more steps"
            )
        baseline = value_of(advantage, Role.BASELINE)
        whole_return = not value_of(advantage, Role.REWARD_TO_GO, True) and baseline != "value"
        alike = Role.SAMPLES in by_role(advantage) or whole_return
        if alike and config.rollout == "episodes" and config.num_envs == pieces:
            raise ValueError(
                f"{name}=True: all steps of an episode weigh the same here, and one at once ({size}) leaves nothing "
                f"of it; use {name}=False or more episodes"
            )


def checked_advantage(name: str, output: Any, mask: Array) -> tuple[Array, Array, PyTree]:
    """What the advantage of this name returned, (advantage, target, extra) [T, B], checked at trace time."""
    if not isinstance(output, tuple) or len(output) not in (2, 3):
        got = f"{len(output)} results" if isinstance(output, tuple) else errors.told(output)
        raise TypeError(
            f"advantage {name!r} returned {got}, expected (advantage, target) or with extra, each [T, B]; "
            "return advantage, target"
        )
    weight, target, extra = output if len(output) == 3 else (*output, ())
    for what, x in (("advantage", weight), ("target", target)):
        if jnp.shape(x) != mask.shape:
            raise ValueError(
                f"advantage {name!r} returned {what} of shape {jnp.shape(x)}, expected [T, B] = {mask.shape}"
            )
    for x in jax.tree.leaves(extra):
        if jnp.shape(x)[: mask.ndim] != mask.shape:
            raise ValueError(f"advantage {name!r} returned extra of shape {jnp.shape(x)}, expected {mask.shape} first")
    return weight, target, extra


def checked_estimate(name: str, output: Any, params: PyTree) -> tuple[PyTree, dict[str, Array]]:
    """What the estimator of this name returned, (gradient, scalar metrics), checked at trace time."""
    if not (isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], dict)):
        raise TypeError(
            f"estimator {name!r} returned {errors.told(output)}, expected (gradient, dict of metrics); "
            "return gradient, {}"
        )
    gradient, metrics = output
    trees: list[Any] = [jax.tree.map(jnp.shape, tree) for tree in (gradient, params)]
    if trees[0] != trees[1]:
        raise ValueError(
            f"estimator {name!r} returned a gradient whose tree or shapes aren't those of params; return what jax.grad "
            "gives for them"
        )
    for metric, value in metrics.items():
        if jnp.shape(value) != ():
            raise ValueError(
                f"estimator {name!r}: metric {metric!r} has shape {jnp.shape(value)}, expected a scalar; take its mean"
            )
    return gradient, metrics
