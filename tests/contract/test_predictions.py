"""The segment stream keeps the port, also beside a server that was killed in the middle of a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.memory.vault import MemoryVault
from falaj.adapters.sealing.predictions import SealedPredictions
from falaj.core.errors import Conflict
from falaj.inference.log import PredictionLog
from falaj.inference.seals import Sealer
from falaj.ports.predictions import Cursor, Predictions
from falaj.testing.predictions import PredictionsSuite


class TestSegmentPredictions(PredictionsSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _log(self, tmp_path: Path) -> Any:
        self.folder = tmp_path
        self.now = 1.0
        self.log = PredictionLog(tmp_path, clock=lambda: self.now)
        self.sealer = Sealer(tmp_path, "delay", idle_s=1.0, clock=lambda: self.now)
        yield
        self.log.close()
        self.sealer.close()

    def predictions(self) -> Predictions:
        return SegmentPredictions(self.folder)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.log.append(lambda _segment, _row: [orjson.dumps(record) for record in records])

    def close_segment(self) -> None:
        self.now += 10.0
        self.sealer.look()

    def test_a_torn_last_line_is_not_there_until_it_is_whole(self) -> None:
        self.write([{"n": 0}])
        path = self.folder / "000000.jsonl"
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(b'{"n":')
        stream = self.predictions()
        [(cursor, _)] = stream.follow()
        assert stream.lines(0) == whole.splitlines()
        with path.open("ab") as file:
            file.write(b"1}\n")
        assert [record["n"] for _, record in stream.follow(cursor)] == [1]
        path.write_bytes(whole)

    def test_a_lost_note_gives_no_number_out_again_whose_segment_was_dropped(self) -> None:
        self.write([{"n": 0}])
        self.close_segment()
        self.predictions().drop(0)
        (self.folder / "tail").unlink()
        log = PredictionLog(self.folder)
        log.append(lambda _segment, _row: [b'{"n":1}'])
        log.close()
        assert [(cursor.segment, record["n"]) for cursor, record in self.predictions().follow()] == [(1, 1)]

    def test_following_on_reads_only_what_is_new(self) -> None:
        self.write([{"n": n} for n in range(1000)])
        stream = SegmentPredictions(self.folder)
        cursor = [cursor for cursor, _ in stream.follow()][-1]
        # What was read before is overwritten with as many bytes of nonsense: whoever read it again would fall over it.
        path = self.folder / "000000.jsonl"
        held = path.read_bytes()
        path.write_bytes(b"\0" * len(held))
        self.write([{"n": 1000}])
        assert [record["n"] for _, record in stream.follow(cursor)] == [1000]
        assert cursor == Cursor(0, 1000)

    def test_a_damaged_line_is_a_conflict_that_says_where(self) -> None:
        self.write([{"n": 0}, {"n": 1}])
        path = self.folder / "000000.jsonl"
        path.write_bytes(path.read_bytes().replace(b'{"n":1}', b"rubbish"))
        with pytest.raises(Conflict, match="line 1 of segment 0"):
            list(self.predictions().follow())

    def test_a_folder_that_does_not_exist_yet_is_an_empty_stream(self) -> None:
        assert list(SegmentPredictions(self.folder / "later").follow()) == []

    def test_a_line_of_several_predictions_comes_as_one_record_each(self) -> None:
        several = {"kind": "predictions", "id": "p0-0-0x2-0", "request_id": "r", "features": [1, 2, 3, 4], "scores": [0.1, 0.2]}
        self.write([several, {"n": 1}])
        found = list(self.predictions().follow())
        assert [record.get("id") for _, record in found] == ["p0-0-0x2-0.0", "p0-0-0x2-0.1", None]
        assert [record.get("features") for _, record in found] == [[1, 2], [3, 4], None]
        assert [record.get("score") for _, record in found] == [0.1, 0.2, None]
        assert [cursor for cursor, _ in found] == [Cursor(0, 0, 1), Cursor(0, 1), Cursor(0, 2)]
        for place, (cursor, _) in enumerate(found):
            assert [record for _, record in self.predictions().follow(cursor)] == [record for _, record in found[place + 1 :]]


class TestSealedPredictions(TestSegmentPredictions):
    """What opens sealed records is a log like any other, and opens no vault for records of nobody."""

    def predictions(self) -> Predictions:
        def never() -> MemoryVault:
            raise AssertionError("the vault was opened")

        return SealedPredictions(SegmentPredictions(self.folder), "delay", never)
