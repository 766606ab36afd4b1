"""A trace goes all the way back, says what it cannot see yet, and names every byte that somebody has changed."""

from __future__ import annotations

import io
import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.local.signing import SigningKey, checker, sign_envelope, verifier
from falaj.adapters.memory.host import MemoryHost
from falaj.adapters.memory.mirror import MemoryMirror
from falaj.adapters.memory.online import MemoryOnline
from falaj.console.trace_text import render
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import digest, digest_of, encode
from falaj.core.decision import Check, Decision
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.core.segment import PredictionId, seal
from falaj.stages.action import Kernel
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset
from falaj.stages.features.rules import spine_of
from falaj.stages.features.service import Features
from falaj.stages.features.spec import WindowView, count, inputs, mean, number
from falaj.stages.governance.trace import Trace, Traced
from falaj.stages.registry.service import Registry
from falaj.stages.rollouts.endpoints import Endpoints
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import Endpoint
from falaj.stages.serving.service import Serving

DAY = datetime(2013, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANNA, WORKER = Actor("anna", roles=("operator",)), Actor("worker", "service", ("service",))
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: 5b1c
version: 1.0.0
status: active
team: {name: taxis}
schema:
  - name: trips
    properties:
      - {name: id, logicalType: string, primaryKey: true}
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: miles, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 500}}
      - {name: zone, logicalType: string}
"""
VIEW = WindowView(
    "zone_miles",
    "trips",
    entity="zone",
    time="known_at",
    windows=("3h", "24h"),
    every="30m",
    aggregates=(mean("miles"), count("trips")),
    ttl="2h",
)
RECIPE = inputs(VIEW.all(), number("miles"))
ENDPOINT = Endpoint("fare", "fare", unit="id", threshold=0.5)
KEY = b"k" * 32
ROWS = 5
AT = DAY + 60 * HOUR
"""The first prediction is about trip 60."""


class AllowAll:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: object) -> Decision:
        return Decision(subject, "policy", "allow")


def trips() -> pl.DataFrame:
    """Trip n happens n hours after DAY; trip 7 has more miles than its contract allows."""
    at = [DAY + n * HOUR for n in range(96)]
    frame = {"id": [f"t{n}" for n in range(96)], "at": at, "known_at": [moment + HOUR / 2 for moment in at]}
    times = {"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")}
    miles, zone = [999.0 if n == 7 else float(n % 50) for n in range(96)], ["east" if n % 3 else "west" for n in range(96)]
    return pl.DataFrame({**frame, "miles": miles, "zone": zone}, schema_overrides=times)


def known(since: datetime | None, until: datetime) -> pl.DataFrame:
    rows = trips().filter(pl.col("known_at") <= until)
    return rows if since is None else rows.filter(pl.col("known_at") > since)


@dataclass
class World:
    """A small installation with one model in service, and a prediction log written by hand."""

    folder: Path
    now: datetime = DAY
    key: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        self.ledger = SqliteLedger(self.folder / "ledger.db", self.folder / "ledger.key", "falaj/test")
        self.blobs = FileBlobs(self.folder / "blobs")
        self.kernel = Kernel(self.ledger, AllowAll(), lambda: self.now)
        (self.folder / "trips.odcs.yaml").write_text(CONTRACT)
        dataset = Dataset("trips", "trips.odcs.yaml", known, time="at", known="known_at")
        self.contracts = Contracts(self.kernel, self.blobs, {"trips": dataset}, self.folder)
        self.features = Features(self.kernel, self.contracts, MemoryOnline(), {VIEW.name: VIEW})
        self.registry = Registry(
            self.kernel,
            self.blobs,
            sign=lambda payload, kind: sign_envelope(payload, kind, self.key),
            places=lambda recipe: {VIEW.name: list(VIEW.places)},
            mirror=MemoryMirror(),
        )

    @property
    def segments(self) -> Path:
        path = self.folder / "segments"
        path.mkdir(exist_ok=True)
        return path

    def stream(self, endpoint: str) -> SegmentPredictions:
        return SegmentPredictions(self.segments)

    def write(self, verb: str, subject: Ref, *changes: tuple[str, str, Any], actor: Actor = WORKER) -> None:
        drafted = tuple(Change(kind, key, encode(body)) for kind, key, body in changes)
        with self.ledger.transaction() as tx:
            tx.append(Event(verb, subject, actor, self.now, {}, drafted))

    def take_in(self, until: datetime) -> None:
        self.now = until
        decision = self.contracts.ingest(WORKER, Ref("dataset", "trips"), until=until)
        assert decision.allowed, decision

    def train(self) -> Ref:
        candidate, model = Ref("candidate", "fare", "run-1"), b"not really a model " * 20
        kept = self.blobs.put(b"the sealed rows")
        labels = {
            "training": "fare",
            "seed": 7,
            "code": digest(b"code"),
            "environment": digest(b"lock"),
            "recipe": digest_of(encode(RECIPE)),
            "holdout": kept,
            "metrics": {"roc_auc": 0.7},
            "size": len(model),
            "threshold": 0.5,
            "mirror": "mlflow-1",
        }
        refs = tuple(asset.ref for asset in self.contracts.assets("trips"))
        bytes_digest = self.blobs.put(model)
        asset = Asset(candidate, bytes_digest, bytes_digest, labels=labels, inputs=refs, run="run-1", created_at=self.now)
        run = Run("run-1", "release", {"training": "fare"}, "succeeded", outputs=(candidate,), started_at=self.now)
        gate = Decision(candidate, "gate", "allow", (Check("roc_auc", ">= 0.6", "0.7", True),), WORKER, self.now)
        self.write("model.train", candidate, ("asset", str(candidate), asset), ("recipe", str(labels["recipe"]), RECIPE))
        self.write("model.evaluate", candidate, ("decision", f"{candidate}|gate", gate))
        version = self.registry.register(WORKER, Ref("model", "fare"), candidate=candidate, decision=gate)
        self.write("run.finish", Ref("run", "run-1"), ("run", "run-1", run))
        return version

    def deploy(self, model: Ref) -> None:
        self.registry.promote(ANNA, model, reason="first release")
        rollouts = Rollouts(Endpoints(self.kernel, MemoryHost(), {"fare": ENDPOINT}, dict))
        rollouts.deploy(ANNA, Ref("endpoint", "fare"), model=model, reason="first release")

    def predict(self, row: int = 0, **changed: Any) -> dict[str, Any]:
        """A line of the log for trip 60 + row, with the features that the truth gives."""
        at = AT + row * HOUR
        request = {"id": f"t{60 + row}", "zone": "east" if row % 3 else "west", "miles": float((60 + row) % 50), "at": iso(at)}
        vector, _ = self.features.training_frame(RECIPE, spine_of(RECIPE, [request], [at]))
        model = self.ledger.get("model", "fare@1")
        assert model is not None
        return {
            "kind": "prediction",
            "id": PredictionId(0, row, millis(at)).issue(KEY),
            "at": iso(at),
            "wrote": iso(at),
            "endpoint": "fare",
            "release": "release/fare@1",
            "model": "model/fare@1",
            "digest": model["asset"]["digest"],
            "arm": "champion",
            "share": 1.0,
            "unit": request["id"],
            "request": request,
            "features": [None if value != value else float(value) for value in vector[0]],  # noqa: PLR0124
            "stored_at": {},
            "score": 0.25,
        } | changed

    def log(self, lines: list[Mapping[str, Any]], *, sealed: bool = True) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        (self.segments / "000000.jsonl").write_bytes(data)
        if sealed:
            made = seal("fare", 0, data, iso(AT), iso(AT))
            (self.segments / "000000.seal").write_bytes(json.dumps(encode(made)).encode())
            Serving(self.kernel, self.stream).seal(WORKER, Ref("endpoint", "fare"), seals=[made])

    def trace(self, prediction: str | None = None, **how: Any) -> Traced:
        """As another process would: nothing that was read before is remembered."""
        contracts = Contracts(self.kernel, self.blobs, self.contracts.datasets, self.folder)
        features = Features(self.kernel, contracts, MemoryOnline(), {VIEW.name: VIEW})
        trusted = verifier(self.ledger.vkey)
        trace = Trace(self.kernel, self.blobs, self.stream, contracts, features, trusted, checker(self.key.public_key))
        return trace.trace(prediction or PredictionId(0, 0, millis(AT)).issue(KEY), **how)

    def path_of(self, digest_text: str) -> Path:
        return self.blobs.path(digest_text)


def build(folder: Path) -> World:
    """Trained on two days, served, asked five times, labelled once, and two more days taken in afterwards."""
    world = World(folder)
    world.take_in(DAY + 24 * HOUR)
    world.take_in(DAY + 48 * HOUR)
    world.deploy(world.train())
    world.take_in(DAY + 96 * HOUR)
    lines: list[Mapping[str, Any]] = [world.predict(row) for row in range(ROWS)]
    label = {"kind": "label", "id": lines[0]["id"], "at": iso(AT + HOUR), "label": 1}
    world.log([*lines, label])
    world.ledger.checkpoint()
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = build(tmp_path)
    yield made
    made.ledger.close()


@contextmanager
def editing(folder: Path) -> Iterator[sqlite3.Connection]:
    """Somebody with the file and no respect for its triggers."""
    connection = sqlite3.connect(folder / "ledger.db")
    try:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        yield connection
        connection.commit()
    finally:
        connection.close()


def names(traced: Traced) -> set[str]:
    return {check.name for check in traced.failed}


def test_a_prediction_is_traced_through_six_hops_and_every_check_passes(world: World) -> None:
    traced = world.trace()
    assert [hop.title for hop in traced.hops] == [
        "prediction",
        "release",
        "model",
        "training run",
        "snapshots and features",
        "source rows and contract",
    ]
    assert [(hop.title, check) for hop in traced.hops for check in hop.checks if check.passed is not True] == []
    assert traced.verdict == "allow"
    assert all(hop.passed for hop in traced.hops)
    assert traced.checkpoint.startswith("falaj/test\n")


def test_it_says_who_approved_what(world: World) -> None:
    said = [(approval.what, approval.by) for approval in world.trace().approvals]
    assert said == [
        ("gate of candidate/fare@run-1: allow, 1 of 1 checks", "service:worker"),
        ("model/fare@1 promoted: first release", "person:anna"),
        ("endpoint.deploy of release/fare@1", "person:anna"),
    ]


def test_it_shows_the_label_the_code_the_row_and_the_quarantine(world: World) -> None:
    facts = {name: value for hop in world.trace().hops for name, value in hop.facts.items()}
    assert facts["label"] == 1
    assert facts["code"] == digest(b"code")
    assert facts["environment"] == digest(b"lock")
    assert facts["mlflow"] == "mlflow-1"
    assert facts["row"]["id"] == "t60"
    assert facts["snapshot"] == "dataset/trips@3"
    assert facts["datasets"] == {"trips": "versions 1 to 2"}
    assert facts["trips_rows"] == "48 taken in, 0 in quarantine (dataset/trips@3)"
    assert facts["views"]["zone_miles"]["row_at"] == iso(AT)
    assert set(facts["features"]) == set(RECIPE.names)


def test_a_trace_is_plain_json(world: World) -> None:
    assert json.loads(json.dumps(encode(world.trace())))["verdict"] == "allow"


def test_a_trace_can_be_read_on_a_terminal(world: World) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render(world.trace()))
    text = console.export_text()
    assert "proven: every link was checked and holds" in text
    assert "model/fare@1 promoted: first release" in text
    world.path_of(world.blobs.put(b"the sealed rows")).unlink()
    console.print(render(world.trace()))
    assert "✗ holdout: There is no blob" in console.export_text()


def test_a_prediction_in_an_open_segment_is_said_to_be_unproven(world: World) -> None:
    world.predict()
    (world.segments / "000001.jsonl").write_bytes(
        json.dumps(world.predict(id=PredictionId(1, 0, millis(AT)).issue(KEY))).encode() + b"\n"
    )
    traced = world.trace(PredictionId(1, 0, millis(AT)).issue(KEY))
    assert traced.verdict == "hold"
    assert not traced.failed
    seen = {check.name: check.seen for check in traced.hops[0].checks if check.passed is None}
    assert "still open" in seen["seal"]


def test_what_no_checkpoint_covers_yet_is_not_called_proven(tmp_path: Path) -> None:
    world = build(tmp_path)
    with editing(world.folder) as connection:
        connection.execute("DELETE FROM checkpoints")
    traced = world.trace()
    assert traced.verdict == "deny"
    assert any("no checkpoint" in check.seen for check in traced.failed)
    world.ledger.close()


def test_an_event_behind_the_last_checkpoint_is_not_seen_yet(world: World) -> None:
    world.write("model.note", Ref("model", "fare", "1"), ("model", "fare@1", world.ledger.get("model", "fare@1")))
    traced = world.trace()
    assert traced.verdict == "hold"
    unseen = [check for check in traced.hops[2].checks if check.passed is None]
    assert [check.name for check in unseen] == ["model fare@1"]
    assert "no checkpoint covers it yet" in unseen[0].seen


def test_labels_that_are_not_there_yet_and_rows_that_have_not_come_are_no_fault(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.take_in(DAY + 48 * HOUR)
    world.deploy(world.train())
    world.log([world.predict()])
    world.ledger.checkpoint()
    traced = world.trace()
    unseen = {check.name for hop in traced.hops for check in hop.checks if check.passed is None}
    assert (traced.verdict, unseen) == ("hold", {"features", "row"})
    world.ledger.close()


def test_a_logged_feature_that_is_not_the_truth_is_named(tmp_path: Path) -> None:
    world = build(tmp_path)
    line = world.predict(1)
    line["features"][-1] += 1
    (world.segments / "000001.jsonl").write_bytes(
        json.dumps(line | {"id": PredictionId(1, 0, millis(AT + HOUR)).issue(KEY)}).encode() + b"\n"
    )
    traced = world.trace(PredictionId(1, 0, millis(AT + HOUR)).issue(KEY))
    assert names(traced) == {"feature miles", "features"}
    world.ledger.close()


def test_a_release_that_was_not_to_be_served_then_is_a_failure(tmp_path: Path) -> None:
    world = build(tmp_path)
    other = world.predict(1, digest=digest(b"another model"), id=PredictionId(1, 0, millis(AT + HOUR)).issue(KEY))
    (world.segments / "000001.jsonl").write_bytes(json.dumps(other).encode() + b"\n")
    assert {"served", "model file", "asset", "manifest"} <= names(world.trace(other["id"]))
    world.ledger.close()


def test_a_manifest_that_another_key_signed_is_a_failure(world: World) -> None:
    world.key = SigningKey.generate()
    traced = world.trace()
    assert names(traced) == {"signature"}


def test_an_id_that_is_none_and_an_endpoint_that_is_none_are_errors(world: World) -> None:
    with pytest.raises(InvalidInput):
        world.trace("p1-2")
    with pytest.raises(NotFound, match="fares"):
        world.trace(endpoint="fares")


def test_an_id_that_was_never_issued_is_a_failed_check(world: World) -> None:
    assert "line" in names(world.trace(PredictionId(0, 2, millis(AT)).issue(b"another key")))
    assert {"segment", "line"} <= names(world.trace(PredictionId(9, 2, millis(AT)).issue(KEY)))


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << (place % 8)
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def _blob(world: World, which: str) -> Path:
    facts = {name: value for hop in world.trace().hops for name, value in hop.facts.items()}
    assets = {str(asset.ref): asset for asset in world.contracts.assets("trips")}
    texts = {
        "model": facts["digest"],
        "training snapshot": assets["dataset/trips@1"].digest,
        "row snapshot": assets["dataset/trips@3"].digest,
        "contract": assets["dataset/trips@3"].labels["contract"],
        "holdout": world.blobs.put(b"the sealed rows"),
    }
    return world.path_of(texts[which])


NAMED: Mapping[str, Callable[[set[str]], bool]] = {
    "model": lambda seen: "model file" in seen,
    "training snapshot": lambda seen: "dataset/trips@1" in seen,
    "row snapshot": lambda seen: "dataset/trips@3" in seen or "row" in seen,
    "contract": lambda seen: "contract of trips" in seen,
    "holdout": lambda seen: "holdout" in seen,
}


@pytest.mark.parametrize("which", NAMED)
def test_a_flipped_byte_in_any_file_is_found_and_named(world: World, which: str) -> None:
    path = _blob(world, which)
    before = path.read_bytes()
    chance = random.Random(which)
    for _ in range(4):
        _flip(path, chance.randrange(len(before)))
        traced = world.trace()
        assert traced.verdict == "deny"
        assert NAMED[which](names(traced)), names(traced)
        path.write_bytes(before)


@pytest.mark.parametrize("which", NAMED)
def test_a_missing_file_is_found_and_named(world: World, which: str) -> None:
    path = _blob(world, which)
    path.unlink()
    traced = world.trace()
    assert traced.verdict == "deny"
    assert NAMED[which](names(traced)), names(traced)


@pytest.mark.parametrize("file", ["000000.jsonl", "000000.seal"])
def test_a_flipped_byte_in_the_prediction_log_is_found_and_named(world: World, file: str) -> None:
    path = world.segments / file
    before = path.read_bytes()
    chance = random.Random(file)
    for _ in range(12):
        _flip(path, chance.randrange(len(before)))
        traced = world.trace()
        assert traced.verdict == "deny", path.read_bytes()
        assert names(traced) & {"segment", "line", "seal", "seal file", "inclusion"}
        path.write_bytes(before)


def test_a_segment_that_was_cut_short_or_lost_is_found(world: World) -> None:
    path = world.segments / "000000.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert "segment" in names(world.trace())
    path.unlink()
    assert {"segment", "line"} <= names(world.trace())


Cell = tuple[str, str, str, bytes]
"""(table, column, which row, bytes)"""
PLACES = {
    "events": ("'seq = ' || seq", ("leaf", "leaf_hash", "verb", "subject", "at")),
    "records": ("'kind = ' || quote(kind) || ' AND key = ' || quote(key)", ("body",)),
    "checkpoints": ("'size = ' || size", ("note", "root")),
}


def _cells(folder: Path) -> list[Cell]:
    """Everything that the ledger file holds."""
    found = []
    with editing(folder) as connection:
        for table, (place, columns) in PLACES.items():
            for column in columns:
                for where, cell in connection.execute(f"SELECT {place}, {column} FROM {table}"):
                    found.append((table, column, where, cell if isinstance(cell, bytes) else str(cell).encode()))
    return found


def _write_cell(folder: Path, cell: Cell, data: bytes) -> None:
    table, column, where, _ = cell
    value: bytes | str = data if column in ("leaf", "leaf_hash", "body", "root") else data.decode("utf-8", "replace")
    with editing(folder) as connection:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))


def test_a_flipped_byte_anywhere_in_the_ledger_is_found_and_named(world: World) -> None:
    cells = _cells(world.folder)
    chance = random.Random(1)
    for cell in chance.sample(cells, 30):
        data = bytearray(cell[3])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
        _write_cell(world.folder, cell, bytes(data))
        traced = world.trace()
        assert traced.verdict == "deny", cell
        assert traced.failed
        _write_cell(world.folder, cell, cell[3])
    assert world.trace().verdict == "allow"


def test_a_record_that_was_changed_is_named_and_the_event_is_believed(world: World) -> None:
    with editing(world.folder) as connection:
        (body,) = connection.execute("SELECT body FROM records WHERE kind = 'release'").fetchone()
        changed = body.replace(b"person:anna", b"person:eve0")
        connection.execute("UPDATE records SET body = ? WHERE kind = 'release'", (changed,))
    traced = world.trace()
    assert {"release fare@1", "records"} <= names(traced)
    assert traced.hops[1].facts["by"] == "person:anna"


def test_whatever_is_gone_from_the_ledger_never_crashes_a_trace(world: World) -> None:
    with editing(world.folder) as connection:
        connection.execute("DELETE FROM records WHERE kind != 'endpoint'")
    traced = world.trace()
    assert traced.verdict == "deny"
    assert {"release fare@1", "model fare@1", "seal fare/000000"} <= names(traced)


def test_an_answer_of_an_experiment_leads_to_who_began_it_and_why(world: World) -> None:
    rollouts = Rollouts(Endpoints(world.kernel, MemoryHost(), {"fare": ENDPOINT}, dict))
    where, same = Ref("endpoint", "fare"), Ref("model", "fare", "1")
    world.now = AT - HOUR
    rollouts.experiments.split(ANNA, where, variants={"b": same}, weights={"b": 0.5}, reason="is the split fair?")
    world.log([world.predict(0, arm="variant-b", share=0.5, release="release/fare@2")], sealed=False)
    traced = world.trace()
    release = next(hop for hop in traced.hops if "release" in hop.facts and "experiment" in hop.facts)
    assert release.facts["experiment"] == "experiment/fare@1: is the split fair?, not decided yet"
    assert any(check.name == "served" and check.passed and "variant-b with 50%" in check.seen for check in release.checks)
    assert ("endpoint.split of release/fare@2", str(ANNA)) in {(one.what, one.by) for one in traced.approvals}


def test_rows_that_retention_removed_cannot_be_seen_and_are_no_forgery(tmp_path: Path) -> None:
    world = build(tmp_path)
    ref = Ref("dataset", "trips", "1")
    body = world.ledger.get("asset", str(ref))
    assert body is not None
    gone = {"ref": str(ref), "at": world.now, "by": "x", "rows": 1, "state": "removed"}
    world.write("dataset.expire", ref, ("expired", str(ref), gone))
    world.ledger.checkpoint()
    world.blobs.delete(body["digest"])
    traced = world.trace()
    [told] = [check for hop in traced.hops for check in hop.checks if check.name == str(ref)]
    assert (told.seen, told.passed) == ("its rows were removed by retention", None)
    world.ledger.close()
