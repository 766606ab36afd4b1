"""The embedded streams keep the contract; the files also across processes, kill -9, torn writes and damage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.stream import FileStream
from falaj.adapters.memory.stream import Channel, MemoryStream
from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.core.message import Message
from falaj.ports.stream import Stream
from falaj.testing.stream import GROUP, Opened, StreamSuite, took, values


class TestMemoryStream(StreamSuite):
    visible_s = 0.2

    @pytest.fixture
    def opened(self) -> Opened:
        self.channel = Channel()
        return lambda **options: MemoryStream(self.channel, **options)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.channel.is_away = True
        yield
        self.channel.is_away = False


@pytest.mark.slow
class TestFileStream(StreamSuite):
    visible_s = 0.3

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opened]:
        self.folder = tmp_path
        streams: list[Stream] = []

        def open_one(**options: Any) -> Stream:
            streams.append(FileStream(tmp_path, "requests", segment_bytes=4_000, **options))
            return streams[-1]

        yield open_one
        for stream in streams:
            stream.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """A disk that is not there."""
        (self.folder / "requests").rename(self.folder / "gone")
        (self.folder / "requests").write_text("")
        yield
        (self.folder / "requests").unlink()
        (self.folder / "gone").rename(self.folder / "requests")


PRODUCER = """
import sys
from pathlib import Path
from falaj.adapters.local.stream import FileStream
from falaj.core.message import Message
stream = FileStream(Path(sys.argv[1]), "shared", segment_bytes=2_000)
print(sum(stream.produce([Message(b"x" * 50, f"k{n % 3}", id=f"id-{n}")]) for n in range(100)))
"""


@pytest.mark.slow
def test_two_processes_that_produce_the_same_ids_at_once_store_each_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PRODUCER, str(tmp_path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    new = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert sum(new) == 100
    assert sorted(one.message.id for one in FileStream(tmp_path, "shared").replay()) == sorted(f"id-{n}" for n in range(100))


def filled(folder: Path, count: int = 3) -> Path:
    """A stream with some messages; the path of its only segment."""
    stream = FileStream(folder, "s")
    stream.produce([Message(b"%d" % n) for n in range(count)])
    return folder / "s" / "00000000000000000000.seg"


@pytest.mark.parametrize("rest", [b"\x01", b"\x09\0\0\0\0\0\0\0half", b"\x04\0\0\0\0\0\0\0abcd"])
def test_what_a_writer_that_died_left_half_written_is_passed_over(tmp_path: Path, rest: bytes) -> None:
    segment = filled(tmp_path)
    with segment.open("ab") as file:
        file.write(rest)
    stream = FileStream(tmp_path, "s")
    assert values(stream.replay()) == [b"0", b"1", b"2"]
    stream.produce([Message(b"3")])
    assert values(FileStream(tmp_path, "s").replay()) == [b"0", b"1", b"2", b"3"]
    assert values(took(stream, 4)) == [b"0", b"1", b"2", b"3"]
    assert segment.read_bytes().endswith(rest)


def test_a_message_that_was_damaged_is_never_overwritten_or_skipped(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    data = bytearray(segment.read_bytes())
    data[data.index(b"}1") + 1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(Conflict, match="message 1 cannot be read"):
        FileStream(tmp_path, "s").produce([Message(b"new")])
    (tmp_path / "s" / "00000000000000000003.seg").write_bytes(b"")
    reader = FileStream(tmp_path, "s").replay()
    assert next(reader).message.value == b"0"
    with pytest.raises(Conflict, match="message 1 cannot be read"):
        list(reader)


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = filled(tmp_path)
    size = segment.stat().st_size
    real, stream = os.write, FileStream(tmp_path, "s")

    def full(fd: int, data: Any) -> int:
        if os.fstat(fd).st_size >= size:
            real(fd, bytes(data)[:5])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        stream.produce([Message(b"3", id="three")])
    monkeypatch.undo()
    assert segment.stat().st_size == size
    assert stream.produce([Message(b"3", id="three")]) == 1
    assert values(stream.replay()) == [b"0", b"1", b"2", b"3"]


def test_only_what_every_group_is_done_with_is_removed(tmp_path: Path) -> None:
    stream = FileStream(tmp_path, "s", segment_bytes=300, keep_bytes=600)
    stream.produce([])
    for n in range(40):
        stream.produce([Message(b"%d" % n + b"." * 80)])
    slow = stream.consume("slow", 1, 1)
    stream.acknowledge("fast", took(stream, 40, "fast"))
    assert len(list(stream.replay())) == 40
    stream.acknowledge("slow", slow)
    stream.acknowledge("slow", took(stream, 39, "slow"))
    kept = [int(one.position) for one in FileStream(tmp_path, "s").replay()]
    assert kept == list(range(kept[0], 40))
    assert 0 < len(kept) < 12
    late = FileStream(tmp_path, "s")
    assert [int(one.position) for one in took(late, len(kept), "late")] == kept


def test_a_group_whose_holders_were_forgotten_is_handed_everything_again(tmp_path: Path) -> None:
    filled(tmp_path)
    stream = FileStream(tmp_path, "s")
    found = took(stream, 3)
    stream.acknowledge(GROUP, found[1:2])
    (tmp_path / "s" / "groups" / f"{GROUP}.held").write_text("")  # as a power cut may leave it
    assert values(took(FileStream(tmp_path, "s"), 2)) == [b"0", b"2"]
    (tmp_path / "s" / "groups" / f"{GROUP}.done").write_text("{")
    with pytest.raises(Conflict, match="cannot be read"):
        stream.lag(GROUP)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "x" * 101, "a b"])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="no name"):
        FileStream(tmp_path, name)
    with pytest.raises(InvalidInput, match="no name"):
        FileStream(tmp_path, "s").consume(name, 1, 0)
