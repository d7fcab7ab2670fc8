"""The objectives that an update may ascend: their exact gradients, and which of them an update is made of."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.certificates.expectation import Episodes
from pgjax.certificates.worlds import softmax_policy
from pgjax.numerics.returns import discounted_return
from pgjax.types import Array

CLOSE = 1e-9  # the part of an update's length that objectives may leave unexplained


class Known(NamedTuple):
    """Gradients at every point, [n, P]."""

    objective: np.ndarray  # of J
    others: dict[str, np.ndarray]
    directions: dict[str, np.ndarray]  # what is the gradient of nothing, as a rule
    levels: dict[str, np.ndarray]  # of the probability of each return
    fisher: np.ndarray  # [n, P, P] F = sum over steps of E[score score^T]


class Noise(NamedTuple):
    """The trace of the covariance of REINFORCE and of leave-one-out, [n]: of the mean over a batch."""

    reinforce: np.ndarray
    leave_one_out: np.ndarray


@jax.jit
def _along(theta: Array, acting: Array, discount: Array, every: Episodes, member: Array) -> dict[str, Any]:
    return jax.lax.map(lambda both: _at(both[0], both[1], discount, every, member), (theta, acting))


def _at(theta: Array, acting: Array, discount: Array, every: Episodes, member: Array) -> dict[str, Any]:
    """The gradients of all objectives at theta [P], data drawn from `acting`, and the parts of `noise`."""
    policy, rows = softmax_policy(every.features, every.network), every.trajectory
    value = jnp.zeros((len(rows.mask) + 1, len(every.tables[2])))
    stop = jax.lax.stop_gradient

    def evaluated(actor):
        return policy.evaluate({"actor": actor, "value": value}, rows)

    def log_probs(actor):
        return rows.mask * evaluated(actor).log_prob

    def probability(actor):
        return every.chance * jnp.exp(jnp.sum(log_probs(actor), axis=0))

    gamma = discount ** rows.time.astype(theta.dtype)
    returns, total = (jnp.sum(rows.mask * x * rows.reward, axis=0) for x in (gamma, 1.0))
    # After an end rewards are 0.
    to_go = discounted_return(rows.reward, rows.terminated, rows.truncated, discount)
    reference, then = log_probs(every.reference), log_probs(acting)
    visited = stop(probability(acting))

    def penalty(actor):
        return jnp.sum(probability(actor) * jnp.sum(log_probs(actor) - reference, axis=0))

    others = {
        "the undiscounted return": lambda a: probability(a) @ total,
        "the entropy of whole episodes": lambda a: -probability(a) @ jnp.sum(log_probs(a), axis=0),
        "KL(pi || reference) of whole episodes": penalty,
        "KL(reference || pi) of whole episodes": lambda a: (
            -stop(probability(every.reference)) @ jnp.sum(log_probs(a), axis=0)
        ),
        "the surrogate at the acting policy": lambda a: (
            visited @ jnp.sum(jnp.exp(log_probs(a) - then) * rows.mask * gamma * to_go, axis=0)
        ),
        "the likelihood of what was done": lambda a: visited @ jnp.sum(log_probs(a), axis=0),
        "the likelihood of what was done, weighed by returns": lambda a: (
            visited @ jnp.sum(log_probs(a) * gamma * to_go, axis=0)
        ),
    }
    here = stop(probability(theta))
    directions = {
        "the discounted return without gamma^t": lambda a: here @ jnp.sum(log_probs(a) * to_go, axis=0),
        "the entropy at visited states, held fixed": lambda a: here @ jnp.sum(rows.mask * evaluated(a).entropy, axis=0),
        "KL(pi || reference) at visited states, held fixed": lambda a: (
            here @ jnp.sum(rows.mask * _kl(evaluated(a).dist, evaluated(every.reference).dist), axis=0)
        ),
        "KL(reference || pi) at visited states, held fixed": lambda a: (
            here @ jnp.sum(rows.mask * _kl(evaluated(every.reference).dist, evaluated(a).dist), axis=0)
        ),
    }
    scores = jax.jacfwd(log_probs)(theta)  # [T, N, P]
    whole = jnp.sum(scores, axis=0)
    tree = {"objective": lambda a: probability(a) @ returns, "others": others, "directions": directions}
    # One pass for all of them: each by itself would be a program of its own.
    found = jax.jacfwd(lambda a: jax.tree.map(lambda f: f(a), tree))(theta)
    return found | {
        "episodes": jax.jacfwd(probability)(theta),  # [N, P]
        "returns": returns,
        "fisher": jnp.einsum("n,tnp,tnq->pq", here, scores, scores),
        "noise": _noise(member * here[None], returns, whole),
    }


def _kl(one: Any, other: Any) -> Array:
    return jnp.sum(jnp.exp(one.log_probs()) * (one.log_probs() - other.log_probs()), axis=-1)


def _noise(probability: Array, returns: Array, score: Array) -> dict[str, Array]:
    """Traces, on policy, of R score for one episode, and the parts of leave-one-out's.

    Leave-one-out is the U-statistic of h(i, j) = (R_i - R_j)(score_i - score_j) / 2, so its covariance is
    (4 (K - 2) z_1 + 2 z_2) / (K (K - 1)), z_1 that of E[h | i] and z_2 that of h (Hoeffding 1948, eq. 5.13).

    Args:
      probability: [G, N] of each kind of start and its episodes; batches are of one kind.
    """
    kinds = jnp.sum(probability, axis=1)
    given = probability / jnp.where(kinds > 0, kinds, 1.0)[:, None]
    single = returns[:, None] * score
    mean = given @ single  # [G, P]
    apart = lambda x: x[:, None] - x[None]  # noqa: E731
    kernel = apart(returns)[..., None] * apart(score) / 2  # [N, N, P]
    first = jnp.einsum("gm,nmp->gnp", given, kernel) - mean[:, None]
    square = lambda x: jnp.sum(x**2, axis=-1)  # noqa: E731
    return {
        "between": kinds @ square(mean - (kinds @ mean)[None]),
        "single": jnp.einsum("g,gn,gn->", kinds, given, square(single[None] - mean[:, None])),
        "first": jnp.einsum("g,gn,gn->", kinds, given, square(first)),
        "second": jnp.einsum("g,gn,gm,gnm->", kinds, given, given, square(kernel[None] - mean[:, None, None])),
    }


def known(
    points: np.ndarray, acting: np.ndarray, discount: float, every: Episodes, grouped: bool
) -> tuple[Known, dict[str, Any]]:
    """The gradients of all objectives at the points [n, P], and the parts of `noise`.

    Args:
      grouped: whether the episodes of a batch begin alike.
    """
    states = np.arange(len(every.critic[0]))
    member = every.start == states[:, None] if grouped else np.broadcast_to(states[:, None] == 0, (len(states), 1))
    size = points.shape[1]
    wide = [np.pad(x, ((0, 0), (0, every.features.shape[-1] - size))) for x in (points, acting)]
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _along(*wide, np.float64(discount), every, np.float64(member)))
    narrow = lambda tree: jax.tree.map(lambda x: x[..., :size], tree)  # noqa: E731
    returns = found["returns"][0]
    levels = {}
    for level in np.unique(np.round(returns, 12)):
        these = np.isclose(returns, level, rtol=0, atol=1e-10) & (every.chance > 0)
        levels[f"{level:.6g}"] = narrow(found["episodes"])[:, these].sum(axis=1)
    objective, others, directions = (narrow(found[name]) for name in ("objective", "others", "directions"))
    return Known(objective, others, directions, levels, found["fisher"][:, :size, :size]), found["noise"]


def noise(parts: dict[str, np.ndarray], size: int) -> Noise:
    """The traces for batches of `size` episodes; leave-one-out's is infinite for one."""
    both = 4 * (size - 2) * parts["first"] + 2 * parts["second"]
    within = both / (size * (size - 1)) if size > 1 else np.full(len(both), np.inf)
    return Noise(parts["between"] + parts["single"] / size, parts["between"] + within)


class Named(NamedTuple):
    """What an update was found to be: weight times each of these, the same weights at every point."""

    weights: dict[str, float]
    is_gradient: bool
    note: str = ""

    def __str__(self) -> str:
        return " ".join(f"{_signed(w, i)}{name}" for i, (name, w) in enumerate(self.weights.items())) + self.note


def _signed(weight: float, place: int) -> str:
    number = "" if np.isclose(abs(weight), 1) else f"{abs(weight):.6g} x "
    return ("- " if weight < 0 else "+ " if place else "") + number


def named(update: np.ndarray, found: Known, discount: float) -> Named | None:
    """The objectives, at most three, of which the update [n, P] is made at every point; else E[f(R)]; else None."""
    known = {"J": found.objective, **found.others}
    if discount == 1:
        known.pop("the undiscounted return")
    candidates = {**{name: (x, True) for name, x in known.items()}}
    directions = dict(found.directions)
    if discount == 1:
        directions.pop("the discounted return without gamma^t")
    candidates |= {name: (x, False) for name, x in directions.items()}
    for count in (1, 2):
        if (made_of := _combined(update, candidates, count)) is not None:
            return made_of
    # The probabilities sum to 1, so one level is left out: f is then 0 there.
    levels = list(found.levels)[1:]
    if (weights := _fitted(update, [found.levels[name] for name in levels])) is not None:
        several = np.linalg.matrix_rank(np.stack([found.levels[x].reshape(-1) for x in levels])) < len(levels)
        every = {f"P(R = {name})": float(w) for name, w in zip(levels, weights, strict=True)}
        return Named(every, True, ", or other weights" * bool(several))
    return _combined(update, candidates, 3)


def _combined(update: np.ndarray, candidates: dict[str, tuple[np.ndarray, bool]], count: int) -> Named | None:
    """The first `count` of the candidates that the update is made of, all with weights."""
    for names in itertools.combinations(candidates, count):
        weights = _fitted(update, [candidates[name][0] for name in names])
        if weights is None:
            continue
        parts = weights * np.array([_size(candidates[name][0]) for name in names])
        if np.all(np.abs(parts) > 1e-6 * _size(update)):
            return Named(dict(zip(names, map(float, weights), strict=True)), all(candidates[x][1] for x in names))
    return None


def _fitted(update: np.ndarray, columns: list[np.ndarray]) -> np.ndarray | None:
    """The weights by which the columns [n, P] sum to the update, or None where none do."""
    # An update has as many independent numbers as points times the directions that it takes.
    if not columns or len(columns) + 2 > len(update) * np.linalg.matrix_rank(update):
        return None
    matrix = np.stack([x.reshape(-1) for x in columns], axis=1)
    weights, *_ = np.linalg.lstsq(matrix, update.reshape(-1))
    return weights if _size(matrix @ weights - update.reshape(-1)) <= CLOSE * _size(update) else None


def _size(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))
