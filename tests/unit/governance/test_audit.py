from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from falaj.adapters.local.evidence import read_evidence
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.signing import SigningKey, verifier
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.errors import Denied, NotFound
from falaj.core.leaf import event_of, leaf_of
from falaj.core.merkle import Frontier, leaf_hash
from falaj.core.note import Statement, vkey, write_note
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.governance.audit import Audit
from falaj.stages.governance.rules import verify
from falaj.testing.ledger import START, append, event, put

NOW = START + timedelta(hours=1)
LEDGER = Ref("ledger", "local")
DROP = "".join(
    f"DROP TRIGGER {name};"
    for name in (
        "events_never_change",
        "events_never_go",
        "events_have_no_gap",
        "checkpoints_never_change",
        "checkpoints_never_go",
    )
)


class Place:
    """A ledger of ten events with checkpoints of four and of ten, and copies of it that may be edited."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ledger = SqliteLedger(folder / "ledger.db", folder / "key")
        for n in range(10):
            append(ledger, event("a.b", f"model/delay@{n}", put(f"k{n % 3}", n=n)))
            if n == 3:
                self.remembered = ledger.checkpoint().note
        self.last = ledger.checkpoint().note
        self.vkey = ledger.vkey
        ledger.close()

    def verify(self, edit: Callable[[sqlite3.Connection], object] | str = "", *, remembered: str | None = None) -> Decision:
        copy = self.folder / "copy.db"
        shutil.copyfile(self.folder / "ledger.db", copy)
        connection = sqlite3.connect(copy)
        if callable(edit):
            connection.executescript(DROP)
            edit(connection)
            connection.commit()
        elif edit:
            connection.executescript(DROP + edit)
        connection.close()
        for extra in ("copy.db-wal", "copy.db-shm"):
            (self.folder / extra).unlink(missing_ok=True)
        with read_evidence(copy) as evidence:
            return verify(evidence, verifier(self.vkey), now=NOW, remembered=remembered)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def faults(decision: Decision) -> dict[str, str]:
    return {check.name: check.seen for check in decision.failed}


def rewrite(connection: sqlite3.Connection, keep: int, change: Callable[[int, bytes], bytes]) -> None:
    """What somebody does who knows the format: leaves, hashes, columns, frontier, records, all made to agree again."""
    frontier = Frontier()
    rows = connection.execute("SELECT seq, leaf FROM events ORDER BY seq").fetchall()
    connection.execute("DELETE FROM events")
    connection.execute("DELETE FROM records")
    for seq, old in rows[:keep]:
        leaf = change(seq, old)
        told = event_of(leaf)
        row = (seq, leaf, leaf_hash(leaf), told.verb, str(told.subject), "2013-05-01T09:30:00.000Z")
        connection.execute("INSERT INTO events VALUES(?, ?, ?, ?, ?, ?)", row)
        frontier.append(leaf_hash(leaf))
        for one in told.changes:
            body = b'{"n":%d}' % (one.body or {})["n"]
            connection.execute("INSERT OR REPLACE INTO records VALUES(?, ?, ?, ?)", (one.kind, one.key, body, seq))
    connection.execute("UPDATE frontier SET size = ?, peaks = ?", (frontier.size, b"".join(frontier.peaks)))


def forged(seq: int, leaf: bytes) -> bytes:
    return leaf.replace(b'"amal"', b'"omar"') if seq == 6 else leaf


def test_an_untouched_copy_is_allowed_and_says_what_was_not_looked_at(place: Place) -> None:
    decision = place.verify()
    assert decision.verdict == "allow"
    assert "remembered checkpoint" in decision.reason
    assert place.verify(remembered=place.remembered).reason == ""
    assert place.verify(remembered=place.last).allowed


@pytest.mark.parametrize(
    ("edit", "check", "words"),
    [
        ("UPDATE events SET leaf = replace(leaf, 'amal', 'omar') WHERE seq = 6", "hashes", "event 6 "),
        ("UPDATE events SET leaf_hash = zeroblob(32) WHERE seq = 6", "hashes", "event 6 "),
        ("UPDATE events SET leaf = x'ff00' WHERE seq = 6", "leaves", "event 6 cannot be read"),
        ("UPDATE events SET leaf = 7, leaf_hash = 'text' WHERE seq = 6", "leaves", "event 6 cannot be read"),
        ("UPDATE events SET verb = 'c.d' WHERE seq = 6", "leaves", "event 6 is filed"),
        ("UPDATE events SET subject = 'x' WHERE seq = 6", "leaves", "event 6 is filed"),
        ("UPDATE events SET at = '' WHERE seq = 6", "leaves", "event 6 is filed"),
        ("DELETE FROM events WHERE seq = 6", "sequence", "event 6 is missing"),
        ("DELETE FROM events WHERE seq = 0", "sequence", "event 0 is missing"),
        ("DELETE FROM events", "edge", "there are 0"),
        ("DELETE FROM events WHERE seq >= 8", "edge", "differ from event 8 on"),
        ("UPDATE events SET seq = 99 WHERE seq = 6", "sequence", "event 6 is missing"),
        ("INSERT INTO events SELECT 10, leaf, leaf_hash, verb, subject, at FROM events WHERE seq = 9", "leaves", "event 10 says"),
        (
            "; ".join(f"UPDATE events SET seq = {new} WHERE seq = {old}" for old, new in ((3, -1), (4, 3), (-1, 4))),
            "leaves",
            "event 3 says of itself that it is number 4",
        ),
        ("UPDATE records SET body = x'7b7d' WHERE key = 'k1'", "records", "'k1' reads otherwise"),
        ("UPDATE records SET body = NULL WHERE 0; DELETE FROM records WHERE key = 'k1'", "records", "'k1' is missing"),
        ("INSERT INTO records VALUES('alias', 'delay@champion', x'7b7d', 3)", "records", "follows from no event"),
        ("UPDATE checkpoints SET root = zeroblob(32) WHERE size = 4", "checkpoints", "of 4 events was signed with another"),
        ("UPDATE checkpoints SET size = 5 WHERE size = 4", "checkpoints", "of 5 events was signed with another"),
        (
            # The line that gives the size; a signature may have these digits too.
            "UPDATE checkpoints SET note = replace(note, char(10) || '10' || char(10), char(10) || '11' || char(10))",
            "checkpoints",
            "of 10 events",
        ),
        ("UPDATE checkpoints SET note = x'ff'", "checkpoints", "not a signed note"),
        ("UPDATE checkpoints SET note = ''", "checkpoints", "not a signed note"),
        ("UPDATE frontier SET size = 9", "edge", "counts 9 events, there are 10"),
        ("UPDATE frontier SET peaks = zeroblob(64)", "edge", "another root"),
        ("UPDATE frontier SET peaks = 7, size = 'x'", "edge", "does not say where it ends"),
        ("DELETE FROM frontier", "edge", "does not say where it ends"),
        ("DROP TABLE events", "sequence", "not laid out as a ledger"),
        ("DROP TABLE records", "records", "cannot be read"),
        ("DROP TABLE checkpoints", "checkpoints", "cannot be read"),
        ("DROP TABLE frontier", "edge", "not laid out as a ledger"),
    ],
)
def test_a_change_of_any_kind_is_found_and_its_first_place_named(place: Place, edit: str, check: str, words: str) -> None:
    decision = place.verify(edit)
    assert decision.verdict == "deny"
    assert words in faults(decision)[check]


def test_one_event_rewritten_with_everything_that_follows_from_it_is_found_by_its_checkpoint(place: Place) -> None:
    decision = place.verify(lambda connection: rewrite(connection, 10, forged))
    assert faults(decision) == {"checkpoints": "an event from 4 to 9 was changed: 10 events had another root when signed"}


def test_a_tail_that_was_cut_is_found_by_its_checkpoint(place: Place) -> None:
    decision = place.verify(lambda connection: rewrite(connection, 8, lambda _, leaf: leaf))
    assert faults(decision) == {"checkpoints": "event 8 and what followed is gone: 10 events were signed, there are 8"}


def cut(connection: sqlite3.Connection) -> None:
    rewrite(connection, 8, lambda _, leaf: leaf)
    connection.execute("DELETE FROM checkpoints WHERE size > 8")


def test_a_tail_that_was_cut_with_its_checkpoints_shows_only_from_outside(place: Place) -> None:
    assert place.verify(cut).verdict == "allow"
    assert "cut off together with its checkpoints cannot be seen" in place.verify(cut).reason
    decision = place.verify(cut, remembered=place.last)
    assert faults(decision) == {"remembered": "event 8 and what followed is gone: 10 events were signed, there are 8"}


def test_a_rewrite_of_the_past_shows_against_what_is_remembered_even_where_all_was_signed_again(tmp_path: Path) -> None:
    """The holder of the key can sign anything again; only a note that was kept elsewhere stays what it was."""
    key = SigningKey.generate()
    name = "falaj/local"

    def note(leaves: list[bytes]) -> str:
        frontier = Frontier()
        for leaf in leaves:
            frontier.append(leaf_hash(leaf))
        return write_note(str(Statement(name, frontier.size, frontier.root())), name, key.public_key, key.sign)

    ledger = MemoryLedger()
    append(ledger, event(n=0), event(n=1))
    kept = note(list(ledger.leaves()))
    append(other := MemoryLedger(), event(n=7), event(n=1), event(n=2))
    trusted = verifier(vkey(name, key.public_key))
    with ledger.evidence() as evidence:
        assert verify(evidence, trusted, now=NOW, remembered=kept).failed == ()
    with other.evidence() as evidence:
        assert "had another root" in faults(verify(evidence, trusted, now=NOW, remembered=kept))["remembered"]


@pytest.mark.parametrize("note", ["", "x", "falaj/local\n4\n"])
def test_a_remembered_text_that_is_no_checkpoint_of_this_ledger_is_a_fault(place: Place, note: str) -> None:
    assert "remembered" in faults(place.verify(remembered=note))


def test_checkpoints_of_another_key_are_worth_nothing(place: Place) -> None:
    place.vkey = vkey("falaj/local", SigningKey.generate().public_key)
    assert "not signed by" in faults(place.verify())["checkpoints"]


def test_a_file_of_noise_does_not_crash_the_audit(place: Place) -> None:
    data = bytearray((place.folder / "ledger.db").read_bytes())
    for at in range(4096 * 2, len(data), 97):
        data[at] ^= 0x5A
    (place.folder / "noise.db").write_bytes(bytes(data))
    with read_evidence(place.folder / "noise.db") as evidence:
        assert verify(evidence, verifier(place.vkey), now=NOW).verdict == "deny"


def test_a_copy_on_a_read_only_medium_is_read(place: Place) -> None:
    folder = place.folder / "medium"
    folder.mkdir()
    shutil.copyfile(place.folder / "ledger.db", folder / "ledger.db")
    (folder / "ledger.db").chmod(0o400)
    folder.chmod(0o500)
    try:
        with read_evidence(folder / "ledger.db") as evidence:
            assert verify(evidence, verifier(place.vkey), now=NOW).allowed
    finally:
        folder.chmod(0o700)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound), read_evidence(tmp_path / "none.db"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def audit() -> Audit:
    ledger = MemoryLedger()
    return Audit(Kernel(ledger, RolePolicy(), lambda: NOW), verifier(ledger.vkey))


def test_an_empty_ledger_is_whole(audit: Audit) -> None:
    assert audit.verify().allowed


def test_events_that_no_checkpoint_covers_for_too_long_hold_the_verdict(audit: Audit) -> None:
    append(audit.kernel.ledger, event())
    assert audit.verify(max_age=timedelta(hours=2)).verdict == "allow"
    decision = audit.verify(max_age=timedelta(minutes=30))
    assert decision.verdict == "hold"
    assert next(c.seen for c in decision.checks if c.name == "age") == "1 events from 0 on are under none, the first since 3600s"


def test_a_checkpoint_is_an_event_and_covers_it(audit: Audit) -> None:
    checkpoint = audit.checkpoint(Actor("amal", roles=("auditor",)), LEDGER)
    assert checkpoint.size == 1
    assert [e.verb for e in audit.kernel.ledger.events()] == ["audit.checkpoint"]
    assert audit.verify(max_age=timedelta(0)).allowed
    with pytest.raises(Denied):
        audit.checkpoint(Actor("omar", roles=("caller",)), LEDGER)


def test_history_and_proof_of_one_thing(audit: Audit) -> None:
    append(audit.kernel.ledger, event("a.b", "model/delay@1"), event("a.b", "model/other"), event("a.c", "model/delay@2"))
    assert [e.seq for e in audit.history(Ref("model", "delay"))] == [0, 2]
    proof = audit.prove(2)
    assert leaf_of(event_of(proof.leaf)) == proof.leaf
    with pytest.raises(NotFound):
        audit.prove(3)


def test_a_ledger_in_use_is_read_at_one_moment(place: Place) -> None:
    ledger = SqliteLedger(place.folder / "ledger.db", place.folder / "key")
    with ledger.evidence() as evidence:
        append(ledger, event("a.b", "model/delay", put("k0", n=99)))
        ledger.checkpoint()
        assert verify(evidence, verifier(ledger.vkey), now=datetime(2013, 5, 1, 10, tzinfo=UTC)).allowed
    ledger.close()
