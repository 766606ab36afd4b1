"""The strictest of several packs, value by value, and where they cannot all be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from falaj.packs.pack import Pack, Value

UNSURE = ("enacted", "guidance", "pending", "assumed", "unverified")
"""From what is known best to what is known least."""


@dataclass(frozen=True, slots=True)
class Strictest:
    """What holds where all of these packs hold. `status` is that of the least certain value behind it."""

    path: str
    value: Any
    status: str
    sources: tuple[Value, ...]
    """The values behind it; the first ones decided."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two demands that cannot both be kept. Somebody has to decide; nothing here does."""

    path: str
    reason: str
    sources: tuple[Value, ...]


def strictest(packs: Iterable[Pack]) -> tuple[Mapping[str, Strictest], tuple[Conflict, ...]]:
    """The larger of floors, the smaller of ceilings, what all allow, what any demands; and the conflicts, by path.

    What one pack says nothing about, it leaves to the others. Nothing that is allowed by all is a conflict, and its value empty.
    """
    by_path: dict[str, list[Value]] = {}
    for pack in packs:
        for value in pack.values():
            by_path.setdefault(value.path, []).append(value)
    merged: dict[str, Strictest] = {}
    conflicts: list[Conflict] = []
    for path, values in sorted(by_path.items()):
        kinds = {value.kind for value in values}
        if len(kinds) > 1:
            reason = f"it is {' and '.join(sorted(kinds))}"
            conflicts.append(Conflict(path, reason, tuple(values)))
            continue
        value, reason = _MERGE[values[0].kind](values)
        ordered = tuple(sorted(values, key=lambda one: one.value != value))
        merged[path] = Strictest(path, value, max((one.status for one in values), key=UNSURE.index), ordered)
        if reason:
            conflicts.append(Conflict(path, reason, ordered))
    return merged, (*conflicts, *_crossed(merged))


def _crossed(merged: Mapping[str, Strictest]) -> Iterable[Conflict]:
    """A floor above its ceiling: what must be kept must be gone."""
    for path, floor in merged.items():
        ceiling = merged.get(path.removesuffix("floor") + "ceiling") if path.endswith(".floor") else None
        if ceiling is not None and floor.sources[0].size > ceiling.sources[0].size:
            reason = f"keep {floor.value} at least, and {ceiling.value} at most"
            yield Conflict(path.removesuffix(".floor"), reason, (*floor.sources, *ceiling.sources))


def _floor(values: list[Value]) -> tuple[Any, str]:
    return max(values, key=lambda one: one.size).value, ""


def _ceiling(values: list[Value]) -> tuple[Any, str]:
    return min(values, key=lambda one: one.size).value, ""


def _allowed(values: list[Value]) -> tuple[Any, str]:
    common = tuple(item for item in values[0].value if all(item in one.value for one in values))
    lists = " and ".join(f"{one.pack}: {', '.join(one.value) or 'nothing'}" for one in values)
    return common, "" if common else f"nothing is allowed by all ({lists})"


def _demanded(values: list[Value]) -> tuple[Any, str]:
    return tuple(dict.fromkeys(item for one in values for item in one.value)), ""


def _exact(values: list[Value]) -> tuple[Any, str]:
    said = dict.fromkeys(repr(one.value) for one in values)
    return (values[0].value, "") if len(said) == 1 else (None, f"they say {' and '.join(said)}")


_MERGE: Mapping[str, Callable[[list[Value]], tuple[Any, str]]] = {
    "floor": _floor,
    "ceiling": _ceiling,
    "allowed": _allowed,
    "demanded": _demanded,
    "exact": _exact,
}
