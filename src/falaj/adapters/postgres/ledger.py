"""The ledger in PostgreSQL, for teams: several machines write at once, and the database's own means keep it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from pg8000.exceptions import DatabaseError, InterfaceError

from falaj.adapters.ledgers.batch import LOOK, Batch, Records, Row, body_of, states
from falaj.adapters.ledgers.group import Group
from falaj.adapters.postgres.evidence import PostgresEvidence
from falaj.adapters.postgres.link import is_lost, options_of
from falaj.adapters.postgres.links import Links, quietly
from falaj.adapters.postgres.tables import schema_of
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from falaj.core.event import Event
from falaj.core.leaf import Entry, event_of
from falaj.core.merkle import Frontier, inclusion_proof, leaf_hash, verify_inclusion
from falaj.core.note import Statement, write_note
from falaj.core.ref import Ref
from falaj.core.succession import ROTATE, rotations
from falaj.ports.evidence import Evidence
from falaj.ports.ledger import Checkpoint, Proof, Transaction

_PAGE = 500
_LAST = "\U0010ffff"
_FIND = "select key, body from records where kind = :kind and key >= :low and key <= :high order by key"
_GET = "select body from records where kind = :kind and key = :key"
_ROTATIONS = "select leaf from events where verb = :verb and seq < :covered order by seq"
_NEWEST = "select size, root, note from checkpoints order by size desc limit 1"
_EVENTS = """insert into events select * from unnest(cast(:seqs as bigint[]), cast(:leaves as bytea[]), cast(:hashes as bytea[]),
    cast(:verbs as text[]), cast(:subjects as text[]), cast(:ats as text[]))"""
_PUT = """insert into records
    select * from unnest(cast(:kinds as text[]), cast(:keys as text[]), cast(:bodies as bytea[]), cast(:seqs as bigint[]))
    on conflict (kind, key) do update set body = excluded.body, seq = excluded.seq"""
_REMOVE = """delete from records using unnest(cast(:kinds as text[]), cast(:keys as text[])) as gone (kind, key)
    where records.kind = gone.kind and records.key = gone.key"""
_LONGEST = 1024
"""Bytes of a name. A key of PostgreSQL's index takes at most about 2,700."""
_LONG_S = 3600
"""For what goes over all events at once."""


class Signer(Protocol):
    """A key that signs."""

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


class Keys(Protocol):
    """Whoever holds the ledger's keys, on this machine."""

    def first(self) -> str: ...

    def signer(self, rotations: Sequence[tuple[int, str]], /) -> Signer: ...


class PostgresLedger:
    """`vkey` is the text that others need to check this ledger's checkpoints: that of its first key.

    The order of events is kept by a lock on the one row that says where the ledger ends; those who wait for it come in the
    order in which they asked, from whichever machine.
    """

    capabilities = frozenset({"durable", "shared", "rotates"})

    def __init__(
        self, url: str, project: str, *, keys: Keys, origin: str = "falaj/local", busy_seconds: float = 10.0
    ) -> None:  # fmt: skip
        """`url`: postgresql://user[:password]@host[:port]/database, with ?sslmode=verify-full (and sslrootcert=…) for TLS.

        Connects when it is first asked, so a server that is away now is no error yet. Raises InvalidInput for an address
        that is none.
        """
        self._origin, self._keys = origin, keys
        self.vkey = keys.first()
        self._links = Links(options_of(url, "ledger_url", "the ledger"), schema_of(project), busy_seconds)
        self._group = Group(f"at {self._links.place}", self._begin, busy_seconds)

    def transaction(self) -> AbstractContextManager[Transaction]:
        return self._group.transaction()

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        rows = self._ask(_GET, kind=kind, key=key)
        return body_of(rows[0][0]) if rows else None

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        return [(key, body_of(body)) for key, body in self._ask(_FIND, kind=kind, low=prefix, high=prefix + _LAST)]

    def events(self, *, after: int = -1, verb: str = "", subject: Ref | None = None) -> Iterator[Event]:
        where, args = _filter(verb, subject)
        for leaf in self._pages(where, after, args):
            yield event_of(leaf)

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        where, args = ("", {}) if end is None else (" and seq < :end", {"end": end})
        yield from self._pages(where, start - 1, args)

    def checkpoint(self) -> Checkpoint:
        with self._group.alone() as batch, self._links.border():
            run, frontier = self._lent(batch).run, batch.frontier
            found = next(iter(run(_NEWEST)), None)
            if found is not None and found[0] > frontier.size:
                raise Conflict(f"The ledger is shorter than its checkpoint of {found[0]} events.", LOOK)
            statement = Statement(self._origin, frontier.size, frontier.root())
            if found is not None and found[0] == frontier.size:
                if found[1] != statement.root:
                    raise Conflict(f"The ledger was changed after its checkpoint of {found[0]} events.", LOOK)
                return _checkpoint(found)
            named = run(_ROTATIONS, verb=ROTATE, covered=0 if found is None else found[0])
            key = self._keys.signer(rotations(event_of(leaf) for (leaf,) in named))
            note = write_note(str(statement), self._origin, key.public_key, key.sign)
            run("insert into checkpoints values (:size, :root, :note)", size=statement.size, root=statement.root, note=note)
        return Checkpoint(self._origin, statement.size, statement.root, note)

    def checkpoints(self) -> list[Checkpoint]:
        return [_checkpoint(row) for row in self._ask("select size, root, note from checkpoints order by size")]

    def prove(self, seq: int) -> Proof:
        leaf = next(self.leaves(seq, seq + 1), None) if seq >= 0 else None
        if leaf is None:
            raise NotFound(f"The ledger has no event {seq}.", "falaj audit history")
        checkpoint = next((c for c in reversed(self.checkpoints()) if c.size > seq), None) or self.checkpoint()
        rows = self._ask("select leaf_hash from events where seq < :size order by seq", size=checkpoint.size)
        hashes = [hashed for (hashed,) in rows]
        path = tuple(inclusion_proof(hashes, seq)) if len(hashes) == checkpoint.size else ()
        if not verify_inclusion(leaf_hash(leaf), seq, checkpoint.size, path, checkpoint.root):
            raise Conflict(f"Event {seq} is not what its checkpoint of {checkpoint.size} events covers.", LOOK, seq=seq)
        return Proof(seq, leaf, path, checkpoint)

    def rebuild(self) -> None:
        with self._group.alone() as batch, self._links.border():
            link = self._lent(batch)
            link.run(f"set local statement_timeout = '{_LONG_S}s'")
            link._usock.settimeout(_LONG_S)
            link.run("delete from records")
            link.run("declare every no scroll cursor for select leaf from events order by seq")
            for records in states(_fetched(link)):
                _apply(link, records)

    @contextmanager
    def evidence(self) -> Iterator[Evidence]:
        """Everything that is stored, as of now, for an audit."""
        with self._links.border():
            link = self._links.opened()
        try:
            with self._links.border():
                link.run("begin isolation level repeatable read read only")
                link.run("select 1")  # the moment begins with the first read
            yield PostgresEvidence(self._links, link)
        finally:
            self._links.drop(link)

    def close(self) -> None:
        self._links.close()

    def _begin(self) -> Batch:
        """The lock on the ledger's end, and where that is."""
        with self._links.border():
            store, frontier = self._links.run(lambda link: _begun(link, self._links), keep=True)
            return Batch(store, frontier, check=_check)

    def _ask(self, query: str, **values: Any) -> Any:
        with self._links.border():
            return self._links.run(lambda link: link.run(query, **values))

    @staticmethod
    def _lent(batch: Batch) -> Any:
        assert isinstance(batch.store, _PostgresStore)
        return batch.store.link

    def _pages(self, where: str, after: int, args: Mapping[str, Any]) -> Iterator[bytes]:
        # `where` is one of this file's own texts; what the caller gave stands in `args`.
        query = f"select seq, leaf from events where seq > :after{where} order by seq limit {_PAGE}"  # noqa: S608
        while True:
            rows = self._ask(query, after=after, **args)
            yield from (leaf for _seq, leaf in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]


class _PostgresStore:
    """One write transaction, on a connection that is lent for as long."""

    def __init__(self, links: Links, link: Any) -> None:
        self.link, self._links = link, links
        self._is_held = True

    def get(self, kind: str, key: str) -> bytes | None:
        with self._links.border():
            rows = self.link.run(_GET, kind=kind, key=key)
        return rows[0][0] if rows else None

    def find(self, kind: str, prefix: str) -> list[tuple[str, bytes]]:
        with self._links.border():
            return [(key, body) for key, body in self.link.run(_FIND, kind=kind, low=prefix, high=prefix + _LAST)]

    def commit(self, batch: Batch) -> None:
        run, frontier, rows = self.link.run, batch.frontier, batch.rows
        with self._links.border():
            if rows:
                names = ("seqs", "leaves", "hashes", "verbs", "subjects", "ats")
                run(_EVENTS, **{name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
                _apply(self.link, batch.records)
                run("update frontier set size = :size, peaks = :peaks", size=frontier.size, peaks=b"".join(frontier.peaks))
            try:
                run("commit")
            except (DatabaseError, InterfaceError, OSError) as exc:
                if not is_lost(exc) or not self._was_kept(batch):
                    raise
        self._end()

    def _was_kept(self, batch: Batch) -> bool:
        """Whether a commit went through whose answer was lost. Raises Unavailable where nobody can say that now."""
        if not batch.rows:
            return False
        last, until = batch.rows[-1], time.monotonic() + self._links.busy_seconds
        while True:
            try:
                return self._has(last)
            except (DatabaseError, InterfaceError, OSError) as exc:
                if time.monotonic() > until:
                    raise Unavailable(
                        f"The connection to the ledger at {self._links.place} broke while it committed: it is not known "
                        "whether the change was kept.", "when the server is back, look before you do it again.",
                        outcome="unknown",
                    ) from exc  # fmt: skip
                time.sleep(0.1)

    def _has(self, last: Row) -> bool:
        link = self._links.opened()
        try:
            link.run("begin")
            link.run("select 1 from frontier for update")  # once what is left of the old connection has ended, either way
            found = link.run("select leaf_hash from events where seq = :seq", seq=last.seq)
            return bool(found) and found[0][0] == last.leaf_hash
        finally:
            self._links.drop(link)

    def rollback(self) -> None:
        if self._is_held and self.link._transaction_status != b"I":
            quietly(self.link, "rollback")
        self._end()

    def _end(self) -> None:
        if self._is_held:
            self._is_held = False
            self._links.give(self.link)


def _check(entry: Entry) -> None:
    """What PostgreSQL would refuse when the group commits, to the cost of all of it. Raises InvalidInput."""
    for text in (entry.verb, *(text for change in entry.changes for text in change[:2])):
        if "\0" in text or len(text.encode()) > _LONGEST:
            raise InvalidInput(
                f"{text[:80]!r} cannot name a record in PostgreSQL.", f"at most {_LONGEST:,} bytes, none of them zero."
            )


def _begun(link: Any, links: Links) -> tuple[_PostgresStore, Frontier]:
    link.run("begin")
    link.run("select 1 from frontier for update")
    # A statement of its own: it has to see what the one before it has waited for.
    rows = link.run("select size, peaks, (select coalesce(max(seq), -1) + 1 from events) from frontier")
    size, peaks, events = rows[0] if rows else (0, b"", -1)
    if size != events or len(peaks) != 32 * size.bit_count():
        raise Conflict(f"The ledger at {links.place} was changed from outside: it counts {size} events and holds {events}.", LOOK)
    return _PostgresStore(links, link), Frontier(size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])


def _fetched(link: Any) -> Iterator[bytes]:
    while rows := link.run("fetch 2000 from every"):
        yield from (leaf for (leaf,) in rows)


def _apply(link: Any, records: Records) -> None:
    gone: list[tuple[str, str]] = []
    written: list[tuple[str, str, bytes, int]] = []
    for kind, found in records.items():
        for key, (body, seq) in found.items():
            if body is None:
                gone.append((kind, key))
            else:
                written.append((kind, key, body, seq))
    if gone:
        link.run(_REMOVE, kinds=[kind for kind, _ in gone], keys=[key for _, key in gone])
    if written:
        kinds, keys, bodies, seqs = (list(column) for column in zip(*written, strict=True))
        link.run(_PUT, kinds=kinds, keys=keys, bodies=bodies, seqs=seqs)


def _filter(verb: str, subject: Ref | None) -> tuple[str, dict[str, Any]]:
    where, args = "", dict[str, Any]()
    if verb.endswith("."):
        where, args = (
            " and verb >= :verb and verb < :after_verb",
            {"verb": verb, "after_verb": verb[:-1] + "/"},
        )  # '/' follows '.'
    elif verb:
        where, args = " and verb = :verb", {"verb": verb}
    if subject is not None:
        args["subject"] = str(subject)
        if subject.version is None:
            where += " and (subject = :subject or (subject >= :versions and subject < :beyond))"
            args |= {"versions": f"{subject}@", "beyond": f"{subject}A"}  # 'A' follows '@'
        else:
            where += " and subject = :subject"
    return where, args


def _checkpoint(row: Any) -> Checkpoint:
    size, root, note = row
    return Checkpoint(note.partition("\n")[0], size, root, note)
