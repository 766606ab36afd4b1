"""The prediction log under crashes, full disks and several writers."""

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.errors import Unavailable
from falaj.core.segment import seal
from falaj.inference.log import MOST_BYTES, PredictionLog
from falaj.inference.seals import Sealer


def line(number: int) -> bytes:
    return orjson.dumps({"kind": "prediction", "id": f"p{number}", "at": f"2013-05-01T09:30:00.{number:03d}Z"})


def fill(log: PredictionLog, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        log.append(lambda _segment, _row, number=number: [line(number)])  # type: ignore[misc]


def place_of(log: PredictionLog) -> tuple[int, int]:
    """Where the next line would stand; nothing is written."""
    seen: list[tuple[int, int]] = []

    def look(segment: int, row: int) -> list[bytes]:
        seen.append((segment, row))
        raise InterruptedError("only asked")

    with pytest.raises(Unavailable):
        log.append(look)
    return seen[0]


def seal_all(folder: Path, **options: Any) -> None:
    Sealer(folder, "delay", **options).close()


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
    log = PredictionLog(tmp_path)
    log.append(lambda segment, row: [line(0), b"%d,%d" % (segment, row)])
    assert (tmp_path / "000000.jsonl").read_bytes() == line(0) + b"\n0,0\n"
    log.close()


def test_a_full_segment_is_sealed_with_the_root_of_its_lines(tmp_path: Path) -> None:
    log, sealer = PredictionLog(tmp_path, rows=3), Sealer(tmp_path, "delay")
    fill(log, 7)
    sealer.look()
    data = (tmp_path / "000000.jsonl").read_bytes()
    seals = SegmentPredictions(tmp_path).seals()
    assert [found.segment for found in seals] == [0, 1]
    assert seals[0] == seal("delay", 0, data, "2013-05-01T09:30:00.000Z", "2013-05-01T09:30:00.002Z")
    assert place_of(log) == (2, 1)
    log.close()
    sealer.close()
    assert [found.rows for found in SegmentPredictions(tmp_path).seals()] == [3, 3, 1]


def test_a_segment_of_long_lines_ends_sooner(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    for _ in range(3):
        log.append(lambda _segment, _row: [b"x" * (MOST_BYTES - 10)])
    assert place_of(log) == (1, 1)
    log.close()


def test_neither_who_writes_nor_who_seals_keeps_old_segments_open(tmp_path: Path) -> None:
    log, sealer = PredictionLog(tmp_path, rows=2), Sealer(tmp_path, "delay")
    held = []
    for start in range(0, 40, 2):
        fill(log, 1, start)
        sealer.look()
        fill(log, 1, start + 1)
        log.sync()
        held.append(len(list(Path("/proc/self/fd").iterdir())))
    log.close()
    sealer.close()
    assert len(SegmentPredictions(tmp_path).seals()) == 20
    assert held[-1] <= held[2]


def test_an_idle_segment_is_sealed(tmp_path: Path) -> None:
    now = 100.0
    log = PredictionLog(tmp_path, clock=lambda: now)
    sealer = Sealer(tmp_path, "delay", idle_s=60, clock=lambda: now)
    fill(log, 1)
    now = 159.0
    sealer.look()
    assert not SegmentPredictions(tmp_path).seals()
    now = 160.0
    sealer.look()
    assert len(SegmentPredictions(tmp_path).seals()) == 1
    assert place_of(log) == (1, 0)
    log.close()
    sealer.close()


def test_a_torn_tail_is_cut_and_the_segment_goes_on(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    fill(log, 2)
    with (tmp_path / "000000.jsonl").open("ab") as file:
        file.write(b'{"kind":"predic')
    again = PredictionLog(tmp_path)
    assert place_of(again) == (0, 2)
    fill(again, 1, 2)
    fill(log, 1, 3)
    again.close()
    log.close()
    seal_all(tmp_path)
    data = (tmp_path / "000000.jsonl").read_bytes()
    assert data == b"".join(line(number) + b"\n" for number in range(4))
    [found] = SegmentPredictions(tmp_path).seals()
    wanted = seal("delay", 0, data, "", "")
    assert (found.root, found.digest, found.rows) == (wanted.root, wanted.digest, 4)


def test_whole_lines_of_a_killed_writer_stay_and_are_counted(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    fill(log, 2)
    with (tmp_path / "000000.jsonl").open("ab") as file:
        file.write(line(2) + b"\n" + line(3)[:9])
    assert place_of(log) == (0, 3)
    log.close()


def test_what_a_crash_left_unsealed_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, rows=2)
    fill(log, 5)
    assert not SegmentPredictions(tmp_path).seals()
    sealer = Sealer(tmp_path, "delay")
    sealer.look()
    assert [found.segment for found in SegmentPredictions(tmp_path).seals()] == [0, 1]
    assert place_of(log) == (2, 1)
    log.close()
    sealer.close()


@pytest.mark.parametrize("note", [None, b"", b"short", b"\0" * 32], ids=["gone", "empty", "short", "of an earlier time"])
def test_a_log_goes_on_behind_what_is_there_whatever_its_note_says(tmp_path: Path, note: bytes | None) -> None:
    log = PredictionLog(tmp_path, rows=2)
    fill(log, 5)
    log.close()
    (tmp_path / "tail").unlink() if note is None else (tmp_path / "tail").write_bytes(note)
    again = PredictionLog(tmp_path, rows=2)
    assert place_of(again) == (2, 1)
    again.close()


def test_nothing_is_added_to_a_sealed_segment(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    fill(log, 1)
    log.close()
    seal_all(tmp_path)
    (tmp_path / "tail").unlink()
    again = PredictionLog(tmp_path)
    assert place_of(again) == (1, 0)
    again.close()


def test_a_full_disk_refuses_leaves_no_half_line_and_is_forgotten(tmp_path: Path) -> None:
    disk = Disk()
    log = PredictionLog(tmp_path, write=disk)
    fill(log, 1)
    for room in (0, 10):
        disk.room = room
        with pytest.raises(Unavailable, match="cannot be written"):
            fill(log, 1, 1)
        assert (tmp_path / "000000.jsonl").read_bytes() == line(0) + b"\n"
    disk.room = None
    fill(log, 1, 2)
    log.close()
    seal_all(tmp_path)
    data = (tmp_path / "000000.jsonl").read_bytes()
    assert data == line(0) + b"\n" + line(2) + b"\n"
    assert SegmentPredictions(tmp_path).seals()[0].root == seal("delay", 0, data, "", "").root


def _write(folder: Path, who: int, count: int) -> None:
    log = PredictionLog(folder, rows=100)
    for number in range(count):
        log.append(lambda segment, row, number=number: [b"%d %d %d %d" % (segment, row + more, who, number) for more in (0, 1)])  # type: ignore[misc]
    log.close()


@pytest.mark.slow
def test_several_processes_write_one_log_and_every_line_knows_its_place(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, who, 500)) for who in range(3)]
    for writer in writers:
        writer.start()
    sealer = Sealer(tmp_path, "delay")
    while any(writer.is_alive() for writer in writers):
        sealer.look()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    sealer.close()
    read = SegmentPredictions(tmp_path)
    found = []
    for sealed in read.seals():
        lines = read.lines(sealed.segment)
        assert sealed.root == seal("delay", sealed.segment, b"".join(one + b"\n" for one in lines), "", "").root
        for row, one in enumerate(lines):
            segment, said, who, number = map(int, one.split())
            assert (segment, said) == (sealed.segment, row)
            found.append((who, number))
    assert sorted(found) == sorted((who, number) for who in range(3) for number in range(500) for _ in range(2))


def test_the_key_of_the_ids_is_made_once_and_kept_private(tmp_path: Path) -> None:
    log, other = PredictionLog(tmp_path), PredictionLog(tmp_path)
    assert log.key == other.key
    assert len(log.key) == 32
    assert (tmp_path / "id.key").stat().st_mode & 0o777 == 0o600
    log.close()
    other.close()


def test_syncing_can_be_repeated_and_needs_nothing_to_do(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, rows=2)
    log.sync()
    fill(log, 5)
    log.sync()
    log.sync()
    log.close()
