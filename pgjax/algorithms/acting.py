"""Checks of whether a policy acts and evaluates as an environment and a learner ask, in shapes alone."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.envs.spaces import holds, is_box, is_discrete, is_multi_discrete, told
from pgjax.plugs import checked_policy
from pgjax.policies.choices import MultiCategorical
from pgjax.policies.distributions import Categorical, check_distribution, check_fields
from pgjax.types import Env, Evaluation, Policy, PyTree


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
        if isinstance(one, MultiCategorical) and is_multi_discrete(part):
            if (choices := one.logits.shape[-2:]) != (len(part.nvec), max(part.nvec)):
                raise ValueError(f"the policy chooses among {list(choices)}, the action space is {part!r}")
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
    if not policy.whole_episodes:
        _check_evaluating(env, policy, params, steps, count)


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


def _check_evaluating(env: Env, policy: Policy, params: PyTree, steps: int, count: int) -> None:
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
