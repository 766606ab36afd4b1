"""Labels: what really happened, sent for a prediction or a unit once it is known; sending again corrects or withdraws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.moments import from_millis, iso, millis, moment
from falaj.core.segment import PredictionId
from falaj.inference.entities import read_json
from falaj.inference.errors import at_place
from falaj.inference.mask import Mask
from falaj.inference.settings import TOLERANCE
from falaj.inference.text import unit_of

MAX_LABELS = 1024
FP32_MAX = 3.4e38
"""No label is greater; whatever JSON makes of 1e999 is none."""


@dataclass(frozen=True, slots=True)
class Label:
    """Of the prediction `id`, or of a unit: of its latest prediction at or before `at`, or of all in [since, until]."""

    id: str
    unit: str
    at: datetime
    value: float | None
    """None withdraws what was said before."""
    since: datetime | None = None
    until: datetime | None = None
    facts: Mapping[str, Any] | None = None

    def record(self, mask: Mask) -> dict[str, Any]:
        """As the log holds it, but for who wrote it and when. `mask`: what the endpoint's log may not hold."""
        named = {"id": self.id} if self.id else {"unit": mask.unit(self.unit)}
        window = {name: iso(at) for name, at in (("since", self.since), ("until", self.until)) if at is not None}
        facts = {} if self.facts is None else {"facts": mask.request(self.facts)}
        return {"kind": "label", **named, "at": iso(self.at), "label": self.value, **window, **facts}


def read_labels(body: bytes, key: bytes, now: datetime | None) -> list[Label]:
    """The labels of a call, each checked against the id that it is for; one bad label refuses all, and is named by its index.

    `now` is None under the replay clock. Raises Malformed, InvalidInput, or Conflict for a label from before its prediction.
    """
    given = read_json(body)
    rows = given.get("labels") if isinstance(given, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("`labels` must be a list with at least one label.", 'send {"labels":[{"id":…,"label":1,"at":…}]}.')
    if len(rows) > MAX_LABELS:
        raise InvalidInput(f"One call takes at most {MAX_LABELS} labels, got {len(rows)}.", "send the rest in another call.")
    found = []
    for index, row in enumerate(rows):
        try:
            found.append(read_label(row, key, now))
        except FalajError as exc:
            raise at_place(exc, "labels", index) from exc
    return found


def read_label(row: Any, key: bytes, now: datetime | None) -> Label:
    """One label. Raises as `read_labels`."""
    if not isinstance(row, dict):
        raise InvalidInput(f"A label must be an object, got {type(row).__name__}.", _HINT)
    by_id, by_unit = row.get("id") is not None, row.get("unit") is not None
    missing = [name for name in ("label", "at") if name not in row]
    unknown = sorted(set(row) - _KNOWN)
    if missing or unknown:
        raise InvalidInput(f"A label {'has no' if missing else 'does not know'} {str((missing or unknown)[0])[:80]!r}.", _HINT)
    if by_id == by_unit:
        raise InvalidInput("A label is of an `id` or of a `unit`, and not of both.", _HINT)
    value, facts = row["label"], row.get("facts")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and -FP32_MAX <= value <= FP32_MAX
    if value is not None and not is_number:
        raise InvalidInput(f"`label` must be a finite number, got {str(value)[:80]!r}.", "send 0 or 1, or null to withdraw it.")
    if facts is not None and not isinstance(facts, dict):
        raise InvalidInput("`facts` must be an object.")
    at = _time(row, "at")
    assert at is not None  # it is there: asked before
    since, until = _time(row, "since"), _time(row, "until")
    if now is not None and at > now + TOLERANCE:
        raise InvalidInput(f"The label is of {iso(at)}, but it is {iso(now)} here.", "a label is sent once it is known.")
    if by_unit:
        return Label("", _unit(row["unit"], since, until, at), at, value, since, until, facts)
    if since is not None or until is not None:
        raise InvalidInput("A label of an `id` has no window.", "leave out `since` and `until`: the id says which prediction.")
    _check_id(row["id"], at, key)
    return Label(row["id"], "", at, value, facts=facts)


_KNOWN = frozenset({"id", "unit", "label", "at", "since", "until", "facts"})
_HINT = "it has `id` or `unit`, `label` and `at`, and may have `facts`, and of a unit `since` and `until`."


def _unit(given: Any, since: datetime | None, until: datetime | None, at: datetime) -> str:
    unit = unit_of(given, "unit")
    if not unit:
        raise InvalidInput("`unit` must not be empty.", _HINT)
    if until is not None and since is None:
        raise InvalidInput("A window with `until` needs `since`.", "without either the latest prediction is meant.")
    if since is not None and since > (until or at):
        raise InvalidInput(f"The window begins at {iso(since)}, after it ends.", "`since` is before `until`, and before `at`.")
    return unit


def _check_id(given: Any, at: datetime, key: bytes) -> None:
    if not isinstance(given, str):
        raise InvalidInput("`id` must be a text.", "use the id that came with the prediction.")
    issued = PredictionId.check(given, key)
    if millis(at) < issued.millis:
        raise Conflict(
            "label before its prediction",
            f"the prediction was made at {iso(from_millis(issued.millis))}, the label is of {iso(at)}.",
        )


def _time(row: Mapping[str, Any], name: str) -> datetime | None:
    given = row.get(name)
    if given is None and name != "at":
        return None
    if not isinstance(given, str):
        raise InvalidInput(f"`{name}` must be a time, got {str(given)[:80]!r}.", "write it as 2013-05-01T09:30:00Z.")
    return moment(given)
