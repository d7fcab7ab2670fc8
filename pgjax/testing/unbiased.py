"""`check_unbiased`: asserts that an estimator's mean is the exact gradient, and otherwise reports the bias."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import envs
from pgjax.declarations import Role
from pgjax.hyperparameters import value_of
from pgjax.policies.registry import make
from pgjax.variance.compare import compare
from pgjax.variance.estimators.custom import Plugs

DISCOUNT = 0.9


@functools.cache
def small_world() -> tuple[Any, Any, Any]:
    """An enumerable environment whose episodes take 1 to 4 steps, a softmax policy and its parameters."""
    g = np.random.default_rng(7)
    env = envs.make(
        "TabularMDP-pgjax",
        transition=g.dirichlet(np.ones(3), size=(3, 2)),
        reward=g.normal(size=(3, 2)),
        start=np.array([0.7, 0.3, 0.0]),
        terminal=np.array([False, False, True]),
        horizon=4,
    )
    params = {"preference": jnp.asarray(g.normal(size=(3, 2)), jnp.float32), "value": jnp.asarray(g.normal(size=3))}
    return env, make(env), jax.tree.map(lambda x: x.astype(jnp.float32), params)


class UndecidedError(Exception):
    """A test that can neither pass nor fail: the sample doesn't say how far off its own mean is.

    It is no AssertionError, so that a biased estimator and one of which nothing is known are told apart.
    """


def check_unbiased(estimator: Any, episodes: int = 65_536, sigmas: float = 5.0, behaviour: Any = None) -> None:
    """That an estimator's mean is the exact gradient of the discounted return, within `sigmas` standard errors.

    Args:
      estimator: what `variance.compare` takes: a name or row of the grid, Plugs(advantage, estimator), or a
        gradient(key, params). The environment is `small_world()`; episodes end after 1 to 4 steps. The discount is
        that of the advantage, by `Role.DISCOUNT`; without one it is .9.
      behaviour: parameters like small_world()'s that act in place of its own, for estimators off policy.

    Raises:
      AssertionError: naming the bias, its size against the gradient, and how many standard errors it is.
      UndecidedError: where the tail of the estimates, or of the importance weights, is too long for the episodes, or
        there are too few to see one: then a large z is no sign of a bias, and a small one none of its absence.
    """
    chosen = [estimator] if isinstance(estimator, str) else {"estimator": estimator}
    discount = value_of(estimator.advantage, Role.DISCOUNT, DISCOUNT) if isinstance(estimator, Plugs) else DISCOUNT
    batch = max(1, getattr(estimator, "batch", 1))
    report = compare(chosen, *small_world(), behaviour=behaviour, discount=discount, episodes=episodes, batch=(batch,))
    (row,) = report.summary["estimators"].values()
    if not np.isfinite(row["trace"]["value"]):
        raise AssertionError(
            f"not finite: an estimate among those of {report.summary['episodes']} episodes is no number"
        )
    if "bias_z" in row["untrusted"] or np.isnan(row["pareto_k"]):
        why = row["doubt"] or f"{report.summary['episodes']} episodes are too few estimates to see a tail in"
        raise UndecidedError(
            f"undecided: {why}; give episodes={episodes} a larger value, or parameters nearer to those that act"
        )
    if not row["bias_z"] < sigmas:
        size, relative = row["bias"]["value"], row["relative_bias"]["value"]
        raise AssertionError(
            f"biased: its mean is {size:.3g} away from the exact gradient ({100 * relative:.0f} % of its norm), "
            f"{row['bias_z']:.1f} standard errors of {report.summary['episodes']} episodes"
        )
