"""Fits baselines for rows of the grid, and the Fisher matrix, to a pilot's episodes.

The pilot shares no episode with the measured sample, so a baseline fitted to it brings no bias.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.advantages.baselines import BASELINES, Fitted
from pgjax.advantages.returns import RETURNS
from pgjax.envs.observations import state_index
from pgjax.types import Array, Policy, PyTree, Trajectory
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.estimators.weights import Tables, critic, returned, weights
from pgjax.variance.measurement import scores


def needs_pilot(row: ScoreFunction) -> bool:
    """Whether any number of the row comes from a pilot."""
    return BASELINES[row.baseline].pilot != "" or row.precondition == "natural"


def sums(
    rows: dict[str, ScoreFunction],
    policy: Policy,
    params: PyTree,
    trajectory: Trajectory,
    tables: Tables | None,
    discount: Array,
    where: scores.Layout,
    num_states: int,
) -> dict[str, Any]:
    """Sums over one chunk of episodes [T, B], for `fitted` and `inverse_fisher`; they add up over chunks.

    A step's weight f (G - b) has least variance in b where b = E[f C A] / E[f^2 C C], with C the score of
    a step that b speaks for and A the whole gradient without baseline (Greensmith et al. 2004, theorem 8;
    scores of different steps are uncorrelated, so each b can be found by itself).
    """
    now, mask = policy.evaluate(params, trajectory), trajectory.mask
    states = jax.nn.one_hot(state_index(trajectory.obs), num_states) if num_states > 1 else mask[..., None]
    found: dict[str, Any] = {"count": jnp.sum(mask, axis=1)}
    if any(row.precondition == "natural" for row in rows.values()):
        found["fisher"] = _fisher(policy, params, trajectory, where)
    for name, row in rows.items():
        pilot = BASELINES[row.baseline].pilot
        if not pilot:
            continue
        bare = dataclasses.replace(row, baseline="none", normalize="none", batch=0)
        seen = critic(bare, trajectory, now, tables)
        if pilot == "returns":
            found[name] = {"sum": jnp.sum(returned(bare, trajectory, seen, discount) * mask, axis=1)}
        else:
            plain = weights(bare, trajectory, seen, Fitted.none(), discount)
            factor = mask * (discount**trajectory.time if row.gamma_t and not RETURNS[row.returns].whole else 1.0)
            product, square = _products(policy, params, trajectory, plain, factor, where)
            found[name] = {
                "product": jnp.sum(product, axis=1),
                "square": jnp.sum(square, axis=1),
                "product_state": jnp.einsum("tb,tbs->s", product, states),
                "square_state": jnp.einsum("tb,tbs->s", square, states),
            }
    return found


def fitted(rows: dict[str, ScoreFunction], total: dict[str, Any]) -> dict[str, Fitted]:
    """The baselines, from sums in float64."""
    count = np.maximum(total["count"], 1e-12)
    out = {}
    for name in rows:
        found = total.get(name, {})
        values = Fitted.none()._asdict()
        if "sum" in found:
            mean = found["sum"].sum() / count.sum()
            by_time = np.where(total["count"] > 0, found["sum"] / count, mean)
            values |= {"mean": mean, "steps": total["count"].sum(), "by_time": by_time}
        if "product" in found:
            whole = found["product"].sum() / found["square"].sum()
            values["optimal"] = whole
            for kind, end in (("optimal_time", ""), ("optimal_state", "_state")):
                product, square = found[f"product{end}"], found[f"square{end}"]
                values[kind] = np.where(square > 0, product / np.where(square > 0, square, 1.0), whole)
        out[name] = Fitted(**{k: jnp.asarray(v, jnp.float32) for k, v in values.items()})
    return out


def inverse_fisher(total: dict[str, Any], damping: float) -> np.ndarray:
    """(F + damping x mean diagonal)^-1 [P, P], F = E[score score'] over the pilot's steps (Kakade 2001)."""
    matrix = np.asarray(total["fisher"], np.float64) / total["count"].sum()
    size = len(matrix)
    ridge = damping * np.trace(matrix) / size
    return np.linalg.inv(matrix + ridge * np.eye(size))


def _products(
    policy: Policy, params: PyTree, trajectory: Trajectory, plain: Array, factor: Array, where: scores.Layout
) -> tuple[Array, Array]:
    """f C A and f^2 C C of each step, [T, B]; one episode's scores [T, P] at a time."""

    def episode(inputs):
        episode, plain, factor = inputs
        phi = scores.per_step(policy, params, jax.tree.map(lambda x: x[:, None], episode), where)[:, 0]
        return factor * (phi @ (plain @ phi)), factor**2 * jnp.sum(phi**2, axis=1)

    columns = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (trajectory, plain, factor))
    product, square = jax.lax.map(episode, columns)
    return product.T, square.T


def _fisher(policy: Policy, params: PyTree, trajectory: Trajectory, where: scores.Layout) -> Array:
    """Sum over steps of score score', [P, P]."""

    def add(total, episode):
        alone = jax.tree.map(lambda x: x[:, None], episode)
        phi = scores.per_step(policy, params, alone, where)[:, 0] * episode.mask[:, None]
        return total + phi.T @ phi, None

    size = sum(where.sizes)
    columns = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), trajectory)
    return jax.lax.scan(add, jnp.zeros((size, size)), columns)[0]
