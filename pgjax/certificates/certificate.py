"""`Certificate`: what was found of a plug, case by case."""

from typing import Any, NamedTuple

import numpy as np

from pgjax.certificates.verdicts import VERDICTS, Verdict, cosines
from pgjax.certificates.worlds import World


class Case(NamedTuple):
    """One world, discount, batch size, critic and acting policy.

    Attributes:
      critic: "any", whose values are any numbers, or "exact".
      on_policy: whether the policy that acts is the one that learns.
      points: theta, [n, P].
      update, gradient: the mean update and grad J there, [n, P].
      trace: of the covariance of the update, [n].
      error: E|update - grad J|^2 over |grad J|^2, both summed over the points.
      reinforce, leave_one_out: the same of those two, on policy.
    """

    world: str
    discount: float
    batch: int
    critic: str
    on_policy: bool
    verdict: Verdict
    points: np.ndarray
    update: np.ndarray
    gradient: np.ndarray
    trace: np.ndarray
    error: float
    reinforce: float
    leave_one_out: float

    @property
    def place(self) -> tuple[str, float, int]:
        """What it shares with the case that differs in its critic or in who acts."""
        return self.world, self.discount, self.batch

    @property
    def bias(self) -> float:
        """|mean update - grad J| over |grad J|, of all points together."""
        return float(np.linalg.norm(self.update - self.gradient) / np.linalg.norm(self.gradient))

    @property
    def cosine(self) -> float:
        """The smallest cosine between the mean update and grad J; NaN where the update is 0 everywhere."""
        found = cosines(self.update, self.gradient)
        return float(np.nanmin(found)) if np.any(np.isfinite(found)) else float("nan")

    @property
    def where(self) -> str:
        """The case in words."""
        acting = "" if self.on_policy else ", another policy acting"
        critic = "" if self.critic == "any" else ", exact critic"
        episodes = "one episode" if self.batch == 1 else f"{self.batch} episodes"
        return f"{self.world}, discount {self.discount:g}, {episodes}{critic}{acting}"


class Certificate(NamedTuple):
    """What a plug's expected update is, in every case that was looked at.

    Attributes:
      name, kind: of what was certified.
      hypers: that were bound to it.
      cases: on policy first, smaller worlds before larger ones.
      worlds: that were looked at.
      skipped: what was not looked at, and why.
    """

    name: str
    kind: str
    hypers: dict[str, Any]
    cases: tuple[Case, ...]
    worlds: tuple[World, ...]
    skipped: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The worst verdict of the cases on policy, with a critic that may be wrong."""
        return _worst(self.on_policy())

    @property
    def with_exact_critic(self) -> str:
        """The worst verdict of the cases on policy with an exact critic, where the critic plays a part."""
        exact = {case.place: case for case in self.cases if case.on_policy and case.critic == "exact"}
        return _worst([exact.get(case.place, case) for case in self.on_policy()])

    @property
    def off_policy(self) -> str:
        """The worst verdict of the cases in which another policy acts."""
        return _worst([case for case in self.cases if not case.on_policy])

    def on_policy(self, critic: str = "any") -> list[Case]:
        """The cases in which the policy that learns acts."""
        return [case for case in self.cases if case.on_policy and case.critic == critic]

    @property
    def example(self) -> Case:
        """The smallest case with the worst verdict on policy; of those, the one with the largest bias."""
        worst = [case for case in self.on_policy() if case.verdict.name == self.verdict]
        return max((case for case in worst if case.world == worst[0].world), key=lambda case: case.bias)

    @property
    def against(self) -> Case | None:
        """The case on policy whose mean update points away from grad J the most; None where none does."""
        cases = [case for case in self.cases if case.on_policy and case.cosine < -1e-9]
        return min(cases, key=lambda case: case.cosine) if cases else None


def _worst(cases: list[Case]) -> str:
    return VERDICTS[max(case.verdict.rank for case in cases)] if cases else "not looked at"
