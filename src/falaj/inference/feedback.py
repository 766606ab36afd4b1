"""Labels: what really happened, sent for a prediction once it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.moments import from_millis, iso, millis, moment
from falaj.core.segment import PredictionId
from falaj.inference.entities import read_json
from falaj.inference.errors import at_place
from falaj.inference.settings import TOLERANCE

MAX_LABELS = 1024


@dataclass(frozen=True, slots=True)
class Label:
    id: str
    at: datetime
    value: float
    facts: Mapping[str, Any] | None


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
            found.append(_label(row, key, now))
        except FalajError as exc:
            raise at_place(exc, "labels", index) from exc
    return found


def _label(row: Any, key: bytes, now: datetime | None) -> Label:
    if not isinstance(row, dict):
        raise InvalidInput(f"A label must be an object, got {type(row).__name__}.")
    missing = [name for name in ("id", "label", "at") if name not in row]
    unknown = sorted(set(row) - {"id", "label", "at", "facts"})
    if missing or unknown:
        raise InvalidInput(
            f"A label {'has no' if missing else 'does not know'} {(missing or unknown)[0]!r}.",
            "it has `id`, `label`, `at` and may have `facts`.",
        )
    value, facts = row["label"], row.get("facts")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidInput(f"`label` must be a finite number, got {str(value)[:80]!r}.", "send 0 or 1.")
    if facts is not None and not isinstance(facts, dict):
        raise InvalidInput("`facts` must be an object.")
    if not isinstance(row["at"], str):
        raise InvalidInput(f"`at` must be a time, got {str(row['at'])[:80]!r}.", "write it as 2013-05-01T09:30:00Z.")
    if not isinstance(row["id"], str):
        raise InvalidInput("`id` must be a text.", "use the id that came with the prediction.")
    at, issued = moment(row["at"]), PredictionId.check(row["id"], key)
    if millis(at) < issued.millis:
        raise Conflict(
            "label before its prediction",
            f"the prediction was made at {iso(from_millis(issued.millis))}, the label is of {iso(at)}.",
        )
    if now is not None and at > now + TOLERANCE:
        raise InvalidInput(f"The label is of {iso(at)}, but it is {iso(now)} here.", "a label is sent once it is known.")
    return Label(row["id"], at, value, facts)
