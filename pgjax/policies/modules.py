"""`from_nnx` and `from_linen` make a `Policy` of a flax module, as pure functions of its parameters.

A module maps observations [..., *obs] to `(distribution [...], value [...])`, or with a
third thing, a tree of arrays [..., *], that losses find in `now.extra`. Its parameters are one nested dict of arrays.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.envs import observations
from pgjax.errors import told
from pgjax.policies import variables
from pgjax.policies.choices import legal_only
from pgjax.policies.distributions import Categorical, check_distribution, check_fields
from pgjax.types import Array, Env, Evaluation, Policy, PyTree, Trajectory

Build = Callable[[nnx.Rngs], nnx.Module]
Legal = Callable[[PyTree], PyTree]  # observations -> the mask of legal actions


def from_nnx(build: Build, constants: bool = True, apart: bool = False, legal: Legal | None = None) -> Policy:
    """A memoryless policy from the user's own nnx module.

    Args:
      build: `nnx.Rngs -> module`; `module(obs)` returns `(distribution, value)`, or action values
        [..., A] in place of the value. Its variables are `nnx.Param`s; `nnx.BatchStat`s and random keys are kept as
        `policies.variables` says, others are refused.
      constants: whether the module may hold arrays besides its Params, in closures too; False makes
        tracing faster.
      apart: whether the module also has `actor(obs)` and `critic(obs)`, the two things that it returns, which are
        then called where only one of the two is needed.
      legal: `observations.legal` of the environment's spaces, where its observations say which actions are legal: the
        distribution is then that of legal actions, as `choices.legal_only` gives it.

    A Gaussian of the module's own is in the units of the environment: `networks.ActorHead`, or `distributions.gaussian`
    with the `units` of the action space, makes one that covers a finite Box.
    """
    _check_build(build)
    if held := variables.nnx_module(build):
        memoryless = functools.partial(_memoryless, legal=legal)
        return variables.policy(held, memoryless, lambda output: checked(output, "the module"))
    init, merge = functional(build, constants)

    def call(params, obs, part=None, lead=1):
        module = merge(params)
        if part is not None and apart:
            return getattr(module, part)(obs)
        output = checked(module(obs), type(module).__name__)
        return output if part is None else output[("actor", "critic").index(part)]

    return _memoryless(init, call, legal)


def from_linen(module: Any, env: Env) -> Policy:
    """A memoryless policy from the user's own linen module: `module(obs) -> (distribution, value)`.

    A module with other collections than "params" (batch statistics), or one that draws random numbers when it is
    applied (dropout), takes `train: bool = False`; both are kept as `policies.variables` says.
    """
    reference = jax.eval_shape(env.reset, jax.random.key(0), env.params)[1]
    example = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), reference)
    name = type(module).__name__
    legal = observations.legal(env.observation_space, env.action_space)
    if held := variables.linen_module(module, example):
        memoryless = functools.partial(_memoryless, legal=legal)
        return variables.policy(held, memoryless, lambda output: checked(output, name))

    def call(params, obs, part=None, lead=1):
        output = checked(module.apply(params, obs), name)
        return output if part is None else output[("actor", "critic").index(part)]

    return _memoryless(lambda key: module.init(key, example), call, legal)


def _memoryless(init: Callable[[Array], PyTree], network: Callable[..., Any], legal: Legal | None) -> Policy:
    def call(params, obs, part=None, lead=1):
        output = network(params, obs, part, lead)
        if legal is None or part == "critic":
            return output
        mask = legal(obs)
        return legal_only(output, mask) if part else (legal_only(output[0], mask), *output[1:])

    def act(params, memory, obs):
        return call(params, obs, "actor"), memory

    def evaluate(params, trajectory):
        lead = trajectory.reward.ndim
        now = call(params, trajectory.obs, lead=lead)
        # The value of action values depends on the policy at next_obs; a state value needs the critic alone.
        whole = _of_actions(*now[:2]) or jax.tree.leaves(now[2])
        ahead = trajectory.next_obs
        following = call(params, ahead, lead=lead) if whole else (None, call(params, ahead, "critic", lead), ())
        return evaluation(now, following, trajectory)

    return Policy(init=init, memory=lambda batch: (), act=act, evaluate=evaluate, stepwise=evaluate)


def _of_actions(dist: Any, value: Any) -> bool:
    """Whether a critic gives action values [..., A] rather than a value [...]."""
    return jnp.ndim(value) > jnp.ndim(dist.entropy())


def evaluation(now: tuple[Any, Any, Any], following: tuple[Any, Any, Any], trajectory: Trajectory) -> Evaluation:
    (dist, value, extra), (next_dist, next_value, next_extra) = now, following
    action_value = ()
    if _of_actions(dist, value):
        action_value, value, next_value = value, _expected(dist, value), _expected(next_dist, next_value)
    return Evaluation(
        dist=dist,
        log_prob=dist.log_prob(trajectory.action),
        entropy=dist.entropy(),
        value=value,
        next_value=next_value,
        action_value=action_value,
        extra=extra,
        next_extra=next_extra,
    )


def _expected(dist: Categorical, action_value: Any) -> Any:
    """sum_a pi(a) q(a), without a gradient for pi: the critic's error trains q alone."""
    return jnp.sum(jax.lax.stop_gradient(jnp.exp(dist.log_probs())) * action_value, axis=-1)


def _check_build(build: Any) -> None:
    """TypeError where a module itself, or anything else, is given in place of a function that makes one."""
    if isinstance(build, nnx.Module) or not callable(build):
        raise TypeError(
            f"build must be a function of rngs that makes an nnx module, got {told(build)}; give "
            f"lambda rngs: {type(build).__name__}(..., rngs=rngs)"
        )


def functional(build: Build, constants: bool) -> tuple[Callable[[Array], PyTree], Callable[[PyTree], Any]]:
    """init(key) -> params, a nested dict; merge(params) -> module. `constants`: as in `from_nnx`."""
    _check_build(build)
    split: Any = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...)
    graph, shapes, rest = split
    if kept := nnx.to_pure_dict(nnx.filter_state(rest, nnx.Variable)):
        raise ValueError(
            f"the module has variables that are no nnx.Param: {', '.join(map(str, kept))}; "
            "make constants plain arrays, and keep what changes in the policy's memory"
        )

    def init(key):
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def merge(params):
        if constants:
            # The module is built anew at each use, so that its constants belong to the current trace; the
            # compiler drops the unused initial parameters.
            module = build(nnx.Rngs(0))
            state = nnx.state(module, nnx.Param)
            nnx.replace_by_pure_dict(state, params)
            nnx.update(module, state)
            return module
        state = jax.tree.map(lambda x: x, shapes)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)

    return init, merge


def checked(output: Any, name: str) -> tuple[Any, Any, PyTree]:
    """(distribution, value, extra) of a module's output, checked at trace time."""
    if not (isinstance(output, tuple) and len(output) in (2, 3)):
        raise TypeError(f"{name}: expected (distribution, value), got {told(output)}; return both")
    check_distribution(output[0], name)
    dist, value, extra = output if len(output) == 3 else (*output, ())
    # If every field lacks batch axes, so does the entropy, and the value's shape gives them.
    batch = jnp.shape(dist.entropy()) or jnp.shape(value)
    check_fields(dist, batch, name)
    actions = (*batch, dist.logits.shape[-1]) if isinstance(dist, Categorical) else batch
    if jnp.shape(value) not in (batch, actions):
        raise ValueError(
            f"{name}: value has shape {jnp.shape(value)}, expected {batch} like the distribution; squeeze its last axis"
        )
    for x in jax.tree.leaves(extra):
        if jnp.shape(x)[: len(batch)] != batch:
            raise ValueError(f"{name}: extra has an array of shape {jnp.shape(x)}, expected {batch} first")
    return dist, value, extra
