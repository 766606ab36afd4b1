"""Labels by the file: each is taken once, whatever means nothing is told, and a crash half-way costs nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Denied, Unavailable
from falaj.core.masking import masking
from falaj.core.moments import iso, millis
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId
from falaj.inference.feedback import read_label
from falaj.inference.lines import line
from falaj.inference.log import PredictionLog
from falaj.inference.mask import NOTHING, Mask
from falaj.stages.action import Kernel
from falaj.stages.serving.labels import Labels, Taken

T0 = datetime(2013, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPANS = (timedelta(days=1), 36 * HOUR)
ME = Actor("ops", "person", ("operator",))
ENDPOINT = Ref("endpoint", "delay")
MASKED = Mask(masking({"flight_id": "hash"}), b"key", [(Recipe((), {}, {}), {})], unit="flight_id")


class LogDoor:
    """A door onto a real log. `breaks`: writes that work before one that does not."""

    def __init__(self, folder: Path, mask: Mask, breaks: int) -> None:
        folder.mkdir(exist_ok=True)
        self.log, self.mask, self.left = PredictionLog(folder), mask, breaks

    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return read_label(row, self.log.key, None).record(self.mask)

    def write(self, records: Sequence[Mapping[str, Any]], by: str) -> None:
        if self.left == 0:
            raise Unavailable("The disk is full.")
        self.left -= 1
        self.log.append(lambda _segment, _row: [line({**record, "wrote": iso(T0), "by": by}) for record in records])

    def close(self) -> None:
        self.log.close()


class Place:
    def __init__(self, folder: Path, mask: Mask = NOTHING) -> None:
        self.folder, self.mask, self.now, self.breaks = folder, mask, T0 + 30 * HOUR, -1
        self.ledger = MemoryLedger()
        kernel = Kernel(self.ledger, RolePolicy(), lambda: self.now)
        self.labels = Labels(
            kernel, lambda _: SegmentPredictions(folder), lambda _: LogDoor(folder, self.mask, self.breaks), lambda _: SPANS
        )

    def predict(self, *units: str, at: datetime = T0) -> list[str]:
        door, ids = LogDoor(self.folder, self.mask, -1), []

        def lines(segment: int, row: int) -> list[bytes]:
            for place, _unit in enumerate(units):
                ids.append(PredictionId(segment, row + place, millis(at)).issue(door.log.key))
            made = [
                {"kind": "prediction", "id": i, "at": iso(at), "unit": self.mask.unit(u)} for i, u in zip(ids, units, strict=True)
            ]
            return [line(record) for record in made]

        door.log.append(lines)
        door.close()
        return ids

    def take(self, *rows: Mapping[str, Any], actor: Actor = ME) -> Taken:
        return self.labels.take(actor, ENDPOINT, pieces=[rows])

    def held(self) -> list[Mapping[str, Any]]:
        return [record for _, record in SegmentPredictions(self.folder).follow() if record["kind"] == "label"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "segments")


def row(unit: str, label: Any = 1, hours: float = 2, **fields: Any) -> dict[str, Any]:
    return {"unit": unit, "label": label, "at": iso(T0 + hours * HOUR), **fields}


def counts(done: Taken) -> tuple[int, ...]:
    return done.rows, done.taken, done.same, done.late, done.unknown, done.refused


def test_the_same_file_again_writes_nothing(place: Place) -> None:
    (one, _) = place.predict("f-1", "f-2")
    rows = [row("f-2"), {"id": one, "label": 0, "at": iso(T0 + HOUR)}, row("f-2")]
    assert counts(place.take(*rows)) == (3, 2, 1, 0, 0, 0)
    assert counts(place.take(*rows)) == (3, 0, 3, 0, 0, 0)
    assert [record["label"] for record in place.held()] == [1, 0]


def test_what_was_written_before_a_crash_is_not_written_again(place: Place) -> None:
    units = [f"f-{n}" for n in range(1500)]
    place.predict(*units)
    place.breaks = 1
    with pytest.raises(Unavailable):
        place.take(*map(row, units))
    assert len(place.held()) == 1000
    place.breaks = -1
    assert counts(place.take(*map(row, units))) == (1500, 500, 1000, 0, 0, 0)


def test_a_unit_without_a_prediction_that_could_be_meant_is_counted_and_not_written(place: Place) -> None:
    place.predict("f-1", at=T0 + 5 * HOUR)
    window = row("f-1", hours=9, since=iso(T0 + 6 * HOUR))
    assert counts(place.take(row("nobody"), row("f-1", hours=4), window)) == (3, 0, 0, 0, 3, 0)
    assert counts(place.take(row("f-1", hours=9, since=iso(T0 + 5 * HOUR), until=iso(T0 + 6 * HOUR)))) == (1, 1, 0, 0, 0, 0)


def test_a_label_whose_cohort_is_closed_is_taken_and_told(place: Place) -> None:
    place.predict("f-1", "f-2")
    assert counts(place.take(row("f-1", hours=61))) == (1, 1, 0, 1, 0, 0)
    place.now = T0 + 24 * HOUR + 36 * HOUR
    assert counts(place.take(row("f-2"))) == (1, 1, 0, 1, 0, 0)


def test_a_correction_is_another_label_and_a_withdrawal_needs_its_word(place: Place) -> None:
    place.predict("f-1")
    place.take(row("f-1"))
    assert counts(place.take(row("f-1", 0), row("f-1", None, withdrawn="true"), row("f-1", ""))) == (3, 2, 0, 0, 0, 1)
    assert [record["label"] for record in place.held()] == [1, 0, None]


def test_rows_that_mean_nothing_are_told_by_number_and_keep_no_other_out(place: Place) -> None:
    place.predict("f-1")
    done = place.take({"unit": "f-1", "label": "often", "at": iso(T0)}, {"label": 1, "at": iso(T0)}, row("f-1", "1.0"))
    assert counts(done) == (3, 1, 0, 0, 0, 2)
    assert [problem["row"] for problem in done.problems] == [1, 2]
    assert place.held()[0]["label"] == 1


def test_labels_find_masked_units_and_leave_no_trace_of_them(tmp_path: Path) -> None:
    place = Place(tmp_path / "segments", MASKED)
    place.predict("Quillfeather")
    assert counts(place.take(row("Quillfeather"))) == (1, 1, 0, 0, 0, 0)
    assert counts(place.take(row("Quillfeather"))) == (1, 0, 1, 0, 0, 0)
    events = list(place.ledger.events(verb="label.take"))
    assert b"Quillfeather" not in b"".join(path.read_bytes() for path in place.folder.iterdir())
    assert "Quillfeather" not in str(events)


def test_who_may_not_take_labels_is_denied_before_anything_is_opened(place: Place) -> None:
    with pytest.raises(Denied):
        place.take(row("f-1"), actor=Actor("eve", "person", ("auditor",)))
    assert not place.folder.exists()


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1]), st.integers(0, 3)), max_size=8),
    seed=st.integers(0, 9),
)
def test_what_the_log_holds_in_the_end_depends_neither_on_order_nor_on_repetition(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int, int]], seed: int
) -> None:
    rows = [row(unit, label, hours) for unit, label, hours in said]
    found = []
    for copies in (1, 3):
        place = Place(tmp_path_factory.mktemp("log") / "segments")
        place.predict("a", "b")
        shuffled = rows * copies
        random.Random(seed).shuffle(shuffled)
        for start in range(0, len(shuffled), 5):
            place.take(*shuffled[start : start + 5])
        found.append(sorted((r["unit"], r["label"], r["at"]) for r in place.held()))
    assert found[0] == found[1] == sorted({(r["unit"], r["label"], r["at"]) for r in rows if r["unit"] != "c"})
