"""Trials: every check is told with its rows, and nothing is taken in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl
import pytest

from falaj.core.errors import InvalidInput, NotFound, Unavailable
from falaj.ports.source import Origin
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset, From
from falaj.stages.contracts.trial import judge, names_of, rows_of

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, trips

END = DAY + timedelta(days=30)


def test_good_data_pass_and_nothing_is_taken_in(world: World) -> None:
    contracts = world.contracts()
    decision = judge(contracts, "trips", END)
    assert (decision.verdict, decision.rule, decision.failed) == ("allow", "test", ())
    assert not list(world.ledger.events())
    assert contracts.look("trips")["version"] == 0


def test_a_failed_check_says_how_many_rows_and_which(world: World) -> None:
    world.rows = trips(100).with_columns(miles=pl.when(pl.col("id").is_in(["t4", "t6"])).then(-1.0).otherwise(pl.col("miles")))
    decision = judge(world.contracts(), "trips", END)
    assert decision.verdict == "deny"
    assert [(item.name, item.seen) for item in decision.failed] == [("miles >= 0", "2 of 100 rows: _row 4, 6")]
    assert decision.reason == "2 of 100 rows would go to quarantine"


def test_many_rows_are_told_by_the_first_ten(world: World) -> None:
    world.rows = trips(100, miles=pl.lit(-1.0))
    (failed,) = judge(world.contracts(), "trips", END).failed
    assert failed.seen == "100 of 100 rows: _row 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"


def test_what_only_warns_does_not_deny_and_has_its_rows_too(world: World) -> None:
    world.rows = trips(100).with_columns(zone=pl.when(pl.col("id") == "t2").then(None).otherwise(pl.col("zone")))
    decision = judge(world.contracts(), "trips", END)
    assert decision.verdict == "allow"
    assert [(item.name, item.seen) for item in decision.failed] == [("warning: all zones are there", "1 of 100 rows: _row 2")]


def test_a_load_that_would_be_stopped_says_why(world: World) -> None:
    world.rows = trips(10).with_columns(miles=pl.lit("far"))
    decision = judge(world.contracts(), "trips", END)
    assert (decision.verdict, decision.reason) == ("deny", "miles is a number: String")


def test_only_what_is_new_is_judged_unless_everything_is_asked_for(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=50))
    assert judge(contracts, "trips", DAY + timedelta(hours=50)).verdict == "hold"
    judge(contracts, "trips", END)
    assert world.asked[-1] == (DAY + timedelta(hours=50), END)
    judge(contracts, "trips", END, everything=True)
    assert world.asked[-1] == (None, END)


def test_what_compares_loads_is_not_judged_over_everything(world: World) -> None:
    more = """
      - {name: steady, type: custom, engine: falaj, implementation: growth() <= 2}
      - {name: alike, type: custom, engine: falaj, implementation: drift(miles) <= 0.01, severity: warning}"""
    known = "      - {name: known after"
    assert known in CONTRACT
    world.write(CONTRACT.replace(known, more[1:] + "\n" + known))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=50))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=60))
    decision = judge(contracts, "trips", END, everything=True)
    assert (decision.verdict, decision.failed) == ("allow", ())
    apart = {item.name: (item.passed, item.seen) for item in decision.checks if item.name.endswith(("steady", "alike"))}
    assert apart == dict.fromkeys(("load: steady", "warning: alike"), (None, "not judged: everything is not one load"))
    assert decision.reason.endswith("not judged: load: steady, warning: alike")
    assert "load: steady" in [item.name for item in judge(contracts, "trips", END).failed]


def test_a_source_that_gives_too_much_is_told(world: World) -> None:
    world.source = lambda since, until: trips(100)
    (failed,) = judge(world.contracts(), "trips", DAY + timedelta(hours=97)).failed
    assert failed.seen == "3 of 100 rows: _row 97, 98, 99"


def test_the_names_of_the_checks_are_known_without_the_data(world: World) -> None:
    contracts = world.contracts()
    listed = names_of(contracts.contract("trips"))
    seen = [item.name for item in judge(contracts, "trips", END).checks]
    assert [name for name in seen if name in listed] == list(listed)
    assert set(seen) - set(listed) == {"known_at is in the period asked for"}


def test_what_cannot_be_asked_is_said(world: World) -> None:
    with pytest.raises(NotFound, match="no dataset named 'trip'"):
        judge(world.contracts(), "trip", END)

    def broken(since: datetime | None, until: datetime) -> pl.DataFrame:
        raise OSError("the disk is gone")

    world.source = broken
    with pytest.raises(Unavailable, match="the disk is gone"):
        judge(world.contracts(), "trips", END)
    world.source = lambda since, until: [1]  # type: ignore[assignment,return-value]
    with pytest.raises(InvalidInput, match="returned a list"):
        judge(world.contracts(), "trips", END)


class Pieces:
    """A source of ready frames, which knows no periods."""

    capabilities: frozenset[str] = frozenset()
    origin = Origin("test", "pieces")

    def __init__(self, *frames: pl.DataFrame) -> None:
        self.frames = frames

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        return iter(self.frames)


def opened(world: World, dataset: Dataset, *frames: pl.DataFrame) -> pl.DataFrame:
    kernel = world.contracts().kernel
    contracts = Contracts(kernel, world.blobs, {dataset.name: dataset}, world.folder, open_source=lambda source: Pieces(*frames))
    return rows_of(contracts, dataset, None, END)


def test_a_named_source_is_opened_and_read_to_its_end(world: World) -> None:
    dataset = Dataset("trips", "trips.odcs.yaml", From("csv"), time="at", known="known_at")
    assert opened(world, dataset, trips(2), trips(3, 2)).equals(trips(5))
    whole = Dataset("trips", "trips.odcs.yaml", From("csv"), time="at", known="loaded_at", brings="all")
    assert opened(world, whole, trips(2))["loaded_at"].to_list() == [END, END]


def test_a_source_that_nobody_can_open_here_is_refused(world: World) -> None:
    dataset = Dataset("trips", "trips.odcs.yaml", From("csv"), time="at", known="known_at")
    contracts = Contracts(world.contracts().kernel, world.blobs, {"trips": dataset}, world.folder)
    with pytest.raises(InvalidInput, match="cannot be opened here"):
        rows_of(contracts, dataset, None, END)
