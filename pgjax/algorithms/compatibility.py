"""Checks of whether an algorithm's plugs, its `Config` and the environment fit together."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import errors, rollout
from pgjax.config import Config
from pgjax.declarations import Role, Trait, traits_of
from pgjax.envs.spaces import holds, is_box, is_discrete, layout, told
from pgjax.hyperparameters import by_role, name_of, value_of
from pgjax.plugs import checked_policy
from pgjax.policies.distributions import Categorical, check_distribution, check_fields
from pgjax.policies.traits import has_memory
from pgjax.types import Algorithm, Array, Env, Evaluation, Policy, PyTree


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
    if config.update == "step" and memory:
        raise ValueError("update='step' needs a policy without a memory; use update='batch'")
    if config.update == "step" and traits_of(algorithm.estimator) & {Trait.IN_ORDER, Trait.WHOLE_EPISODES}:
        raise ValueError(f"update='step' gives {name_of(algorithm.estimator)} one step at once; use update='batch'")
    if config.normalize_obs and layout(env.observation_space) in ("", "L"):
        raise ValueError(f"normalize_obs needs a Box of observations, got {env.observation_space!r}")
    if config.scale_rewards and Role.DISCOUNT not in by_role(algorithm.advantage):
        raise ValueError(
            f"scale_rewards needs an advantage with a discount; {name_of(algorithm.advantage)} has none, declared as "
            "discount: Annotated[float, Role.DISCOUNT]"
        )
    samples = value_of(algorithm.advantage, Role.SAMPLES, 1)
    named = by_role(algorithm.advantage).get(Role.SAMPLES, "samples")
    if not isinstance(samples, int) or samples < 1 or config.num_envs % samples:
        raise ValueError(f"{named} must be a whole number that divides num_envs={config.num_envs}, got {samples!r}")
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


def check_acting(env: Env, policy: Policy) -> None:
    """That the policy samples what the environment takes, and evaluates a rollout, in shapes alone; an error if not."""
    checked_policy(policy)
    steps, count = 5, 11  # sizes that no other axis is likely to have

    def sample(key):
        params = policy.init(key)
        _, obs = jax.vmap(env.reset, (0, None))(jax.random.split(key, count), env.params)
        dist, _ = policy.act(params, policy.memory(count), obs)
        check_distribution(dist, "the policy")
        check_fields(dist, (count,), "the policy")
        return dist.sample(key), dist, params

    (action, dist, params), space = jax.eval_shape(sample, jax.random.key(0)), env.action_space
    for one, part in _pairs(dist, space):
        if not isinstance(one, Categorical) or not (is_discrete(part) or is_box(part)):
            continue
        if (actions := one.logits.shape[-1]) != getattr(part, "n", None):
            raise ValueError(f"the policy chooses among {actions} actions, the action space is {space!r}")
    for x in jax.tree.leaves(action):
        if x.shape[:1] != (count,):
            raise ValueError(f"the policy samples an array of shape {x.shape}, expected the {count} environments first")
    one_action = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), action)
    if not holds(space, one_action, exactly=True):
        raise ValueError(
            f"the policy samples the action {told(one_action)}, the action space is {space!r}; "
            "give the policy a distribution that fits"
        )
    if env.host and not isinstance(action, jax.ShapeDtypeStruct):
        raise ValueError(
            f"an environment stepped in Python takes one array as its action, the policy samples {told(one_action)}"
        )
    if not policy.whole_episodes:
        check_evaluating(env, policy, params, steps, count)


def _pairs(dist: Any, space: Any) -> Iterator[tuple[Any, Any]]:
    """Each distribution that draws a part of the action, beside the space of that part."""
    tree, inside = getattr(dist, "parts", dist), getattr(space, "spaces", None)
    if isinstance(inside, Mapping) and isinstance(tree, Mapping):
        for name in inside.keys() & tree.keys():
            yield from _pairs(tree[name], inside[name])
    elif inside is not None and isinstance(tree, tuple):
        for part, its in zip(tree, inside, strict=False):
            yield from _pairs(part, its)
    else:
        yield dist, space


def check_evaluating(env: Env, policy: Policy, params: PyTree, steps: int, count: int) -> None:
    """That `evaluate` gives [T, B] = [steps, count] of everything, in shapes alone; ValueError where not."""

    def evaluate(key, params):
        _, trajectory = rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, count), steps)
        return policy.evaluate(params, trajectory)

    check_evaluation(jax.eval_shape(evaluate, jax.random.key(0), params), (steps, count))


def check_evaluation(now: Evaluation, shape: tuple[int, ...]) -> None:
    """ValueError where an Evaluation's arrays or its distribution's have not the shape [T, B] (first)."""
    for name in ("log_prob", "entropy", "value", "next_value"):
        if (got := jnp.shape(getattr(now, name))) != shape:
            raise ValueError(f"the policy's evaluate gave {name} of shape {got}, expected [T, B] = {shape}")
    check_fields(now.dist, shape, "the policy's evaluate")
