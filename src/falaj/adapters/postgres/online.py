"""Online features in PostgreSQL: for whoever has one already and no need of microseconds.

One table of rows, packed as `core.stored` says, and one of views with their newest time, row count and mark. Both are made
when the first row is put.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pg8000.exceptions import DatabaseError, InterfaceError

from falaj.adapters.postgres.link import connect, hang_up, is_lost, options_of, sqlstate, words
from falaj.core.errors import Conflict, Denied, FalajError, InvalidInput, Unavailable
from falaj.core.stored import key_of, packed, time_of, unpack, view_key
from falaj.ports.online import LONGEST_MARK, Row, Stored

_LONGEST_KEY = 1_024
"""A key of PostgreSQL's index takes at most about 2,700 bytes. Longer entities are kept under their hash."""
_LOCK = 0x66616C616A  # "falaj"
_TABLES = (
    """create table if not exists falaj_online (
        project text collate "C" not null, view text collate "C" not null, entity bytea not null,
        at_ms bigint not null, row bytea not null, primary key (project, view, entity))""",
    """create table if not exists falaj_online_views (
        project text collate "C" not null, view text collate "C" not null,
        newest bigint, count bigint not null, mark text, primary key (project, view))""",
)
_PUT = """
insert into falaj_online as held (project, view, entity, at_ms, row)
select :project, :view, given.entity, given.at_ms, given.row
from unnest(cast(:entities as bytea[]), cast(:times as bigint[]), cast(:rows as bytea[])) as given (entity, at_ms, row)
on conflict (project, view, entity) do update set row = excluded.row, at_ms = excluded.at_ms
where held.at_ms <= excluded.at_ms
returning (xmax = 0)
"""
"""`xmax = 0`: the row is a new one."""
_ABOUT = """
insert into falaj_online_views as held (project, view, newest, count, mark)
values (:project, :view, cast(:newest as bigint), cast(:count as bigint), cast(:mark as text))
on conflict (project, view) do update set newest = greatest(held.newest, excluded.newest),
    count = held.count + excluded.count, mark = coalesce(excluded.mark, held.mark)
"""
_GET = """
select held.row
from unnest(cast(:views as text[]), cast(:entities as bytea[])) with ordinality as asked (view, entity, place)
left join falaj_online held on held.project = :project and held.view = asked.view and held.entity = asked.entity
order by asked.place
"""
_NO_TABLE = "42P01"


class PostgresOnline:
    """capabilities: `shared`, `lasting`. Safe for many writers and readers; one connection, which threads take in turn."""

    capabilities: frozenset[str] = frozenset({"shared", "lasting"})

    def __init__(self, url: str, project: str, *, readonly: bool = False, timeout_s: float = 10.0) -> None:
        """`url`: postgresql://user[:password]@host[:port]/database, with ?sslmode=verify-full (and sslrootcert=…) for TLS.

        Connects when it is first asked, so a server that is away now is no error yet. Raises InvalidInput for an address
        that is none.
        """
        self._project = project
        self._readonly = readonly
        self._options = {**options_of(url, "online_url", "the online store"), "timeout": timeout_s, "application_name": "falaj"}
        self._place = f"{self._options['host']}:{self._options['port']}"
        self._connection: Any = None
        self._ready = False
        self._lock = threading.Lock()

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        self._may_write()
        about = self._about(view)
        if mark is not None and (len(mark) > LONGEST_MARK or "\0" in mark):
            raise InvalidInput(
                f"A mark of {len(mark):,} characters cannot be kept.", f"at most {LONGEST_MARK:,}, none of them zero."
            )
        # In one order, so that two writers never wait for each other's rows.
        whole = sorted((key_of(entity, _LONGEST_KEY), packed(row)) for entity, row in rows.items())
        if not whole and mark is None:
            return 0
        times = [time_of(row) for _, row in whole]

        def write(connection: Any) -> int:
            fresh: list[list[bool]] = []
            connection.run("start transaction")
            connection.run("select pg_advisory_xact_lock(hashtextextended(:project || chr(31) || :view, 0))", **about)
            if whole:
                fresh = connection.run(
                    _PUT, **about, entities=[key for key, _ in whole], times=times, rows=[row for _, row in whole]
                )
            connection.run(_ABOUT, **about, newest=max(times, default=None), count=sum(is_new for (is_new,) in fresh), mark=mark)
            connection.run("commit")
            return len(fresh)

        return int(self._ask(write, makes=True))

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        if not keys:
            return []
        views = [view for view, _ in keys]
        for view in set(views):
            view_key(view)
        entities = [key_of(entity, _LONGEST_KEY) for _, entity in keys]
        found = self._ask(lambda link: link.run(_GET, project=self._project, views=views, entities=entities))
        return [None] * len(keys) if found is None else [None if row is None else unpack(row) for (row,) in found]

    def freshness(self, view: str) -> int | None:
        found = self._look(view, "newest")
        return None if found is None else int(found)

    def mark(self, view: str) -> str | None:
        found = self._look(view, "mark")
        return None if found is None else str(found)

    def count(self, view: str) -> int:
        return int(self._look(view, "count") or 0)

    def clear(self, view: str) -> None:
        self._may_write()
        about = self._about(view)

        def remove(connection: Any) -> None:
            connection.run("start transaction")
            connection.run("select pg_advisory_xact_lock(hashtextextended(:project || chr(31) || :view, 0))", **about)
            connection.run("delete from falaj_online where project = :project and view = :view", **about)
            connection.run("delete from falaj_online_views where project = :project and view = :view", **about)
            connection.run("commit")

        self._ask(remove, makes=True)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _about(self, view: str) -> dict[str, Any]:
        view_key(view)
        return {"project": self._project, "view": view}

    def _may_write(self) -> None:
        if self._readonly:
            raise Denied(f"The online store at {self._place} was opened for reading only.", "the control plane writes it.")

    def _look(self, view: str, column: str) -> Any:
        about = self._about(view)
        asked = f"select {column} from falaj_online_views where project = :project and view = :view"  # noqa: S608  # our own names
        found = self._ask(lambda link: link.run(asked, **about))
        return found[0][0] if found else None

    def _ask(self, work: Any, *, makes: bool = False) -> Any:
        """What `work` returns, None where there is no table yet. A connection that was lost meanwhile is opened anew, once.

        That repeats the work, which is why every work here may be repeated.
        """
        with self._lock:
            for is_last in (self._connection is None, True):
                try:
                    if self._connection is None:
                        self._connection = connect(self._options)
                    if makes and not self._ready:
                        self._make()
                    return work(self._connection)
                except DatabaseError as exc:
                    if sqlstate(exc) == _NO_TABLE and not makes:
                        return None
                    if is_lost(exc):
                        self._drop()
                    if is_last or not is_lost(exc):
                        raise self._translated(exc) from exc
                except (InterfaceError, OSError) as exc:
                    self._drop()
                    if is_last:
                        raise self._translated(exc) from exc
                finally:
                    self._settle()
        raise AssertionError

    def _make(self) -> None:
        """Two processes that make the same tables at once would trip over each other."""
        self._connection.run("start transaction")
        self._connection.run("select pg_advisory_xact_lock(:lock)", lock=_LOCK)
        for table in _TABLES:
            self._connection.run(table)
        self._connection.run("commit")
        self._ready = True

    def _settle(self) -> None:
        """Ends what a failure left open. A connection that does not answer any more is given up."""
        link = self._connection
        if link is None:
            return
        try:
            if link._transaction_status != b"I":
                link.run("rollback")
        except (DatabaseError, InterfaceError, OSError):
            self._drop()

    def _drop(self) -> None:
        link, self._connection = self._connection, None
        self._ready = False
        if link is not None:
            hang_up(link)

    def _translated(self, exc: Exception) -> FalajError:
        where = f"The online store at {self._place}"
        code, text = sqlstate(exc), words(exc)
        if code.startswith("28") or code == "42501":
            return Denied(f"{where} refuses: {text}.", "check the user and the password that `online_url` refers to.")
        if code.startswith(("53", "57", "08", "40", "55")) or isinstance(exc, (InterfaceError, OSError)):
            return Unavailable(f"{where} does not answer: {text}.", "check that PostgreSQL runs there; falaj tries again.")
        if code == "3D000":
            return Denied(f"{where} refuses: {text}.", "make the database, or name another one in `online_url`.")
        return Conflict(f"{where} holds tables that falaj cannot use: {text}.", "remove falaj_online and falaj_online_views.")
