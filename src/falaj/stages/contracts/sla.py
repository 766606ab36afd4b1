"""Promises about a dataset as a whole: how fresh it is, how soon what is known is taken in, and how much comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import InvalidInput
from falaj.core.moments import in_words, length
from falaj.core.wording import count
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.head import Head
from falaj.stages.contracts.spans import span
from falaj.stages.contracts.spec import Dataset

RULE = "sla"


def kept(declared: Dataset, contract: Contract, head: Head, now: datetime) -> Decision | None:
    """Whether the contract's promises are kept at `now`; None where it makes none that falaj measures.

    freshness  the newest row, by the promise's element (the time it happened, or else when it was known), is not older
    latency    everything that was known that long ago, and the dataset's `every` longer, has been taken in
    volume     the newest load handed out at least so many rows

    Before the first load nothing can be seen. Raises InvalidInput where a promise cannot be read.
    """
    checks = [_LOOK[name](declared, promise, head, now) for name, promise in sorted(contract.sla.items()) if name in _LOOK]
    if not checks:
        return None
    failed = [item for item in checks if item.passed is False]
    reason = "; ".join(f"{item.name}: wanted {item.wanted}, got {item.seen}" for item in failed)
    return Decision(declared.ref, RULE, judge(checks), tuple(checks), at=now, reason=reason or "promises are kept")


def _freshness(declared: Dataset, promise: Mapping[str, Any], head: Head, now: datetime) -> Check:
    column = str(promise.get("element") or "").rpartition(".")[2]
    newest = head.newest_time if column == declared.time else head.newest_known
    return _age("freshness", _span("freshness", promise), newest, now)


def _latency(declared: Dataset, promise: Mapping[str, Any], head: Head, now: datetime) -> Check:
    promised, every = _span("latency", promise), length(declared.every)
    found = _age("latency", promised + every, head.watermark, now)
    return replace(found, wanted=f"<= {in_words(promised)} and the dataset's every {in_words(every)}")


def _volume(declared: Dataset, promise: Mapping[str, Any], head: Head, now: datetime) -> Check:
    wanted = promise.get("value")
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        raise InvalidInput(f"The promise of volume is {wanted!r}, which is no number of rows.", "write value: 1000, unit: rows.")
    seen = head.load_rows
    told = "nothing yet" if seen is None else count(seen)
    return Check("volume", f">= {wanted:,} rows a load", told, None if seen is None else seen >= wanted)


_LOOK = {"freshness": _freshness, "latency": _latency, "volume": _volume}


def _age(name: str, wanted: timedelta, newest: datetime | None, now: datetime) -> Check:
    if newest is None:
        return Check(name, f"<= {in_words(wanted)}", "nothing yet", None)
    seen = max(now - newest, timedelta(0))
    return Check(name, f"<= {in_words(wanted)}", in_words(seen), seen <= wanted)


def _span(name: str, promise: Mapping[str, Any]) -> timedelta:
    value, unit = promise.get("value"), str(promise.get("unit") or "d").lower()
    found = span(value, unit)
    if found is None:
        raise InvalidInput(
            f"The promise of {name} is {value!r} {unit!r}, which is no length of time.", "write value: 6, unit: h."
        )
    return found
