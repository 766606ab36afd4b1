"""A story says what the ledger holds: nothing is drawn, nothing is invented."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.console.headline import headline, outcome_line, tiles
from falaj.console.story import Story, story, story_of

if TYPE_CHECKING:
    from tests.unit.console.conftest import World


class Nothing:
    def __init__(self) -> None:
        self.ledger, self.blobs = MemoryLedger(), MemoryBlobs()


@pytest.fixture(scope="session")
def told(world: World) -> Story:
    return story_of(world)


def test_it_tells_who_served_when_without_a_gap(told: Story) -> None:
    (watched,) = told.endpoints
    assert [served.model for served in watched.served] == ["model/delay@1", "model/delay@3"]
    assert watched.served[0].until == watched.served[1].since
    assert watched.champion is not None
    assert watched.champion.until >= watched.served[1].since


def test_it_tells_how_every_rollout_ended(told: Story) -> None:
    episodes = told.endpoints[0].episodes
    assert [(e.challenger, e.state) for e in episodes] == [
        ("model/delay@2", "rolled_back"),
        ("model/delay@3", "promoted"),
        ("model/delay@4", "running"),
    ]
    assert outcome_line(episodes[0]).startswith("Taken back after ")
    assert [step.share for step in episodes[1].steps] == [0.2, 0.5]
    assert episodes[1].steps[0].until == episodes[1].steps[1].since


def test_curves_hold_every_look_and_the_thresholds_that_decide(told: Story) -> None:
    taken_back, promoted, _ = told.endpoints[0].episodes
    wrong = taken_back.guards[0]
    assert (wrong.name, [at for at, _ in wrong.harm]) == ("wrong", sorted({at for at, _ in wrong.harm}))
    assert wrong.harm[-1][1] >= taken_back.harm_at == pytest.approx(math.log10(2 / 0.05))
    assert promoted.proof_at == pytest.approx(math.log10(1 / 0.05))
    assert all(max(value for _, value in guard.proof) >= promoted.proof_at for guard in promoted.guards)
    assert wrong.units[1] > 0
    assert taken_back.checks


def test_a_drift_that_lasts_is_one_mark_and_a_retrain_says_what_came_of_it(told: Story) -> None:
    marks = [(mark.kind, mark.text) for mark in told.endpoints[0].marks]
    assert marks == [("drift", "temp"), ("retrain", "asked for by drift: succeeded, no model passed its gates")]


def test_it_tells_the_life_of_an_alert_and_the_reasons_of_quarantine(told: Story) -> None:
    (alarm,) = told.alarms
    assert (alarm.state, alarm.acknowledged_by, alarm.is_open) == ("acknowledged", "person:anna", True)
    assert alarm.acknowledged is not None
    (intake,) = told.intakes
    assert (intake.rows, intake.quarantined, intake.reasons[0]) == (5000, 2, ("too late", 2))


def test_it_tells_what_gates_said_also_of_models_that_never_were(told: Story) -> None:
    assert [(judged.model, judged.verdict) for judged in told.gates if judged.verdict == "deny"] == [("", "deny")]
    assert {judged.model for judged in told.gates} == {"", *(f"model/delay@{n}" for n in (1, 2, 3, 4))}


def test_the_books_are_verified_where_somebody_can(told: Story, world: World) -> None:
    assert (told.books.verdict, told.books.sealed_rows) == ("allow", 5000)
    assert told.books.events == sum(1 for _ in world.ledger.leaves())
    assert story(world).books.verdict == "unseen"


def test_one_sentence_says_it(told: Story) -> None:
    assert headline(told) == (
        "3 new models tried on delay: 1 promoted, 1 taken back, 1 under way. delay@3 serves now. 1 alert open."
    )
    values = {tile.name: (tile.value, tile.more) for tile in tiles(told)}
    assert values["Wrong rate, last week"] == ("21 %", "promised 20 %")
    assert values["Ledger"][0] == "whole"


def test_an_empty_ledger_has_a_short_story() -> None:
    told = story(Nothing())
    assert headline(told) == "Nothing is served yet."
    assert told.endpoints == told.alarms == told.gates == told.intakes == ()


def test_periods_begin_with_the_first_release(told: Story) -> None:
    assert told.since == told.endpoints[0].served[0].since
    assert told.until - told.since > timedelta(days=20)
