"""A bank's model from its data to its archive, as an auditor walks it: every step by the command of the person who takes it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from falaj.app import open_app
from falaj.cli.main import main
from falaj.core.codec import digest
from tests.journeys.test_erasure import CONTRACT, PROJECT
from tests.kits.clinic import emirates_id, everything
from tests.kits.evidence import looked_at, stranger

pytestmark = pytest.mark.slow
WHO, OTHER = emirates_id(7), emirates_id(8)
MODULE = "kernel_project"
SETTINGS = f"""
name = "bank"
modules = "{MODULE}"
packs = "ae-baseline,cbuae-bank"
zone = "uae-onshore"
purpose = "care"
mirror = "none"
runner = "memory"
serve_port = 0
serve_grpc = "off"
"""
PEOPLE = {"lina": "data_scientist", "omar": "operator", "noura": "approver", "dana": "dpo", "aya": "auditor"}
PAPER = "sha256:" + "a" * 64


@dataclass
class Bank:
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    def tried(self, who: str, *words: str, said: str = "") -> tuple[int, str]:
        """The command as that person gives it: its exit code and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        stdin = io.TextIOWrapper(io.BytesIO(said.encode()))
        with (
            mock.patch.dict(os.environ, {"FALAJ_API_KEY": self.keys.get(who, "")}),
            mock.patch("sys.stdin", stdin), redirect_stdout(out), redirect_stderr(err),
        ):  # fmt: skip
            code = main(["--project", str(self.folder), "--json", *words])
        return code, out.getvalue() or err.getvalue()

    def do(self, who: str, *words: str, said: str = "") -> Any:
        code, text = self.tried(who, *words, said=said)
        assert code == 0, (words, text)
        return json.loads(text)

    def refused(self, who: str, *words: str, said: str = "") -> str:
        code, text = self.tried(who, *words, said=said)
        assert code in (1, 5, 9), (words, code, text)
        return text

    def until(self, status: int) -> httpx.Response:
        """What the endpoint answers about WHO, once it has that status."""
        end = time.monotonic() + 30
        while (answer := self.ask(WHO)).status_code != status:
            assert time.monotonic() < end, answer.text
            time.sleep(0.05)
        return answer

    @property
    def vkey(self) -> str:
        with open_app(self.folder) as app:
            return str(app.governance.evidence.keys.vkey)

    def ask(self, who: str) -> httpx.Response:
        url = json.loads((self.folder / ".falaj" / "serving" / "noshow" / "server.json").read_text())["url"]
        headers = {"Authorization": f"Bearer {self.keys['booking']}"}
        return httpx.post(
            f"{url}/v1/models/noshow:predict", json={"emirates_id": who, "miles": 31.25}, headers=headers, trust_env=False
        )


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    folder = tmp_path_factory.mktemp("bank")
    (folder / f"{MODULE}.py").write_text(PROJECT)
    (folder / "visits.odcs.yaml").write_text(
        CONTRACT.replace("classification: health", "classification: personal")
    )  # no law keeps what is not health data
    (folder / "falaj.toml").write_text(SETTINGS)
    made = Bank(folder)
    made.keys["setup"] = made.do("", "init")["key"]
    try:
        yield made
    finally:
        with open_app(folder) as app:
            if app.ledger.get("endpoint", "noshow") is not None:
                app.host.stop("noshow")
        sys.modules.pop(MODULE, None)


def test_a_model_from_its_data_to_its_archive(bank: Bank, tmp_path: Path) -> None:
    _people(bank)
    _made_and_agreed(bank)
    before = _now()
    bank.do("omar", "endpoint", "deploy", "noshow", "--model", "noshow@1", "--reason", "two people agreed")
    during = _now()
    prediction = bank.ask(WHO).json()
    assert prediction["missing_views"] == []
    traced = json.loads(bank.refused("aya", "trace", prediction["id"]))
    assert [hop["title"] for hop in traced["hops"]][:2] == ["prediction", "release"]
    assert traced["verdict"] == "hold", "its segment is open yet; nothing else speaks against it"
    _abroad_and_at_home(bank)
    _forgotten(bank)
    drilled = bank.do("omar", "endpoint", "drill", "noshow")
    assert drilled["verdict"] == "allow"
    assert drilled["checks"][0]["wanted"] == "at most 5000 ms (CBUAE Guidance Note on AI and ML (2026) 6(f), assumed)"
    [row] = bank.do("aya", "model", "inventory", "--details")
    assert (row["status"], row["overdue"], row["missing"]) == ("in production", [], [])
    assert row["demands"]["conflicts"] == []
    assert bank.do("aya", "audit", "verify")["verdict"] == "allow"
    assert bank.do("aya", "status", "--at", before)["endpoints"] == []
    [served] = bank.do("aya", "status", "--at", during)["endpoints"]
    assert [arm["model"] for arm in served["serving"]] == ["model/noshow@1"]
    _looked_at_by_a_stranger(bank, tmp_path)
    _withheld(bank)
    assert WHO not in everything(bank.folder / ".falaj")


def _now() -> str:
    time.sleep(0.01)
    made = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    time.sleep(0.01)
    return made


def _people(bank: Bank) -> None:
    """A key that may approve waits until somebody confirms it who did not hand it out; the first of them needs nobody."""
    for name, role in PEOPLE.items():
        made = bank.do("setup", "key", "create", name, "--roles", role, "--kind", "person")
        bank.keys[name] = made["key"]
        if bank.tried(name, "identity", "show")[0] != 0:
            identity = made["key"].split("_")[1]
            assert "confirm" in bank.tried(name, "identity", "show")[1]
            bank.do("noura", "key", "confirm", identity, "--reason", "known in person")
    bank.keys["booking"] = bank.do("omar", "key", "create", "booking", "--roles", "caller", "--kind", "service")["key"]


def _made_and_agreed(bank: Bank) -> None:
    """Lina makes it, and neither she nor one person alone lets it answer anybody."""
    bank.do("lina", "dataset", "ingest", "visits")
    for view in ("patient", "often"):
        bank.do("omar", "feature", "materialise", view)
    candidate = bank.do("lina", "model", "train", "noshow", "--at", "2026-04-30T00:00:00Z")
    assert bank.do("lina", "model", "evaluate", candidate, "--gate", "noshow")["verdict"] == "allow"
    assert bank.do("lina", "model", "register", "noshow", "--candidate", candidate) == "model/noshow@1"
    said = ("--purpose", "tells who will not come", "--risk", "high", "--owner", "noura", "--basis", "contract")
    bank.do("lina", "model", "describe", "noshow", *said, "--purposes", "care")
    bank.do("noura", "model", "tier", "noshow", "--tier", "tier1", "--responsible", "noura")
    assert "R-SOD" in bank.refused("lina", "model", "approve", "noshow@1", "--reason", "it is mine")
    assert "R-TWO-PERSONS" in bank.refused("omar", "endpoint", "deploy", "noshow", "--model", "noshow@1", "--reason", "now")
    test = ("model", "test", "noshow@1", "--report", PAPER, "--reason", "alike for all", "--kind")
    assert "by none of its makers" in bank.refused("lina", *test, "validation")
    bank.do("noura", *test, "validation")
    bank.do("noura", "model", "approve", "noshow@1", "--reason", "looked at its report")
    assert "R-TWO-PERSONS" in bank.refused("noura", "model", "promote", "noshow@1", "--reason", "one is enough")
    bank.do("dana", "model", "approve", "noshow@1", "--reason", "looked at its data")
    refused = bank.refused("noura", "model", "promote", "noshow@1", "--reason", "untested")
    assert "never tested" in refused
    assert "signed for these weights" in refused
    bank.do("noura", *test, "bias")
    bank.do("dana", "model", "dpia", "noshow@1", "--digest", PAPER, "--reason", "acceptable")
    assert bank.do("noura", "model", "promote", "noshow@1", "--reason", "agreed")["verdict"] == "allow"


def _abroad_and_at_home(bank: Bank) -> None:
    asked = ("--to", "difc", "--basis", "clauses", "--instrument", PAPER, "--classes", "personal", "--datasets", "visits")
    bank.do("omar", "transfer", "request", "scc-1", *asked)
    bank.do("noura", "transfer", "approve", "scc-1")
    bank.do("dana", "transfer", "approve", "scc-1")
    assert bank.do("omar", "zone", "probe")["verdict"] == "allow"


def _forgotten(bank: Bank) -> None:
    """A court's hold keeps the data of somebody who asks to be erased: restricted, and nobody is answered about them. Once it
    is released the person is gone."""
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds").replace("+00:00", "Z")
    bank.do("dana", "hold", "place", "case-1", "--scope", "dataset/visits", "--reason", "case 1", "--until", until)
    erase = ("subject", "erase", "--identity", "ticket/7", "--request", "r-7")
    assert "restricted" in bank.refused("dana", *erase, said=WHO)
    bank.until(403)
    for person in ("noura", "dana"):
        bank.tried(person, "hold", "release", "case-1", "--reason", "the case is closed")
    assert bank.do("dana", *erase, said=WHO)["reason"] == "erased"
    assert set(bank.until(200).json()["missing_views"]) == {"patient", "often"}
    assert bank.ask(OTHER).json()["missing_views"] == []
    receipt = bank.do("dana", "receipt", "show", "r-7")
    assert bank.do("aya", "receipt", "verify", "--receipt", json.dumps(receipt))["verdict"] == "allow"


def _looked_at_by_a_stranger(bank: Bank, tmp_path: Path) -> None:
    made = bank.do("aya", "evidence", "make", "noshow@1")
    with zipfile.ZipFile(made["path"]) as archive:
        archive.extractall(tmp_path / "archive")
    there = tmp_path / "archive"
    code, report = looked_at(there, stranger(tmp_path / "stranger"), "--vkey", bank.vkey)
    assert (code, report["faults"]) == (0, [])
    alone = [sys.executable, "-I", str(there / "verify.py"), "--vkey", bank.vkey]
    assert subprocess.run(alone, capture_output=True, timeout=60, check=False).returncode == 0
    legal = json.loads((there / "legal/records.json").read_bytes())
    assert {kind: [one["key"] for one in cited] for kind, cited in legal.items()} == {
        "hold": ["case-1"], "erasure": ["r-7"], "expired": [], "transfer": ["scc-1"], "affected": ["noshow@1"], "standing": [],
    }  # fmt: skip
    [erasure] = legal["erasure"]
    for kept in erasure["body"]["receipts"]:
        data = (there / "legal/receipts" / f"{kept['digest'].removeprefix('sha256:')}.json").read_bytes()
        assert digest(data) == kept["digest"]
    [attested] = json.loads((there / "legal/residency.json").read_bytes())
    assert attested["verb"] == "zone.attest"
    ropa = json.loads((there / "legal/ropa.json").read_bytes())
    [data] = ropa["datasets"]
    assert (data["dataset"], data["zone"], data["purposes"]) == ("dataset/visits@1", "uae-onshore", ["care"])
    assert WHO.encode() not in b"".join(path.read_bytes() for path in there.rglob("*") if path.is_file())


def _withheld(bank: Bank) -> None:
    """There is no version before it, so that the endpoint goes out of use, and nobody brings it back as it is."""
    told = bank.do("dana", "model", "quarantine", "noshow@1", "--reason", "it learned from somebody who was erased")
    assert "taken out of use" in told["stopped"][0]
    assert bank.ask(OTHER).status_code == 503
    assert "quarantined" in bank.refused("omar", "endpoint", "revive", "noshow", "--reason", "we need it")
    assert [
        alert["severity"]
        for alert in bank.do("omar", "alert", "list")
        if alert["title"].startswith("quarantine of endpoint/noshow")
    ] == ["critical"]
    assert bank.do("aya", "audit", "verify")["verdict"] == "allow"
