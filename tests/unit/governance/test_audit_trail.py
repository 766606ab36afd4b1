"""What the audit does beside verifying: keys that follow each other, beats, witnesses, bundles, watching."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from falaj.adapters.local.signing import SigningKey, verifier
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.cosignature import cosignatures
from falaj.core.errors import Conflict, Denied, InvalidInput, Unavailable
from falaj.core.event import Event
from falaj.core.note import Verifier, vkey
from falaj.core.succession import Succession
from falaj.core.tiles import ENTRIES, read_entries, tiles_of
from falaj.core.tlog_proof import read_proof
from falaj.stages.governance.audit import Audit
from falaj.stages.governance.required import WitnessedLedger
from falaj.stages.governance.tree import LedgerTree
from falaj.stages.governance.witnessing import Witnesses
from falaj.testing.ledger import append, event
from tests.kits.audited import AMAL, LEDGER, Audited
from tests.kits.witness import RunningWitness, running_witness

HOUR = timedelta(hours=1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Audited]:
    made = Audited(tmp_path / "state")
    yield made
    made.close()


def verbs(place: Audited) -> list[str]:
    return [e.verb for e in place.ledger.events()]


# --- keys ---


def test_after_a_rotation_the_new_key_signs_and_who_knows_the_first_can_follow(place: Audited) -> None:
    place.write(3)
    told = place.audit.rotate(AMAL, LEDGER)
    place.write(3)
    place.ledger.checkpoint()
    old, *_, handover, last = place.ledger.checkpoints()
    assert (handover.size, last.size) == (4, 7)
    first, second = verifier(place.ledger.vkey), verifier(told["vkey"])
    assert [first.open(c.note).size for c in (old, handover)] == [3, 4]
    assert second.open(last.note).size == 7
    with pytest.raises(Denied):
        first.open(last.note)
    assert place.audit.verify(max_age=HOUR).verdict == "allow"
    assert Succession.of(first, place.ledger).open(last.note).size == 7


def test_the_old_keys_file_is_set_aside_and_the_ledger_opens_again(place: Audited) -> None:
    for _ in range(2):
        place.write(2)
        place.audit.rotate(AMAL, LEDGER)
    files = sorted(file.name for file in (place.folder / "keys").iterdir() if not file.name.endswith(".pub"))
    assert [name.endswith(".retired") for name in files].count(True) == 2
    assert "ledger.ed25519.retired" in files
    place.open()
    place.write(2)
    place.ledger.checkpoint()
    assert place.audit.verify(max_age=HOUR).verdict == "allow"


def test_another_process_that_still_holds_the_old_key_signs_with_the_new_one(place: Audited) -> None:
    other = Audited(place.folder)
    other.write(2)
    other.ledger.checkpoint()
    told = place.audit.rotate(AMAL, LEDGER)
    other.write(2)
    assert verifier(told["vkey"]).open(other.ledger.checkpoint().note).size == 5
    other.close()


def test_a_rotation_that_was_cut_short_is_settled_by_the_next_checkpoint(place: Audited) -> None:
    """The process dies after the event, before the old key's last word."""
    place.write(2)
    assert place.audit.keys is not None
    named = place.audit.keys.make()
    append(place.ledger, event("audit.rotate", "ledger/local", vkey=named))
    place.open()
    handover = place.ledger.checkpoint()
    assert verifier(place.ledger.vkey).open(handover.note).size == 3
    place.write(1)
    assert verifier(named).open(place.ledger.checkpoint().note).size == 4
    assert place.audit.verify(max_age=HOUR).verdict == "allow"


def test_a_key_that_is_gone_stops_the_signing_and_nothing_else(place: Audited) -> None:
    place.write(2)
    place.audit.rotate(AMAL, LEDGER)
    (place.folder / "keys").joinpath(f"ledger-{place.audit.rotate(AMAL, LEDGER)['vkey'].split('+')[1]}.ed25519").unlink()
    place.open()
    place.write(1)
    with pytest.raises(Conflict, match="lost its key"):
        place.ledger.checkpoint()
    assert len(verbs(place)) == 5


def test_a_checkpoint_by_the_wrong_key_is_found(place: Audited) -> None:
    """A key of before, or any other, signs what it may not sign any more."""
    place.write(2)
    place.audit.rotate(AMAL, LEDGER)
    first = Succession(verifier(place.ledger.vkey), [], [])
    place.write(2)
    stolen = place.ledger.checkpoint()
    with pytest.raises(Denied):
        first.open(stolen.note)
    named = vkey("falaj/local", SigningKey.generate().public_key)
    with pytest.raises(Denied):
        Succession(verifier(place.ledger.vkey), [(2, named)], [2, 3]).open(stolen.note)


def test_only_who_runs_the_place_rotates_and_only_where_it_can_be_done(place: Audited) -> None:
    with pytest.raises(Denied):
        place.audit.rotate(Actor("omar", "person", ("auditor",)), LEDGER)
    ledger = MemoryLedger()
    audit = Audit(place.audit.kernel.__class__(ledger, place.audit.kernel.policy, lambda: place.now), verifier(ledger.vkey))
    with pytest.raises(InvalidInput, match="cannot follow each other"):
        audit.rotate(AMAL, LEDGER)
    with pytest.raises(InvalidInput, match="no place for bundles"):
        audit.export(AMAL, LEDGER)


def test_the_chain_of_keys_comes_as_proofs_under_the_old_keys_last_word(place: Audited) -> None:
    place.write(2)
    place.audit.rotate(AMAL, LEDGER)
    (text,) = place.audit.rotations()
    proof = read_proof(text)
    assert (proof.index, json.loads(proof.extra)["verb"]) == (2, "audit.rotate")
    assert verifier(place.ledger.vkey).open(proof.note).size == 3


# --- beats ---


def test_beats_sign_a_checkpoint_only_where_something_else_was_written_or_once_an_hour(place: Audited) -> None:
    def beat(state: str = "on") -> bool:
        place.now += timedelta(minutes=1)
        return place.audit.beat(AMAL, LEDGER, state=state) is not None

    assert beat("up")
    assert [beat() for _ in range(5)] == [False] * 5
    place.write(1)
    assert beat()
    assert not beat()
    assert [beat() for _ in range(62)].count(True) == 1
    assert beat("down")
    assert place.audit.verify().verdict == "allow"
    place.now += timedelta(days=5)
    assert place.audit.verify().verdict == "allow"  # it was stopped, and promised nothing


def test_a_system_that_falls_silent_holds_the_verdict(place: Audited) -> None:
    place.audit.beat(AMAL, LEDGER, state="up")
    place.now += timedelta(minutes=6)
    found = place.audit.verify()
    assert found.verdict == "hold"
    assert any(check.name == "silence" and "none since" in check.seen for check in found.checks)


def test_what_is_no_state_is_refused_and_leaves_nothing(place: Audited) -> None:
    with pytest.raises(InvalidInput):
        place.audit.beat(AMAL, LEDGER, state="asleep")
    assert verbs(place) == []


# --- witnesses ---


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Audited, list[RunningWitness], ExitStack]]:
    """Two witnesses, of which one is enough."""
    place = Audited(tmp_path / "state", quorum=1)
    with ExitStack() as running:
        place.watched_by = [
            running.enter_context(running_witness(tmp_path / name, [place.ledger.vkey], f"{name}.example"))
            for name in ("w1", "w2")
        ]
        place.open()
        yield place, list(place.watched_by), running
        place.close()


@pytest.mark.slow
def test_cosignatures_are_kept_and_stand_in_the_proof(watched: tuple[Audited, list[RunningWitness], ExitStack]) -> None:
    place, witnesses, _ = watched
    place.write(300)
    place.ledger.checkpoint()
    assert place.audit.witness(AMAL, LEDGER).allowed
    place.write(5)
    place.ledger.checkpoint()
    proof = read_proof(place.audit.proof(3))
    verifiers = place.audit.witnesses.verifiers
    assert [found.witness for found in cosignatures(proof.note, verifiers)] == ["w1.example", "w2.example"]
    assert place.audit.verify(ask=True).verdict == "allow"
    assert "w1.example" in json.dumps(place.ledger.find("witness"))
    assert witnesses[0].vkey.startswith("w1.example+")


@pytest.mark.slow
def test_nothing_new_is_no_event(watched: tuple[Audited, list[RunningWitness], ExitStack]) -> None:
    place, _, _ = watched
    place.write(2)
    place.ledger.checkpoint()
    place.audit.witness(AMAL, LEDGER)
    before = len(verbs(place))
    place.audit.witness(AMAL, LEDGER)
    assert len(verbs(place)) == before


@pytest.mark.slow
def test_a_witness_that_is_away_holds_nothing_up_and_is_caught_up_later(tmp_path: Path) -> None:
    place = Audited(tmp_path / "state")
    with running_witness(tmp_path / "w1", [place.ledger.vkey], "w1.example") as first:
        place.watched_by = [first]
        place.open()
        place.write(2)
        place.ledger.checkpoint()
        place.audit.witness(AMAL, LEDGER)
    place.write(2)
    place.ledger.checkpoint()
    shown = place.audit.witness(AMAL, LEDGER)
    assert (shown.verdict, [check.passed for check in shown.checks]) == ("hold", [None])
    assert place.audit.verify().verdict == "allow"
    place.now += 2 * HOUR
    late = place.audit.verify(max_age=timedelta(days=9))
    assert (late.verdict, [check.name for check in late.checks if check.passed is None]) == ("hold", ["witnessed"])
    with running_witness(tmp_path / "w1", [], "w1.example") as again:
        place.watched_by = [again]
        place.open()
        place.ledger.checkpoint()
        assert place.audit.witness(AMAL, LEDGER).allowed
    assert place.audit.verify(max_age=timedelta(days=9)).verdict == "allow"
    place.close()


@pytest.mark.slow
def test_a_witness_that_has_forgotten_begins_anew(tmp_path: Path) -> None:
    """Its state was lost, its key was not: it says that it stands at 0, and is shown everything."""
    place = Audited(tmp_path / "state")
    with running_witness(tmp_path / "w1", [place.ledger.vkey], "w1.example") as first:
        place.watched_by = [first]
        place.open()
        for count in (300, 20):
            place.write(count)
            place.ledger.checkpoint()
            assert place.audit.witness(AMAL, LEDGER).allowed
            for file in (tmp_path / "w1" / "seen").iterdir():
                file.unlink()
    place.close()


@pytest.mark.slow
def test_after_a_rotation_a_witness_refuses_until_somebody_tells_it_the_new_key(tmp_path: Path) -> None:
    place = Audited(tmp_path / "state")
    with running_witness(tmp_path / "w1", [place.ledger.vkey], "w1.example") as witness:
        place.watched_by = [witness]
        place.open()
        place.write(2)
        new = place.audit.rotate(AMAL, LEDGER)["vkey"]
        assert place.audit.witness(AMAL, LEDGER).allowed  # the old key's last word
        place.write(2)
        place.ledger.checkpoint()
        refused = place.audit.witness(AMAL, LEDGER)
        assert refused.verdict == "deny"
        assert "403" in refused.checks[0].seen
        assert place.audit.verify().verdict == "deny"
        with (witness.folder / "logs").open("a") as file:
            file.write(new + "\n")
        assert place.audit.witness(AMAL, LEDGER).allowed
        assert place.audit.verify(ask=True).verdict == "allow"
    place.close()


class Liar:
    """Answers whatever it likes: a program at the witness's address that is none."""

    name, vkey = "w.example", ""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def add(self, old: int, path: object, note: str) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def newest(self, origin: str) -> str:
        return self.add(0, (), "")


def lied_to(place: Audited, *answers: object) -> Audit:
    key = SigningKey.generate()
    who = Verifier("w.example", key.public_key, lambda _signature, _message: False)
    return Audit(place.audit.kernel, place.audit.verifier, Witnesses([(who, Liar(*answers))]))


@pytest.mark.parametrize(
    "answer", ["", "nonsense\n", "— w.example AAAAAAAAAA==\n", "— other AAAAAAAAAA==\n", "\ud800", "x" * 2_000_000]
)
def test_what_is_no_cosignature_counts_for_nothing(place: Audited, answer: str) -> None:
    place.write(2)
    place.ledger.checkpoint()
    shown = lied_to(place, answer).witness(AMAL, LEDGER)
    assert (shown.verdict, shown.checks[0].passed) == ("hold", None)
    assert place.ledger.find("cosignature") == []


def test_a_witness_that_keeps_changing_its_mind_is_given_up(place: Audited) -> None:
    place.write(9)
    place.ledger.checkpoint()
    shown = lied_to(place, Conflict("", size=3), Conflict("", size=2), Conflict("", size=1)).witness(AMAL, LEDGER)
    assert shown.verdict == "hold"
    ahead = lied_to(place, Conflict("", size=12)).witness(AMAL, LEDGER)
    assert (ahead.verdict, "the tail was cut off" in ahead.checks[0].seen) == ("deny", True)


def test_without_witnesses_there_is_nobody_to_show_it_to(place: Audited) -> None:
    with pytest.raises(InvalidInput, match="No witness is named"):
        place.audit.witness(AMAL, LEDGER)


def test_where_witnesses_are_required_nothing_is_written_for_longer_without_them(place: Audited) -> None:
    audit = lied_to(place, Unavailable("away"))
    required = WitnessedLedger(place.ledger, audit.witnesses, lambda: place.now)
    with required.transaction() as tx:
        tx.append(Event("a.b", LEDGER, AMAL, place.now))
    place.now += 2 * HOUR
    with pytest.raises(Unavailable, match="Nothing is written"), required.transaction():
        pass
    assert len(list(required.events())) == 1
    append(place.ledger, Event("audit.witness", LEDGER, AMAL, place.now))  # its own upkeep goes on
    with pytest.raises(InvalidInput, match="none is named"):
        WitnessedLedger(place.ledger, Witnesses(), lambda: place.now)


# --- bundles ---


def files(place: Audited) -> dict[str, bytes]:
    root = place.folder / "exports" / "ledger"
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_a_bundle_grows_by_what_is_new_and_is_the_same_as_one_made_at_once(tmp_path: Path) -> None:
    grown, at_once = Audited(tmp_path / "grown"), Audited(tmp_path / "once")
    sizes = []
    for count in (3, 250, 600):
        grown.write(count)
        done = grown.audit.export(AMAL, LEDGER)
        sizes.append((done.size, done.tiles))
    assert sizes == [(3, 2), (254, 2), (855, 9)]
    held = files(grown)
    for tile in tiles_of(855):
        assert tile.path in held
        if tile.level == ENTRIES:
            first = tile.index * 256
            assert read_entries(held[tile.path], tile.width) == list(grown.ledger.leaves(first, first + tile.width))
    assert not [name for name in held if "draft" in name]
    for leaf in grown.ledger.events():
        append(at_once.ledger, leaf)
    at_once.ledger.checkpoint()
    tree = LedgerTree(at_once.ledger.leaves)
    assert all(tree.hashes(tile) == held[tile.path] for tile in tiles_of(855) if tile.level != ENTRIES)
    assert [json.loads(line)["note"] for line in held["checkpoints.jsonl"].splitlines()][-1].encode() == held["checkpoint"]
    grown.close()
    at_once.close()


def test_a_bundle_of_another_history_is_left_alone(tmp_path: Path) -> None:
    first, second = Audited(tmp_path / "first"), Audited(tmp_path / "second")
    first.write(5)
    first.audit.export(AMAL, LEDGER)
    before = files(first)
    (tmp_path / "second" / "exports").mkdir()
    (tmp_path / "first" / "exports" / "ledger").rename(tmp_path / "second" / "exports" / "ledger")
    second.write(6)
    second.now += HOUR
    append(second.ledger, event("c.d", "model/other"))
    second.ledger.checkpoint()
    (tmp_path / "second" / "exports" / "ledger" / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(Conflict, match="cannot be read"):
        second.audit.export(AMAL, LEDGER)
    (tmp_path / "second" / "exports" / "ledger" / "checkpoint").write_bytes(before["checkpoint"].replace(b"\n5\n", b"\n6\n"))
    with pytest.raises(Conflict, match="another history"):
        second.audit.export(AMAL, LEDGER)
    first.close()
    second.close()


# --- watching ---


def test_a_watch_goes_on_where_the_one_before_ended(place: Audited) -> None:
    place.write(5)
    place.ledger.checkpoint()
    seen = place.audit.watch(limit=3)
    assert ([e["seq"] for e in seen.events], seen.after, seen.verdict) == ([0, 1, 2], 2, "allow")
    seen = place.audit.watch(after=seen.after, root=seen.root)
    assert ([e["seq"] for e in seen.events], seen.verdict) == ([3, 4], "allow")
    again = place.audit.watch(after=seen.after, root=seen.root)
    assert (again.events, again.after, again.root) == ((), 4, seen.root)


def test_a_watch_sees_that_the_tail_is_another(place: Audited, tmp_path: Path) -> None:
    place.write(5)
    seen = place.audit.watch()
    other = Audited(tmp_path / "other")
    other.write(3)
    cut = other.audit.watch(after=seen.after, root=seen.root)
    assert (cut.verdict, [check.name for check in cut.checks if check.passed is False]) == ("deny", ["history"])
    other.close()


@pytest.mark.parametrize("wrong", [{"after": -2}, {"limit": 0}, {"limit": 1001}, {"root": "sha256:00"}, {"root": "x"}])
def test_a_watch_that_cannot_be_is_refused(place: Audited, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        place.audit.watch(**wrong)  # type: ignore[arg-type]
