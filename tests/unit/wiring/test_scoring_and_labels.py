"""Files come in and scores go out as the commands say: inside the project's folder, damaged or not, and masked."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.core.segment import PredictionId
from falaj.inference.lines import line
from falaj.inference.log import PredictionLog
from falaj.labelling import mask_of
from falaj.operations import OPERATIONS
from falaj.steps import release

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "scoring.md"
AT = datetime(2026, 2, 10, tzinfo=UTC)
OPS = Actor("ops", "person", ("operator",))
DATASET = {"dataset": "trips", "since": "2026-02-01T00:00:00Z", "until": "2026-02-03T00:00:00Z"}
NAMED = {operation.name: operation for operation in OPERATIONS}


def do(app: App, name: str, subject: str, **values: Any) -> Any:
    return NAMED[name].do(app, OPS, subject, values)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("trips")
    for found in re.finditer(r'```(?:python|yaml) title="([^"]+)"\n(.*?)```', GUIDE.read_text("utf-8"), re.DOTALL):
        # One process holds one project of a name, and other tests have a `project` too.
        (folder / found[1].replace("project.py", "scored_trips.py")).write_text(found[2], "utf-8")
    settings = {"modules": "scored_trips", "mirror": "none", "runner": "memory", "host": "memory"}
    init_project(folder, settings)
    with open_app(folder, settings) as opened:
        opened.contracts.ingest(OPS, Ref("dataset", "trips"), until=datetime(2026, 3, 1, tzinfo=UTC))
        release(opened, Run("first", "release", {"training": "delay", "at": iso(AT)}))
        opened.rollouts.deploy(OPS, Ref("endpoint", "delay"), model=Ref("model", "delay", "1"), reason="first")
        yield opened


def scored(app: App, output: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((app.settings.folder / output).glob("*.parquet"))])


def test_a_period_a_file_and_a_folder_are_scored_alike(app: App) -> None:
    do(app, "model.score", "delay@1", **DATASET, output="out/period", carry="trip,at,zone,miles")
    period = scored(app, "out/period")
    assert period.height == 144
    do(app, "model.score", "delay@1", input="out/period/part-00000.parquet", output="out/file", carry="trip")
    told = do(app, "model.score", "delay", endpoint="endpoint/delay", input="out/period", output="out/folder", carry="trip")
    assert told["rows"] == 144
    assert scored(app, "out/file")["score"].to_list() == scored(app, "out/folder")["score"].to_list() == period["score"].to_list()
    asset = app.ledger.get("asset", told["scores"])
    assert asset is not None
    (file,) = (ref for ref in asset["inputs"] if ref.startswith("file/"))
    held = app.ledger.get("asset", file)
    assert held is not None
    assert held["location"] == "project:out/period/part-00000.parquet"  # the same content under another name is the same asset


def test_features_of_this_moment_are_read_only_where_they_are_asked_for(app: App) -> None:
    do(app, "model.score", "delay@1", **DATASET, output="out/as-of", carry="trip,at,zone,miles")
    do(app, "model.score", "delay@1", input="out/as-of", output="out/online", carry="trip", features="online")
    assert scored(app, "out/online")["score"].to_list() == pytest.approx(scored(app, "out/as-of")["score"].to_list(), abs=1e-6)


def test_a_damaged_file_is_an_error_and_scores_nothing(app: App) -> None:
    do(app, "model.score", "delay@1", **DATASET, output="out/whole", carry="trip,at,zone,miles")
    data = (app.settings.folder / "out" / "whole" / "part-00000.parquet").read_bytes()
    chance = random.Random(3)
    for number in range(40):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        (app.settings.folder / f"broken-{number}.parquet").write_bytes(
            bytes(broken[: chance.choice([None, -8, len(broken) // 2])])
        )
        try:
            do(app, "model.score", "delay@1", input=f"broken-{number}.parquet", output=f"out/broken-{number}")
        except FalajError as exc:
            refused = exc.code
            assert refused in ("invalid_input", "unavailable")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"input": "../elsewhere.parquet", "output": "out/x"}, InvalidInput),
        ({"input": "/etc/hostname", "output": "out/x"}, InvalidInput),
        ({"input": "nothing.parquet", "output": "out/x"}, NotFound),
        ({"output": "out/x"}, InvalidInput),
        ({**DATASET, "output": "../out"}, InvalidInput),
        ({**DATASET, "output": ".falaj/out"}, InvalidInput),
        ({**DATASET, "output": "."}, InvalidInput),
        ({"dataset": "trips", "output": "out/x"}, InvalidInput),
        ({**DATASET, "input": "a.parquet", "output": "out/x"}, InvalidInput),
        ({"dataset": "nothing", "since": DATASET["since"], "output": "out/x"}, NotFound),
        ({**DATASET, "output": "out/x", "carry": "nothing"}, InvalidInput),
        ({**DATASET, "output": "out/x", "endpoint": "nothing"}, NotFound),
    ],
)
def test_what_does_not_fit_together_is_refused(app: App, values: dict[str, Any], error: type[FalajError]) -> None:
    with pytest.raises(error):
        do(app, "model.score", "delay@1", **values)


def test_a_link_out_of_the_project_is_not_followed(app: App, tmp_path: Path) -> None:
    (tmp_path / "secret.parquet").write_bytes(b"PAR1")
    (app.settings.folder / "inside").mkdir()
    (app.settings.folder / "inside" / "a.parquet").symlink_to(tmp_path / "secret.parquet")
    with pytest.raises(InvalidInput, match="out of the project"):
        do(app, "model.score", "delay@1", input="inside", output="out/link")


def predicted(app: App, *trips: str) -> None:
    """A log of these predictions alone."""
    folder = app.state / "serving" / "delay" / "segments"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, mask = PredictionLog(folder), mask_of(app, "delay")

    def lines(segment: int, row: int) -> list[bytes]:
        made = []
        for place, trip in enumerate(trips):
            name = PredictionId(segment, row + place, millis(AT)).issue(log.key)
            made.append(line({
                "kind": "prediction", "id": name, "at": iso(AT), "arm": "champion", "model": "model/delay@1", "share": 1.0,
                "unit": mask.unit(trip), "request_id": mask.request_id(f"r-{trip}"), "features": [1.0, 1.0], "score": 0.5,
                "ms": 1.0,
            }))  # fmt: skip
        return made

    log.append(lines)
    log.close()


def test_labels_come_from_a_file_and_find_units_that_are_masked(app: App) -> None:
    predicted(app, "Quillfeather-1", "Quillfeather-2", "Quillfeather-3")
    folder = app.settings.folder
    known = iso(AT + timedelta(hours=3))
    (folder / "labels.csv").write_text(
        f"trip,late,known_at\nQuillfeather-1,1,{known}\nQuillfeather-2,,{known}\nnobody,0,{known}\nQuillfeather-2,maybe,{known}\n"
    )
    columns = {"unit": "trip", "label": "late", "at": "known_at"}
    done = do(app, "label.import", "delay", file="labels.csv", columns=columns)
    assert (done.rows, done.taken, done.unknown, done.refused) == (4, 1, 1, 2)
    pl.DataFrame(
        {"trip": ["Quillfeather-3", "Quillfeather-1"], "late": [0, 1], "known_at": [AT + timedelta(hours=3)] * 2},
        schema_overrides={"known_at": pl.Datetime("ms", "UTC")},
    ).write_parquet(folder / "labels.parquet")
    done = do(app, "label.import", "delay", file="labels.parquet", columns=columns)
    assert (done.taken, done.same) == (1, 1)
    segments = app.state / "serving" / "delay" / "segments"
    assert b"Quillfeather" not in b"".join(path.read_bytes() for path in segments.iterdir())
    records = [record for _, record in SegmentPredictions(segments).follow() if record["kind"] == "label"]
    assert [record["by"] for record in records] == ["ops", "ops"]
    shown = do(app, "label.show", "delay", since=iso(AT - timedelta(days=1)), until=iso(AT + timedelta(days=1)))
    assert shown["cohorts"] == [{"from": iso(AT), "predictions": 3, "labelled": 2, "in_time": 2}]
    assert "Quillfeather" not in str([event.facts for event in app.ledger.events(verb="label.take")])


def test_a_file_without_the_columns_of_labels_is_refused(app: App) -> None:
    predicted(app, "x")
    (app.settings.folder / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="'label'"):
        do(app, "label.import", "delay", file="odd.csv")
    with pytest.raises(InvalidInput, match="no 'wrong'"):
        do(app, "label.import", "delay", file="odd.csv", columns={"wrong": "a"})
    with pytest.raises(NotFound):
        do(app, "label.import", "delay", file="missing.csv")


def test_the_manifest_says_what_the_contract_says_of_the_fields(app: App) -> None:
    manifest = app.registry.manifest(Ref("model", "delay", "1"))
    assert manifest["classification"]["request"]["trip"] == "confidential"
    assert manifest["classification"]["request"]["zone"] == "internal"
