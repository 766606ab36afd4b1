"""The kill switch under load: how long from the call to the last prediction that anybody was still answered.

A real endpoint, the control plane in this process, callers that never stop asking. It is killed and revived again and again; the
time counts by the callers' clock, from before the control plane was asked.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, show
from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.rehearsal import wall
from falaj.stages.rollouts.kills import SLO, Kills, Measured
from tests.kits.endpoint import Installation
from tests.kits.rollouts import ANNA, ENDPOINT, over
from tests.kits.traffic import traffic

TIMES, CALLERS = 20, 8
OMAR = Actor("omar", "person", ("operator",))


def main() -> int:
    return show(figures())


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        place = Installation(Path(folder))
        try:
            last, confirmed, after = _killed(place)
        finally:
            place.close()
    note = f"worst of {TIMES}, {CALLERS} callers"
    yield Figure("kill: the last answer after", max(last), "ms", budget=SLO.span.total_seconds() * 1000, note=note)
    yield Figure(
        "kill: every worker has confirmed after", max(confirmed), "ms", budget=SLO.span.total_seconds() * 1000, note=note
    )
    yield Figure("kill: answers after that", float(after), "", budget=0)


def _killed(place: Installation) -> tuple[list[float], list[float], int]:
    place.store()
    key, answered_late = place.key("app", "caller"), 0
    last, confirmed = list[float](), list[float]()
    rollouts = over(place, 1)
    rollouts.deploy(ANNA, ENDPOINT, model=Ref("model", "delay", "1"), reason="the first")
    log = SegmentPredictions(place.folder / "segments")
    kills = Kills(rollouts.place, lambda _endpoint: log, wall, lambda _wanted: Measured(None, 0))
    with traffic(place, key, CALLERS) as busy:
        for _ in range(TIMES):
            busy.wait_for(50, time.monotonic())
            began = time.monotonic()
            seen = kills.kill(ANNA, ENDPOINT, reason="measure")
            done = time.monotonic()
            told = busy.wait_for(50, done)
            answered_late += sum(one.status == 200 for one in told)
            late = [one.answered - began for one in list(busy.told) if one.status == 200 and one.answered >= began]
            last.append(1000 * max(late, default=0.0))
            confirmed.append(float(seen.confirmed_ms if seen.confirmed_ms is not None else "inf"))
            kills.revive(OMAR, ENDPOINT, reason="again")
    return last, confirmed, answered_late


if __name__ == "__main__":
    sys.exit(main())
