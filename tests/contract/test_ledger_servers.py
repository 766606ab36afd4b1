"""PostgreSQL keeps the contract of the ledger, and says clearly what is wrong with it."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pg8000 import native
from pg8000.exceptions import DatabaseError

from falaj.adapters import open_adapter
from falaj.adapters.local.keys import OneKey
from falaj.adapters.local.signing import SigningKey, open_key, verifier
from falaj.adapters.postgres.ledger import PostgresLedger
from falaj.adapters.postgres.tables import grants, quoted, schema_of
from falaj.core.errors import Bug, Conflict, Denied, InvalidInput, Unavailable
from falaj.core.event import Change
from falaj.core.merkle import leaf_hash, root
from falaj.ports.ledger import Ledger
from falaj.stages.governance.rules import verify
from falaj.testing.ledger import START, LedgerSuite, append, event, put
from tests.kits.servers import free_port, postgresql_server

pytestmark = pytest.mark.slow
_NAMES = itertools.count()


class TestPostgresLedger(LedgerSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _place(self, postgresql_url: str, tmp_path: Path) -> None:
        self.url, self.key, self.project = postgresql_url, open_key(tmp_path / "key"), f"suite {next(_NAMES)}"

    def open(self) -> Ledger:
        return open_adapter("ledger", "postgresql", url=self.url, project=self.project, keys=OneKey(self.key))


@pytest.fixture
def opened(postgresql_url: str) -> Iterator[Callable[..., PostgresLedger]]:
    key, ledgers = SigningKey.generate(), list[PostgresLedger]()

    def open_one(project: str, url: str = postgresql_url, **options: Any) -> PostgresLedger:
        ledgers.append(PostgresLedger(url, project, keys=OneKey(key), **options))
        return ledgers[-1]

    yield open_one
    for one in ledgers:
        one.close()


@contextlib.contextmanager
def plain(url: str, project: str, user: str = "falaj") -> Iterator[Any]:
    """A bare connection, as a database administrator has it."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    with contextlib.closing(native.Connection(user, host="127.0.0.1", port=port, database="postgres")) as link:
        link.run(f"set search_path to {quoted(schema_of(project))}")
        yield link


def name() -> str:
    return f"case {next(_NAMES)}"


@pytest.mark.parametrize(
    "statement",
    [
        "update events set verb = 'x'",
        "delete from events",
        "truncate events",
        "insert into events values (0, '', '', 'a', 'b', 'c') on conflict (seq) do update set verb = 'x'",
        "insert into events values (7, '', '', 'a', 'b', 'c')",
        "insert into events values (2, '', '', 'a', 'b', 'c'), (4, '', '', 'a', 'b', 'c')",
        "update checkpoints set note = ''",
        "delete from checkpoints",
    ],
)
def test_a_slip_of_the_hand_cannot_change_the_past(
    opened: Callable[..., PostgresLedger], postgresql_url: str, statement: str
) -> None:
    project = name()
    ledger = opened(project)
    append(ledger, event(), event())
    ledger.checkpoint()
    with plain(postgresql_url, project) as link, pytest.raises(DatabaseError, match="only ever appended"):
        link.run(statement)


def test_a_role_that_only_writes_the_ledger_can_do_all_of_it_and_change_nothing(
    opened: Callable[..., PostgresLedger], postgresql_url: str
) -> None:
    project, role = name(), f"app{next(_NAMES)}"
    append(opened(project), event("a.b", "model/delay", put("k", x=1)))
    with plain(postgresql_url, project) as link:
        link.run(f"create role {role} login")
        for statement in grants(project, role):
            link.run(statement)
    ledger = opened(project, postgresql_url.replace("falaj@", f"{role}@"))
    append(ledger, event("a.b", "model/delay", put("k", x=2), put("l", x=3)), event())
    append(ledger, event("a.b", "model/delay", Change("thing", "k", None)))
    assert ledger.checkpoint().size == 4
    ledger.rebuild()
    assert [key for key, _ in ledger.find("thing")] == ["l"]
    with ledger.evidence() as evidence:
        assert len(list(evidence.events())) == 4
    with plain(postgresql_url, project, role) as link:
        for statement in (
            "update events set verb = 'x'",
            "delete from events",
            "truncate events",
            "update checkpoints set note = ''",
            "delete from checkpoints",
            "alter table events disable trigger all",
            "drop trigger events_never_change on events",
            "drop table events",
            "delete from frontier",
        ):
            with pytest.raises(DatabaseError, match=r"permission denied|must be owner"):
                link.run(statement)


def test_a_role_without_rights_is_denied_and_told_where(opened: Callable[..., PostgresLedger], postgresql_url: str) -> None:
    project, role = name(), f"nobody{next(_NAMES)}"
    append(opened(project), event())
    with plain(postgresql_url, project) as link:
        link.run(f"create role {role} login")
    stranger = opened(project, postgresql_url.replace("falaj@", f"{role}@"))
    for use in (lambda: append(stranger, event()), lambda: stranger.get("a", "b"), lambda: list(stranger.events())):
        with pytest.raises(Denied, match="refuses"):
            use()


def test_connections_that_the_server_ends_are_opened_anew(opened: Callable[..., PostgresLedger], postgresql_url: str) -> None:
    project = name()
    ledger = opened(project)
    append(ledger, event("a.b", "model/delay", put("k", x=1)))
    for use in (
        lambda: append(ledger, event()),
        lambda: ledger.get("thing", "k"),
        ledger.checkpoint,
        lambda: list(ledger.leaves()),
    ):
        end_all(postgresql_url, project)
        assert use()


def end_all(url: str, project: str) -> None:
    with plain(url, project) as link:
        link.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'falaj ledger' and pid <> "
            "pg_backend_pid()"
        )


def test_a_connection_that_ends_inside_a_transaction_fails_it_and_leaves_nothing(
    opened: Callable[..., PostgresLedger], postgresql_url: str
) -> None:
    project = name()
    ledger = opened(project)
    append(ledger, event())

    def broken() -> None:
        with ledger.transaction() as tx:
            tx.append(event("a.b", "model/delay", put("k", x=1)))
            end_all(postgresql_url, project)

    with pytest.raises(Unavailable, match="does not answer"):
        broken()
    assert ledger.get("thing", "k") is None
    assert [e.seq for e in append(ledger, event())] == [1]


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_commit_whose_answer_is_lost_is_looked_up(
    opened: Callable[..., PostgresLedger], postgresql_url: str, is_kept: bool
) -> None:
    """The connection breaks between the commit and its answer, or before the commit: only the database knows which."""
    project = name()
    ledger = opened(project)
    append(ledger, event())

    def commit() -> None:
        with ledger.transaction() as tx:
            tx.append(event("a.b", "model/delay", put("k", x=1)))
            group = ledger._group._open
            assert group is not None
            store: Any = group.batch.store
            store.link = Breaking(store.link, is_kept)

    if is_kept:
        commit()
        assert ledger.get("thing", "k") == {"x": 1}
    else:
        with pytest.raises(Unavailable):
            commit()
        assert ledger.get("thing", "k") is None
    append(ledger, event())
    assert [e.seq for e in ledger.events()] == list(range(3 if is_kept else 2))


class Breaking:
    """A connection whose network breaks around its commit."""

    def __init__(self, link: Any, is_kept: bool) -> None:
        self._link, self._is_kept = link, is_kept

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._link, attribute)

    def run(self, statement: str, **values: Any) -> Any:
        if statement != "commit":
            return self._link.run(statement, **values)
        if self._is_kept:
            self._link.run(statement)
        self._link._usock.shutdown(socket.SHUT_RDWR)
        return self._link.run("select 1")


def test_a_server_that_is_away_is_unavailable_without_its_password() -> None:
    url = f"postgresql://falaj:hush@127.0.0.1:{free_port()}/postgres"
    ledger = PostgresLedger(url, "p", keys=OneKey(SigningKey.generate()), busy_seconds=1)
    for use in (lambda: append(ledger, event()), lambda: ledger.get("a", "b"), lambda: list(ledger.events()), ledger.checkpoint):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1.* does not answer") as told:
            use()
        assert "hush" not in str(told.value)
    with pytest.raises(Unavailable), ledger.evidence():
        pass
    ledger.close()


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """Not in pytest's own, which a run beside this one shuts to the user that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="falaj-postgresql-") as folder:
        yield Path(folder)


def test_a_server_that_goes_and_comes_back_is_used_again_without_opening_anything(own_folder: Path) -> None:
    port, key = free_port(), SigningKey.generate()
    with postgresql_server(own_folder / "server", port) as url:
        ledger = PostgresLedger(url, "p", keys=OneKey(key), busy_seconds=2)
        append(ledger, event("a.b", "model/delay", put("k", x=1)))
        ledger.checkpoint()
    for use in (lambda: append(ledger, event()), lambda: ledger.get("thing", "k"), lambda: list(ledger.leaves())):
        with pytest.raises(Unavailable, match="does not answer"):
            use()
    with postgresql_server(own_folder / "server", port):
        assert ledger.get("thing", "k") == {"x": 1}
        assert [e.seq for e in append(ledger, event())] == [1]
        assert ledger.checkpoint().size == 2
    ledger.close()


def test_a_ledger_that_another_holds_is_unavailable_after_the_wait(opened: Callable[..., PostgresLedger]) -> None:
    project = name()
    first, second = opened(project), opened(project, busy_seconds=0.2)
    with first.transaction(), pytest.raises(Unavailable, match="another process"), second.transaction():
        pass
    append(second, event())


def test_a_ledger_that_was_closed_is_unavailable(opened: Callable[..., PostgresLedger]) -> None:
    ledger = opened(name())
    append(ledger, event())
    ledger.close()
    for use in (lambda: ledger.get("a", "b"), lambda: append(ledger, event()), lambda: list(ledger.events())):
        with pytest.raises(Unavailable, match="closed"):
            use()


def test_a_ledger_that_was_carried_over_a_fork_says_so(
    opened: Callable[..., PostgresLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = opened(name())
    append(ledger, event())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for use in (lambda: append(ledger, event()), lambda: ledger.get("a", "b")):
        with pytest.raises(Bug, match="fork"):
            use()


@pytest.mark.parametrize("key", ["a\0b", "x" * 1025])
def test_a_name_that_postgresql_cannot_keep_is_refused_at_once_and_costs_nobody_else(
    opened: Callable[..., PostgresLedger], key: str
) -> None:
    ledger = opened(name())
    with ledger.transaction() as tx:
        tx.append(event("a.b", "model/delay", put("k", x=1)))
        with pytest.raises(InvalidInput, match="cannot name"):
            tx.append(event("a.b", "model/delay", put(key, x=1)))
    assert [found for found, _ in ledger.find("thing")] == ["k"]


def test_projects_share_a_server_without_seeing_each_other_whatever_their_names(opened: Callable[..., PostgresLedger]) -> None:
    for n, project in enumerate(['it\'s a "name"', "it's a name", "é" * 60, "é" * 61]):
        ledger = opened(project)
        append(ledger, *[event() for _ in range(n + 1)])
        assert len(list(ledger.leaves())) == n + 1


def test_a_ledger_that_lost_its_tail_takes_no_more_events(opened: Callable[..., PostgresLedger], postgresql_url: str) -> None:
    project = name()
    ledger = opened(project)
    append(ledger, event(), event())
    ledger.checkpoint()
    with plain(postgresql_url, project) as link:
        link.run("alter table events disable trigger all")
        link.run("delete from events where seq = 1")
    for use in (lambda: append(ledger, event()), ledger.checkpoint):
        with pytest.raises(Conflict, match="changed from outside"):
            use()


@pytest.mark.parametrize(
    ("edit", "check", "words"),
    [
        ("update events set leaf = 'x' where seq = 1", "leaves", "event 1 cannot be read"),
        ("update events set verb = 'x' where seq = 1", "leaves", "event 1 is filed"),
        ("delete from events where seq = 1", "sequence", "event 1 is missing"),
        ("update records set body = '{}'", "records", "reads otherwise"),
        ("drop table records", "records", "cannot be read"),
        ("update frontier set peaks = ''", "edge", "does not say where it ends"),
        ("drop table frontier cascade", "edge", "not laid out as a ledger"),
        ("update checkpoints set note = ''", "checkpoints", "not a signed note"),
    ],
)
def test_a_change_from_outside_is_found(
    opened: Callable[..., PostgresLedger], postgresql_url: str, edit: str, check: str, words: str
) -> None:
    project = name()
    ledger = opened(project)
    append(ledger, *(event("a.b", "model/delay", put(f"k{n}", n=n)) for n in range(3)))
    ledger.checkpoint()
    with plain(postgresql_url, project) as link:
        link.run("alter table events disable trigger all; alter table checkpoints disable trigger all")
        link.run(edit)
    with ledger.evidence() as evidence:
        decision = verify(evidence, verifier(ledger.vkey), now=START)
    assert decision.verdict == "deny"
    assert words in {one.name: one.seen for one in decision.failed}[check]


def _write(url: str, project: str, key: Path, events: int) -> None:
    ledger = PostgresLedger(url, project, keys=OneKey(open_key(key)))

    def count(_: int) -> None:
        with ledger.transaction() as tx:
            seen = dict(tx.get("thing", "count") or {"n": 0})
            tx.append(event("a.b", "model/delay", put("count", n=seen["n"] + 1)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(events)))
    ledger.checkpoint()
    ledger.close()


def test_four_processes_write_at_once_from_the_first_event_on(postgresql_url: str, tmp_path: Path) -> None:
    """They make the tables at once, too."""
    project = name()
    spawn = multiprocessing.get_context("spawn")
    key = open_key(tmp_path / "key")
    writers = [spawn.Process(target=_write, args=(postgresql_url, project, tmp_path / "key", 100)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 4
    ledger = PostgresLedger(postgresql_url, project, keys=OneKey(key))
    assert ledger.get("thing", "count") == {"n": 400}
    assert [e.seq for e in ledger.events()] == list(range(400))
    assert ledger.checkpoint().root == root([leaf_hash(leaf) for leaf in ledger.leaves()])
    with ledger.evidence() as evidence:
        assert verify(evidence, verifier(ledger.vkey), now=START).allowed
    ledger.close()
