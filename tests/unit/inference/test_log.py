"""The prediction log under crashes and full disks."""

import errno
import os
from pathlib import Path

import orjson
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.errors import Conflict, Unavailable
from falaj.core.segment import seal
from falaj.inference.log import PredictionLog


def line(number: int, at: str = "2013-05-01T09:30:00.000Z") -> bytes:
    return orjson.dumps({"kind": "prediction", "id": f"p{number}", "at": at})


def fill(log: PredictionLog, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        log.append([line(number)], [f"2013-05-01T09:30:00.{number:03d}Z"])


class Disk:
    """A write that fails the way a disk does."""

    def __init__(self) -> None:
        self.room: int | None = None

    def __call__(self, fd: int, data: bytes) -> int:
        if self.room is None:
            return os.write(fd, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = os.write(fd, data[: self.room])
        self.room -= taken
        return taken


def test_what_was_appended_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay")
    log.append([line(0), line(1)], ["", ""])
    assert (tmp_path / "000000.jsonl").read_bytes() == line(0) + b"\n" + line(1) + b"\n"
    log.close()


def test_a_full_segment_is_sealed_with_the_root_of_its_lines(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay", rows=3)
    fill(log, 7)
    log.settle()
    data = (tmp_path / "000000.jsonl").read_bytes()
    seals = SegmentPredictions(tmp_path).seals()
    assert [found.segment for found in seals] == [0, 1]
    assert seals[0] == seal("delay", 0, data, "2013-05-01T09:30:00.000Z", "2013-05-01T09:30:00.002Z")
    assert log.place() == (2, 1)
    log.close()
    assert [found.rows for found in SegmentPredictions(tmp_path).seals()] == [3, 3, 1]


def test_an_idle_segment_is_sealed(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay", idle_s=60)
    log.append([line(0)], [""], now=100.0)
    log.tick(159.0)
    log.settle()
    assert not SegmentPredictions(tmp_path).seals()
    log.tick(160.0)
    log.settle()
    assert len(SegmentPredictions(tmp_path).seals()) == 1
    log.close()


def test_a_torn_tail_is_cut_and_the_segment_goes_on(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay")
    fill(log, 2)
    _die(log)
    with (tmp_path / "000000.jsonl").open("ab") as file:
        file.write(b'{"kind":"predic')
    again = PredictionLog(tmp_path, "delay")
    assert again.place() == (0, 2)
    fill(again, 1, 2)
    again.close()
    data = (tmp_path / "000000.jsonl").read_bytes()
    assert data == b"".join(line(number) + b"\n" for number in range(3))
    [found] = SegmentPredictions(tmp_path).seals()
    wanted = seal("delay", 0, data, "", "")
    assert (found.root, found.digest, found.rows) == (wanted.root, wanted.digest, 3)


def test_what_a_crash_left_unsealed_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay", rows=2)
    fill(log, 5)
    _die(log)
    assert not SegmentPredictions(tmp_path).seals()
    again = PredictionLog(tmp_path, "delay", rows=2)
    again.settle()
    assert [found.segment for found in SegmentPredictions(tmp_path).seals()] == [0, 1]
    assert again.place() == (2, 1)
    again.close()


def test_a_full_disk_refuses_leaves_no_half_line_and_is_forgotten(tmp_path: Path) -> None:
    disk = Disk()
    log = PredictionLog(tmp_path, "delay", write=disk)
    fill(log, 1)
    for room in (0, 10):
        disk.room = room
        with pytest.raises(Unavailable, match="cannot be written"):
            fill(log, 1, 1)
        assert (tmp_path / "000000.jsonl").read_bytes() == line(0) + b"\n"
    disk.room = None
    fill(log, 1, 2)
    log.close()
    data = (tmp_path / "000000.jsonl").read_bytes()
    assert data == line(0) + b"\n" + line(2) + b"\n"
    assert SegmentPredictions(tmp_path).seals()[0].root == seal("delay", 0, data, "", "").root


def test_two_servers_do_not_write_one_log(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay")
    with pytest.raises(Conflict, match="Another server"):
        PredictionLog(tmp_path, "delay")
    log.close()


def test_the_key_of_the_ids_is_made_once_and_kept_private(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, "delay")
    key = log.key
    log.close()
    again = PredictionLog(tmp_path, "delay")
    assert again.key == key
    assert len(key) == 32
    assert (tmp_path / "id.key").stat().st_mode & 0o777 == 0o600
    again.close()


def _die(log: PredictionLog) -> None:
    """What kill -9 does: everything closed, nothing finished."""
    os.close(log._folder_lock)
    for segment in [*log._retired, *([log._open] if log._open else [])]:
        os.close(segment.fd)
