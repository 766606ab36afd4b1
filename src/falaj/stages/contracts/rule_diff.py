"""What changed in the quality rules of a contract: added, removed, renamed, tightened, loosened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from falaj.stages.contracts.bounds import allowed, compared
from falaj.stages.contracts.contract import Quality
from falaj.stages.contracts.edit import Edit, both, consumers, nobody, producers, sided, wording

_WEIGHT = {"info": 0, "warning": 1, "error": 2, "stop": 3}


def rule_changes(old: tuple[Quality, ...], new: tuple[Quality, ...]) -> Iterator[Edit]:
    """By name; of two rules with other names, those that ask the same are one that was renamed."""
    after = {check.name: check for check in new}
    before = {check.name: check for check in old}
    renamed = {_body(check): check for check in new if check.name not in before}
    for check in old:
        place = f"rule {check.name!r}"
        if check.name in after:
            yield from _changed(place, check, after[check.name])
            continue
        same = renamed.pop(_body(check), None)
        if same is not None:
            yield wording(place, "rule renamed", check.name, same.name, "quarantine names it otherwise")
            yield from _severity(place, check, same)
        elif _WEIGHT[check.severity] >= _WEIGHT["error"]:
            yield consumers(place, "rule removed", told(check), "", "nobody keeps it any longer")
        else:
            yield nobody(place, "rule removed", told(check), "", "it only told")
    for check in renamed.values():
        place = f"rule {check.name!r}"
        if _WEIGHT[check.severity] >= _WEIGHT["error"]:
            yield producers(place, "rule added", "", told(check), "rows or loads that were good are kept out")
        else:
            yield nobody(place, "rule added", "", told(check), "it only tells")


def told(check: Quality) -> str:
    """The rule in a few words: `nullValues(zone) < 50 %`."""
    if check.metric == "expression":
        return check.text
    bound = " and ".join(map(str, check.bound)) if isinstance(check.bound, tuple) else str(check.bound)
    among = f" of {', '.join(map(str, check.values[:10]))}" if check.values is not None else ""
    pattern = f" of {check.pattern}" if check.pattern else ""
    return f"{check.metric}({', '.join(check.columns)}){among}{pattern} {check.op} {bound}{' %' if check.percent else ''}"


def _changed(place: str, old: Quality, new: Quality) -> Iterator[Edit]:
    yield from _severity(place, old, new)
    if _body(old) == _body(new):
        return
    if _WEIGHT[new.severity] < _WEIGHT["error"] and _WEIGHT[old.severity] < _WEIGHT["error"]:
        yield nobody(place, "rule changed", told(old), told(new), "it only tells")
        return
    if replace(_body(old), op="", bound=0) == replace(_body(new), op="", bound=0):
        one, other = allowed(old), allowed(new)
        if one is not None and other is not None:
            tightened, loosened = compared(one, other)
            yield sided(place, told(old), told(new), tightened=tightened, loosened=loosened)
            return
    elif (
        replace(_body(old), values=()) == replace(_body(new), values=())
        and old.values is not None
        and new.values is not None
        and old.op in ("==", "<", "<=")
    ):
        yield _listed(place, old, new)
        return
    yield both(place, "rule changed", told(old), told(new), "the two cannot be compared")


def _severity(place: str, old: Quality, new: Quality) -> Iterator[Edit]:
    before, after = _WEIGHT[old.severity], _WEIGHT[new.severity]
    if after == before:
        return
    keeps = _WEIGHT["error"]
    if after > before and after >= keeps:
        yield producers(
            place, "severity raised", old.severity, new.severity, "what was only told, or kept out alone, weighs more"
        )
    elif after < before and before >= keeps:
        yield consumers(place, "severity lowered", old.severity, new.severity, "more comes in")
    else:
        yield nobody(place, "severity changed", old.severity, new.severity, "it only tells")


def _listed(place: str, old: Quality, new: Quality) -> Edit:
    one, other = set(old.values or ()), set(new.values or ())
    gone, come = one - other, other - one
    if old.metric == "missingValues":
        gone, come = come, gone  # what counts as missing is kept out
    return sided(place, _names(old), _names(new), tightened=bool(gone), loosened=bool(come))


def _names(check: Quality) -> str:
    return ", ".join(map(str, (check.values or ())[:20]))


def _body(check: Quality) -> Any:
    """What the rule asks, whatever it is called and however its expression is spaced."""
    return replace(check, name="", severity="", text="")
