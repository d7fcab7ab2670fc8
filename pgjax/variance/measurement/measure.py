"""The gradients of every estimator on one chunk of episodes, and their statistics.

The functions are pure and have fixed shapes: `stream` compiles them, and merges their results chunk by chunk.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgjax import rollout
from pgjax.advantages.baselines import Fitted
from pgjax.envs.observations import state_index
from pgjax.policies.distributions import check_fields
from pgjax.policies.traits import has_memory
from pgjax.types import Array, Env, Evaluation, Policy, PyTree, Trajectory
from pgjax.variance.estimators import custom
from pgjax.variance.estimators.custom import Estimator
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.estimators.weights import Tables, critic, expected_values, weights
from pgjax.variance.measurement import lookahead, scores
from pgjax.variance.measurement.streaming_moments import moments, statistics


class Setup(NamedTuple):
    """The static part of a measurement, which fixes its program."""

    estimators: dict[str, Estimator]
    env: Env
    policy: Policy
    where: scores.Layout
    levels: tuple[int, ...]  # episodes averaged, each dividing the next; the first is 1
    chunk: int  # episodes of one call, one of the levels
    has_states: bool  # whether all_action steps the environment once more from each state


class Inputs(NamedTuple):
    """The numbers of one measurement."""

    params: PyTree  # at which the gradient is taken
    behaviour: PyTree  # the parameters that act
    discount: Array
    fitted: dict[str, Fitted]
    tables: Tables | None
    target: Array  # [K, P] the mean of each estimator if it is unbiased
    ascent: Array  # [P] the gradient of J
    inverse_fisher: Array | None  # [P, P]


def sample(setup: Setup, key: Array, behaviour: PyTree) -> tuple[Trajectory, PyTree]:
    """`chunk` whole episodes [T, C], and the environment's states [T, C, ...] where they are needed, else ()."""
    if not setup.has_states:
        return rollout.episodes(key, setup.env, setup.policy, behaviour, setup.chunk)[0], ()
    env, policy = lookahead.with_states(setup.env, setup.policy)
    return lookahead.split(rollout.episodes(key, env, policy, behaviour, setup.chunk)[0])


def gradients(
    setup: Setup, key: Array, inputs: Inputs, trajectory: Trajectory, states: PyTree
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Name -> one estimate for each group of its `batch` episodes, [C / batch, P]; and metrics of the chunk."""
    policy, params, where = setup.policy, inputs.params, setup.where
    now = _evaluated(policy, params, trajectory)
    rows = {name: row for name, row in setup.estimators.items() if isinstance(row, ScoreFunction)}
    key_ahead, key_own = jax.random.split(key)

    weighed = {name: _grouped(row, trajectory, now, inputs, name) for name, row in rows.items()}
    out: dict[str, Array] = {}
    by_score = [name for name, row in rows.items() if not row.over_actions]
    if by_score:
        stacked = jnp.stack([weighed[name] for name in by_score])
        found = scores.weighted(scores.log_prob, policy, params, trajectory, (), stacked, where)
        out |= {name: found[:, k] for k, name in enumerate(by_score)}
    for kind in ("learned", "exact"):
        names = [name for name, row in rows.items() if row.over_actions and row.critic == kind]
        if names:
            if kind == "exact":
                assert inputs.tables is not None  # `checks.possible` refuses exact critics without tables
                action_value = inputs.tables.action_value[trajectory.time, state_index(trajectory.obs)]
            else:
                action_value = lookahead.action_values(
                    key_ahead, setup.env, policy, params, trajectory, states, inputs.discount
                )
            stacked = jnp.stack([weighed[name] for name in names])
            found = scores.weighted(expected_values, policy, params, trajectory, action_value, stacked, where)
            out |= {name: found[:, k] for k, name in enumerate(names)}
    for name, row in rows.items():
        if row.batch > 1:
            out[name] = jnp.mean(out[name].reshape(-1, row.batch, out[name].shape[-1]), axis=1)
        if row.precondition == "natural":
            assert inputs.inverse_fisher is not None  # the pilot gives it where a row is natural
            out[name] = jnp.matmul(out[name], inputs.inverse_fisher, precision="highest")

    for index, (name, estimator) in enumerate(setup.estimators.items()):
        if not isinstance(estimator, ScoreFunction):
            key_name = jax.random.fold_in(key_own, index)
            found = custom.estimates(key_name, name, estimator, policy, params, trajectory)
            out[name] = where.vector(found, axes=1)
    return {name: out[name] for name in setup.estimators}, _metrics(rows, trajectory, now, inputs, weighed)


def _evaluated(policy: Policy, params: PyTree, trajectory: Trajectory) -> Evaluation:
    """policy.evaluate of whole episodes: a step starts from the observation that the last led to, so V' is the next V.

    A module whose `evaluate` gives another next_value for the same observation is not asked for it here.
    """
    if has_memory(policy):
        return policy.evaluate(params, trajectory)
    # Row t + 1 holds the observation that step t led to, also at the end of an episode.
    longer = jax.tree.map(lambda x: jnp.concatenate([x, x[-1:]]), trajectory)
    obs = jax.tree.map(lambda x, y: jnp.concatenate([x[:1], y]), trajectory.obs, trajectory.next_obs)
    now = policy.evaluate(params, longer._replace(obs=obs))
    check_fields(now.dist, longer.mask.shape, "the policy")
    ahead = now.value[1:]
    return jax.tree.map(lambda x: x[:-1], now)._replace(next_value=ahead)


def _grouped(
    row: ScoreFunction, trajectory: Trajectory, now: Evaluation, inputs: Inputs, name: str, clip: bool = True
) -> Array:
    """Weights [T, C], each group of `batch` episodes by itself."""
    fitted, discount = inputs.fitted[name], inputs.discount

    def one(trajectory, now):
        return weights(row, trajectory, now, fitted, discount, clip)

    now = critic(row, trajectory, now, inputs.tables)
    if row.batch == 1:
        return one(trajectory, now)
    # Nothing in the weights looks at the distribution or at memory.
    pair = (trajectory._replace(memory=()), now._replace(dist=()))
    found = jax.vmap(one, in_axes=1, out_axes=1)(*jax.tree.map(lambda x: _split(x, row.batch), pair))
    return found.reshape(found.shape[0], -1)


def _split(x: Array, batch: int) -> Array:
    return x.reshape(x.shape[0], -1, batch, *x.shape[2:])


def _metrics(
    rows: dict[str, ScoreFunction], trajectory: Trajectory, now: Evaluation, inputs: Inputs, weighed: dict[str, Array]
) -> dict[str, Array]:
    """Metrics of each episode, [C]."""
    mask = trajectory.mask
    log_rho = (now.log_prob - trajectory.log_prob) * mask
    ratio = jnp.exp(jnp.sum(log_rho, axis=0))
    found = {
        "length": jnp.sum(mask, axis=0),
        "return": jnp.sum(trajectory.reward * mask, axis=0),
        "discounted_return": jnp.sum(inputs.discount**trajectory.time * trajectory.reward * mask, axis=0),
        "ratio": ratio,
        "ratio_square": ratio**2,
        "ratio_cube": ratio**3,
        # Schulman's estimate of KL(behaviour || measured), never negative, a step's mean in each episode.
        "kl": jnp.sum((jnp.expm1(log_rho) - log_rho) * mask, axis=0) / jnp.sum(mask, axis=0),
    }
    for name, row in rows.items():
        if row.surrogate == "ppo_clip":
            kept = _grouped(row, trajectory, now, inputs, name, clip=False)
            dropped = (kept != 0) & (weighed[name] == 0)
            found[f"clip_fraction {name}"] = jnp.sum(dropped, axis=0) / jnp.sum(mask, axis=0)
    return found


def levels(setup: Setup, inputs: Inputs, found: dict[str, Array]) -> tuple[dict[int, Any], Array]:
    """Statistics of each level up to the chunk, and the chunk's mean gradients [K, P]."""
    out = {}
    for level in setup.levels:
        if level > setup.chunk:
            break
        parts = []
        for name, estimator in setup.estimators.items():
            x = found[name]
            if estimator.batch > level:
                parts.append(jnp.full((setup.chunk // level, x.shape[-1]), jnp.nan))
            else:
                parts.append(jnp.mean(x.reshape(setup.chunk // level, -1, x.shape[-1]), axis=1))
        stacked = jnp.stack(parts, axis=1)
        out[level] = moments(statistics(stacked, inputs.target, inputs.ascent))
    return out, jnp.stack([jnp.mean(x, axis=0) for x in found.values()])


def parameters(setup: Setup, inputs: Inputs, found: dict[str, Array]) -> dict[str, Any]:
    """Of single estimates: each parameter's deviation and fourth power around the target, each layer's, the whole's."""
    bounds = [0]
    for size in setup.where.sizes:
        bounds.append(bounds[-1] + size)
    out = {}
    for k, (name, x) in enumerate(found.items()):
        off = x - inputs.target[k][None]
        squares = off**2
        by_layer = jnp.stack([jnp.sum(squares[:, a:b], axis=1) for a, b in zip(bounds, bounds[1:], strict=False)], 1)
        out[name] = {
            "value": moments(off),
            "fourth": moments(squares**2),
            "layer": moments(by_layer),
        }
    return out


def squares(x: Array, target: Array) -> Array:
    """[2, G] of estimates [G, P]: each one's squared distance from the target [P], and from the chunk's mean.

    The latter is on average the trace of the covariance, biased or not; of fewer than 4 estimates the mean says too
    little, and the former takes its place.
    """
    around = jnp.sum((x - target[None]) ** 2, axis=1)
    if len(x) < 4:
        return jnp.stack([around, around])
    own = jnp.sum((x - jnp.mean(x, axis=0, keepdims=True)) ** 2, axis=1) * (len(x) / (len(x) - 1))
    return jnp.stack([around, own])


def measure(setup: Setup, key: Array, inputs: Inputs, trajectory: Trajectory, states: PyTree) -> dict[str, Any]:
    """All that is kept of one chunk: moments, its mean, and of each estimate and each episode one number."""
    found, metrics = gradients(setup, key, inputs, trajectory, states)
    by_level, mean = levels(setup, inputs, found)
    return {
        "levels": by_level,
        "parameters": parameters(setup, inputs, found),
        "metrics": moments(metrics),
        "mean": mean,
        "squares": {name: squares(x, inputs.target[k]) for k, (name, x) in enumerate(found.items())},
        "ratios": metrics["ratio"],
    }
