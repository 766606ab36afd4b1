"""Witnessing: hands checkpoints to those who keep watch elsewhere, and says how much of the ledger they have seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from falaj.core.cosignature import add_lines, cosignatures, good, quorum_of
from falaj.core.decision import Check
from falaj.core.errors import Conflict, Denied, FalajError, NotFound
from falaj.core.moments import in_words, iso, moment, short
from falaj.core.note import Verifier, read_signatures, read_statement, split_note
from falaj.ports.ledger import Checkpoint, Ledger
from falaj.ports.witness import Witness
from falaj.stages.governance.tree import LedgerTree

COSIGNATURE, WITNESS, WITNESSED = "cosignature", "witness", "witnessed"
"""Kinds of records: a line under `<size>|<witness>`, the state of each witness, and what the quorum has seen."""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who is asked, how many of them have to have cosigned (0: all), and for how long an event may wait for that."""

    asked: Sequence[tuple[Verifier, Witness]] = ()
    quorum: int = 0
    wait: timedelta = timedelta(hours=1)

    @property
    def wanted(self) -> int:
        return quorum_of(self.quorum, len(self.asked))

    @property
    def verifiers(self) -> list[Verifier]:
        return [verifier for verifier, _ in self.asked]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of showing one witness a checkpoint. `state`: `cosigned`, `refused`, or `gone` where nothing good came back."""

    witness: str
    state: str
    size: int
    """How many events the witness has seen, as far as is known."""
    line: str = ""
    said: str = ""

    def check(self, checkpoint: Checkpoint) -> Check:
        wanted = f"cosigns the checkpoint of {checkpoint.size} events"
        passed = {"cosigned": True, "refused": False}.get(self.state)
        return Check(self.witness, wanted, self.said or f"cosigned {self.size} events", passed)


def hand_over(ask: tuple[Verifier, Witness], checkpoint: Checkpoint, tree: LedgerTree, old: int) -> Outcome:
    """Shows a witness the checkpoint, from the `old` size on, or from where it says that it stands.

    Raises Conflict where the ledger itself is not what its checkpoint covers: then nobody is shown anything.
    """
    verifier, witness = ask
    known = min(old, checkpoint.size)
    for _ in range(2):
        path = tree.consistency(known, checkpoint)
        try:
            lines = witness.add(known, path, checkpoint.note)
            text, _ = split_note(checkpoint.note)
            for found in good(text, read_signatures(lines), [verifier]):
                return Outcome(witness.name, "cosigned", checkpoint.size, found.line)
            return Outcome(witness.name, "gone", known, said="what it answered is not signed by its key")
        except Conflict as exc:
            size = exc.facts.get("size")
            if not isinstance(size, int) or size > checkpoint.size or size == known:
                return Outcome(witness.name, "refused", size or known, said=_ahead(size or known, checkpoint))
            known = size
        except Denied as exc:
            return Outcome(witness.name, "refused", known, said=exc.message)
        except FalajError as exc:
            return Outcome(witness.name, "gone", known, said=exc.message)
    return Outcome(witness.name, "gone", known, said="it takes back what it has seen")


def _ahead(size: int, checkpoint: Checkpoint) -> str:
    if size > checkpoint.size:
        return f"it has seen {size} events of this ledger, which shows {checkpoint.size}: the tail was cut off"
    return f"it has seen other events among the first {size} of this ledger: the history was rewritten"


def lines_of(ledger: Ledger, size: int) -> list[str]:
    """The cosignature lines that are kept for the checkpoint of that size."""
    return [str(body["line"]) for _, body in ledger.find(COSIGNATURE, prefix=f"{size:020d}|")]


def cosigned(ledger: Ledger, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the cosignatures that are kept for it in its note."""
    return replace(checkpoint, note=add_lines(checkpoint.note, lines_of(ledger, checkpoint.size)))


def witnessed(ledger: Ledger, witnesses: Witnesses) -> Checkpoint | None:
    """The newest checkpoint that the quorum cosigned, its signatures checked anew; None where there is none."""
    body = ledger.get(WITNESSED, "ledger") if witnesses.asked else None
    size = body["size"] if body else None
    for checkpoint in ledger.checkpoints() if size is not None else ():
        if checkpoint.size == size:
            whole = cosigned(ledger, checkpoint)
            return whole if len(cosignatures(whole.note, witnesses.verifiers)) >= witnesses.wanted else None
    return None


def check(ledger: Ledger, witnesses: Witnesses, now: datetime) -> list[Check]:
    """Whether every event has been seen by the quorum in time, and no witness refuses the ledger; nothing without witnesses."""
    if not witnesses.asked:
        return []
    states = [(verifier.name, ledger.get(WITNESS, verifier.name) or {}) for verifier in witnesses.verifiers]
    refusals = [
        Check(f"witness {name}", "cosigns what it is shown", str(body.get("said")), False)
        for name, body in states
        if body.get("state") == "refused"
    ]
    return [*refusals, _coverage(ledger, witnesses, now)]


def _coverage(ledger: Ledger, witnesses: Witnesses, now: datetime) -> Check:
    wanted = f"no event older than {short(witnesses.wait)} without {witnesses.wanted} cosignatures"
    newest = witnessed(ledger, witnesses)
    covered = newest.size if newest else 0
    first = next(ledger.events(after=covered - 1), None)
    if first is None:
        return Check("witnessed", wanted, f"all {covered} events were seen by the witnesses", True)
    waits = f"{covered} events were seen by the witnesses; what followed waits since {in_words(max(now - first.at, timedelta()))}"
    return Check("witnessed", wanted, waits, True if now - first.at <= witnesses.wait else None)


def compare(ledger_name: str, witnesses: Witnesses, tree: LedgerTree) -> list[Check]:
    """Asks each witness what it has seen, and looks for that in the ledger: what was cut off or rewritten shows here."""
    return [_seen(ledger_name, verifier, witness, tree) for verifier, witness in witnesses.asked]


def _seen(ledger_name: str, verifier: Verifier, witness: Witness, tree: LedgerTree) -> Check:
    name, wanted = f"seen by {witness.name}", "all that the witness has seen"
    try:
        note = witness.newest(ledger_name)
        told = read_statement(split_note(note)[0])
        if told.origin != ledger_name or not cosignatures(note, [verifier]):
            return Check(name, wanted, "what it answered is not signed by its key, or of another ledger", None)
    except NotFound:
        return Check(name, wanted, "it has seen nothing yet", True)
    except FalajError as exc:
        return Check(name, wanted, exc.message, None)
    if tree.extends(told.size, told.root):
        return Check(name, wanted, f"the {told.size} events that it has seen are there", True)
    return Check(name, wanted, f"the {told.size} events that it has seen are not all there, or not the same", False)


def overdue(ledger: Ledger, witnesses: Witnesses, now: datetime) -> str:
    """Why nothing may be written where witnesses are required; empty where it may. Asked before each change, so it reads little.

    A ledger that no witness has seen yet may be written for as long as an event may wait.
    """
    body = ledger.get(WITNESSED, "ledger")
    if body is None:
        first = next(ledger.events(), None)
        since = first.at if first else now
    else:
        since = moment(str(body["at"]))
    return "" if now - since <= witnesses.wait else f"no {witnesses.wanted} witnesses have seen the ledger since {iso(since)}"
