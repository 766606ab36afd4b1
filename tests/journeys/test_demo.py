"""The demo, some days of it: from raw rows to a report and a proven prediction, through the command line and HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightgbm")
ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "flights"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journey") / "demo"
    argv = [sys.executable, "-m", "examples.flights.demo", "--until", "2013-05-10", "--folder", str(folder), "--plain"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


def _environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")} | more


def falaj(state: Path, *words: str) -> tuple[int, Any]:
    argv = [sys.executable, "-m", "falaj", *words, "--project", str(PROJECT), "--json"]
    environment = _environment(FALAJ_STATE=str(state))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=environment)
    return done.returncode, json.loads(done.stdout or done.stderr)


def a_prediction(state: Path) -> str:
    lines = (state / "serving" / "delay" / "segments" / "000000.jsonl").read_text().splitlines()
    return str(json.loads(lines[10])["id"])


def flip(path: Path, at: int) -> None:
    """One bit of one byte, in a file that nobody may write."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_report_and_the_summary_are_written(place: Path) -> None:
    page = (place / "report.html").read_text()
    assert "delay@1" in page
    assert "<script src" not in page
    assert "proven: every link was" in (place / "said.txt").read_text()


def test_a_prediction_is_traced_over_six_hops_and_all_of_them_hold(place: Path) -> None:
    code, traced = falaj(place / "state", "trace", a_prediction(place / "state"))
    assert code == 0
    assert traced["verdict"] == "allow"
    assert len(traced["hops"]) == 6


def test_one_byte_changed_in_a_copy_is_found_wherever_it_stands(place: Path, tmp_path: Path) -> None:
    prediction = a_prediction(place / "state")
    _, model = falaj(place / "state", "model", "show", "delay@1")
    _, dataset = falaj(place / "state", "dataset", "show", "weather")
    digests = {"model": model["asset"]["digest"], "snapshot": _first_snapshot(place / "state"), "dataset": dataset}
    found = {}
    for what in ("model", "snapshot", "segment", "ledger"):
        state = tmp_path / what
        shutil.copytree(place / "state", state)
        if what == "segment":
            path = state / "serving" / "delay" / "segments" / "000000.jsonl"
            flip(path, path.read_bytes().index(b'"score":') + 11)
        elif what == "ledger":
            path = state / "ledger.db"
            flip(path, path.read_bytes().index(b"looked at its report"))
        else:
            digest = str(digests[what]).removeprefix("sha256:")
            flip(next(p for p in (state / "blobs").rglob("*") if p.is_file() and digest.endswith(p.name[-40:])), 400)
        verb = ("audit", "verify") if what == "ledger" else ("trace", prediction)
        found[what] = falaj(state, *verb)[0]
    assert found == {"model": 1, "snapshot": 1, "segment": 1, "ledger": 1}


def _first_snapshot(state: Path) -> str:
    """The weather that the first model learned from."""
    code, history = falaj(state, "audit", "history", "--of", "dataset/weather@1")
    assert code == 0
    return str(next(event["facts"]["digest"] for event in history if "digest" in event["facts"]))
