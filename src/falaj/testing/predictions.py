"""What every prediction log must keep. Subclass it, give it `predictions`, `write` and `close_segment`; run it with pytest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from falaj.core.errors import Conflict, NotFound
from falaj.core.segment import seal
from falaj.ports.predictions import Cursor, Predictions


class PredictionsSuite:
    """`write` appends records the way a server does, `close_segment` seals what was written so far."""

    __test__ = False

    def predictions(self) -> Predictions:
        raise NotImplementedError

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        raise NotImplementedError

    def close_segment(self) -> None:
        raise NotImplementedError

    def test_a_log_that_nobody_wrote_to_is_empty(self) -> None:
        log = self.predictions()
        assert list(log.follow()) == []
        assert log.seals() == []

    def test_records_come_in_the_order_they_were_written(self) -> None:
        log = self.predictions()
        self.write([{"kind": "label", "n": n} for n in range(3)])
        self.close_segment()
        self.write([{"kind": "label", "n": n} for n in range(3, 5)])
        assert [record["n"] for _, record in log.follow()] == [0, 1, 2, 3, 4]

    def test_following_goes_on_where_it_stopped(self) -> None:
        log = self.predictions()
        self.write([{"n": 0}, {"n": 1}])
        cursor = [cursor for cursor, _ in log.follow()][-1]
        assert list(log.follow(cursor)) == []
        self.write([{"n": 2}])
        self.close_segment()
        self.write([{"n": 3}])
        assert [record["n"] for _, record in log.follow(cursor)] == [2, 3]

    def test_a_cursor_means_the_same_to_a_log_that_was_opened_later(self) -> None:
        self.write([{"n": n} for n in range(4)])
        cursors = [cursor for cursor, _ in self.predictions().follow()]
        assert [record["n"] for _, record in self.predictions().follow(cursors[1])] == [2, 3]
        assert cursors[1] == Cursor(cursors[1].segment, 2)

    def test_every_record_is_the_line_that_its_cursor_stands_behind(self) -> None:
        log = self.predictions()
        self.write([{"n": 0}, {"n": 1}])
        for cursor, record in log.follow():
            assert f'"n":{record["n"]}'.encode() in log.line(cursor.segment, cursor.row - 1).replace(b" ", b"")
        assert len(log.lines(0)) == 2

    def test_a_line_is_read_as_following_hands_it_out(self) -> None:
        log = self.predictions()
        self.write([{"kind": "label", "n": 0}, {"kind": "label", "n": 1}])
        assert [record for row in range(2) for record in log.records(log.line(0, row))] == [record for _, record in log.follow()]
        for wrong in (b"", b"{", b"[1]", b"7"):
            with pytest.raises(Conflict):
                log.records(wrong)

    def test_a_line_that_does_not_exist_is_not_found(self) -> None:
        self.write([{"n": 0}])
        for segment, row in ((0, 1), (0, -1), (7, 0)):
            with pytest.raises(NotFound):
                self.predictions().line(segment, row)
        with pytest.raises(NotFound):
            self.predictions().lines(7)

    def test_a_dropped_segment_is_gone_and_its_seal_stays(self) -> None:
        self.write([{"n": 0}, {"n": 1}])
        self.close_segment()
        self.write([{"n": 2}])
        log = self.predictions()
        seals = log.seals()
        assert [log.drop(0), log.drop(0)] == [True, False]
        for reader in (log, self.predictions()):
            assert [record["n"] for _, record in reader.follow()] == [2]
            assert reader.seals() == seals
            with pytest.raises(NotFound):
                reader.lines(0)
        self.close_segment()
        assert [seal.segment for seal in self.predictions().seals()] == [0, 1]

    def test_a_segment_that_is_not_sealed_is_not_dropped(self) -> None:
        self.write([{"n": 0}])
        for segment in (0, 7):
            with pytest.raises(Conflict):
                self.predictions().drop(segment)
        assert [record["n"] for _, record in self.predictions().follow()] == [0]

    def test_a_seal_holds_the_root_of_its_lines(self) -> None:
        self.write([{"n": 0}, {"n": 1}, {"n": 2}])
        assert self.predictions().seals() == []
        self.close_segment()
        [found] = self.predictions().seals()
        data = b"".join(line + b"\n" for line in self.predictions().lines(0))
        wanted = seal(found.endpoint, 0, data, found.first_at, found.last_at)
        assert found == wanted
