"""A certificate as text, as JSON, and as a test to paste."""

import pathlib
from typing import Any

import numpy as np

from pgjax.algorithms.roster import ROSTER
from pgjax.certificates.certificate import Case, Certificate
from pgjax.certificates.verdicts import EXACT
from pgjax.certificates.worlds import World, family

HEAD = ("world", "discount", "batch", "the mean update is", "bias", "cosine", "error", "REINFORCE", "leave-one-out")
READING = (
    "The mean update is exact: summed over all batches of episodes, at 12 points. The bias is its distance from "
    "grad J over |grad J|, the cosine the smallest of the points, the error E|update - grad J|^2 over |grad J|^2 of "
    "one batch, beside that of REINFORCE and of leave-one-out for as many episodes."
)


def lines(found: Certificate) -> list[str]:
    """What the terminal shows above the table."""
    said = [f"{found.name} ({found.kind}): the mean update is {_the(found.verdict)}"]
    example = found.example
    if example.verdict.detail:
        said.append(f"  {example.where}: {example.verdict.detail}")
    if found.with_exact_critic != found.verdict:
        said.append(f"  with an exact critic: {_the(found.with_exact_critic)}")
    said.append(f"  while another policy acts: {_the(found.off_policy)}")
    if (case := found.against) is not None:
        said.append(f"  it points away from grad J: {case.where}, cosine {case.cosine:.4f}")
    return said + [f"  not looked at: {text}" for text in found.skipped]


def _the(verdict: str) -> str:
    return f"the {verdict}" if verdict.startswith("gradient") else verdict


def rows(cases: list[Case]) -> list[list[str]]:
    """The rows of the table below HEAD."""
    return [
        [
            case.world + ("" if case.critic == "any" else ", exact critic"),
            f"{case.discount:g}",
            str(case.batch),
            case.verdict.name + (f": {case.verdict.detail}" if case.verdict.detail else ""),
            "0" if case.bias <= EXACT else f"{case.bias:.4g}",
            f"{case.cosine:.4f}",
            f"{case.error:.4g}",
            f"{case.reinforce:.4g}",
            f"{case.leave_one_out:.4g}",
        ]
        for case in cases
    ]


def example(found: Certificate) -> list[str]:
    """The smallest case with the worst verdict: its world as a table, and the update beside the gradient."""
    case = found.example
    world = next(world for world in found.worlds if world.name == case.world)
    point = _point(case)
    said = [f"The smallest example: {case.where} ({world.summary}).", ""]
    said += [f"{'state':>5} {'action':>6} {'reward':>7}   next state"]
    for s in _entered(world):
        for a in range(world.mdp.reward.shape[1]):
            onward = world.mdp.transition[s, a]
            into = ", ".join(f"{x}" + (f" ({onward[x]:g})" if onward[x] < 1 else "") for x in np.flatnonzero(onward))
            said.append(f"{s:>5} {a:>6} {world.mdp.reward[s, a]:>7g}   {into}")
    starts = ", ".join(f"{s} ({world.mdp.start[s]:g})" for s in np.flatnonzero(world.mdp.start))
    ends = ", ".join(str(s) for s in np.flatnonzero(world.mdp.terminal))
    said += ["", f"starts in {starts}; state {ends} ends it, as does the time limit of {world.mdp.horizon}", ""]
    said += [
        f"theta         {_numbers(case.points[point])}",
        f"mean update   {_numbers(case.update[point])}",
        f"grad J        {_numbers(case.gradient[point])}",
    ]
    if (worst := case.verdict.asymmetry) is not None:
        symmetric = "not symmetric" if case.verdict.name == "gradient of nothing" else "symmetric"
        said += [
            "",
            f"At theta {_numbers(worst.theta)} the Jacobian is {symmetric}:",
            f"d update[{worst.row}] / d theta[{worst.column}] = {worst.one:.10g}, "
            f"d update[{worst.column}] / d theta[{worst.row}] = {worst.other:.10g}",
        ]
    return said


def test(found: Certificate, spec: str | None = None) -> str:
    """A test that finds the same, to paste.

    Args:
      spec: file.py:name or module:name of the plug; without it the test has it by its name, or as `plug`, and a world
        of one's own as `world`.
    """
    case, point = found.example, _point(found.example)
    where, _, name = (spec or "").rpartition(":")
    known = found.kind == "algorithm" and found.name in ROSTER and not spec
    plug = repr(found.name) if known else name or (found.name if found.name.isidentifier() else "plug")
    module = pathlib.Path(where).stem if where.endswith(".py") else where
    imports = ["import numpy as np", "", "import pgjax"] + ([f"from {module} import {name}"] if module else [])
    world = repr(case.world) if case.world in family() else "world"
    kind = "" if found.kind == "algorithm" else f"{found.kind!r}, "
    hypers = "".join(f", {name}={value!r}" for name, value in found.hypers.items() if name != "discount")
    called = f"{plug}, {kind}batch=[{case.batch}], discount={case.discount:g}, worlds=[{world}]{hypers}"
    body = [
        f"def test_what_{plug.strip(chr(39))}_ascends():",
        f"    found = pgjax.certify({called})",
        f"    assert found.verdict == {found.verdict!r}",
        "    case = found.on_policy()[0]",
        f"    np.testing.assert_allclose(case.update[{point}], {_numbers(case.update[point], 10)}, atol=1e-8)",
        f"    np.testing.assert_allclose(case.gradient[{point}], {_numbers(case.gradient[point], 10)}, atol=1e-8)",
    ]
    return "\n".join([*imports, "", "", *body]) + "\n"


def plain(found: Certificate) -> dict[str, Any]:
    """The certificate as JSON has it."""
    return {
        "name": found.name,
        "kind": found.kind,
        "verdict": found.verdict,
        "with_exact_critic": found.with_exact_critic,
        "off_policy": found.off_policy,
        "points_away": None if found.against is None else found.against.where,
        "skipped": found.skipped,
        "cases": [_case(case) for case in found.cases],
    }


def _case(case: Case) -> dict[str, Any]:
    told = {name: x for name, x in case._asdict().items() if name != "verdict"}
    worst = case.verdict.asymmetry
    proof = None if worst is None else worst._asdict()
    verdict = {"verdict": case.verdict.name, "detail": case.verdict.detail, "asymmetry": proof}
    return verdict | told | {"bias": case.bias, "cosine": case.cosine}


def _entered(world: World) -> list[int]:
    """The states in which an action may be taken."""
    reached = world.mdp.start > 0
    for _ in range(world.mdp.horizon or 0):
        reached = reached | (np.einsum("s,sax->x", np.float64(reached & ~world.mdp.terminal), world.mdp.transition) > 0)
    return [int(s) for s in np.flatnonzero(reached & ~world.mdp.terminal)]


def _point(case: Case) -> int:
    """The point where the update is the farthest from the gradient."""
    return int(np.argmax(np.linalg.norm(case.update - case.gradient, axis=1)))


def _numbers(x: np.ndarray, digits: int = 4) -> str:
    return "[" + ", ".join(f"{v:.{digits}g}" for v in x) + "]"
