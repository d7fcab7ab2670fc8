"""What an update is, judged by its exact mean at many points and by its Jacobian."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pgjax.certificates import objectives
from pgjax.certificates.expectation import Moments
from pgjax.certificates.objectives import Known

EXACT = 1e-10  # the largest distance of an update from a gradient that counts as none, over their length
SINGLE = 1e-6  # the same where float32 is to blame
ZERO = 1e-12  # the length of a mean update that counts as none, over its standard deviation
SPARE = 2  # points beyond those that fit any matrix
SYMMETRIC = 1e-7  # the same of two entries of the Jacobian, which is by differences
STEP = 1e-4  # of the differences, whose error is of order STEP^4
KINK = 1e-5  # by how much differences over STEP and over 2 STEP may differ where the update is smooth

LOOKED_AT = 3  # points whose Jacobian is computed

# From the best to the worst.
VERDICTS = (
    "gradient of J",
    "gradient of J times a positive constant",
    "gradient of J times a positive matrix",
    "gradient of J times a positive factor that varies",
    "gradient of another objective",
    "undecided",
    "gradient of nothing",
    "nothing at all",
)


class Asymmetry(NamedTuple):
    """Two entries of the Jacobian of the update that a gradient would have alike."""

    theta: np.ndarray
    row: int
    column: int
    one: float  # d update[row] / d theta[column]
    other: float  # d update[column] / d theta[row]


class Verdict(NamedTuple):
    """One of VERDICTS, and its proof.

    Attributes:
      detail: the constant, matrix or objective in words.
      asymmetry: the first that was found, else that of a point where the Jacobian is symmetric; None without any.
    """

    name: str
    detail: str = ""
    asymmetry: Asymmetry | None = None

    @property
    def rank(self) -> int:
        """Its place in VERDICTS, 0 the best."""
        return VERDICTS.index(self.name)


def jacobian(update: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, unit: float = 1.0) -> np.ndarray | None:
    """d update / d theta [P, P] by central differences of fourth order; None where a kink is near, as of a clip.

    Autodiff would take what the estimator holds fixed for constant, so it is no derivative of the mean update.

    Args:
      update: points [n, P] -> [n, P].
      unit: the length of an update.
    """
    eye = STEP * np.eye(len(theta))
    points = np.concatenate([theta + k * eye for k in (1, -1, 2, -2)])
    near, back, far, behind = update(points).reshape(4, len(theta), -1)
    narrow, wide = (near - back) / (2 * STEP), (far - behind) / (4 * STEP)
    if np.max(np.abs(narrow - wide)) > KINK * max(unit, np.max(np.abs(narrow))):
        return None
    return ((4 * narrow - wide) / 3).T


def judge(
    found: Moments,
    known: Known,
    discount: float,
    points: np.ndarray,
    around: Callable[[np.ndarray], np.ndarray],
    on_policy: bool,
) -> Verdict:
    """The verdict on the moments of the update at the points [n, P], whatever its scale and that of J.

    Args:
      around: the mean update at other points, [m, P] -> [m, P].
    """
    noise, size, length = np.sqrt(np.sum(found.trace)), np.linalg.norm(found.mean), np.linalg.norm(known.objective)
    if size <= ZERO * noise or size == 0:
        return Verdict("nothing at all", "the mean update is 0")
    # Lengths of 1 at a point, in the mean.
    unit = size / np.sqrt(len(points))
    update, gradient = found.mean / unit, known.objective * np.sqrt(len(points)) / length
    scale = float(size / length)
    constant = float(np.sum(update * gradient) / np.sum(gradient**2))
    if constant > 0 and (off := _off(update, constant * gradient)) <= EXACT:
        if abs(constant * scale - 1) <= EXACT:
            return Verdict("gradient of J")
        return Verdict("gradient of J times a positive constant", f"{constant * scale:.10g} x")
    if constant > 0 and off <= SINGLE:
        raise ValueError(
            f"certify: the mean update is within {off:.1g} of {constant * scale:.6g} x grad J and not equal to it: "
            "something in the plug is float32; keep the type of what it is given"
        )
    if (natural := _natural(update, gradient, known.fisher, scale)) is not None:
        return natural
    made_of = objectives.named(found.mean, known, discount)
    if made_of is not None and made_of.is_gradient:
        return Verdict("gradient of another objective", str(made_of))
    factor = np.sum(update * gradient, axis=1) / np.maximum(np.sum(gradient**2, axis=1), 1e-300)
    if np.all(factor > 0) and _off(update, factor[:, None] * gradient) <= EXACT:
        words = f"{factor.min() * scale:.6g} to {factor.max() * scale:.6g} x"
        return Verdict("gradient of J times a positive factor that varies", words)
    words = "" if made_of is None else str(made_of)
    smooth = None
    for here in itertools.islice(filter(None, (asymmetry(around, theta, unit) for theta in points)), LOOKED_AT):
        if abs(here.one - here.other) > SYMMETRIC * max(unit, abs(here.one)):
            return Verdict("gradient of nothing", words, here)
        smooth = smooth or here
    if smooth is None:
        return Verdict("undecided", "kinks are near every point, so there is no Jacobian")
    what = "none of those known" if on_policy else "its own mean over what the other policy did"
    return Verdict("gradient of another objective", words or what, smooth)


def asymmetry(update: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, unit: float = 1.0) -> Asymmetry | None:
    """The two entries of the Jacobian at theta [P] that differ most; None where there is no Jacobian.

    Args:
      unit: the length of an update.
    """
    if (found := jacobian(update, theta, unit)) is None:
        return None
    row, column = np.unravel_index(np.argmax(np.abs(found - found.T)), found.shape)
    return Asymmetry(theta, int(row), int(column), float(found[row, column]), float(found[column, row]))


def cosines(update: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """[n] of the angles between [n, P] and [n, P]; NaN where one is 0."""
    size = np.linalg.norm(update, axis=1) * np.linalg.norm(gradient, axis=1)
    return np.sum(update * gradient, axis=1) / np.where(size > 0, size, np.nan)


def _off(update: np.ndarray, wanted: np.ndarray) -> float:
    """The largest distance at a point."""
    return float(np.max(np.linalg.norm(update - wanted, axis=1)))


def _natural(update: np.ndarray, gradient: np.ndarray, fisher: np.ndarray, scale: float) -> Verdict | None:
    """M grad J, M a constant matrix, or c F^-1 where F is the Fisher matrix of whole episodes [n, P, P]."""
    straight = np.einsum("npq,nq->np", fisher, update)
    constant = float(np.sum(straight * gradient) / np.sum(gradient**2))
    if constant > 0 and _off(straight, constant * gradient) <= 1e-8 * constant:
        words = f"{constant * scale:.10g} x F^-1, F the Fisher matrix"
        return Verdict("gradient of J times a positive matrix", words)
    matrix = np.linalg.lstsq(gradient, update)[0].T
    _, used, directions = np.linalg.svd(gradient)
    basis = directions[: np.sum(used > 1e-9 * used[0])]  # the directions that grad J has at all
    if len(gradient) < len(basis) + SPARE:
        return None
    inside = basis @ matrix @ basis.T
    if _off(update, gradient @ matrix.T) <= EXACT and np.all(np.linalg.eigvalsh(inside + inside.T) > 0):
        return Verdict("gradient of J times a positive matrix", "a constant matrix M")
    return None
