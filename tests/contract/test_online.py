"""Every online store keeps the contract; LMDB also across processes, restarts and bad files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.memory.online import MemoryOnline
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.ports.online import Online, Row, Stored
from falaj.testing.online import OnlineSuite

READER = """
import sys
from pathlib import Path
from falaj.adapters.local.online import LmdbOnline
online = LmdbOnline(Path(sys.argv[1]), readonly=True)
print("open", flush=True)
for line in sys.stdin:
    view, entity = line.split()
    (row,) = online.get([(view, entity)])
    print(None if row is None else f"{row.at_ms} {row.values}", online.freshness(view), online.count(view), flush=True)
"""


class TestMemoryOnline(OnlineSuite):
    @pytest.fixture
    def online(self) -> Online:
        return MemoryOnline()


class TestLmdbOnline(OnlineSuite):
    @pytest.fixture
    def online(self, tmp_path: Path) -> Iterator[Online]:
        opened = LmdbOnline(tmp_path / "online.lmdb", map_size=1 << 24)
        yield opened
        opened.close()


_ENTITIES = st.sampled_from(["", "x", "y", "z" * 600, "فلج"])
_ROWS = st.dictionaries(
    _ENTITIES,
    st.builds(Stored, st.integers(-3, 3), st.tuples(st.one_of(st.none(), st.floats(allow_nan=False), st.text("aف", max_size=2)))),
)
_STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.one_of(st.none(), _ROWS), st.one_of(st.none(), st.text("mn", max_size=2))), max_size=12
)


@given(_STEPS)
def test_lmdb_does_whatever_the_memory_does(steps: list[tuple[str, dict[str, Row] | None, str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores: list[Online] = [MemoryOnline(), LmdbOnline(Path(folder), map_size=1 << 24)]
        for view, rows, mark in steps:
            if rows is None:
                for store in stores:
                    store.clear(view)
            else:
                assert len({store.put(view, rows, mark) for store in stores}) == 1
        asked = [(view, entity) for view in "ab" for entity in ("", "x", "y", "z" * 600, "فلج")]
        one, two = (
            (store.get(asked), [(store.count(view), store.freshness(view), store.mark(view)) for view in "ab"])
            for store in stores
        )
        assert one == two
        stores[1].close()


@pytest.mark.slow
def test_another_process_reads_what_this_one_writes_after_it_was_opened(tmp_path: Path) -> None:
    writer = LmdbOnline(tmp_path / "online", map_size=1 << 24)
    writer.put("a", {"x": Stored(1, (1.5, None))})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", READER, str(tmp_path / "online")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as reader:
        asking, answers = reader.stdin, reader.stdout
        assert asking is not None
        assert answers is not None

        def ask(asking: IO[str] = asking, answers: IO[str] = answers) -> str:
            asking.write("a x\n")
            asking.flush()
            return answers.readline().strip()

        assert answers.readline() == "open\n"
        assert ask() == "1 (1.5, None) 1 1"
        writer.put("a", {"x": Stored(2, (2.5, 0.0)), "y": Stored(7, (0.0, 0.0))})
        assert ask() == "2 (2.5, 0.0) 7 2"
        writer.close()
        bigger = LmdbOnline(tmp_path / "online", map_size=1 << 26)
        bigger.put("a", {f"{n}" * 20: Stored(9, tuple(float(i) for i in range(250))) for n in range(15_000)})
        assert ask() == "2 (2.5, 0.0) 9 15002"
        bigger.close()
        asking.close()
        assert reader.wait(20) == 0


def test_a_store_that_is_opened_again_holds_what_was_put(tmp_path: Path) -> None:
    first = LmdbOnline(tmp_path, map_size=1 << 24)
    first.put("a", {"x": Stored(1, (1.0,))})
    first.close()
    again = LmdbOnline(tmp_path, readonly=True, map_size=1 << 24)
    assert (again.get([("a", "x")]), again.freshness("a"), again.count("a")) == ([Stored(1, (1.0,))], 1, 1)
    again.close()


def test_a_store_opened_for_reading_refuses_to_write_and_says_who_may(tmp_path: Path) -> None:
    LmdbOnline(tmp_path, map_size=1 << 24).close()
    online = LmdbOnline(tmp_path, readonly=True)
    with pytest.raises(Denied, match="for reading only"):
        online.put("a", {"x": Stored(1, (1.0,))})
    with pytest.raises(Denied, match="for reading only"):
        online.clear("a")
    online.close()


def test_reading_a_store_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="falaj up"):
        LmdbOnline(tmp_path / "none", readonly=True)


def test_a_full_store_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    online = LmdbOnline(tmp_path, map_size=1 << 16)
    online.put("a", {"x": Stored(1, (1.0,))})
    with pytest.raises(Unavailable, match="full"):
        online.put("a", {str(n): Stored(2, (0.0,) * 100) for n in range(1_000)})
    assert (online.get([("a", "x")]), online.count("a")) == ([Stored(1, (1.0,))], 1)
    online.close()


def test_a_file_of_another_kind_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a database" * 2_000)
    with pytest.raises(Conflict, match="no online store"):
        LmdbOnline(tmp_path)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "online").write_text("oops")
    with pytest.raises((Conflict, Unavailable), match="online"):
        LmdbOnline(tmp_path / "online")


def test_opening_twice_in_one_process_is_a_conflict(tmp_path: Path) -> None:
    online = LmdbOnline(tmp_path, map_size=1 << 24)
    with pytest.raises(Conflict, match="already open"):
        LmdbOnline(tmp_path, readonly=True)
    online.close()


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 101])
def test_a_view_name_that_would_confuse_the_keys_is_refused(tmp_path: Path, name: str) -> None:
    online = LmdbOnline(tmp_path, map_size=1 << 24)
    with pytest.raises(InvalidInput, match="cannot be kept"):
        online.put(name, {"x": Stored(1, (1.0,))})
    online.close()


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    online = LmdbOnline(tmp_path / "online", map_size=1 << 24)
    assert (tmp_path / "online").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "online" / "data.mdb").stat().st_mode & 0o077 == 0
    online.close()
