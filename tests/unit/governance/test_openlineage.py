"""OpenLineage out: valid by the published classes, the same each time, at least once, and without anybody's data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from falaj import Dataset, Derived, View
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.adapters.memory.lineage import MemoryLineage
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import encode
from falaj.core.decision import Check, Decision
from falaj.core.errors import Unavailable
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.ports.source import Origin
from falaj.stages.action import Kernel
from falaj.stages.governance.exports import Exports
from falaj.stages.governance.openlineage import Known, told
from tests.kits.life import SERVICE, SKY, Life, life
from tests.kits.openlineage import valid

NOW = datetime(2013, 3, 1, tzinfo=UTC)
WORKER = Actor("worker", "service", ("service",))
COLUMNS = {"raw": ("id", "arr", "sched"), "clean": ("id", "delay"), "trips": ("id", "miles"), "sky": ("zone", "temp")}
CLEAN = Derived(("raw",), sql="select id, arr - sched as delay from raw where arr > 0")


def none(since: datetime | None, until: datetime) -> pl.DataFrame:
    raise AssertionError("nothing is read")


def known() -> Known:
    def one(name: str, source: Any = none) -> Dataset:
        return Dataset(name, f"{name}.odcs.yaml", source, time="at", known="at")

    datasets = {"raw": one("raw"), "clean": one("clean", CLEAN), "trips": one("trips"), "sky": one("sky")}
    view = View("delays", dataset="clean", entity="id", features=("delay",), time="at")
    return Known(
        "shop", datasets, {"delays": view, "sky_now": SKY}, lambda name: COLUMNS[name], lambda name: Origin("file", f"{name}.csv")
    )


def event(verb: str, subject: str, *changes: tuple[str, str, Any], seq: int = 7, **facts: Any) -> Event:
    drafted = tuple(Change(kind, key, encode(body)) for kind, key, body in changes)
    return Event(verb, Ref.parse(subject), WORKER, NOW, encode(facts), drafted, seq=seq)


def ingested(name: str, verdict: str = "allow", **labels: Any) -> Event:
    ref = Ref("dataset", name, "3")
    checks = (
        Check("miles >= 0", "<= 0 of 9 rows", "2 of 9 rows; -7.25", verdict == "allow"),
        Check("warning: zones", "all", "?", None),
    )
    decision = Decision(ref, "contract", verdict, checks, WORKER, NOW)  # type: ignore[arg-type]
    changes: list[tuple[str, str, Any]] = [("decision", f"{ref}|contract", decision)]
    if verdict == "allow":
        shape = {"columns": {"id": "String", "delay": "Float64"}, "owner": "ops", "since": None, "until": NOW, **labels}
        changes.append(
            ("asset", str(ref), Asset(ref, "sha256:" + "0" * 64, "x", labels=shape, inputs=(Ref("dataset", "raw", "2"),)))
        )
    facts = {"rows": 9, "until": NOW, **({"verdict": verdict} if verdict != "allow" else {})}
    return event("dataset.ingest", str(ref if verdict == "allow" else ref.bare), *changes, **facts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Real loads, a real training, a real gate, a real refresh."""
    made = life(tmp_path_factory.mktemp("life"))
    made.registered("release-1")
    made.features.materialise(SERVICE, Ref("view", "sky_now"), until=NOW)
    return made


def everything() -> Iterator[Event]:
    run = Run("release-1", "release", state="failed", failure="ValueError: Amna's row 17 is broken", started_at=NOW)
    yield ingested("raw")
    yield ingested("clean")
    yield ingested("raw", "deny")
    yield event("dataset.ingest", "dataset/raw", rows=0, until=NOW)
    yield event("feature.materialise", "view/delays", rows=4, until=NOW)
    yield event("run.start", "run/release-1", ("run", "release-1", replace(run, state="running", failure=None)))
    for state in ("failed", "succeeded", "cancelled"):
        yield event(
            "run.finish", "run/release-1", ("run", "release-1", replace(run, state=state)), state=state, failure=run.failure
        )


@pytest.mark.parametrize("each", list(everything()), ids=lambda each: f"{each.verb} {each.subject}")
def test_every_event_is_what_the_published_schema_wants(each: Event) -> None:
    found = told(each, known())
    assert found
    for one in found:
        valid(one)


@pytest.mark.slow
def test_real_events_are_valid_and_tell_the_way_of_a_model(whole: Life) -> None:
    made = [one for each in whole.kernel.ledger.events() for one in told(each, known())]
    for one in made:
        valid(one)
    jobs = [(one["job"]["name"], one["eventType"]) for one in made]
    for job in ("ingest.trips", "ingest.sky", "train.delay", "evaluate.delay", "materialise.sky_now"):
        assert jobs.count((job, "START")) == jobs.count((job, "COMPLETE")) > 0
    train = next(one for one in made if one["job"]["name"] == "train.delay" and one["eventType"] == "COMPLETE")
    assert {put["name"] for put in train["inputs"]} == {"trips", "sky"}
    assert train["run"]["facets"]["parent"]["job"]["name"] == "run.release"


def test_a_start_and_an_end_share_an_id_and_the_same_event_gives_the_same() -> None:
    start, end, *checked = told(ingested("clean"), known())
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert told(ingested("clean"), known()) == [start, end, *checked]
    assert {one["run"]["facets"]["parent"]["run"]["runId"] for one in checked} == {start["run"]["runId"]}
    assert told(replace(ingested("clean"), seq=8), known())[0]["run"]["runId"] != start["run"]["runId"]


def test_a_derived_load_tells_its_query_its_columns_and_its_versions() -> None:
    _, end, *_ = told(ingested("clean"), known())
    assert end["job"]["facets"]["sql"]["query"] == CLEAN.sql
    (put,) = end["inputs"]
    assert (put["namespace"], put["name"], put["facets"]["version"]["datasetVersion"]) == ("falaj://shop", "raw", "2")
    lineage = end["outputs"][0]["facets"]["columnLineage"]
    assert [field["field"] for field in lineage["fields"]["delay"]["inputFields"]] == ["arr", "sched"]
    assert lineage["fields"]["id"]["inputFields"][0]["transformations"] == [
        {"type": "DIRECT", "subtype": "IDENTITY", "masking": False}
    ]
    assert [field["field"] for field in lineage["dataset"]] == ["arr"]
    assert end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 9


def test_an_outside_source_keeps_its_own_name() -> None:
    start, end, *_ = told(ingested("raw"), known())
    assert (end["inputs"][0]["namespace"], end["inputs"][0]["name"]) == ("file", "raw.csv")
    assert start["outputs"] == [{"namespace": "falaj://shop", "name": "raw"}]


def test_a_refused_load_fails_with_the_names_of_what_failed() -> None:
    _, end, _, checked = told(ingested("raw", "deny"), known())
    assert end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "refused by its contract: miles >= 0"
    assert (checked["job"]["name"], checked["inputs"][0]["name"]) == ("check.raw", "raw")
    (assertion,) = checked["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["name"], assertion["success"]) == ("miles >= 0", False)


def test_nothing_of_a_row_and_nobody_s_name_goes_out() -> None:
    text = json.dumps([told(each, known()) for each in everything()])
    for secret in ("Amna", "-7.25", "worker", "row 17"):
        assert secret not in text
    assert "the run failed: ValueError" in text


def test_what_tells_of_no_data_is_not_told() -> None:
    assert told(event("key.create", "key/anna"), known()) == []
    assert told(event("run.finish", "run/x"), known()) == []
    assert told(event("feature.materialise", "view/gone"), known()) == []


# --- the export -----------------------------------------------------------------------------------------------------------


class AllowAll:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: object) -> Decision:
        return Decision(subject, "policy", "allow")


class Sending:
    def __init__(self) -> None:
        self.ledger = MemoryLedger("falaj/test")
        self.sink = MemoryLineage()

    def exports(self) -> Exports:
        return Exports(Kernel(self.ledger, AllowAll(), lambda: NOW), self.sink, lambda each: told(each, known()))

    def happen(self, *events: Event) -> None:
        with self.ledger.transaction() as tx:
            for each in events:
                tx.append(each)

    def go(self, exports: Exports) -> int:
        return exports.export(WORKER, Ref("lineage", "openlineage"))


def test_what_is_new_is_handed_over_once_and_nothing_new_leaves_no_event() -> None:
    world = Sending()
    world.happen(event("key.create", "key/anna"), ingested("raw"), ingested("clean"))
    exports = world.exports()
    assert world.go(exports) == 8
    leaves = list(world.ledger.leaves())
    assert world.go(exports) == 0
    assert world.go(world.exports()) == 0, "another process goes on where the ledger says"
    assert list(world.ledger.leaves()) == leaves
    assert [one["eventType"] for one in world.sink.events] == ["START", "COMPLETE"] * 4


def test_a_collector_that_is_down_gets_the_same_ones_later() -> None:
    world = Sending()
    world.happen(ingested("raw"))
    exports = world.exports()
    world.sink.is_down = True
    with pytest.raises(Unavailable):
        world.go(exports)
    world.sink.is_down = False
    assert world.go(exports) == 4
    ids = {one["run"]["runId"] for one in world.sink.events}
    again = Sending()
    again.happen(ingested("raw"))
    again.go(again.exports())
    assert {one["run"]["runId"] for one in again.sink.events} == ids, "a second delivery has the ids of the first"


def test_a_long_ledger_goes_over_in_portions() -> None:
    world = Sending()
    world.happen(*(ingested("raw") for _ in range(250)))
    exports = world.exports()
    assert [world.go(exports) for _ in range(6)] == [200] * 5 + [0]
    assert world.ledger.get("cursor", "lineage/openlineage") == {"seq": 249}


def test_the_setting_names_a_file_in_the_state_folder_or_an_address(tmp_path: Path) -> None:
    from falaj.app import init_project, open_app
    from falaj.core.errors import InvalidInput
    from falaj.openlineage import exports_of

    (tmp_path / "project.py").write_text("")
    quiet = {"mirror": "none", "host": "memory", "online": "memory"}
    init_project(tmp_path, quiet)
    for wrong in ("file:../outside.jsonl", "file:/etc/passwd", "file:", "ftp://x", "http://collector.example/api"):
        with open_app(tmp_path, {**quiet, "openlineage": wrong}) as app, pytest.raises(InvalidInput):
            exports_of(app)
    with open_app(tmp_path, {**quiet, "openlineage": "file:out/lineage.jsonl"}) as app:
        done = app.worker.tick(NOW + timedelta(days=1))
        assert not [problem for problem in done.problems if "lineage" in problem]
        exports_of(app).sink.emit([{"a": 1}])
    assert (tmp_path / ".falaj/out/lineage.jsonl").read_text() == '{"a":1}\n'
