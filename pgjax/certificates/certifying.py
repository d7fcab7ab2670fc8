"""`certify`: what does the expected update of a loss, an advantage, an estimator or an algorithm ascend?"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax.certificates import expectation, objectives
from pgjax.certificates.certificate import Case, Certificate
from pgjax.certificates.expectation import Moments
from pgjax.certificates.subject import Subject, subject
from pgjax.certificates.verdicts import judge
from pgjax.certificates.worlds import POINTS, World, family
from pgjax.errors import unknown
from pgjax.sweeps.values import distinct

DISCOUNTS = (1.0, 0.9)
CRITICS = ("any", "exact")


def certify(
    plug: Any,
    kind: str | None = None,
    *,
    batch: Sequence[int] | None = None,
    discount: float | None = None,
    worlds: Sequence[str | World] | None = None,
    **hypers: Any,
) -> Certificate:
    """Certify a plug on every episode of small worlds, in float64.

    The mean update is minus the estimator's gradient, summed over all batches of whole episodes by their probability.
    Where an advantage has a hyperparameter of `Role.SAMPLES`, a batch is one group that begins alike. Plugs that
    remember are certified in their first state, an advantage that plays is given the mean of what follows.

    Args:
      plug: a loss, an advantage, an estimator, an `Algorithm`, or the name of a row of the roster. A loss is given
        reward-to-go times gamma^t, and summed over an episode's steps; an advantage is given to policy_gradient.
      kind: loss, advantage, estimator or algorithm; read off the signature by default.
      batch: episodes of a batch; by default 1, 2 and 4, or 2 and 4 of a group.
      discount: of J, and of the advantage; by default both 1 and .9, or 1 where the advantage has none.
      worlds: names of `family()`, or worlds of your own; all of the family by default.
      hypers: hyperparameters to bind.

    Raises:
      ValueError: in one line, for what can't be certified: numbers of its own, an update that is not finite, plugs that
        need a memory, a continuous action or a stream.
    """
    if discount is not None and not 0 < discount <= 1:
        raise ValueError(f"discount must lie in (0, 1], got {discount}")
    found = subject(plug, kind, hypers)
    sizes = _sizes(batch, found)
    discounts = (float(discount),) if discount is not None else found.discounts or DISCOUNTS
    chosen = _chosen(worlds)
    with jax.enable_x64(True):
        cases, skipped = _cases(found, chosen, sizes, discounts)
    if not cases:
        raise ValueError(f"certify: nothing was left to look at: {skipped[0]}")
    return Certificate(found.name, found.kind, found.hypers, tuple(cases), tuple(chosen), tuple(skipped))


def _sizes(batch: Sequence[int] | None, found: Subject) -> tuple[int, ...]:
    if batch is None:
        return (2, 4) if found.samples else (1, 2, 4)
    for size in batch:
        if isinstance(size, bool) or int(size) != size or size < (2 if found.samples else 1):
            least = "2 or more, since its episodes are weighed against each other" if found.samples else "1 or more"
            raise ValueError(f"batch: the episodes of a batch must be {least}, got {size}")
    return tuple(int(size) for size in batch)


def _chosen(worlds: Sequence[str | World] | None) -> list[World]:
    known = family()
    if worlds is None:
        return list(known.values())
    for name in worlds:
        if isinstance(name, str) and name not in known:
            raise ValueError(unknown("certify has no world", name, known))
    chosen = [known[world] if isinstance(world, str) else world for world in worlds]
    distinct("worlds", [world.name for world in chosen])
    return chosen


class _Look(NamedTuple):
    """One world, looked at by one program.

    Attributes:
      truth: (discount, on policy) -> what `objectives.known` found.
    """

    subject: Subject
    world: World
    every: expectation.Episodes
    truth: dict[tuple[float, bool], tuple[objectives.Known, dict[str, np.ndarray]]]
    batches: expectation.Batches
    run: expectation.Program

    def moments(
        self, gamma: float, critic: str, points: np.ndarray, acting: np.ndarray, other: bool = False
    ) -> Moments:
        """The moments at the points [n, P] while `acting` [n, P] act.

        Args:
          other: take another key, which changes what draws numbers of its own.
        """
        size = self.every.features.shape[-1]
        wide = [np.pad(x, ((0, 0), (0, size - x.shape[1]))) for x in (points, acting)]
        pieces = []
        for i in range(0, len(points), POINTS):  # one program serves any number of points
            these = [np.resize(x[i : i + POINTS], (POINTS, size)) for x in wide]
            given = (np.int32(other), critic == "exact", np.float64(gamma), self.every, self.batches)
            try:
                pieces.append([np.asarray(x) for x in self.run(*these, *given)])
            except expectation.REFUSED as error:
                raise ValueError(self.subject.refusal(error)) from error
        mean, trace = (np.concatenate(both)[: len(points)] for both in zip(*pieces, strict=True))
        mean = mean[:, : points.shape[1]]
        if not np.all(fine := np.isfinite(mean).all(axis=1) & np.isfinite(trace)):
            where = np.array2string(points[int(np.argmin(fine))], precision=4, separator=", ")
            raise ValueError(
                f"certify: the update of {self.subject.name} is not finite in the world {self.world.name!r} (discount "
                f"{gamma:g}, {self.batches.chosen.shape[1]} episodes) at theta = {where}; look for a logarithm or a "
                "division by 0"
            )
        return Moments(mean, trace)


def _cases(
    found: Subject, worlds: Sequence[World], sizes: Sequence[int], discounts: Sequence[float]
) -> tuple[list[Case], list[str]]:
    """The cases, those on policy first, and what was left out."""
    cases: list[Case] = []
    skipped: list[str] = []
    shapes: dict[tuple[int, ...], list[World]] = {}
    for world in worlds:
        shapes.setdefault((*world.mdp.reward.shape, world.mdp.horizon or 0), []).append(world)
    for alike in shapes.values():
        for look in _looks(found, alike, sizes, discounts, skipped):
            apart = _differ(*(look.moments(discounts[0], critic, *_points(look.world, True)) for critic in CRITICS))
            for gamma in discounts:
                if len(look.truth[gamma, True][0].levels) == 1:
                    skipped.append(f"{look.world.name}, discount {gamma:g}: grad J is 0, since all returns are alike")
                    continue
                cases += [_case(look, gamma, critic, True) for critic in (CRITICS if apart else CRITICS[:1])]
                cases.append(_case(look, gamma, "any", False))
    order = {world.name: i for i, world in enumerate(worlds)}
    return sorted(cases, key=lambda case: (not case.on_policy, order[case.world])), list(dict.fromkeys(skipped))


def _looks(
    found: Subject, worlds: Sequence[World], sizes: Sequence[int], discounts: Sequence[float], skipped: list[str]
) -> Iterator[_Look]:
    """Worlds of the same shapes, padded so that one program for each size of a batch serves all of them."""
    size, grouped = max(world.size for world in worlds), bool(found.samples)
    count = {world.name: expectation.count(world) for world in worlds}
    every = {world.name: expectation.episodes(world, size, max(count.values())) for world in worlds}
    truth = {
        w.name: {
            (gamma, on): objectives.known(*_points(w, on), gamma, every[w.name], grouped)
            for gamma in discounts
            for on in (True, False)
        }
        for w in worlds
    }
    for k in sizes:
        run = expectation.program(found.plugs(k))

        def looks(ordered, k=k, run=run):
            sets = {w.name: expectation.batches(w, count[w.name], k, grouped, ordered) for w in worlds}
            most = max((len(batches.orders) for batches in sets.values() if batches is not None), default=0)
            for w in worlds:
                if (batches := sets[w.name]) is None:
                    more = f"{w.name}, {k} episodes: more than {expectation.MOST:,} batches"
                    skipped.append(f"{more}; only sampling is possible, as in testing.check_unbiased")
                else:
                    yield _Look(found, w, every[w.name], truth[w.name], expectation.padded(batches, most), run)

        # The world with the most returns shows best whether their order matters.
        levels = lambda look: len(look.truth[discounts[0], True][0].levels)  # noqa: E731
        probe = max(looks(False), key=levels, default=None)
        yield from looks(probe is not None and _reads_order(probe, discounts[0]))


def _reads_order(look: _Look, gamma: float) -> bool:
    """Whether the order of a batch's episodes matters; ValueError where the key does."""
    both = _points(look.world, True)
    first = look.moments(gamma, "any", *both)
    if _differ(first, look.moments(gamma, "any", *both, other=True)):
        raise ValueError(
            f"certify: {look.subject.name} draws random numbers of its own, so its mean is no sum over episodes; "
            "measure it by testing.check_unbiased or pgjax variance"
        )
    # Every order is a product of these two: the first and the second swapped, and all moved by one.
    chosen = look.batches.chosen
    for other in (np.concatenate([chosen[:, 1::-1], chosen[:, 2:]], axis=1), np.roll(chosen, 1, axis=1)):
        moved = look._replace(batches=look.batches._replace(chosen=other))
        if chosen.shape[1] > 1 and _differ(first, moved.moments(gamma, "any", *both)):
            return True
    return False


def _differ(one: Moments, other: Moments) -> bool:
    square = max(np.max(one.trace), np.max(one.mean**2))  # a mean of 0 is off by rounding of what it sums
    means, traces = (np.max(np.abs(x - y)) for x, y in zip(one, other, strict=True))
    return bool(means > 1e-9 * np.sqrt(square) or traces > 1e-9 * square)


def _points(world: World, on_policy: bool) -> tuple[np.ndarray, np.ndarray]:
    """The parameters that learn and those that act, each [n, P]: the same, or others."""
    points = world.points()
    return points, points if on_policy else np.roll(points, 1, axis=0) * 0.5


def _case(look: _Look, gamma: float, critic: str, on_policy: bool) -> Case:
    points, acting = _points(look.world, on_policy)
    found, (known, parts) = look.moments(gamma, critic, points, acting), look.truth[gamma, on_policy]

    def around(others: np.ndarray) -> np.ndarray:
        same = acting[int(np.argmin(np.linalg.norm(points - others.mean(axis=0), axis=1)))]
        return look.moments(gamma, critic, others, others if on_policy else np.broadcast_to(same, others.shape)).mean

    gradient, size = known.objective, look.batches.chosen.shape[1]
    noise, square = objectives.noise(parts, size), np.sum(gradient**2)
    off = np.sum((found.mean - gradient) ** 2, axis=1)
    return Case(
        world=look.world.name,
        discount=gamma,
        batch=size,
        critic=critic,
        on_policy=on_policy,
        verdict=judge(found, known, gamma, points, around, on_policy),
        points=points,
        update=found.mean,
        gradient=gradient,
        trace=found.trace,
        error=float(np.sum(found.trace + off) / square),
        reinforce=float(np.sum(noise.reinforce) / square),
        leave_one_out=float(np.sum(noise.leave_one_out) / square),
    )
