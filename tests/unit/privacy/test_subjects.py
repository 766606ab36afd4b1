from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.signing import checker
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.ports.subjects import Finding
from falaj.stages.privacy.outcome import resolve
from falaj.stages.privacy.periods import Period, bound
from falaj.stages.privacy.receipts import read, verify
from falaj.stages.privacy.rules import Waiver
from falaj.stages.privacy.terms import STATUSES, Term
from tests.kits.privacy import APPROVER, DAY, DPO, OPERATOR, ROBOT, START, WORKER, House

YEAR = 365 * DAY
T1, T2 = "T-1001", "T-2002"


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = House(tmp_path)
    found.snapshot("dataset/visits@1")
    found.snapshot("dataset/visits@2", column_classes=["health"])
    for person in (T1, T2):
        found.register.add(person, f"note of {person}")
    return found


def receipt(house: House, request: str = "r1") -> dict[str, Any]:
    envelope = read(house.blobs.get(house.subjects.get(request)["receipts"][-1]["digest"]))
    from base64 import b64decode

    payload: dict[str, Any] = json.loads(b64decode(envelope["payload"]))
    return payload


def test_finding_tells_where_and_how_much_and_leaves_nobody_in_the_ledger(house: House) -> None:
    found = house.subjects.find(DPO, house.subjects.subject(T1), person=T1)
    assert [(f.store, f.place, f.count, f.readable) for f in found] == [
        ("register", "dataset/visits@1", 1, True),
        ("register", "copy of dataset/visits@1", 1, True),
    ]
    [event] = house.events("subject.find")
    assert [(row["store"], row["about"], row["count"]) for row in event.facts["found"]] == [
        ("register", "copy of dataset/visits@1", 1),
        ("register", "dataset/visits", 1),
    ]
    assert T1.encode() not in house.everything()


def test_an_export_holds_everything_readable_and_its_copy_is_sealed_with_the_persons_key(house: House) -> None:
    subject = house.subjects.subject(T1)
    house.consent.consent(DPO, subject, purpose="training", version="v1")
    made = house.subjects.export(DPO, subject, person=T1)
    assert {record["store"] for record in made["records"]} == {"register", "consents"}
    assert made["records"][0]["note"] == f"note of {T1}"
    body = house.ledger.get("export", Ref.parse(made["export"]).name)
    assert house.exports.read(body) == made["records"]
    assert T1.encode() not in house.blobs.get(body["digest"])
    assert [f.place for f in house.subjects.find(DPO, subject, person=T1) if f.store == "exports"] == [made["export"]]
    house.erase(T1)
    assert house.exports.read(body) is None
    assert not house.blobs.has(body["digest"])


def test_an_erasure_leaves_nothing_readable_of_the_person_and_everything_of_others(house: House) -> None:
    decision = house.erase(T1)
    assert (decision.verdict, decision.reason) == ("allow", "erased")
    assert [f.readable for f in house.register.find(T1)] == [False]
    assert list(house.register.export(T1)) == []
    assert [f.readable for f in house.register.find(T2)] == [True, True]
    assert house.subjects.get("r1")["state"] == "done"
    steps = [event.facts["step"] for event in house.events("subject.advance")]
    assert steps[0] == "shred"
    assert steps[-3:] == ["models", "forget", "done"]
    assert {step for step in steps if step.startswith("probe")} == {"probe register", "probe exports", "probe consents"}
    assert T1.encode() not in house.everything()
    assert not house.consent.may_use(house.subjects.subject(T1).name, "training", needs_consent=False).allowed
    with pytest.raises(Denied):
        house.register.add(T1, "back again")


def test_the_identifier_is_sealed_while_it_is_needed_and_gone_with_the_request(house: House) -> None:
    house.subjects.erase(DPO, house.subjects.subject(T1), person=T1, request="r1", identity="ticket/1")
    sealed = house.subjects.get("r1")["sealed"]
    assert T1.encode() not in house.blobs.get(sealed)
    house.subjects.carry_out(WORKER, "r1")
    assert not house.blobs.has(sealed)
    assert house.subjects.get("r1")["sealed"] == ""


def test_a_dry_run_says_what_would_happen_and_does_nothing(house: House) -> None:
    house.register.add(T1, "lab", "dataset/visits@2")
    before = len(house.events())
    shown = house.subjects.plan(T1).shown()
    assert shown["outcome"] == "restricted + beyond use until what keeps it ends, then shred"
    assert shown["conflicts"] == [
        "erasure against keeping: waits for last_procedure by health-ae:health_record [unverified, Federal Law 2/2019 Art 20]"
    ]
    assert shown["kept_in"] == ["register"]
    assert {"store": "register", "about": "dataset/visits", "places": 2, "count": 2, "readable": 2} in shown["found"]
    assert T1 not in json.dumps(shown)
    assert len(house.events()) == before
    assert [f.readable for f in house.register.find(T1)] == [True] * 4


def test_the_receipt_is_signed_proven_and_names_nobody(house: House) -> None:
    house.model("model/delay@1", "dataset/visits@1")
    house.erase(T1)
    data = house.blobs.get(house.subjects.get("r1")["receipts"][-1]["digest"])
    decision = verify(read(data), checker(house.key.public_key), _verifier(house))
    assert (decision.verdict, decision.reason) == ("allow", "proven"), decision.checks
    said = receipt(house)
    assert (said["form"], said["request"], said["outcome"], said["told"]) == ("falaj.receipt/1", "r1", "erase", "erased")
    assert said["token"] == house.subjects.subject(T1).name
    assert said["steps"]["shred"]["keys"] == 1
    assert said["steps"]["erase register"]["removed"] == 1
    assert said["steps"]["probe register"]["readable"] == 0
    assert said["models"] == ["model/delay@1"]
    assert {line["what"] for line in said["residual"]} >= {"ledger", "model/delay@1", "register: dataset/visits"}
    assert T1.encode() not in data


def _verifier(house: House) -> Any:
    from falaj.adapters.local.signing import verifier

    return verifier(house.ledger.vkey)


def test_a_changed_receipt_a_foreign_key_and_a_foreign_ledger_are_not_proven(house: House, tmp_path: Path) -> None:
    house.erase(T1)
    envelope = dict(read(house.blobs.get(house.subjects.get("r1")["receipts"][-1]["digest"])))
    other = House(tmp_path / "other")
    assert verify(envelope, checker(other.key.public_key), _verifier(house)).verdict == "deny"
    assert verify(envelope, checker(house.key.public_key), _verifier(other)).verdict == "deny"
    for name in ("payload", "payloadType"):
        assert (
            verify({**envelope, name: envelope[name][:-4] + "AAAA"}, checker(house.key.public_key), _verifier(house)).verdict
            == "deny"
        )
    for junk in ({}, {"payload": 1}, {"signatures": []}, {"payload": "e30=", "payloadType": "x", "signatures": [{"sig": ""}]}):
        assert verify(junk, checker(house.key.public_key), _verifier(house)).verdict == "deny"
    for data in (b"", b"[]", b"{", b"[" * 100_000):
        with pytest.raises(InvalidInput):
            read(data)


def test_a_receipt_whose_payload_was_signed_about_another_event_is_not_proven(house: House) -> None:
    from falaj.adapters.local.signing import sign_envelope
    from falaj.core.codec import canonical

    house.erase(T1)
    said = receipt(house)
    forged = canonical({**said, "token": house.subjects.subject(T2).name})
    envelope = sign_envelope(forged, "application/vnd.falaj.receipt+json", house.key)
    decision = verify(envelope, checker(house.key.public_key), _verifier(house))
    assert [(check.name, check.passed) for check in decision.checks] == [("signature", True), ("ledger", True), ("event", False)]


def test_a_legal_floor_is_stronger_than_the_wish_and_the_date_shreds_by_itself(house: House) -> None:
    subject = house.subjects.subject(T1)
    house.register.add(T1, "lab", "dataset/visits@2")
    house.subjects.export(DPO, subject, person=T1)
    house.consent.mark(DPO, subject, event="last_procedure", at=START - YEAR)
    decision = house.erase(T1)
    assert (decision.verdict, decision.reason) == ("hold", "restricted + beyond use until 2050-01-15, then shred")
    assert [f.readable for f in house.register.find(T1)] == [True] * 4  # kept by the law
    assert house.exports.find(T1) == [] or not house.exports.find(T1)[0].readable  # nothing keeps a copy
    assert not house.consent.may_use(subject.name, "treatment", needs_consent=False).allowed
    with pytest.raises(InvalidInput, match="waits to be erased"):
        house.consent.unrestrict(DPO, subject, reason="please")
    said = receipt(house)
    assert (said["outcome"], said["until"]) == ("restrict", "2050-01-15T12:00:00.000Z")
    assert all(line["until"] == "2050-01-15T12:00:00.000Z" for line in said["residual"])
    assert house.subjects.unfinished() == []
    house.now = START + 24 * YEAR
    assert house.subjects.unfinished() == []
    house.now = START + 24 * YEAR + 7 * DAY
    assert house.subjects.unfinished() == ["r1"]
    assert house.subjects.carry_out(WORKER, "r1").allowed
    assert not any(f.readable for f in house.register.find(T1))
    assert [each["state"] for each in house.subjects.get("r1")["receipts"]] == ["restricted", "done"]
    assert house.ledger.get("restricted", subject.name) is None
    assert house.subjects.unfinished() == []


def test_what_the_floor_waits_for_may_be_recorded_later(house: House) -> None:
    subject = house.subjects.subject(T1)
    house.register.add(T1, "lab", "dataset/visits@2")
    assert house.erase(T1).verdict == "hold"
    house.now += 30 * YEAR
    assert house.subjects.unfinished() == []
    house.consent.mark(DPO, subject, event="last_procedure", at=START)
    assert house.subjects.unfinished() == ["r1"]
    assert house.subjects.carry_out(WORKER, "r1").allowed


def test_a_hold_is_stronger_than_everything_and_nothing_is_removed_while_it_holds(house: House) -> None:
    hold = Ref("hold", "case")
    scope = str(house.subjects.subject(T1))
    house.holds.place(DPO, hold, scope=scope, reason="case", until=START + YEAR)
    decision = house.erase(T1)
    assert decision.verdict == "hold"
    assert [check.seen for check in decision.checks if "conflict" in check.name] == ["erasure against hold/case"]
    assert [f.readable for f in house.register.find(T1)] == [True, True]
    assert house.erase(T2, "r2").allowed  # a hold on one person holds no other
    for actor in (DPO, APPROVER):
        house.holds.release(actor, hold, reason="settled")
    assert house.subjects.unfinished() == ["r1"]
    assert house.subjects.carry_out(WORKER, "r1").allowed
    assert not any(f.readable for f in house.register.find(T1))


def test_only_law_is_stronger_than_the_wish() -> None:
    floors = [Term("visits", status, bound("5y"), None, status, "law") for status in STATUSES]
    for floor in floors:
        outcome = resolve({"visits"}, [floor], {"created": START}, facts=((), START))
        is_law = floor.status in ("enacted", "unverified")
        assert outcome.kind == ("restrict" if is_law else "erase")
        assert bool(outcome.yields) == (not is_law)
    waived = (Waiver("w", "visits", Period(0), START - DAY, START + DAY),)
    assert resolve({"visits"}, floors[:1], {"created": START}, facts=(waived, START)).kind == "erase"
    held = resolve({"visits"}, floors[:1], {"created": START}, holds=["hold/h"], facts=(waived, START))
    assert (held.kind, held.until, held.conflicts) == ("restrict", None, ("erasure against hold/h",))
    assert resolve(set(), floors, {}, facts=((), START)).kind == "erase"


def test_the_same_request_again_changes_nothing(house: House) -> None:
    first = house.erase(T1)
    count = len(house.events())
    assert house.erase(T1).verdict == first.verdict
    assert len(house.events()) == count
    with pytest.raises(Conflict, match="somebody else"):
        house.erase(T2)


def test_two_people_are_wanted_where_the_installation_says_so(tmp_path: Path) -> None:
    house = House(tmp_path, approvals=2)
    house.register.add(T1, "note")
    subject = house.subjects.subject(T1)
    house.requests.open(DPO, Ref("request", "r1"), token=subject.name, kind="erasure")
    assert house.erase(T1).verdict == "hold"
    assert house.ledger.get("erasure", "r1") is None
    assert [f.readable for f in house.register.find(T1)] == [True, True]
    house.requests.approve(DPO, Ref("request", "r1"), reason="mine")
    assert house.erase(T1).verdict == "hold"
    house.requests.approve(APPROVER, Ref("request", "r1"), reason="checked")
    assert house.erase(T1).allowed


def test_a_program_erases_nobody_and_an_operator_neither(house: House) -> None:
    assert house.erase(T1, actor=ROBOT).verdict == "deny"
    with pytest.raises(Denied):
        house.erase(T1, actor=OPERATOR)
    assert house.ledger.find("erasure") == house.ledger.find("erased") == []


class Stubborn:
    """A store that says it removed something and did not."""

    name = "stubborn"

    def __init__(self) -> None:
        self.rows = 2

    def find(self, subject: str) -> list[Finding]:
        return [Finding(self.name, "cache", self.rows, True)] if self.rows else []

    def export(self, subject: str) -> Any:
        return iter(())

    def erase(self, subject: str) -> list[Finding]:
        return []

    def probe(self, subject: str) -> list[Finding]:
        return self.find(subject)


def test_what_a_probe_can_still_read_is_a_failed_erasure_until_it_cannot(house: House) -> None:
    stubborn = Stubborn()
    house.subjects = house.opened([stubborn])
    decision = house.erase(T1)
    assert (decision.verdict, decision.reason) == ("deny", "something can still be read")
    assert [(check.name, check.seen) for check in decision.checks if check.passed is False] == [("probe stubborn", "2 readable")]
    assert house.subjects.get("r1")["receipts"] == []
    assert house.subjects.unfinished() == ["r1"]
    stubborn.rows = 0
    assert house.subjects.carry_out(WORKER, "r1").allowed


class Away:
    name = "away"

    def __init__(self) -> None:
        self.is_away = False

    def find(self, subject: str) -> list[Finding]:
        return []

    probe = find

    def export(self, subject: str) -> Any:
        return iter(())

    def erase(self, subject: str) -> list[Finding]:
        if self.is_away:
            raise Unavailable("the store is away")
        return []


def test_a_store_that_is_away_keeps_the_key_from_nothing_and_is_asked_again(house: House) -> None:
    away = Away()
    house.subjects = house.opened([away])
    away.is_away = True
    with pytest.raises(Unavailable):
        house.erase(T1)
    assert not any(f.readable for f in house.register.find(T1) if "copy" not in f.place)  # the key went first
    assert house.subjects.unfinished() == ["r1"]
    away.is_away = False
    assert house.subjects.carry_out(WORKER, "r1").allowed


def test_models_that_learned_from_the_person_are_marked(house: House) -> None:
    house.model("model/delay@1", "dataset/visits@1")
    house.model("model/delay@2", "dataset/visits@2")
    house.erase(T1)
    assert house.affected.of("model/delay@1")["people"] == 1
    assert house.affected.of("delay@2") is None
    house.erase(T2, "r2")
    assert house.affected.of("delay@1")["people"] == 2
    [first, second] = house.events("model.mark")
    assert str(first.subject) == str(second.subject) == "model/delay@1"


@pytest.mark.parametrize("person", ["", "   ", "x" * 1025, None, 7, ["T-1"]])
def test_what_is_nobodys_identifier_is_refused_without_showing_it(house: House, person: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        house.subjects.subject(person)
    assert "xxx" not in str(caught.value)


def test_person_and_token_have_to_be_the_same(house: House) -> None:
    for call in (house.subjects.find, house.subjects.export):
        with pytest.raises(InvalidInput):
            call(DPO, house.subjects.subject(T2), person=T1)
    with pytest.raises(NotFound):
        house.subjects.get("nothing")


@pytest.mark.parametrize("scope", ["dataset/visits@1", "dataset/visits", "all"])
def test_a_hold_on_one_snapshot_keeps_the_person_in_it_for_as_long_as_it_holds(house: House, scope: str) -> None:
    house.holds.place(DPO, Ref("hold", "case"), scope=scope, reason="case", until=START + YEAR)
    decision = house.erase(T1)
    assert decision.verdict == "hold"
    assert [f.readable for f in house.register.find(T1)] == [True, True]
    house.subjects.carry_out(WORKER, "r1")
    assert [f.readable for f in house.register.find(T1)] == [True, True]
    assert house.ledger.get("erased", house.subjects.subject(T1).name) is None


def test_an_erasure_of_somebody_else_is_not_approved_by_this_request(tmp_path: Path) -> None:
    house = House(tmp_path, approvals=2)
    for person in (T1, T2):
        house.register.add(person, "note")
    request = Ref("request", "r1")
    house.requests.open(DPO, request, token=house.subjects.subject(T1).name, kind="erasure")
    house.requests.approve(APPROVER, request, reason="checked")
    with pytest.raises(Conflict, match="somebody else"):
        house.erase(T2)
    assert [f.readable for f in house.register.find(T2)] == [True, True]
    house.requests.open(DPO, Ref("request", "r2"), token=house.subjects.subject(T2).name, kind="access")
    house.requests.approve(APPROVER, Ref("request", "r2"), reason="checked")
    with pytest.raises(Conflict, match="access"):
        house.erase(T2, "r2")
    assert [f.readable for f in house.register.find(T2)] == [True, True]


class Meanwhile(MemoryBlobs):
    """Somebody places a hold between the search of the stores and the event."""

    def __init__(self, house: list[House]) -> None:
        super().__init__()
        self.house = house

    def put(self, data: bytes) -> str:
        for house in self.house:
            if house.ledger.get("hold", "case") is None:
                house.holds.place(DPO, Ref("hold", "case"), scope="all", reason="case", until=START + YEAR)
        return super().put(data)


def test_a_hold_that_comes_while_the_stores_are_searched_counts(tmp_path: Path) -> None:
    there: list[House] = []
    house = House(tmp_path, blobs=Meanwhile(there))
    house.register.add(T1, "note")
    there.append(house)
    with pytest.raises(Conflict, match="ask again"):
        house.erase(T1)
    assert house.ledger.get("erased", house.subjects.subject(T1).name) is None
    assert house.erase(T1).verdict == "hold"
    assert [f.readable for f in house.register.find(T1)] == [True, True]


@pytest.mark.parametrize(
    ("place", "scope"),
    [
        ("endpoint/delay segment 17", "predictions/delay@000017"),
        ("endpoint/delay segment 17", "predictions/delay"),
        ("candidate/delay@run-1 holdout", "model/delay@1"),
        ("dataset/visits@1", "model/delay@1"),
        ("quarantine/visits@1", "dataset/visits@1"),
    ],
)
def test_a_hold_on_what_rests_on_the_data_holds_the_person_as_retention_does(house: House, place: str, scope: str) -> None:
    house.model("model/delay@1", "dataset/visits@1")
    house.register.add("T-3", "note", place)
    house.holds.place(DPO, Ref("hold", "case"), scope=scope, reason="case", until=START + YEAR)
    assert house.erase("T-3").verdict == "hold"
    assert any(f.readable for f in house.register.find("T-3"))


def test_a_hold_on_another_snapshot_keeps_nobody(house: House) -> None:
    house.holds.place(DPO, Ref("hold", "case"), scope="dataset/visits@2", reason="case", until=START + YEAR)
    assert house.erase(T1).allowed


def test_replay_is_no_way_around_an_erasure_of_somebody_who_was_not_erased(house: House) -> None:
    house.holds.place(DPO, Ref("hold", "case"), scope="all", reason="case", until=START + YEAR)
    token = house.subjects.subject(T1).name
    for actor in (DPO, WORKER):
        with pytest.raises(InvalidInput, match="were not erased"):
            house.replay.replay(actor, Ref("subject", "all"), tokens=[token])
    assert [f.readable for f in house.register.find(T1)] == [True, True]
    assert house.ledger.get("erased", token) is None


def test_a_receipt_shows_to_a_ledger_that_forgot_it_that_somebody_was_erased(house: House) -> None:
    from falaj.adapters.memory.vault import MemoryVault
    from falaj.stages.privacy.replay import Replay

    house.erase(T1)
    envelope = read(house.blobs.get(house.subjects.get("r1")["receipts"][-1]["digest"]))
    token, everybody = house.subjects.subject(T1).name, Ref("subject", "all")
    house.put("erased", token, {})
    with house.ledger.transaction() as tx:  # as the older ledger has it
        tx.append(Event("test.forget", everybody, DPO, START, {}, (Change("erased", token, None),)))
    old = Replay(house.kernel, MemoryVault(), house.replay.proven)
    with pytest.raises(InvalidInput, match="were not erased"):
        old.replay(DPO, everybody, tokens=[token])
    old.replay(DPO, everybody, tokens=[], receipt=envelope)
    assert token in old.vault.erased()
    assert house.ledger.get("erased", token) is not None
    old.admit(DPO, Ref("subject", token), reason="they came back")
    with pytest.raises(InvalidInput, match="taken in again"):
        old.replay(DPO, everybody, tokens=[], receipt=envelope)
    with pytest.raises(InvalidInput, match="not proven"):
        old.replay(DPO, everybody, tokens=[], receipt={**envelope, "payload": "e30="})


def test_a_receipt_of_a_restriction_erases_nobody(house: House) -> None:
    house.register.add(T1, "lab", "dataset/visits@2")
    assert house.erase(T1).verdict == "hold"
    envelope = read(house.blobs.get(house.subjects.get("r1")["receipts"][-1]["digest"]))
    with pytest.raises(InvalidInput, match="ended otherwise"):
        house.replay.replay(DPO, Ref("subject", "all"), tokens=[], receipt=envelope)
