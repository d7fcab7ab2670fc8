"""TD3: an environment and an Algorithm whose estimator is `td3` in, a Learner with replay out.

Fujimoto et al. 2018, Addressing function approximation error in actor-critic methods: deterministic policy gradients
with twin critics, target-policy smoothing and delayed updates of the actor, for a Box of actions. pi(s) is the actor's
action, d the delay; what noise there is is measured in half widths of the Box.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from pgjax.algorithms import replay
from pgjax.algorithms.replay_options import replayed
from pgjax.config import Config
from pgjax.hyperparameters import MOST, NonNegative, Range, hyperparameters, name_of
from pgjax.numerics.masked import mean
from pgjax.policies import action_values, modules
from pgjax.policies.distributions import DiagGaussian
from pgjax.types import Algorithm, Array, Batch, Env, Evaluation, Hypers, Learner, Policy, PyTree, Trajectory


class Parts(NamedTuple):
    """`Policy.parts` of a policy that `make_policy` made: the losses ask for them."""

    action: Callable[[PyTree, PyTree], Array]  # (params, obs) -> pi(s), [N, D]
    twins: Callable[[PyTree, PyTree, Array], Array]  # (params, obs, action) -> Q of both critics, [2, N]
    box: tuple[action_values.Bound, action_values.Bound]  # low, high


class Network(nnx.Module):
    """Actor and critics, all that is learned; and the exploration noise, which is held.

    As a Policy it draws pi(s) plus the exploration noise; its mode is pi(s), its value min_i Q_i(s, pi(s)).
    """

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.actor = action_values.DeterministicActor(env, config, rngs=rngs)
        self.twins = action_values.Twins(env, config, rngs=rngs)
        self.exploration_noise = nnx.Param(jnp.float32(0.1))

    def __call__(self, obs: Array) -> tuple[DiagGaussian, Array]:
        action = self.actor(obs)
        log_std = jnp.log(self.exploration_noise[...] * _half(action, self.actor.box))
        return DiagGaussian(action, log_std), jnp.min(self.twins(obs, action), axis=0)


def _half(action: Array, box: tuple[action_values.Bound, action_values.Bound]) -> Array:
    """Half the width of the Box, in the shape [..., D] of an action."""
    low, high = action_values.like(action, box)
    return 0.5 * (high - low)


def make_policy(env: Env, config: Config = Config()) -> Policy:
    """The networks that config names, sized for the environment's spaces.

    Raises:
      ValueError: for other actions than a Box with one axis and finite bounds.
    """
    build = lambda rngs: Network(env, config, rngs=rngs)  # noqa: E731
    merge = modules.functional(build, constants=False)[1]
    parts = Parts(
        action=lambda params, obs: merge(params).actor(obs),
        twins=lambda params, obs, action: merge(params).twins(obs, action),
        box=action_values.bounded(env),
    )
    return modules.from_nnx(build, constants=False)._replace(parts=parts)


def losses(
    key: Array,
    policy: Policy,
    params: PyTree,
    batch: Batch,
    *,
    exploration_noise: Annotated[float, Range(1e-9, MOST)] = 0.1,
    target_noise: NonNegative = 0.2,
    noise_clip: NonNegative = 0.5,
    policy_delay: Annotated[int, Range(1)] = 2,
) -> tuple[PyTree, dict[str, Array]]:
    """The gradient of two losses, each of its own parameters (algorithm 1); an EstimatorFn for `make_policy`'s policy.

    Critics: sum_i E (Q_i(s, a) - y)^2, y the batch's target
    Actor:   -E Q_1(s, pi(s))

    The learner follows the second at every d-th gradient step alone. At such a step both are gradients at the same
    parameters, where the paper's actor follows critics that were moved before. An action of the batch beyond the Box
    is taken as the nearest inside, which is what the environment took it for.

    Args:
      exploration_noise: deviation of the noise on the actions that are tried.
      target_noise, noise_clip: deviation of the noise on the target's action, and the bound of it; see `evaluate`.
      policy_delay: d. The targets follow at the same steps where `target_period` is d too, as in the roster's row.
    """
    del key, exploration_noise, target_noise, noise_clip, policy_delay
    parts = _parts(policy)
    rows, mask = batch.trajectory, batch.trajectory.mask
    target = jnp.where(mask > 0, batch.target, 0.0)  # after the end of an episode it may be NaN

    def objective(params):
        q = parts.twins(params, rows.obs, jnp.clip(rows.action, *action_values.like(rows.action, parts.box)))
        critic_loss = mean(jnp.sum((q - target[None]) ** 2, axis=0), mask)
        frozen = jax.lax.stop_gradient(params)
        actor_loss = -mean(parts.twins(frozen, rows.obs, parts.action(params, rows.obs))[0], mask)
        return critic_loss + actor_loss, {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": mean(q[0], mask)}

    return jax.grad(objective, has_aux=True)(params)


def _parts(policy: Policy) -> Parts:
    if not isinstance(policy.parts, Parts):
        raise TypeError(f"td3 needs a policy with twin critics, as td3.make_policy gives it; got {policy!r}")
    return policy.parts


def evaluate(
    key: Array,
    policy: Policy,
    params: PyTree,
    targets: PyTree,
    rows: Trajectory,
    target_noise: Array | float,
    noise_clip: Array | float,
) -> Evaluation:
    """What the target is made of: next_value = min_i Q'_i(s', pi'(s') + e), e ~ clip(N(0, target_noise), +-noise_clip).

    Q' and pi' are the target networks, and the sum is kept within the Box (algorithm 1). value is min_i Q_i(s, a) of
    the networks that learn.
    """
    parts = _parts(policy)
    action = parts.action(targets, rows.next_obs)
    low, high = action_values.like(action, parts.box)
    noise = jnp.clip(target_noise * jax.random.normal(key, action.shape, action.dtype), -noise_clip, noise_clip)
    smoothed = jnp.clip(action + noise * _half(action, parts.box), low, high)
    dist = policy.act(params, (), rows.obs)[0]
    return Evaluation(
        dist=dist,
        log_prob=dist.log_prob(rows.action),
        entropy=dist.entropy(),
        value=jnp.min(parts.twins(params, rows.obs, jnp.clip(rows.action, low, high)), axis=0),
        next_value=jnp.min(parts.twins(targets, rows.next_obs, smoothed), axis=0),
    )


def delayed(optimizer: replay.MakeOptimizer, delay: int) -> replay.MakeOptimizer:
    """One optimiser for the critics, and one for the actor, which moves it at every `delay`-th gradient step alone.

    What the actor's optimiser remembers is of these steps alone, its schedules count them, and each clips the norm of
    its own gradient. The exploration noise is held.
    """

    def make(**hypers: Array) -> optax.GradientTransformation:
        actor = optax.conditionally_mask(optimizer(**hypers), lambda count: (count + 1) % delay == 0)
        parts = {"actor": actor, "twins": optimizer(**hypers), "exploration_noise": optax.set_to_zero()}
        return optax.partition(parts, {name: name for name in parts})

    return make


td3 = replayed(losses)


td3.__name__ = "td3"


def make_learner(env: Env, policy: Policy, algorithm: Algorithm, config: Config) -> Learner:
    """The Learner. `policy` is not used: TD3 makes its own networks, with two critics.

    Raises:
      ValueError: for other actions than a Box with one axis and finite bounds.
    """
    del policy
    options = hyperparameters(algorithm.estimator)
    if missing := [x for x in ("exploration_noise", "target_noise", "noise_clip", "policy_delay") if x not in options]:
        raise ValueError(
            f"estimator {name_of(algorithm.estimator)!r} has no hyperparameter {missing[0]!r}; use td3.losses inside"
        )
    deterministic = make_policy(env, config)

    def init(key: Array, hypers: Hypers) -> PyTree:
        return {**deterministic.init(key), "exploration_noise": hypers.estimator["exploration_noise"]}

    def evaluated(key: Array, params: PyTree, targets: PyTree, rows: Trajectory, hypers: Hypers) -> Evaluation:
        noise = hypers.estimator["target_noise"], hypers.estimator["noise_clip"]
        return evaluate(key, deterministic, params, targets, rows, *noise)

    agent = replay.Agent(
        policy=deterministic,
        init=init,
        followed=lambda params: params,
        evaluate=evaluated,
        explore=lambda env_steps, hypers: 0.0,
        optimizer=lambda optimizer: delayed(optimizer, options["policy_delay"]),
    )
    return replay.make_learner(env, agent, algorithm, config)
