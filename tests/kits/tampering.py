"""Seven ways in which somebody with full access to a ledger's file may lie about the past, each done thoroughly.

    python -m tests.kits.tampering

does each of them to a real ledger that a real witness watches, and prints who sees it.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from falaj.adapters.local.keys import LedgerKeys
from falaj.core.errors import FalajError
from falaj.core.leaf import event_of
from falaj.core.merkle import Frontier, leaf_hash
from falaj.core.moments import iso
from falaj.core.note import Statement, write_note
from tests.kits.audited import AMAL, LEDGER, ORIGIN, Audited
from tests.kits.witness import running_witness

EVENTS, EARLY, LATE = 300, 120, 240
"""So many events, with checkpoints that were witnessed at two places in between and one at the end."""
TRIGGERS = (
    "events_never_change", "events_never_go", "events_have_no_gap", "checkpoints_never_change", "checkpoints_never_go",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """Who sees an attack: the ledger's own verification, with a remembered checkpoint, the verification that asks the
    witness, and the next round with the witness, in which no further checkpoint is cosigned."""

    local: bool
    remembered: bool
    asked: bool
    refused: bool

    @property
    def witness(self) -> bool:
        return self.asked or self.refused


def _edit(db: sqlite3.Connection, _state: Path) -> None:
    db.execute("UPDATE events SET leaf = CAST(replace(CAST(leaf AS TEXT), 'amal', 'omar') AS BLOB) WHERE seq = 60")


def _edit_with_hash(db: sqlite3.Connection, state: Path) -> None:
    _edit(db, state)
    _hash_again(db)


def _delete(db: sqlite3.Connection, _state: Path) -> None:
    db.execute("DELETE FROM events WHERE seq = 60")


def _cut(db: sqlite3.Connection, _state: Path) -> None:
    """The newest events go, with every checkpoint that covered them, and everything else is made to agree."""
    _write(db, [leaf for seq, leaf in _leaves(db) if seq < LATE - 10])
    db.execute("DELETE FROM checkpoints WHERE size > ?", (LATE - 10,))


def _rewrite(db: sqlite3.Connection, state: Path) -> None:
    """By somebody who holds the signing key: other events, other records, and new checkpoints of the same sizes over them."""
    leaves = [leaf.replace(b'"amal"', b'"omar"') if seq == 60 else leaf for seq, leaf in _leaves(db)]
    sizes = [size for (size,) in db.execute("SELECT size FROM checkpoints ORDER BY size")]
    _write(db, leaves)
    db.execute("DELETE FROM checkpoints")
    key = LedgerKeys(state / "keys" / "ledger.ed25519", ORIGIN).signer(())
    frontier = Frontier()
    for place, leaf in enumerate(leaves, 1):
        frontier.append(leaf_hash(leaf))
        if place in sizes:
            said = Statement(ORIGIN, place, frontier.root())
            note = write_note(str(said), ORIGIN, key.public_key, key.sign)
            db.execute("INSERT INTO checkpoints VALUES(?, ?, ?)", (place, said.root, note))


def _reorder(db: sqlite3.Connection, _state: Path) -> None:
    """Two events change places, each with the number of its new place, hashes and records made to agree."""
    leaves = [leaf for _, leaf in _leaves(db)]
    first, second = leaves[60], leaves[61]
    leaves[60], leaves[61] = second.replace(b'"seq":61,', b'"seq":60,'), first.replace(b'"seq":60,', b'"seq":61,')
    _write(db, leaves)


def _leaves(db: sqlite3.Connection) -> list[tuple[int, bytes]]:
    return [(seq, bytes(leaf)) for seq, leaf in db.execute("SELECT seq, leaf FROM events ORDER BY seq")]


def _hash_again(db: sqlite3.Connection) -> None:
    for seq, leaf in _leaves(db):
        db.execute("UPDATE events SET leaf_hash = ? WHERE seq = ?", (leaf_hash(leaf), seq))


def _write(db: sqlite3.Connection, leaves: list[bytes]) -> None:
    """Leaves, hashes, columns, records and frontier as a ledger of these leaves would have them."""
    from falaj.core.codec import canonical, encode

    for table in ("events", "records"):
        db.execute(f"DELETE FROM {table}")
    frontier = Frontier()
    for seq, leaf in enumerate(leaves):
        told = event_of(leaf)
        row = (seq, leaf, leaf_hash(leaf), told.verb, str(told.subject), iso(told.at))
        db.execute("INSERT INTO events VALUES(?, ?, ?, ?, ?, ?)", row)
        frontier.append(leaf_hash(leaf))
        for change in told.changes:
            body = canonical(encode(change.body))
            db.execute("INSERT OR REPLACE INTO records VALUES(?, ?, ?, ?)", (change.kind, change.key, body, seq))
    db.execute("UPDATE frontier SET size = ?, peaks = ?", (frontier.size, b"".join(frontier.peaks)))


ATTACKS: Mapping[str, Callable[[sqlite3.Connection, Path], None] | None] = {
    "an event is edited": _edit,
    "an event is edited, with its hash": _edit_with_hash,
    "an event in the middle is deleted": _delete,
    "the tail is cut off, with its checkpoints": _cut,
    "everything is written anew by the key's holder": _rewrite,
    "two events change places": _reorder,
    "an old copy of the whole file is put back": None,
}


def attack(folder: Path, name: str) -> Seen:
    """A ledger of EVENTS events with a witness, the attack on it, and who sees it."""
    state = folder / "state"
    place = Audited(state)
    with running_witness(folder / "witness", [place.ledger.vkey]) as witness:
        place.watched_by = [witness]
        place.open()
        remembered = _live(place, state)
        place.close()
        _strike(state, name)
        return _look(place, remembered)


def _live(place: Audited, state: Path) -> str:
    """Returns the checkpoint that somebody remembered: the last but one."""
    remembered = ""
    for size in (EARLY, LATE, EVENTS):
        place.write(size - sum(1 for _ in place.ledger.leaves()))
        noted = place.ledger.checkpoint()
        assert place.audit.witness(AMAL, LEDGER).allowed
        remembered = noted.note if size == LATE else remembered
        if size == EARLY:
            place.close()
            shutil.copyfile(state / "ledger.db", state / "old.db")
            place.open()
    return remembered


def _strike(state: Path, name: str) -> None:
    do = ATTACKS[name]
    for extra in ("ledger.db-wal", "ledger.db-shm"):
        (state / extra).unlink(missing_ok=True)
    if do is None:
        shutil.copyfile(state / "old.db", state / "ledger.db")
        return
    with closing(sqlite3.connect(state / "ledger.db")) as db, db:
        for trigger in TRIGGERS:
            db.execute(f"DROP TRIGGER {trigger}")
        do(db, state)


def _look(place: Audited, remembered: str) -> Seen:
    audit = place.open()
    local = audit.verify()
    with_note = audit.verify(remembered=remembered)
    asked = audit.verify(ask=True)
    return Seen(
        local.verdict == "deny",
        with_note.verdict == "deny",
        any(check.passed is False for check in asked.checks if check.name.startswith("seen by")),
        _is_refused(place),
    )


def _is_refused(place: Audited) -> bool:
    """Life goes on over the lie: more events, the next checkpoint, and the witness is shown it."""
    try:
        place.write(5)
        place.ledger.checkpoint()
        return place.audit.witness(AMAL, LEDGER).verdict != "allow"
    except FalajError:
        return True  # the ledger itself will not go on
    finally:
        place.close()


def table(rows: Mapping[str, Seen]) -> str:
    """As the guide shows it."""
    marks = {True: "seen", False: "**not seen**"}
    lines = [
        "| attack | its own verification | with a remembered checkpoint | with a witness |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {marks[s.local]} | {marks[s.remembered]} | {marks[s.witness]} |" for name, s in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    rows = {}
    for name in ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = attack(Path(folder), name)
    sys.stdout.write(table(rows))
    return 0 if all(seen.witness for seen in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
