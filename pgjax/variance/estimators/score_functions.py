"""The grid of score-function estimators as data: the choices of each row, and whether it is unbiased.

Each row is an estimate g = sum_t w_t d log pi(a_t | s_t) / d theta of one episode, averaged over episodes
(all_action sums over the actions instead). The axes combine freely where the combination means something.
"""

import dataclasses
import itertools
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin

from pgjax.advantages.baselines import BASELINES
from pgjax.advantages.returns import RETURNS
from pgjax.errors import unknown


@dataclasses.dataclass(frozen=True)
class ScoreFunction:
    """One row of the grid.

    Attributes:
      returns: the return that follows an action, a name of `advantages.RETURNS`.
      gamma_t: the factor gamma^t, which the gradient of the discounted J has. "full" needs none.
      baseline: the number that is subtracted from the return, a name of `advantages.BASELINES`.
      critic: whose values "value" and every bootstrapping return use: the policy's own, or exact ones.
      normalize: take the batch's "mean" from its advantages, or divide by the standard deviation too ("std").
      surrogate: "score"; "ratio", "ppo_clip" and "kl" (ratio with a penalty): the gradient of PPO's losses
        at parameters other than the acting ones; "is_trajectory" and "is_decision": importance
        sampling by the whole episode's ratio, or by each decision's (Precup et al. 2000).
      precondition: "natural": the inverse Fisher matrix of the pilot times the gradient (Kakade 2001).
      batch: episodes of one estimate, where they depend on each other (normalisation, leave-one-out).
    """

    returns: str = "to_go"
    gamma_t: bool = True
    baseline: str = "none"
    critic: Literal["learned", "exact"] = "learned"
    normalize: Literal["none", "mean", "std"] = "none"
    surrogate: Literal["score", "ratio", "ppo_clip", "kl", "is_trajectory", "is_decision"] = "score"
    precondition: Literal["none", "natural"] = "none"
    batch: int = 0  # 0: 1, or 16 where episodes depend on each other
    n: int = 5
    lambda_: float = 0.95
    constant: float | None = None
    clip_eps: float = 0.2
    kl_coef: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_choice("", field, getattr(self, field.name))
        if self.n < 1:
            raise ValueError(f"n must be 1 or more, got {self.n}")
        if not 0 <= self.lambda_ <= 1:
            raise ValueError(f"lambda_ must lie in [0, 1], got {self.lambda_}")
        reason = contradiction(self)
        if reason:
            raise ValueError(reason)
        if self.batch < 0 or (self.batch == 1 and self.depends_on_batch):
            raise ValueError(f"batch must be 2 or more where episodes depend on each other, got {self.batch}")
        if not self.batch:
            object.__setattr__(self, "batch", 16 if self.depends_on_batch else 1)

    @property
    def depends_on_batch(self) -> bool:
        return self.normalize != "none" or BASELINES[self.baseline].depends_on_batch

    @property
    def bootstraps(self) -> bool:
        """Whether its returns use the learned critic, whose error is then their bias."""
        return RETURNS[self.returns].bootstraps and self.critic == "learned"

    @property
    def over_actions(self) -> bool:
        """Whether it sums over the actions of a step, and has no weight of the action taken."""
        return RETURNS[self.returns].over_actions


def _check_choice(prefix: str, field: dataclasses.Field[Any], value: Any) -> None:
    rosters: dict[str, Collection[str]] = {"returns": RETURNS, "baseline": BASELINES}
    choices = rosters.get(field.name, get_args(field.type) if get_origin(field.type) is Literal else ())
    if choices and value not in tuple(choices):
        raise ValueError(unknown(f"{prefix}{field.name} has no choice", str(value), choices))


def contradiction(row: ScoreFunction) -> str:
    """Why a combination means nothing; empty where it means something."""
    returns, baseline = RETURNS[row.returns], BASELINES[row.baseline]
    if returns.own_baseline and row.baseline != "none":
        return f"returns='{row.returns}' takes no baseline, got {row.baseline!r}; it brings its own"
    if returns.whole and not row.gamma_t:
        return f"returns='{row.returns}' is discounted from the start already: leave gamma_t true (it adds no factor)"
    if returns.score_only and row.surrogate != "score":
        return f"returns='{row.returns}' takes surrogate='score', got {row.surrogate!r}"
    if returns.over_actions and row.normalize != "none":
        return f"returns='{row.returns}' has no advantages to normalise"
    if baseline.pilot == "least_variance" and (row.surrogate != "score" or row.normalize != "none"):
        return f"baseline={row.baseline!r} is that of least variance only with surrogate='score' and normalize='none'"
    if row.surrogate == "is_decision" and (returns.whole or returns.bootstraps):
        return f"surrogate='is_decision' needs returns='to_go', got {row.returns!r}"
    if row.critic == "exact" and not (baseline.uses_critic or returns.bootstraps):
        return "critic='exact' changes nothing without baseline='value' or a return that bootstraps"
    return ""


def unbiased_off_policy(row: ScoreFunction) -> bool:
    """Whether the row is unbiased where other parameters act, too."""
    return statement(row)[0] and row.surrogate in ("is_trajectory", "is_decision")


def statement(row: ScoreFunction) -> tuple[bool, str]:
    """(unbiased, why): for the gradient of the discounted return within the time limit.

    With "natural", for that gradient times the same inverse Fisher matrix. "On policy" means that the
    parameters are the acting ones.
    """
    if row.bootstraps:
        return False, "bootstraps from the learned critic: off by its error"
    if not row.gamma_t:
        return False, "drops gamma^t: the sum over t of undiscounted terms, no gradient of any function"
    if row.normalize == "std":
        return False, "the standard deviation divides it, and each return is part of its own mean"
    if row.normalize == "mean":
        return False, "each return is part of its own batch mean: short by about 1 / (steps of the batch)"
    if biased := BASELINES[row.baseline].biased:
        return False, biased
    if row.surrogate in ("is_trajectory", "is_decision"):
        return True, "importance sampling corrects for the actors' parameters"
    if row.surrogate in ("ratio", "ppo_clip", "kl"):
        return True, "on policy; elsewhere states come from the wrong policy, and clipping drops steps"
    return True, "on policy"


def product(**axes: Any) -> tuple[dict[str, ScoreFunction], list[str]]:
    """Every row that the axes make, by name, and the combinations left out because they mean nothing.

    Example: `product(returns=["full", "to_go"], baseline=["none", "value"])`.
    """
    fields = {field.name: field.default for field in dataclasses.fields(ScoreFunction)}
    for name, values in axes.items():
        if name not in fields:
            raise ValueError(unknown("the grid has no axis", name, fields))
        if isinstance(values, str) or not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"grid axis {name} must be a list of values, got {values!r}")
        for value in values:
            _probe(name, value)
    rows, left_out = {}, []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        name = " ".join(str(v) if isinstance(v, str) else f"{k}={v}" for k, v in chosen.items())
        try:
            rows[name] = ScoreFunction(**chosen)
        except ValueError:
            left_out.append(name)
    if not rows:
        raise ValueError(f"grid: none of {len(left_out)} combinations means anything, such as {left_out[0]!r}")
    return rows, left_out


def _probe(name: str, value: Any) -> None:
    """A value that no row could have is the user's mistake, not a combination to leave out."""
    _check_choice("grid axis ", {f.name: f for f in dataclasses.fields(ScoreFunction)}[name], value)
    if name in ("n", "lambda_"):
        ScoreFunction(**{name: value})


_to_go = ScoreFunction()


_exact = dataclasses.replace(_to_go, baseline="value", critic="exact")


# The rows that ship, by the name that `pgjax variance --estimators` takes.
ESTIMATORS: dict[str, ScoreFunction] = {
    "full": ScoreFunction(returns="full"),
    "full_constant": ScoreFunction(returns="full", baseline="constant"),
    "full_optimal": ScoreFunction(returns="full", baseline="optimal"),
    "full_leave_one_out": ScoreFunction(returns="full", baseline="leave_one_out"),
    "to_go": _to_go,
    "constant": ScoreFunction(baseline="constant"),
    "running_mean": ScoreFunction(baseline="running_mean"),
    "time": ScoreFunction(baseline="time"),
    "value": ScoreFunction(baseline="value"),
    "exact_value": _exact,
    "optimal": ScoreFunction(baseline="optimal"),
    "optimal_time": ScoreFunction(baseline="optimal_time"),
    "optimal_state": ScoreFunction(baseline="optimal_state"),
    "leave_one_out": ScoreFunction(baseline="leave_one_out"),
    "n_step": ScoreFunction(returns="n_step", baseline="value"),
    "exact_n_step": dataclasses.replace(_exact, returns="n_step"),
    "lambda": ScoreFunction(returns="lambda", baseline="none"),
    "exact_lambda": ScoreFunction(returns="lambda", critic="exact"),
    "gae": ScoreFunction(returns="gae"),
    "exact_gae": ScoreFunction(returns="gae", critic="exact"),
    "v_trace": ScoreFunction(returns="v_trace"),
    "exact_v_trace": ScoreFunction(returns="v_trace", critic="exact"),
    "all_action": ScoreFunction(returns="all_action"),
    "exact_all_action": ScoreFunction(returns="all_action", critic="exact"),
    "no_gamma_t": ScoreFunction(gamma_t=False),
    "no_gamma_t_value": ScoreFunction(gamma_t=False, baseline="value"),
    "no_gamma_t_gae": ScoreFunction(gamma_t=False, returns="gae"),
    "batch_mean": ScoreFunction(normalize="mean"),
    "batch_std": ScoreFunction(normalize="std"),
    "ratio": ScoreFunction(baseline="value", surrogate="ratio"),
    "ppo_clip": ScoreFunction(baseline="value", surrogate="ppo_clip"),
    "ppo_kl": ScoreFunction(baseline="value", surrogate="kl"),
    "is_trajectory": ScoreFunction(surrogate="is_trajectory"),
    "is_decision": ScoreFunction(surrogate="is_decision"),
    "natural": ScoreFunction(baseline="value", precondition="natural"),
}


def named(name: str) -> ScoreFunction:
    """The row of that name, or a ValueError with the nearest."""
    if name not in ESTIMATORS:
        raise ValueError(unknown("no estimator", name, ESTIMATORS))
    return ESTIMATORS[name]
