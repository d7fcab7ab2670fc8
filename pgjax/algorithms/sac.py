"""Soft actor-critic: an environment and an Algorithm whose estimator is `sac` in, a Learner with replay out.

Haarnoja et al. 2018b, Soft actor-critic algorithms and applications (arXiv:1812.05905), for a Box of actions;
Christodoulou 2019, Soft actor-critic for discrete action settings (arXiv:1910.07207), for finitely many, where every
expectation over actions is a sum. An action is a, its log-probability log pi, the temperature alpha, the target
entropy H.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.algorithms import replay
from pgjax.algorithms.replay_options import replayed
from pgjax.config import Config
from pgjax.envs import observations
from pgjax.hyperparameters import MOST, Finite, Range, hyperparameters, name_of
from pgjax.numerics.masked import mean
from pgjax.numerics.returns import taken
from pgjax.policies import action_values, modules
from pgjax.policies.distributions import Categorical
from pgjax.types import Algorithm, Array, Batch, Env, Evaluation, Hypers, Learner, Policy, PyTree, Trajectory


class Parts(NamedTuple):
    """`Policy.parts` of a policy that `make_policy` made: the losses ask for them."""

    # (params, obs, action) -> Q of both critics, [2, N]; of finitely many actions, all: [2, N, A]
    twins: Callable[[PyTree, PyTree, Array | None], Array]
    # (target_entropy_box, target_entropy_finite, distribution) -> H; of finitely many it goes by the legal actions
    target_entropy: Callable[[float, float, Any], Array | float]
    volume: float  # what entropy a Box of actions adds to that of the same actions scaled to [-1, 1]; else 0


class Network(nnx.Module):
    """Actor, critics and temperature: all that is learned.

    As a Policy its value is that of the greedy action, min_i Q_i(s, mode), without the entropy to come; with finitely
    many actions action_value is min_i Q_i(s, .) and value its mean under the policy.
    """

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.actor = action_values.Actor(env, config, rngs=rngs)
        self.twins = action_values.Twins(env, config, rngs=rngs)
        self.log_alpha = nnx.Param(jnp.zeros(()))

    def critic(self, obs: Array) -> Array:
        dist = self.actor(obs)
        return jnp.min(self.twins(obs, None if isinstance(dist, Categorical) else dist.mode()), axis=0)

    def __call__(self, obs: Array) -> tuple[Any, Array]:
        return self.actor(obs), self.critic(obs)


def make_policy(env: Env, config: Config = Config()) -> Policy:
    """The networks that config names, sized for the environment's spaces."""
    build = lambda rngs: Network(env, config, rngs=rngs)  # noqa: E731
    merge = modules.functional(build, constants=False)[1]
    bounds = action_values.box(env)
    # An entropy is a bonus for every step that an episode lasts: in the Box's own units it would depend on these.
    volume = 0.0
    if bounds is None:
        legal = lambda dist: jnp.sum(dist.logits > -jnp.inf, axis=-1)  # noqa: E731
        masked = observations.has_mask(env.observation_space)
        most = lambda dist: jnp.log(legal(dist)) if masked else math.log(env.action_space.n)  # noqa: E731
        target_entropy = lambda box, finite, dist: finite * most(dist)  # noqa: E731
    else:
        low, high = bounds
        volume = sum(math.log((b - a) / 2) for a, b in zip(low, high, strict=True))
        target_entropy = lambda box, finite, dist: box * len(low)  # noqa: E731
    parts = Parts(lambda params, obs, action: merge(params).twins(obs, action), target_entropy, volume)
    legal_actions = observations.legal(env.observation_space, env.action_space)
    return modules.from_nnx(build, constants=False, apart=True, legal=legal_actions)._replace(parts=parts)


def losses(
    key: Array,
    policy: Policy,
    params: PyTree,
    batch: Batch,
    *,
    initial_alpha: Annotated[float, Range(1e-9, MOST)] = 1.0,
    target_entropy_box: Finite = -1.0,
    target_entropy_finite: Finite = 0.3,
) -> tuple[PyTree, dict[str, Array]]:
    """The gradient of three losses, each of its own parameters; an EstimatorFn for a policy of `make_policy`.

    Critics:     sum_i E (Q_i(s, a) - y)^2 / 2                      (2018b, eq. 5), y the batch's target
    Actor:       E [alpha log pi(a' | s) - min_i Q_i(s, a')]        (eq. 9), a' ~ pi by its noise
    Temperature: E [-alpha (log pi(a' | s) + H)]                    (eq. 18)

    Args:
      initial_alpha: the temperature to begin with; it is exp(params["log_alpha"]) from then on.
      target_entropy_box: H for each dimension of a Box of actions, were they scaled to [-1, 1] (table 1: -1);
        nothing where actions are finitely many.
      target_entropy_finite: H as a share of log A, the largest there is, for A actions; nothing where they are a
        Box. Christodoulou has 0.98, a policy nearly uniform.
    """
    del initial_alpha
    if not isinstance(policy.parts, Parts):
        raise TypeError(f"sac needs a policy with twin critics, as sac.make_policy gives it; got {policy!r}")
    rows, mask = batch.trajectory, batch.trajectory.mask
    target = jnp.where(mask > 0, batch.target, 0.0)  # after the end of an episode it may be NaN

    def objective(params):
        frozen = jax.lax.stop_gradient(params)
        q = policy.parts.twins(params, rows.obs, rows.action)
        dist = policy.act(params, (), rows.obs)[0]
        if isinstance(dist, Categorical):
            q = jax.vmap(taken, (0, None))(q, rows.action)
        critic_loss = 0.5 * mean(jnp.sum((q - target[None]) ** 2, axis=0), mask)
        entropy, worth = _expected(key, policy, frozen, frozen["twins"], dist, rows.obs)
        actor_loss = mean(-jnp.exp(frozen["log_alpha"]) * entropy - worth, mask)
        wanted = policy.parts.target_entropy(target_entropy_box, target_entropy_finite, dist)
        gap = jax.lax.stop_gradient(entropy) - wanted
        alpha_loss = mean(jnp.exp(params["log_alpha"]) * gap, mask)
        return critic_loss + actor_loss + alpha_loss, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "alpha_loss": alpha_loss,
            "alpha": jnp.exp(params["log_alpha"]),
            "entropy": mean(entropy, mask),
        }

    return jax.grad(objective, has_aux=True)(params)


def _expected(key: Array, policy: Policy, params: PyTree, twins: PyTree, dist: Any, obs: PyTree) -> tuple[Array, Array]:
    """(-log pi(a), min_i Q_i(s, a)) [N], of one action a drawn from `dist`; their means where it is a Categorical.

    pi is the density of actions scaled to [-1, 1].
    """
    params = {**params, "twins": twins}
    if isinstance(dist, Categorical):
        q = jnp.min(policy.parts.twins(params, obs, None), axis=0)
        return dist.entropy(), jnp.sum(jnp.exp(dist.log_probs()) * q, axis=-1)
    action, log_prob = dist.sample_and_log_prob(key)
    return -log_prob - policy.parts.volume, jnp.min(policy.parts.twins(params, obs, action), axis=0)


def evaluate(key: Array, policy: Policy, params: PyTree, targets: PyTree, rows: Trajectory) -> Evaluation:
    """What the target is made of: next_value = E_a' [min_i Q'_i(s', a') - alpha log pi(a' | s')] (2018b, eq. 3).

    The expectation is over one draw for a Box of actions, exact for finitely many (Christodoulou 2019, eq. 10). Q' are
    the target networks; value is min_i Q_i(s, a) of the networks that learn.
    """
    following = policy.act(params, (), rows.next_obs)[0]
    entropy, worth = _expected(key, policy, params, targets, following, rows.next_obs)
    dist = policy.act(params, (), rows.obs)[0]
    q = jnp.min(policy.parts.twins(params, rows.obs, rows.action), axis=0)
    return Evaluation(
        dist=dist,
        log_prob=dist.log_prob(rows.action),
        entropy=dist.entropy(),
        value=taken(q, rows.action) if isinstance(dist, Categorical) else q,
        next_value=worth + jnp.exp(params["log_alpha"]) * entropy,
    )


sac = replayed(losses)


sac.__name__ = "sac"


def make_learner(env: Env, policy: Policy, algorithm: Algorithm, config: Config) -> Learner:
    """The Learner. `policy` is not used: soft actor-critic makes its own networks, with two critics."""
    del policy
    if "initial_alpha" not in hyperparameters(algorithm.estimator):
        named = name_of(algorithm.estimator)
        raise ValueError(f"estimator {named!r} has no hyperparameter 'initial_alpha'; use sac.losses inside")
    soft = make_policy(env, config)

    def init(key: Array, hypers: Hypers) -> PyTree:
        return {**soft.init(key), "log_alpha": jnp.log(hypers.estimator["initial_alpha"])}

    agent = replay.Agent(
        policy=soft,
        init=init,
        followed=lambda params: params["twins"],
        evaluate=lambda key, params, targets, rows, hypers: evaluate(key, soft, params, targets, rows),
        explore=lambda env_steps, hypers: 0.0,
    )
    return replay.make_learner(env, agent, algorithm, config)
