"""`check_ascends`: asserts that the exact mean update of a plug is the gradient of the return, or what else it is."""

from typing import Any

from pgjax.certificates import VERDICTS, showing
from pgjax.certificates.certifying import certify
from pgjax.errors import unknown


def check_ascends(plug: Any, verdict: str = VERDICTS[0], kind: str | None = None, **options: Any) -> None:
    """That the mean update of a plug is what `verdict` says, or better, on every world of `pgjax.certify`.

    It is exact where `check_unbiased` samples. The critic's values are any numbers there.

    Args:
      verdict: one of `certificates.VERDICTS`, which are ordered from the gradient of J on.
      options: those of `pgjax.certify`, hyperparameters too.

    Raises:
      AssertionError: with the smallest example, and a test of it.
      ValueError: for what can't be certified.
    """
    if verdict not in VERDICTS:
        raise ValueError(unknown("verdict: there is no", verdict, VERDICTS))
    found = certify(plug, kind, **options)
    if VERDICTS.index(found.verdict) > VERDICTS.index(verdict):
        said = [*showing.lines(found), "", *showing.example(found), "", showing.test(found)]
        raise AssertionError("\n".join(said))
