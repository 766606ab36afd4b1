"""What the ledger's records say about a thing, as policy is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.labels import Labels

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOME = {"zone": "uae-onshore"}


class World:
    def __init__(self) -> None:
        self.ledger = MemoryLedger()

    def put(self, kind: str, key: str, body: Any, verb: str = "a.b", *, subject: str = "thing/x", by: str = "amal") -> None:
        with self.ledger.transaction() as tx:
            tx.append(Event(verb, Ref.parse(subject), Actor(by), NOW, {}, (Change(kind, key, body),)))

    def asset(self, ref: str, *, zone: str = "local", inputs: tuple[str, ...] = (), **labels: Any) -> dict[str, Any]:
        body = {"ref": ref, "digest": "sha256:0", "location": "", "zone": zone, "labels": labels, "inputs": list(inputs)}
        self.put("asset", ref, body)
        return body

    def of(self, ref: str, stands_on: Any = lambda _ref: ()) -> dict[str, Any]:
        return Labels(self.ledger, HOME, stands_on)(Ref.parse(ref))


@pytest.fixture
def world() -> World:
    return World()


def test_what_has_no_record_has_the_labels_of_the_installation(world: World) -> None:
    assert world.of("dataset/none") == {"classes": [], "held": False, "tier": "none", "zone": "uae-onshore"}
    assert Labels(world.ledger)(Ref("x", "y"))["zone"] == "local"


def test_a_dataset_is_what_its_contract_says(world: World) -> None:
    world.asset("dataset/trips@3", zone="difc", classification="Internal", column_classes=["Personal"], purposes=["planning"])
    told = {"classes": ["internal", "personal"], "held": False, "tier": "none", "zone": "difc", "purposes": ["planning"]}
    assert world.of("dataset/trips@3") == told
    assert world.of("dataset/trips")["classes"] == [], "no head: nothing was taken in yet"
    world.put("head", "dataset/trips", {"version": 3})
    assert world.of("dataset/trips") == told


def test_a_model_is_of_the_classes_of_what_it_was_made_of_and_for_the_purposes_of_all(world: World) -> None:
    world.asset("dataset/trips@1", classification="internal", purposes=["planning", "pricing"])
    world.asset("dataset/people@1", classification="personal", purposes=["planning", "marketing"])
    world.put("head", "dataset/trips", {"version": 1})
    world.put("head", "dataset/people", {"version": 1})
    candidate = world.asset("candidate/delay@r1", inputs=("dataset/trips@1", "dataset/people@1"))
    world.put("model", "delay@7", {"candidate": "candidate/delay@r1", "by": "service:runner", "asset": candidate})
    for ref in ("candidate/delay@r1", "model/delay@7"):
        assert world.of(ref)["classes"] == ["internal", "personal"]
        assert world.of(ref)["purposes"] == ["planning"]
    world.put("endpoint", "delay", {"wanted": {"arms": [{"model": "model/delay@7", "role": "champion"}]}})
    assert world.of("endpoint/delay")["classes"] == ["internal", "personal"]
    assert world.of("endpoint/delay")["tier"] == "none", "a tier is a model's"


def test_a_derived_dataset_whose_contract_says_what_it_is_needs_no_other_word(world: World) -> None:
    world.asset("dataset/people@1", classification="personal")
    world.put("head", "dataset/people", {"version": 1})
    world.asset("dataset/counts@1", classification="public", inputs=("dataset/people@1",))
    world.asset("dataset/names@1", inputs=("dataset/people@1",))
    assert world.of("dataset/counts@1")["classes"] == ["public"]
    assert world.of("dataset/names@1")["classes"] == ["personal"]


def test_what_has_no_asset_yet_has_the_classes_of_what_it_is_declared_to_use(world: World) -> None:
    world.asset("dataset/people@1", classification="personal")
    world.put("head", "dataset/people", {"version": 1})
    assert world.of("view/recent", lambda _ref: [Ref("dataset", "people")])["classes"] == ["personal"]


def test_authors_are_whoever_trained_started_the_run_or_registered(world: World) -> None:
    world.put("run", "r1", {}, "run.start", subject="run/r1", by="lina")
    candidate = world.asset("candidate/delay@r1")
    world.put("x", "y", {}, "model.train", subject="candidate/delay@r1", by="runner")
    world.put("model", "delay@7", {"candidate": "candidate/delay@r1", "by": "person:omar", "asset": candidate})
    assert world.of("candidate/delay@r1")["authors"] == ["lina", "runner"]
    assert world.of("model/delay@7")["authors"] == ["lina", "omar", "runner"]
    world.put(
        "model", "delay@8", {"candidate": "candidate/delay@r1", "by": "person:omar", "asset": candidate, "authors": ["kim"]}
    )
    assert world.of("model/delay@8")["authors"] == ["kim", "lina", "omar", "runner"]
    world.put("model", "fare@1", {"asset": candidate})
    assert "authors" not in world.of("model/fare@1"), "who made it is not known, and not nobody"


def test_approvals_count_while_they_stand(world: World) -> None:
    world.put("approval", "model/delay@7|omar", {"at": "x"})
    world.put("approval", "model/delay@7|sara", {"verdict": "allow"})
    world.put("approval", "model/delay@7|nils", {"verdict": "deny"})
    world.put("approval", "model/delay@7|kim", {"withdrawn_at": "2026-01-01T00:00:00Z"})
    world.put("approval", "model/delay@77|amal", {})
    assert world.of("model/delay@7")["approvals"] == ["omar", "sara"]


def test_a_tier_is_of_all_versions(world: World) -> None:
    world.put("tier", "model/delay", {"tier": "tier1"})
    assert (world.of("model/delay@7")["tier"], world.of("candidate/delay@r1")["tier"]) == ("tier1", "tier1")
    assert world.of("model/fare@1")["tier"] == "none"


@pytest.mark.parametrize(
    ("body", "held"),
    [
        ({"of": ["dataset/trips"]}, True),
        ({"of": "dataset/trips@3"}, True),
        ({"of": ["all"]}, True),
        ({"of": ["dataset/other"]}, False),
        ({"of": ["dataset/trips"], "ended_at": "2026-01-01T00:00:00Z"}, False),
        ({}, True),
        ({"of": 7}, True),
        ({"of": []}, True),
    ],
)
def test_a_hold_holds_what_it_names_and_everything_where_it_cannot_be_read(world: World, body: Any, held: bool) -> None:
    world.put("hold", "h1", body)
    assert world.of("dataset/trips@3")["held"] is held


@pytest.mark.parametrize("labels", [{"purposes": 7}, {"column_classes": [1]}, {"classes": {"a": 1}}])
def test_a_record_that_cannot_be_read_is_an_error_and_not_an_empty_label(world: World, labels: Any) -> None:
    world.asset("dataset/trips@3", **labels)
    with pytest.raises(InvalidInput):
        world.of("dataset/trips@3")


def test_the_state_is_what_stands_against_the_use_of_it(world: World) -> None:
    world.asset("dataset/trips@3")
    assert "state" not in world.of("dataset/trips@3")
    world.put("expired", "dataset/trips@3", {"ref": "dataset/trips@3", "state": "removing"})
    assert world.of("dataset/trips@3")["state"] == "expired"
    assert "state" not in world.of("dataset/trips@4")
    world.put("standing", "delay@7", {"state": "quarantined"})
    assert (world.of("model/delay@7")["state"], "state" in world.of("model/delay@8")) == ("quarantined", False)
    world.put("endpoint", "delay", {"wanted": {"arms": []}})
    assert "state" not in world.of("endpoint/delay")
    world.put("endpoint", "delay", {"wanted": {"arms": [], "killed": {"by": "anna"}}})
    assert world.of("endpoint/delay")["state"] == "killed"


def test_what_a_contract_calls_its_state_lifts_nothing(world: World) -> None:
    world.asset("dataset/trips@1", classification="health", state="past-retention")
    assert "state" not in world.of("dataset/trips@1")


def test_classes_come_through_whatever_lies_between(world: World) -> None:
    """A dataset that was derived from a derived one is about the people of the first."""
    world.asset("dataset/people@1", classification="health", purposes=["care"])
    world.asset("dataset/days@1", inputs=("dataset/people@1",))
    world.asset("dataset/weeks@1", inputs=("dataset/days@1",))
    for name in ("people", "days", "weeks"):
        world.put("head", f"dataset/{name}", {"version": 1})
    for ref in ("dataset/days@1", "dataset/weeks@1", "dataset/weeks"):
        told = world.of(ref)
        assert (told["classes"], told["purposes"]) == (["health"], ["care"])
    world.asset("dataset/ring@1", inputs=("dataset/ring-two@1",))
    world.asset("dataset/ring-two@1", inputs=("dataset/ring@1",))
    for name in ("ring", "ring-two"):
        world.put("head", f"dataset/{name}", {"version": 1})
    assert world.of("dataset/ring@1")["classes"] == []
