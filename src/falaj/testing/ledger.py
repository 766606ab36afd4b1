"""What every ledger has to keep: subclass LedgerSuite in your tests and say how yours is opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from falaj.core.actor import Actor
from falaj.core.errors import Bug, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.leaf import event_of
from falaj.core.merkle import leaf_hash, root, verify_inclusion
from falaj.core.note import Verifier, open_checkpoint, read_vkey
from falaj.core.ref import Ref
from falaj.ports.evidence import Evident
from falaj.ports.ledger import Ledger

START = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
SOMEBODY = Actor("amal", "person", ("operator",))


def event(verb: str = "model.promote", subject: str = "model/delay@1", *changes: Change, **facts: Any) -> Event:
    return Event(verb, Ref.parse(subject), SOMEBODY, START, facts, changes)


def put(key: str, **body: Any) -> Change:
    return Change("thing", key, body)


def append(ledger: Ledger, *events: Event) -> list[Event]:
    with ledger.transaction() as tx:
        return [tx.append(one) for one in events]


class LedgerSuite:
    __test__ = False

    def open(self) -> Ledger:
        """The ledger under test; opened again, a durable one finds what it held."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self) -> Iterator[Ledger]:
        ledger = self.open()
        yield ledger
        ledger.close()

    def again(self, ledger: Ledger, capability: str) -> Ledger:
        if capability not in ledger.capabilities:
            pytest.skip(f"the ledger does not claim to be {capability}")
        return self.open()

    def verifier(self, ledger: Ledger) -> Verifier:
        vkey = getattr(ledger, "vkey", None)
        assert isinstance(vkey, str), "a ledger shows the key of its checkpoints as `vkey`"
        name, public_key = read_vkey(vkey)

        def check(signature: bytes, message: bytes) -> bool:
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
            except InvalidSignature:
                return False
            return True

        return Verifier(name, public_key, check)

    def test_the_first_event_is_number_0_and_the_next_one_number_1(self, ledger: Ledger) -> None:
        assert [e.seq for e in append(ledger, event(), event())] == [0, 1]
        assert [e.seq for e in append(ledger, event())] == [2]
        assert [e.seq for e in ledger.events()] == [0, 1, 2]

    def test_an_event_comes_back_as_it_was_appended(self, ledger: Ledger) -> None:
        given = event("model.promote", "model/delay@7", put("a", x=[1, 2.5, None, True, "ö"]), big=1e20, small=1e-9)
        (seen,) = append(ledger, given)
        assert list(ledger.events()) == [seen]

    def test_a_change_shows_as_a_record_and_its_removal_takes_it_away(self, ledger: Ledger) -> None:
        append(ledger, event("a.b", "model/delay", put("k", x=1)))
        assert ledger.get("thing", "k") == {"x": 1}
        append(ledger, event("a.b", "model/delay", put("k", x=2)))
        assert ledger.get("thing", "k") == {"x": 2}
        append(ledger, event("a.b", "model/delay", Change("thing", "k", None)))
        assert ledger.get("thing", "k") is None

    def test_a_body_that_was_read_can_be_written_again(self, ledger: Ledger) -> None:
        append(ledger, event("a.b", "model/delay", put("k", x=1e20, y=2.0)))
        body = dict(ledger.get("thing", "k") or {})
        append(ledger, event("a.b", "model/delay", put("k", **body)))
        assert ledger.get("thing", "k") == {"x": 1e20, "y": 2.0}

    def test_nobody_changes_a_record_by_changing_what_was_read(self, ledger: Ledger) -> None:
        append(ledger, event("a.b", "model/delay", put("k", x=[1])))
        body: Any = ledger.get("thing", "k")
        body["x"].append(2)
        assert ledger.get("thing", "k") == {"x": [1]}

    def test_records_are_found_by_prefix_in_key_order(self, ledger: Ledger) -> None:
        keys = ["b", "a", "ab", "a%", "a_", "aé", "a\U0001f600", "B"]
        append(ledger, event("a.b", "model/delay", *(put(key, k=key) for key in keys), Change("other", "a", {})))
        assert [key for key, _ in ledger.find("thing")] == sorted(keys)
        assert [key for key, _ in ledger.find("thing", prefix="a")] == sorted(k for k in keys if k.startswith("a"))
        assert [key for key, _ in ledger.find("thing", prefix="a_")] == ["a_"]
        assert ledger.find("thing", prefix="zz") == []

    def test_reads_in_a_transaction_see_its_own_writes_and_nobody_else_does(self, ledger: Ledger) -> None:
        with ledger.transaction() as tx:
            tx.append(event("a.b", "model/delay", put("k", x=1)))
            assert tx.get("thing", "k") == {"x": 1}
            assert [key for key, _ in tx.find("thing")] == ["k"]
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(ledger.get, "thing", "k").result() is None
                assert pool.submit(lambda: list(ledger.events())).result() == []
        assert ledger.get("thing", "k") == {"x": 1}

    def test_a_transaction_that_raises_leaves_nothing(self, ledger: Ledger) -> None:
        append(ledger, event("a.b", "model/delay", put("k", x=1)))
        with suppress(ZeroDivisionError), ledger.transaction() as tx:
            tx.append(event("a.b", "model/delay", put("k", x=2), put("l", x=2)))
            raise ZeroDivisionError
        assert ledger.get("thing", "k") == {"x": 1}
        assert ledger.get("thing", "l") is None
        assert [e.seq for e in ledger.events()] == [0]
        assert [e.seq for e in append(ledger, event())] == [1]
        assert ledger.checkpoint().root == root([leaf_hash(leaf) for leaf in ledger.leaves()])

    def test_a_leaf_may_hold_65535_bytes_and_not_one_more(self, ledger: Ledger) -> None:
        append(ledger, event(text=""))
        room = 65_535 - len(next(ledger.leaves()))
        append(ledger, event(text="x" * room))
        assert len(list(ledger.leaves())[1]) == 65_535
        with pytest.raises(InvalidInput, match="65536 bytes"):
            append(ledger, event(text="x" * (room + 1)))
        assert len(list(ledger.leaves())) == 2

    def test_what_json_cannot_carry_is_refused_and_leaves_nothing(self, ledger: Ledger) -> None:
        for bad in (float("nan"), float("inf"), object(), "\ud800", 2**53 + 1, {1: 1, "1": 2}):
            with pytest.raises(InvalidInput):
                append(ledger, event("a.b", "model/delay", Change("thing", "k", {"x": [bad]})))
        assert list(ledger.events()) == []

    def test_a_transaction_cannot_be_used_after_its_end(self, ledger: Ledger) -> None:
        with ledger.transaction() as tx:
            pass
        for use in (lambda: tx.append(event()), lambda: tx.get("thing", "k"), lambda: tx.find("thing")):
            with pytest.raises(Bug):
                use()
        assert list(ledger.events()) == []

    def test_a_transaction_inside_a_transaction_is_an_error_and_no_deadlock(self, ledger: Ledger) -> None:
        with ledger.transaction(), pytest.raises(Bug), ledger.transaction():
            pass
        append(ledger, event())

    def test_events_are_found_by_verb_verb_prefix_subject_and_place(self, ledger: Ledger) -> None:
        append(
            ledger,
            event("model.promote", "model/delay@1"),
            event("model.rollback", "model/delay@2"),
            event("models.x", "model/delayed@1"),
            event("run.start", "model/delay"),
            event("model.promote", "model/delay-b@1"),
        )

        def seqs(**wanted: Any) -> list[int]:
            return [e.seq for e in ledger.events(**wanted)]

        assert seqs(verb="model.promote") == [0, 4]
        assert seqs(verb="model.") == [0, 1, 4]
        assert seqs(verb="model") == []
        assert seqs(subject=Ref("model", "delay")) == [0, 1, 3]
        assert seqs(subject=Ref("model", "delay", "2")) == [1]
        assert seqs(verb="model.", subject=Ref("model", "delay"), after=0) == [1]
        assert seqs(after=3) == [4]
        assert seqs(after=4) == []

    def test_many_events_are_read_in_order_also_while_more_are_written(self, ledger: Ledger) -> None:
        append(ledger, *(event(n=n) for n in range(1200)))
        seen = []
        for one in ledger.events():
            seen.append(one.seq)
            if one.seq == 600:
                append(ledger, event(n=1200))
        assert seen == list(range(1201))

    def test_leaves_are_the_canonical_bytes_of_the_events(self, ledger: Ledger) -> None:
        append(ledger, *(event(n=n) for n in range(5)))
        assert [event_of(leaf) for leaf in ledger.leaves()] == list(ledger.events())
        assert list(ledger.leaves(1, 3)) == list(ledger.leaves())[1:3]
        assert list(ledger.leaves(4)) == list(ledger.leaves())[4:]
        assert list(ledger.leaves(9)) == []

    def test_a_checkpoint_states_size_and_root_and_is_signed(self, ledger: Ledger) -> None:
        append(ledger, *(event(n=n) for n in range(7)))
        checkpoint = ledger.checkpoint()
        said = open_checkpoint(checkpoint.note, self.verifier(ledger))
        assert (said.origin, said.size, said.root) == (checkpoint.origin, checkpoint.size, checkpoint.root)
        assert (said.size, said.root) == (7, root([leaf_hash(leaf) for leaf in ledger.leaves()]))

    def test_the_same_size_gives_the_same_checkpoint_and_all_are_kept(self, ledger: Ledger) -> None:
        kept = [ledger.checkpoint()]
        assert kept[0].size == 0
        for _ in range(3):
            append(ledger, event())
            kept.append(ledger.checkpoint())
            assert ledger.checkpoint() == kept[-1]
        assert ledger.checkpoints() == kept

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
    def test_every_event_is_proven_under_a_checkpoint(self, ledger: Ledger, size: int) -> None:
        append(ledger, *(event(n=n) for n in range(size)))
        for seq in range(size):
            proof = ledger.prove(seq)
            assert event_of(proof.leaf).seq == proof.index == seq
            assert verify_inclusion(leaf_hash(proof.leaf), seq, proof.checkpoint.size, proof.path, proof.checkpoint.root)
            assert open_checkpoint(proof.checkpoint.note, self.verifier(ledger)).root == proof.checkpoint.root

    def test_an_event_after_the_last_checkpoint_is_proven_under_a_new_one(self, ledger: Ledger) -> None:
        append(ledger, event())
        ledger.checkpoint()
        append(ledger, event())
        assert ledger.prove(0).checkpoint.size == 1
        assert ledger.prove(1).checkpoint.size == 2

    @pytest.mark.parametrize("seq", [-1, 1, 99])
    def test_what_never_happened_cannot_be_proven(self, ledger: Ledger, seq: int) -> None:
        append(ledger, event())
        with pytest.raises(NotFound):
            ledger.prove(seq)

    def test_rebuilding_makes_the_same_records_from_the_events(self, ledger: Ledger) -> None:
        for n in range(20):
            append(ledger, event("a.b", "model/delay", put(f"k{n % 7}", n=n), Change("thing", f"k{(n + 3) % 7}", None)))
        before = ledger.find("thing")
        ledger.rebuild()
        assert ledger.find("thing") == before

    def test_a_second_transaction_waits_and_then_sees_what_the_first_has_written(self, ledger: Ledger) -> None:
        self._interleave(ledger, ledger)

    def test_a_second_opening_waits_and_then_sees_what_the_first_has_written(self, ledger: Ledger) -> None:
        other = self.again(ledger, "shared")
        try:
            self._interleave(ledger, other)
        finally:
            other.close()

    def _interleave(self, first: Ledger, second: Ledger) -> None:
        trying, inside = threading.Event(), threading.Event()

        def follow() -> Any:
            trying.set()
            with second.transaction() as tx:
                inside.set()
                seen = dict(tx.get("thing", "count") or {})
                tx.append(event("a.b", "model/delay", put("count", n=seen.get("n", 0) + 1)))
            return seen

        with ThreadPoolExecutor(1) as pool:
            with first.transaction() as tx:
                assert tx.get("thing", "count") is None
                later = pool.submit(follow)
                assert trying.wait(10)
                # The lock is taken on entry: a lock that comes with the first write would let it read the old count here.
                assert not inside.wait(0.3)
                tx.append(event("a.b", "model/delay", put("count", n=1)))
            assert later.result(20) == {"n": 1}
        assert first.get("thing", "count") == {"n": 2}

    def test_threads_that_count_together_lose_nothing(self, ledger: Ledger) -> None:
        def count(_: int) -> None:
            with ledger.transaction() as tx:
                seen = dict(tx.get("thing", "count") or {"n": 0})
                tx.append(event("a.b", "model/delay", put("count", n=seen["n"] + 1)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(40)))
        assert ledger.get("thing", "count") == {"n": 40}
        assert [e.seq for e in ledger.events()] == list(range(40))

    def test_a_durable_ledger_opened_again_knows_everything(self, ledger: Ledger) -> None:
        append(ledger, event("a.b", "model/delay", put("k", x=1)), event())
        checkpoint = ledger.checkpoint()
        ledger.close()
        other = self.again(ledger, "durable")
        try:
            assert other.get("thing", "k") == {"x": 1}
            assert other.checkpoint() == checkpoint
            assert [e.seq for e in append(other, event())] == [2]
        finally:
            other.close()

    def test_evidence_is_of_one_moment_and_shows_what_is_stored(self, ledger: Ledger) -> None:
        if not isinstance(ledger, Evident):
            pytest.skip("the ledger does not show its evidence")
        append(ledger, event("a.b", "model/delay@1", put("k", x=1)))
        checkpoint = ledger.checkpoint()
        with ledger.evidence() as evidence:
            append(ledger, event("a.b", "model/delay@1", put("l", x=1)))
            (stored,) = evidence.events()
            assert stored.leaf == next(ledger.leaves())
            assert (stored.seq, stored.leaf_hash, stored.verb) == (0, leaf_hash(stored.leaf), "a.b")
            assert [(r.kind, r.key, r.body) for r in evidence.records()] == [("thing", "k", b'{"x":1}')]
            assert evidence.checkpoints() == [checkpoint]
            assert evidence.edge() == (1, checkpoint.root)

    def test_times_are_kept_to_the_millisecond(self, ledger: Ledger) -> None:
        at = START + timedelta(microseconds=1999)
        append(ledger, Event("a.b", Ref("model", "delay"), SOMEBODY, at))
        assert next(ledger.events()).at == START + timedelta(milliseconds=1)
