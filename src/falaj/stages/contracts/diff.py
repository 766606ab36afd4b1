"""Diff: what changed between two contracts, whom it breaks, and which version the new one needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from falaj.stages.contracts import spans
from falaj.stages.contracts.column_diff import column_changes, level
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.edit import Edit, both, consumers, nobody, producers, wording
from falaj.stages.contracts.rule_diff import rule_changes
from falaj.stages.contracts.semantic import parts

Bump = Literal["none", "patch", "minor", "major"]
_STEPS: tuple[Bump, ...] = ("none", "patch", "minor", "major")


@dataclass(frozen=True, slots=True)
class Compared:
    """`verdict`: deny where the new version promises less change than there is."""

    verdict: Literal["allow", "deny"]
    old_version: str
    new_version: str
    needs: Bump
    """`major`: somebody breaks. `minor`: something was added. `patch`: words only."""
    reason: str
    changes: tuple[Edit, ...]

    @property
    def breaking(self) -> bool:
        return any(change.breaks for change in self.changes)


def diff(old: Contract, new: Contract) -> Compared:
    """Every change from `old` to `new`. Consumers break where a promise to them gets weaker, producers where more is asked."""
    changes = (
        *_whole(old, new),
        *column_changes(old, new),
        *_key(old, new),
        *rule_changes(old.checks, new.checks),
        *_promises(old, new),
        *_labels(old, new),
    )
    needs: Bump = "none"
    for change in changes:
        needs = max(needs, "major" if change.breaks else "patch" if change.words_only else "minor", key=_STEPS.index)
    made = bump(old.version, new.version)
    reason = _reason(old.version, new.version, needs, made)
    return Compared("deny" if reason else "allow", old.version, new.version, needs, reason or _fine(needs), changes)


def bump(old: str, new: str) -> Bump | None:
    """Which step leads from one semantic version to the other; None where there is none, or it leads back.

    Before 1.0.0 the second number does the work of the first (semver.org, 4).
    """
    before, after = parts(old), parts(new)
    if before is None or after is None:
        return "none" if old == new else None
    if after < before:
        return None
    place = next((place for place in range(3) if before[place] != after[place]), 3)
    steps: tuple[Bump, ...] = ("major", "minor", "patch", "none") if before[0] else ("major", "major", "minor", "none")
    return steps[place]


def _reason(old: str, new: str, needs: Bump, made: Bump | None) -> str:
    odd = [version for version in (old, new) if parts(version) is None]
    if odd and old != new:
        needed = f"; the changes need a {needs} version" if needs != "none" else ""
        return f"{old!r} and {new!r} cannot be compared: {odd[0]!r} is no semantic version, as 1.0.0 is{needed}"
    if made is None:
        return "" if needs == "none" else f"no step leads from version {old!r} to {new!r}; this needs a {needs} one"
    if _STEPS.index(made) >= _STEPS.index(needs):
        return ""
    return f"the changes need a {needs} version; {old} → {new} is {'no step' if made == 'none' else f'a {made} one'}"


def _fine(needs: Bump) -> str:
    return "nothing changed" if needs == "none" else f"the changes need a {needs} version, which the new one is"


def _whole(old: Contract, new: Contract) -> Iterator[Edit]:
    if old.name != new.name:
        yield both("schema[0].name", "renamed", old.name, new.name, "it is another table")
    if old.owner != new.owner:
        yield nobody("team.name", "owner changed", old.owner, new.owner, "somebody else answers for it")
    for place, one, other in (("status", old.status, new.status), ("description", old.description, new.description)):
        if one != other:
            yield wording(place, f"{place} changed", one, other, "for people")


def _key(old: Contract, new: Contract) -> Iterator[Edit]:
    if set(old.key) == set(new.key):
        return
    was, now = ", ".join(old.key), ", ".join(new.key)
    if not old.key:
        yield producers("key", "key added", was, now, "rows with the same key are kept out")
    elif not new.key:
        yield consumers("key", "key removed", was, now, "rows can no longer be told apart or joined by it")
    else:
        yield both("key", "key changed", was, now, "joins find other rows, and other rows count as repeated")


def _promises(old: Contract, new: Contract) -> Iterator[Edit]:
    for name in dict.fromkeys([*old.sla, *new.sla]):
        place, one, other = f"slaProperties.{name}", old.sla.get(name), new.sla.get(name)
        if one == other or name == "retention":
            continue
        was, now = _told(one), _told(other)
        if one is None:
            more = name in spans.KEPT
            make = producers if more else nobody
            yield make(place, "promise added", was, now, "it has to be kept" if more else "more is said")
        elif other is None:
            yield consumers(place, "promise removed", was, now, "nobody keeps it any longer")
        else:
            yield _promise(place, name, one, other)
    before, after = spans.promised(old, "retention"), spans.promised(new, "retention")
    if before != after:
        was, now = str(before or ""), str(after or "")
        if before is not None and (after is None or after < before):
            yield consumers(
                "retention", "retention shortened" if after else "retention removed", was, now, "rows are gone sooner"
            )
        else:
            yield nobody("retention", "retention lengthened" if before else "retention added", was, now, "rows stay longer")


def _promise(place: str, name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Edit:
    before, after = (spans.span(entry["value"], str(entry["unit"])) for entry in (one, other))
    was, now = _told(one), _told(other)
    if name in ("latency", "freshness", "frequency") and before and after and one["element"] == other["element"]:
        if after > before:
            return consumers(place, "promise weakened", was, now, "rows may come later than was promised")
        if after < before:
            return producers(place, "promise strengthened", was, now, "rows have to come sooner")
        return wording(place, "promise reworded", was, now, "the same length of time")
    return both(place, "promise changed", was, now, "the two cannot be compared")


def _told(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else " ".join(str(part) for part in entry.values() if part != "")


def _labels(old: Contract, new: Contract) -> Iterator[Edit]:
    for name in dict.fromkeys([*old.labels, *new.labels]):
        one, other = old.labels.get(name), new.labels.get(name)
        if one == other or name == "retention":
            continue
        place, was, now = f"customProperties.{name}", _text(one), _text(other)
        if name == "classification":
            yield level(place, was, now)
        elif name == "purposes":
            gone = [purpose for purpose in _items(one) if purpose not in _items(other)]
            make, why = (
                (consumers, f"nobody may use it for {', '.join(gone)}") if gone and other is not None else (nobody, "more may")
            )
            yield make(place, "purposes changed", was, now, why)
        else:
            yield nobody(place, "label changed", was, now, "for people and for policy")


def _items(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else [] if value is None else [str(value)]


def _text(value: Any) -> str:
    return ", ".join(_items(value))
