"""`falaj contract …` and `falaj dataset test`, on a real project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from falaj.api.routes import build_api
from falaj.app import open_app
from falaj.cli.main import main
from tests.unit.contracts.conftest import CONTRACT, trips

SETTINGS = ["--set", "host=memory", "--set", "online=memory", "--set", "mirror=none", "--set", "runner=memory"]
PROJECT = """
from pathlib import Path
import polars as pl
from falaj.stages.contracts.spec import Dataset

def source(since, until):
    rows = pl.read_parquet(Path(__file__).parent / "data" / "trips.parquet").filter(pl.col("known_at") <= until)
    return rows if since is None else rows.filter(pl.col("known_at") > since)

trips = Dataset("trips", "contracts/trips.odcs.yaml", source, time="at", known="known_at")
"""
TIME = "2013-01-04T00:00:00Z"


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FALAJ_API_KEY", "FALAJ_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "shop"
    for part in ("contracts", "data", "secret"):
        (folder / part).mkdir(parents=True)
    name = f"shop_{abs(hash(tmp_path))}"  # one process holds one project of a name
    (folder / f"{name}.py").write_text(PROJECT)
    (folder / "falaj.toml").write_text(f'modules = "{name}"\n')
    (folder / "contracts/trips.odcs.yaml").write_text(CONTRACT)
    (folder / "secret/passwords.yaml").write_text("kind: DataContract\npassword: hunter2\n")
    (tmp_path / "outside.odcs.yaml").write_text(CONTRACT)
    trips(100).write_parquet(folder / "data/trips.parquet")
    assert main(["init", "--project", str(folder), *SETTINGS]) == 0
    capsys.readouterr()
    return folder


def ask(capsys: pytest.CaptureFixture[str], project: Path, *words: str) -> tuple[int, Any, str]:
    code = main([*words, "--json", "--project", str(project), *SETTINGS])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out.strip() else None, err


def test_a_dataset_and_its_file_are_linted_alike(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, by_name, _ = ask(capsys, project, "contract", "lint", "trips")
    assert (code, by_name["verdict"], by_name["errors"]) == (0, "allow", 0)
    assert ask(capsys, project, "contract", "lint", "contracts/trips.odcs.yaml")[1] == by_name


def test_errors_of_a_contract_show_in_the_exit_code(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "contracts/trips.odcs.yaml").write_text(CONTRACT.replace("logicalType: timestamp", "logicalType: date"))
    code, found, _ = ask(capsys, project, "contract", "lint", "trips")
    assert (code, found["verdict"]) == (1, "deny")
    assert found["findings"][0]["place"] == "slaProperties[0].element" or found["errors"] >= 1


def test_the_dataset_needs_its_times(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONTRACT.replace("{name: at,", "{name: began,").replace("known_at >= at", "known_at >= began")
    (project / "contracts/trips.odcs.yaml").write_text(text)
    code, found, _ = ask(capsys, project, "contract", "lint", "trips")
    assert code == 1
    assert found["findings"][0]["message"] == "the dataset names the timestamp 'at'; there is none"


def test_a_breaking_change_without_its_version_shows_in_the_exit_code(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONTRACT.replace("maximum: 500", "maximum: 400")
    (project / "contracts/next.odcs.yaml").write_text(text)
    code, found, _ = ask(capsys, project, "contract", "diff", "trips", "contracts/next.odcs.yaml")
    assert (code, found["needs"], found["changes"][0]["breaks"]) == (1, "major", ["producers"])
    (project / "contracts/next.odcs.yaml").write_text(text.replace("version: 1.0.0", "version: 2.0.0"))
    assert ask(capsys, project, "contract", "diff", "trips", "contracts/next.odcs.yaml")[0] == 0


def test_a_snapshot_keeps_the_contract_that_it_came_in_under(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, project, "dataset", "ingest", "trips", "--until", TIME)[0] == 0
    (project / "contracts/trips.odcs.yaml").write_text(CONTRACT.replace("version: 1.0.0", "version: 1.1.0"))
    code, found, _ = ask(capsys, project, "contract", "diff", "trips@1", "trips")
    assert (code, found["old_version"], found["new_version"], found["needs"]) == (0, "1.0.0", "1.1.0", "none")
    assert ask(capsys, project, "contract", "show", "trips@7")[0] == 3


def test_a_change_under_the_same_version_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> list[str]:
        return [f["message"] for f in ask(capsys, project, "contract", "lint", "trips")[1]["findings"] if f["place"] == "version"]

    assert ask(capsys, project, "dataset", "ingest", "trips", "--until", TIME)[0] == 0
    (project / "contracts/trips.odcs.yaml").write_text("# a comment is no change" + CONTRACT)
    assert said() == []
    text = CONTRACT.replace("maximum: 500", "maximum: 400")
    (project / "contracts/trips.odcs.yaml").write_text(text)
    (told,) = said()
    assert told.startswith("contract changed under version 1.0.0: ")
    assert "limit tightened" in told
    (project / "contracts/trips.odcs.yaml").write_text(text.replace("version: 1.0.0", "version: 2.0.0"))
    assert said() == []


def test_what_the_columns_of_a_snapshot_look_like_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, project, "dataset", "profile", "trips")[0] == 3
    assert ask(capsys, project, "dataset", "ingest", "trips", "--until", TIME)[0] == 0
    code, found, _ = ask(capsys, project, "dataset", "profile", "trips")
    assert (code, found["snapshot"], found["rows"]) == (0, "dataset/trips@1", 72)
    assert found == ask(capsys, project, "dataset", "profile", "trips@1")[1]
    columns = {column["column"]: column for column in found["columns"]}
    assert columns["zone"]["values"] == {"east": 48, "west": 24}
    assert columns["at"]["first"] == trips(1)["at"][0].strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert (columns["miles"]["min"], columns["miles"]["max"], sum(columns["miles"]["counts"])) == (0, 49, 72)
    assert columns["miles"]["mean"] == pytest.approx(trips(72)["miles"].mean())
    assert columns["miles"]["deviation"] == pytest.approx(trips(72)["miles"].std(ddof=0))
    assert ask(capsys, project, "dataset", "profile", "trips@2")[0] == 3


def test_a_contract_is_shown_as_it_is_understood(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = ask(capsys, project, "contract", "show", "trips")
    assert (code, found["key"], found["columns"][3]["limits"]) == (0, ["id"], ">= 0, <= 500")
    assert found["rules"][-1] == {"rule": "known after it happened", "asks": "known_at >= at", "severity": "error"}


OUTSIDE = ["../outside.odcs.yaml", "/etc/passwd", "link.odcs.yaml", ".falaj/keys/operator.key", ".falaj/x.odcs.yaml", "./."]
"""Places that no operation may read, in a terminal or over HTTP."""


@pytest.mark.parametrize("place", OUTSIDE)
def test_nothing_outside_the_project_is_read(project: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    (project / "link.odcs.yaml").symlink_to(project.parent / "outside.odcs.yaml")
    for words in (["lint", place], ["diff", "trips", place], ["show", place], ["infer", place]):
        code, found, err = ask(capsys, project, "contract", *words)
        assert (code, found) == (2, None), words
        assert json.loads(err)["error"]["code"] == "invalid_input"


def test_other_files_of_the_project_are_no_contracts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, err = ask(capsys, project, "contract", "lint", "secret/passwords.yaml")
    assert (code, found) == (2, None)
    assert "hunter2" not in err
    code, _, err = ask(capsys, project, "contract", "lint", "trip")
    assert (code, json.loads(err)["error"]["hint"]) == (3, "did you mean 'trips'?")


def test_the_same_over_http_and_no_more(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "link.odcs.yaml").symlink_to(project.parent / "outside.odcs.yaml")
    key = (project / ".falaj/keys/operator.key").read_text().strip()
    flags = dict(pair.split("=") for pair in SETTINGS[1::2])
    with open_app(project, flags) as app, TestClient(build_api(app), base_url="http://127.0.0.1") as client:
        client.headers["authorization"] = f"Bearer {key}"
        assert client.get("/v1/contract:lint", params={"what": "trips"}).json()["verdict"] == "allow"
        assert client.get("/v1/contract", params={"what": "trips"}).json()["name"] == "trips"
        for place in [*OUTSIDE, "secret/passwords.yaml"]:
            for path, given in (("/v1/contract:lint", {"what": place}), ("/v1/contract:diff", {"old": "trips", "new": place})):
                answer = client.get(path, params=given)
                assert answer.status_code == 422, place
        assert client.get("/v1/contract:infer", params={"what": "data/trips.parquet"}).status_code == 404
        assert (
            client.get("/v1/contract:lint", params={"what": "trips"}, headers={"authorization": "Bearer no"}).status_code == 401
        )
        assert client.get("/v1/datasets/trips:test", params={"until": TIME}).json()["verdict"] == "allow"


def test_a_contract_is_inferred_written_once_and_clean(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["contract", "infer", "data/trips.parquet", "--time", "at", "--known", "known_at", "--to", "contracts/made.odcs.yaml"]
    assert ask(capsys, project, *words, "--dry-run")[0] == 0
    code, found, _ = ask(capsys, project, *words)
    assert (code, found["name"], found["columns"], found["rows"]) == (0, "trips", 6, 100)
    code, found, _ = ask(capsys, project, "contract", "lint", "contracts/made.odcs.yaml")
    assert (code, found["errors"]) == (0, 0)
    before = (project / "contracts/made.odcs.yaml").read_bytes()
    assert ask(capsys, project, *words)[0] == 4
    assert (project / "contracts/made.odcs.yaml").read_bytes() == before


@pytest.mark.parametrize("to", ["../x.odcs.yaml", "/tmp/x.odcs.yaml", ".falaj/x.odcs.yaml", "x.py"])
def test_a_contract_is_written_only_as_a_contract_of_the_project(
    project: Path, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    assert ask(capsys, project, "contract", "infer", "data/trips.parquet", "--to", to)[0] == 2


@pytest.mark.parametrize("name", ["trips.csv", "trips.jsonl", "trips.parquet"])
def test_a_contract_is_inferred_from_each_form_of_table(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    frame, path = trips(30), project / "data" / name
    {".csv": frame.write_csv, ".jsonl": frame.write_ndjson, ".parquet": frame.write_parquet}[path.suffix](path)
    code, text, _ = ask(capsys, project, "contract", "infer", f"data/{name}")
    assert code == 0
    assert "primaryKey: true" in text
    path.write_bytes(b"a,b\n1,2,3\n\xff\x00PAR1 {{{ broken")
    assert ask(capsys, project, "contract", "infer", f"data/{name}")[0] == 2


def test_the_source_of_a_file_is_shown_with_its_contract(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/x.jsonl").write_text('{"id": "a", "at": "2026-05-01T12:00:00Z"}\n')
    call = 'falaj.files("data/x.jsonl", known="at", types={"at": "timestamp"})'
    words = ["contract", "infer", "data/x.jsonl", "--time", "at", "--known", "at"]
    assert call in ask(capsys, project, *words)[1].replace("\n# ", " ")
    assert ask(capsys, project, *words, "--to", "contracts/x.odcs.yaml")[1]["source"] == call
    (project / "data/x.jsonl").write_text('{"id": "a", "at": "2012/01/01"}\n')
    code, _, err = ask(capsys, project, *words)
    assert code == 2
    assert 'times={"at": ("%Y/%m/%d", "UTC")}' in json.loads(err)["error"]["hint"]
    (project / "data/x.csv").write_bytes("id,town\na,Köln\n".encode("latin-1"))
    assert ask(capsys, project, "contract", "infer", "data/x.csv", "--encoding", "latin-1")[0] == 0
    assert ask(capsys, project, "contract", "infer", "trips", "--encoding", "latin-1")[0] == 2


def test_a_contract_is_inferred_from_a_datasets_source(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = ask(capsys, project, "contract", "infer", "trips")
    assert code == 0
    assert "implementation: known_at >= at" in text


def test_a_dataset_is_tested_and_nothing_is_taken_in(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = ask(capsys, project, "dataset", "test", "trips", "--until", TIME)
    assert (code, found["verdict"]) == (0, "allow")
    trips(100, miles=trips(100)["miles"] - 3).write_parquet(project / "data/trips.parquet")
    code, found, _ = ask(capsys, project, "dataset", "test", "trips", "--until", TIME)
    assert (code, found["verdict"]) == (1, "deny")
    assert "miles >= 0" in [check["name"] for check in found["checks"] if check["passed"] is False]
    assert ask(capsys, project, "dataset", "show", "trips")[1]["version"] == 0


def test_a_person_reads_it_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["contract", "lint", "trips"], ["contract", "show", "trips"], ["contract", "infer", "trips"]):
        assert main([*words, "--project", str(project), *SETTINGS]) == 0
        assert capsys.readouterr().out.strip()
