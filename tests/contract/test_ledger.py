"""falaj's own ledgers keep the contract of the port."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from falaj.adapters import open_adapter
from falaj.adapters.local import sqlite as sqlite_file
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.errors import Conflict, Denied, InvalidInput, Unavailable
from falaj.ports.ledger import Ledger
from falaj.testing.ledger import LedgerSuite, append, event, put


class TestMemoryLedger(LedgerSuite):
    __test__ = True

    def open(self) -> Ledger:
        return MemoryLedger()


class TestSqliteLedger(LedgerSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open(self) -> Ledger:
        return open_adapter(
            "ledger", "sqlite", path=self.folder / "state" / "ledger.db", key_path=self.folder / "keys" / "ledger"
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def opened(path: Path, **options: float) -> SqliteLedger:
    return SqliteLedger(path, path.with_name("key"), **options)


def test_only_the_owner_may_read_the_files(path: Path) -> None:
    ledger = SqliteLedger(path.parent / "state" / "ledger.db", path.parent / "state" / "keys" / "key")
    append(ledger, event())
    for file in (path.parent / "state").rglob("*"):
        if not file.name.endswith(".pub"):
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    ledger.close()


def test_every_commit_is_synchronised_fully(path: Path) -> None:
    ledger = opened(path)
    with ledger._connections.one() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET verb = 'x'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events VALUES(0, x'00', x'00', 'a', 'b', 'c')",
        "INSERT INTO events VALUES(7, x'00', x'00', 'a', 'b', 'c')",
        "UPDATE checkpoints SET note = ''",
        "DELETE FROM checkpoints",
    ],
)
def test_a_slip_of_the_hand_cannot_change_the_past(path: Path, statement: str) -> None:
    ledger = opened(path)
    append(ledger, event())
    ledger.checkpoint()
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="only ever"):
        connection.execute(statement)
    connection.close()
    ledger.close()


def test_a_ledger_that_another_holds_is_unavailable_after_the_wait(path: Path) -> None:
    first, second = opened(path), opened(path, busy_seconds=0.1)
    with first.transaction(), pytest.raises(Unavailable, match="another process"), second.transaction():
        pass
    append(second, event())
    first.close()
    second.close()


def test_a_ledger_that_was_closed_is_unavailable(path: Path) -> None:
    ledger = opened(path)
    ledger.close()
    for use in (lambda: ledger.get("a", "b"), lambda: append(ledger, event()), lambda: list(ledger.events())):
        with pytest.raises(Unavailable, match="closed"):
            use()


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(path: Path) -> None:
    path.with_name("key").unlink(missing_ok=True)
    opened(path.with_name("other.db")).close()
    path.write_bytes(b"not a database, but long enough to look like one" * 50)
    with pytest.raises(InvalidInput, match="not a ledger"):
        opened(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    opened(path.with_name("other.db")).close()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE guests(name)")
    connection.commit()
    connection.close()
    with pytest.raises(InvalidInput, match="another program"):
        opened(path)


def answered(rows: list[Any]) -> Any:
    """An answer that was fetched, so that nothing of the file is locked any more."""
    return SimpleNamespace(fetchone=lambda: rows[0])


def test_whoever_opens_it_while_another_makes_it_finds_a_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first two questions that one asks about the file, the other is through."""
    execute, made = sqlite_file._Connection.execute, list[SqliteLedger]()

    def slow(self: sqlite3.Connection, sql: str, *args: Any) -> Any:
        found = execute(self, sql, *args)
        if made or not ("application_id" in sql or "sqlite_schema" in sql):
            return found
        answer = found.fetchall()
        monkeypatch.undo()
        made.append(opened(path))
        return answered(answer)

    monkeypatch.setattr(sqlite_file._Connection, "execute", slow, raising=False)
    late = opened(path)
    append(late, event("test.run"))
    assert made
    assert len(list(made[0].events())) == 1


def test_a_layout_from_the_future_is_refused(path: Path) -> None:
    opened(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InvalidInput, match="newer falaj"):
        opened(path)


def test_a_folder_that_cannot_be_made_is_invalid_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput):
        SqliteLedger(tmp_path / "file" / "ledger.db", tmp_path / "key")


def test_a_full_disk_is_unavailable_and_leaves_nothing(path: Path) -> None:
    ledger = opened(path)
    append(ledger, event())
    with ledger._connections.one() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="disk is full"):
        append(ledger, *(event("a.b", "model/delay", put(f"k{n}", text="x" * 3000)) for n in range(50)))
    with ledger._connections.one() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert [e.seq for e in ledger.events()] == [0]
    assert [e.seq for e in append(ledger, event())] == [1]
    ledger.close()


def test_a_ledger_whose_file_is_gone_is_unavailable_until_it_is_back(path: Path) -> None:
    """What an open file takes after its name is gone would be acknowledged, and found by nobody."""
    ledger = opened(path)
    append(ledger, event("a.b", "model/delay", put("k", x=1)))
    away = path.with_name("away")
    away.mkdir()
    for file in path.parent.glob("ledger.db*"):
        file.rename(away / file.name)
    for use in (lambda: append(ledger, event()), lambda: ledger.get("thing", "k"), lambda: list(ledger.events())):
        with pytest.raises(Unavailable, match="is gone"):
            use()
    assert not path.exists()
    for file in away.iterdir():
        file.rename(path.with_name(file.name))
    assert ledger.get("thing", "k") == {"x": 1}
    assert [e.seq for e in append(ledger, event())] == [1]
    ledger.close()


def test_a_ledger_whose_file_was_replaced_goes_on_with_what_stands_there(path: Path) -> None:
    ledger = opened(path)
    append(ledger, event())
    ledger.close()
    (path.with_name("backup.db")).write_bytes(path.read_bytes())
    ledger = opened(path)
    append(ledger, event(), event())
    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    path.with_name("backup.db").rename(path)
    assert [e.seq for e in append(ledger, event())] == [1]
    ledger.close()
    ledger = opened(path)
    assert [e.seq for e in ledger.events()] == [0, 1]
    ledger.close()


def test_half_an_append_is_not_committed_even_where_its_error_is_swallowed(path: Path) -> None:
    ledger = opened(path)
    with ledger._connections.one() as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'no'); END")

    def swallow() -> None:
        with ledger.transaction() as tx, suppress(Conflict):
            tx.append(event("a.b", "model/delay", put("k", x=1)))

    with pytest.raises(Conflict):
        swallow()
    assert list(ledger.events()) == []
    ledger.close()


def test_a_ledger_whose_key_is_gone_is_not_given_a_new_one(path: Path) -> None:
    ledger = opened(path)
    append(ledger, event("a.b", "model/delay", put("k", x=1)))
    ledger.checkpoint()
    ledger.close()
    path.with_name("key").unlink()
    ledger = opened(path)
    for use in (lambda: append(ledger, event()), ledger.checkpoint, ledger.rebuild):
        with pytest.raises(Conflict, match="lost its key"):
            use()
    assert ledger.get("thing", "k") == {"x": 1}
    with ledger.evidence() as evidence:
        assert len(list(evidence.events())) == len(evidence.checkpoints()) == 1
    assert not path.with_name("key").exists()
    ledger.close()


def test_a_key_that_others_may_read_is_refused(path: Path) -> None:
    opened(path).close()
    path.with_name("key").chmod(0o644)
    with pytest.raises(Denied, match="Others"):
        opened(path)


def test_a_ledger_that_lost_its_tail_takes_no_more_events(path: Path) -> None:
    ledger = opened(path)
    append(ledger, event(), event())
    ledger.checkpoint()
    ledger.close()
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER events_never_go; DELETE FROM events WHERE seq = 1;")
    connection.close()
    ledger = opened(path)
    for use in (lambda: append(ledger, event()), ledger.checkpoint):
        with pytest.raises(Conflict, match="changed from outside"):
            use()
    ledger.close()


def test_a_tampered_leaf_is_not_proven(path: Path) -> None:
    ledger = opened(path)
    append(ledger, event(), event(), event())
    ledger.checkpoint()
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP TRIGGER events_never_change; UPDATE events SET leaf = replace(leaf, 'amal', 'omar') WHERE seq = 1;"
    )
    connection.close()
    with pytest.raises(Conflict, match="Event 1"):
        ledger.prove(1)
    ledger.prove(0)
    ledger.close()


def test_connections_are_shared_by_threads_and_do_not_pile_up(path: Path) -> None:
    ledger = opened(path)
    for _ in range(50):
        thread = threading.Thread(target=lambda: append(ledger, event()))
        thread.start()
        thread.join()
    assert len(ledger._connections._idle) == 1
    ledger.close()
