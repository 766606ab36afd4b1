"""Links: open connections to one PostgreSQL, lent to one thread at a time, with the words in which a ledger there fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from pg8000.exceptions import DatabaseError, InterfaceError

from falaj.adapters.postgres.link import connect, hang_up, is_lost, sqlstate, words
from falaj.adapters.postgres.tables import TABLES, VERSION, quoted
from falaj.core.errors import Bug, Conflict, Denied, FalajError, InvalidInput, Unavailable

T = TypeVar("T")

_MAKING = 0x66616C616A  # "falaj"
_IDLE_S = 60
"""A transaction that does nothing for so long is ended by the server: its process hangs, and others wait for the lock."""
_LOOK = "`falaj audit verify` shows what can still be trusted."
_RESTORE = f"restore it from a backup; {_LOOK}"
_FULL = "free some space there: until then it can only be read; writing goes on by itself as soon as there is room."
_AWAY = "check that PostgreSQL runs there; falaj tries again."
_WORDS: tuple[tuple[tuple[str, ...], type[FalajError], str, str], ...] = (
    # how the SQLSTATE begins (PostgreSQL, appendix A): the first line that fits
    (("53100",), Unavailable, "cannot grow, the disk is full", _FULL),
    (("55P03", "57014"), Unavailable, "is held by another process", "try again; if it lasts, look for one that hangs."),
    (("25006",), Unavailable, "takes no writes at present", "it is read as ever; falaj tries again."),
    (("28", "3D", "42501"), Denied, "refuses", "check the user, the database and its rights in `ledger_url`."),
    (
        ("08", "40", "53", "55", "57", "58"),
        Unavailable,
        "does not answer",
        "check that PostgreSQL runs there; falaj tries again.",
    ),
    (("23",), Conflict, "refused the change", _LOOK),
    (("XX",), Conflict, "is damaged", _RESTORE),
)
_STRANGE = ((), Conflict, "is not laid out as a ledger", _RESTORE)


class Links:
    """`busy_seconds`: how long the write lock is waited for. A statement may take twice as long, an answer a little longer."""

    def __init__(self, options: dict[str, Any], schema: str, busy_seconds: float) -> None:
        self.place = f"{options['host']}:{options['port']}"
        self._options = {**options, "timeout": 2 * busy_seconds + 5, "application_name": "falaj ledger"}
        self._schema, self.busy_seconds = schema, busy_seconds
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._closed = self._ready = False
        self._pid = os.getpid()

    def run(self, work: Callable[[Any], T], *, keep: bool = False) -> T:
        """What `work` returns, which has to bear being done twice: a connection that was lost meanwhile is opened anew, once.

        `keep`: the connection stays with the work until it is given back.
        """
        for is_last in (False, True):
            link, was_idle = self.take()
            try:
                found = work(link)
            except BaseException as exc:
                self.drop(link)
                if is_last or not was_idle or not isinstance(exc, (DatabaseError, InterfaceError, OSError)) or not is_lost(exc):
                    raise
                self._forget()  # the server was away: the others are lost too
            else:
                if not keep:
                    self.give(link)
                return found
        raise AssertionError

    def take(self) -> tuple[Any, bool]:
        """A connection, and whether it has been used before. Every error is falaj's own."""
        if os.getpid() != self._pid:
            raise Bug(
                "A ledger was carried over a fork, with which it would share its connections.", "open it again in the child."
            )
        with self._lock:
            if self._closed:
                raise Unavailable(f"The ledger at {self.place} is closed.", "open it again.")
            if self._idle:
                return self._idle.pop(), True
        with self.border():
            return self.opened(), False

    def give(self, link: Any) -> None:
        with self._lock:
            if not self._closed and link._transaction_status == b"I":
                self._idle.append(link)
                return
        hang_up(link)

    @staticmethod
    def drop(link: Any) -> None:
        hang_up(link)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._forget()

    @contextmanager
    def border(self) -> Iterator[None]:
        """PostgreSQL's words become falaj's own."""
        try:
            yield
        except (DatabaseError, InterfaceError, OSError) as exc:
            raise self._translated(exc) from exc
        except UnicodeEncodeError as exc:
            raise InvalidInput("A name holds half of a surrogate pair, which no text can carry.") from exc

    def _forget(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            hang_up(link)

    def opened(self) -> Any:
        """A new connection that nobody else uses."""
        if self._closed:
            raise Unavailable(f"The ledger at {self.place} is closed.", "open it again.")
        link = connect(self._options)
        try:
            ms = int(self.busy_seconds * 1000)
            link.run(
                f"set search_path to {quoted(self._schema)}; set lock_timeout = {ms}; set statement_timeout = {2 * ms};"
                f"set idle_in_transaction_session_timeout = '{_IDLE_S}s'; set standard_conforming_strings = on;"
                "set session characteristics as transaction isolation level read committed"
            )
            # A server may be set to answer before the commit is on its disk; whoever waits for more than that keeps it.
            if link.run("show synchronous_commit")[0][0] in ("off", "local"):
                link.run("set synchronous_commit = on")
            if not self._ready:
                self._prepare(link)
                self._ready = True
        except BaseException:
            hang_up(link)
            raise
        return link

    def _prepare(self, link: Any) -> None:
        """Makes the schema and its tables where they are not there; whoever may not make them finds them made."""
        if link.run("show server_encoding")[0][0] != "UTF8":
            raise InvalidInput(f"The database at {self.place} is not encoded in UTF-8.", "create one with encoding 'UTF8'.")
        names = [f"{quoted(self._schema)}.{name}" for name in ("frontier", "events", "records", "checkpoints")]
        if link.run("select bool_and(to_regclass(name) is not null) from unnest(cast(:names as text[])) as name", names=names)[0][
            0
        ]:
            found = link.run("select version from frontier")
            if found and found[0][0] > VERSION:
                raise InvalidInput(f"The ledger at {self.place} was written by a newer falaj.", "pip install -U falaj")
            return
        link.run("begin")
        link.run("select pg_advisory_xact_lock(:lock)", lock=_MAKING)
        link.run(f"create schema if not exists {quoted(self._schema)}")
        for statement in TABLES:
            link.run(statement)
        link.run("commit")

    def _translated(self, exc: Exception) -> FalajError:
        code, text = sqlstate(exc), words(exc)
        if not code:  # not the server's: the connection itself
            code = "08"
        _, kind, what, hint = next((said for said in _WORDS if code.startswith(said[0])), _STRANGE)
        return kind(f"The ledger at {self.place} {what}: {text}.", hint)


def quietly(link: Any, statement: str) -> bool:
    """Whether the statement went through; used where nothing more can be done about it."""
    with suppress(DatabaseError, InterfaceError, OSError):
        link.run(statement)
        return True
    return False
