"""What is certified: a plug with what is put around it so that it is an advantage and an estimator."""

import inspect
from typing import Any, NamedTuple

from pgjax.advantages.monte_carlo import monte_carlo
from pgjax.algorithms.roster import ROSTER, entry
from pgjax.declarations import Role
from pgjax.errors import unknown
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import Range, bind, by_role, hyperparameters, name_of, ranges
from pgjax.losses.policy import policy_gradient
from pgjax.plugs import PLACES, check_plug
from pgjax.sweeps.values import convert
from pgjax.types import Algorithm, Running
from pgjax.variance.estimators.custom import Plugs

KINDS = ("loss", "advantage", "estimator", "algorithm")


class Subject(NamedTuple):
    """What is certified.

    Attributes:
      samples: the name of the advantage's hyperparameter that is the size of a group; "" without one.
      discounts: 1 where the advantage has none; else (), for any.
      hypers: that the caller bound.
    """

    name: str
    kind: str
    advantage: Any
    estimator: Any
    samples: str
    discounts: tuple[float, ...]
    hypers: dict[str, Any]

    def plugs(self, size: int) -> Plugs:
        """The plugs for batches of `size` episodes."""
        advantage = bind(self.advantage, **{self.samples: size}) if self.samples else self.advantage
        return Plugs(advantage, self.estimator, size)

    def refusal(self, error: Exception) -> str:
        """One line for what the plug raised on a batch."""
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (
            f"certify: {self.name} can't be certified: {said}; what takes whole episodes [T, B] of a memoryless policy "
            "with a Categorical can; for the rest there is testing.check_unbiased, which samples"
        )


def subject(plug: Any, kind: str | None, hypers: dict[str, Any]) -> Subject:
    """The plug, as an advantage and an estimator with these hyperparameters; ValueError where it can't be certified."""
    name = plug if isinstance(plug, str) else name_of(plug)
    if isinstance(plug, str):
        if plug not in ROSTER:
            raise ValueError(unknown("certify: no algorithm", plug, ROSTER))
        if (row := entry(plug)).lift is None or row.own_policy:
            raise ValueError(
                f"certify: {plug} learns from replay; what has an estimator on whole episodes is certified"
            )
        plug = row.algorithm
    kind = kind or _kind(plug)
    if kind not in KINDS:
        raise ValueError(unknown("kind: there is no", kind, KINDS))
    if kind == "algorithm":
        if not isinstance(plug, Algorithm):
            raise TypeError(f"certify: an algorithm is a pgjax.Algorithm or a name of `pgjax list`, got {plug!r}")
        name = name if name != "Algorithm" else "the algorithm"
        advantage, estimator = plug.advantage, plug.estimator
    else:
        check_plug(kind, plug)
        advantage, estimator = bind(monte_carlo, gamma_t=True), surrogate(policy_gradient, reduce="episode")
        if kind == "loss":
            estimator = surrogate(plug, reduce="episode")
        elif kind == "advantage":
            advantage = plug
        else:
            estimator = plug
    advantage, estimator, hypers = _bound((advantage, estimator), hypers)
    if Role.GAIN_RATE in by_role(advantage):
        raise ValueError(f"certify: {name} estimates the gradient of the average reward of a stream; no episode ends")
    given = () if Role.DISCOUNT in by_role(advantage) else (1.0,)
    if (samples := by_role(advantage).get(Role.SAMPLES, "")) in hypers:
        raise ValueError(f"certify: {samples} is the size of a batch here; give batch=[{hypers[samples]}] in its place")
    return Subject(name, kind, advantage, estimator, samples, given, hypers)


def _kind(plug: Any) -> str:
    """The kind of a plug, by its signature."""
    if isinstance(plug, Algorithm):
        return "algorithm"
    function = plug.apply if isinstance(plug, Running) else plug
    if not callable(function):
        raise TypeError(f"certify: a loss, an advantage, an estimator or an Algorithm is certified, got {plug!r}")
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for kind in KINDS[:3]:
        if names[-len(PLACES[kind][0].split(", ")) :] == PLACES[kind][0].split(", "):
            return kind
    takes = "; ".join(f"{kind}({PLACES[kind][0]})" for kind in KINDS[:3])
    raise ValueError(f"kind: {name_of(plug)} takes ({', '.join(names)}), which tells no kind; give one of {takes}")


def _bound(plugs: tuple[Any, Any], hypers: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The advantage and the estimator with these hyperparameters, each with the one that has the name; and these."""
    known = [hyperparameters(plug) for plug in plugs]
    mine: list[dict[str, Any]] = [{}, {}]
    for name, value in hypers.items():
        places = [i for i, has in enumerate(known) if name in has]
        if not places:
            raise ValueError(unknown("certify: no hyperparameter", name, {**known[0], **known[1]}))
        for i in places:
            mine[i][name] = convert(name, value, known[i][name], ranges(plugs[i]).get(name, Range()))
    return bind(plugs[0], **mine[0]), bind(plugs[1], **mine[1]), {**mine[0], **mine[1]}
