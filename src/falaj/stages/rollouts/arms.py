"""Which arms follow from which: growing, switching, weighing and taking back, each as a pure step from arms to arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from falaj.core.errors import Conflict, InvalidInput
from falaj.ports.host import BUCKETS, SIDE, VARIANT, Arm, Runs, is_variant

Arms = tuple[Arm, ...]


def arm_of(arms: Sequence[Arm], role: str) -> Arm | None:
    return next((arm for arm in arms if arm.role == role), None)


def champion_of(arms: Sequence[Arm]) -> Arm:
    found = arm_of(arms, "champion")
    if found is None:
        raise Conflict("No arm is the champion.", "falaj endpoint deploy makes one.")
    return found


def crowned(arms: Sequence[Arm], arm: Arm) -> Arms:
    """The arm as the champion of everybody. Standby and shadow stay, unless they are the very model that is champion now."""
    return (replace(arm, role="champion", share=1.0, buckets=()), *(side for side in _sides(arms) if side.model != arm.model))


def shared(arms: Sequence[Arm], share: float) -> Arms:
    """The challenger at that share; at 1 it is the champion, at 0 it is gone."""
    champion, challenger = champion_of(arms), arm_of(arms, "challenger")
    if challenger is None or share <= 0:
        return crowned(arms, champion)
    if share >= 1:
        return crowned(arms, challenger)
    return replace(champion, share=round(1 - share, 6)), replace(challenger, share=share), *_sides(arms)


def with_side(arms: Sequence[Arm], side: Arm) -> Arms:
    """The arms with this standby or shadow, in the place of the one before."""
    return *(arm for arm in arms if arm.role != side.role), side


def without(arms: Sequence[Arm], role: str) -> Arms:
    return tuple(arm for arm in arms if arm.role != role)


def switched(arms: Sequence[Arm]) -> Arms:
    """The standby answers everybody, and the champion of before stays warm as the standby. Raises Conflict without a standby."""
    champion, standby = champion_of(arms), arm_of(arms, "standby")
    if standby is None:
        raise Conflict("There is no standby to switch to.", "falaj endpoint prepare loads one.")
    kept = replace(champion, role="standby", share=0.0, buckets=())
    return with_side(crowned(without(arms, "standby"), standby), kept)


def weighed(arms: Sequence[Arm], weights: Mapping[str, float]) -> Arms:
    """The variants at these weights, by name; the champion has the rest.

    A variant that shrinks gives the end of what it has back to the champion, and one that grows takes what was the champion's:
    nobody's unit moves from one variant to another, unless the champion has none left to give.

    Raises InvalidInput for a weight that is no multiple of 0.0001, weights beyond 1, or a name that is no variant's.
    """
    variants = {arm.role.removeprefix(VARIANT): arm for arm in arms if is_variant(arm.role)}
    counts = _counts(list(variants), weights)
    kept = {name: _first(arm.buckets, counts[name]) for name, arm in variants.items()}
    unowned = _gaps([run for arm in variants.values() for run in arm.buckets])
    given_back = [run for name, arm in variants.items() for run in _less(arm.buckets, kept[name])]
    free: Runs = (*unowned, *given_back)
    made = []
    for name, arm in variants.items():
        more = _first(free, counts[name] - _size(kept[name]))
        free = _less(free, more)
        made.append(replace(arm, share=counts[name] / BUCKETS, buckets=_merged([*kept[name], *more])))
    rest = (BUCKETS - sum(counts.values())) / BUCKETS
    return replace(champion_of(arms), share=rest, buckets=()), *made, *_sides(arms)


def _counts(names: Sequence[str], weights: Mapping[str, float]) -> dict[str, int]:
    """Each variant's weight in buckets."""
    if set(weights) != set(names):
        raise InvalidInput(
            f"The weights name {', '.join(sorted(weights)) or 'nobody'}.", f"give each variant one: {', '.join(names)}."
        )
    counts = {}
    for name in names:
        count = round(weights[name] * BUCKETS) if 0 < weights[name] <= 1 else 0
        if not count or abs(weights[name] * BUCKETS - count) > 1e-6:
            raise InvalidInput(
                f"The weight {weights[name]} of {name!r} is no share that can be met.", "write 0.0001 to 1, four digits at most."
            )
        counts[name] = count
    if sum(counts.values()) > BUCKETS:
        raise InvalidInput(
            f"The weights come to {sum(counts.values()) / BUCKETS}.", "1 is all there is; the champion has the rest."
        )
    return counts


def _sides(arms: Sequence[Arm]) -> Arms:
    return tuple(arm for arm in arms if arm.role in SIDE)


def _size(runs: Runs) -> int:
    return sum(high - low for low, high in runs)


def _first(runs: Runs, count: int) -> Runs:
    """The first so many buckets of the runs."""
    taken = []
    for low, high in runs:
        if count <= 0:
            break
        taken.append((low, min(high, low + count)))
        count -= high - low
    return tuple(taken)


def _less(runs: Runs, taken: Runs) -> Runs:
    """What is left of the runs behind the first ones that were taken, in their order."""
    left, count = [], _size(taken)
    for low, high in runs:
        cut = min(count, high - low)
        count -= cut
        if low + cut < high:
            left.append((low + cut, high))
    return tuple(left)


def _merged(runs: Sequence[tuple[int, int]]) -> Runs:
    """In order, neighbours made one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(runs):
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return tuple(found)


def _gaps(runs: Sequence[tuple[int, int]]) -> Runs:
    """What the runs leave free."""
    edges = [0, *(edge for run in _merged(runs) for edge in run), BUCKETS]
    return tuple((low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high)
