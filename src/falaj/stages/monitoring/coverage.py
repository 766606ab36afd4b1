"""How far labels have come: by cohort how many predictions have one, in time or too late, and what was said of nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from falaj.core.moments import from_millis, iso, moment
from falaj.core.segment import PredictionId
from falaj.stages.monitoring.cohorts import Joiner

_EVER = timedelta(days=365 * 200)


def coverage(
    records: Iterable[Mapping[str, Any]], *, since: datetime, until: datetime, cohort: timedelta, maturity: timedelta
) -> dict[str, Any]:
    """Of the predictions in (since, until]: `cohorts`, and of all labels how many came too late, of nobody, and withdrawn.

    `labelled` counts what is known by now, `in_time` what monitors and rollouts counted or will count. A label by unit looks
    for its prediction in the period only.
    """
    ever = Joiner(cohort=cohort, maturity=_EVER)
    in_time = Joiner(cohort=cohort, maturity=maturity)
    withdrawn = 0
    for record in records:
        if record.get("kind") not in ("prediction", "label") or not _is_within(record, since, until):
            continue
        withdrawn += record["kind"] == "label" and record.get("label") is None
        slim = {**record, "features": ()}
        ever.add(slim)
        in_time.add(slim)
    far = until + _EVER
    counted = {c.start_ms: _labelled(c.parts) for c in in_time.close(far)}
    rows = [
        {
            "from": iso(from_millis(c.start_ms)),
            "predictions": sum(len(part.labels) for part in c.parts),
            "labelled": _labelled(c.parts),
            "in_time": counted.get(c.start_ms, 0),
        }
        for c in ever.close(far + 2 * _EVER)
    ]
    return {"cohorts": rows, "late": in_time.late_labels, "unmatched": ever.unmatched_labels, "withdrawals": withdrawn}


def _is_within(record: Mapping[str, Any], since: datetime, until: datetime) -> bool:
    try:
        at = from_millis(PredictionId.read(record["id"]).millis) if "id" in record else moment(record["at"])
    except Exception:  # a record of another format is nobody's prediction
        return False
    return since < at <= until or ("id" not in record and at > since)


def _labelled(parts: Iterable[Any]) -> int:
    return sum(int((~np.isnan(part.labels)).sum()) for part in parts)
