"""A clinic that is asked to forget somebody: found, handed out, held, erased in every store, and still erased after a restore."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from falaj.api.routes import build_api
from falaj.app import SETUP, App, init_project, open_app
from falaj.cli.main import main
from falaj.core.errors import Denied
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from falaj.stages.privacy.names import Names
from tests.kits.clinic import CONTRACT, emirates_id
from tests.kits.privacy import DPO, OPERATOR, WORKER

NOW = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
PROJECT = '''
"""A clinic's visits."""
import falaj
from tests.kits.clinic import visits

def source(since, until):
    import polars as pl
    rows = visits(200).filter(pl.col("known_at") <= until)
    return rows if since is None else rows.filter(pl.col("known_at") > since)

visits_of_people = falaj.Dataset("visits", "visits.odcs.yaml", source, time="at", known="known_at", every="1d")
by_person = falaj.View("last_visit", "visits", entity="emirates_id", features=("age", "pressure"), time="at", ttl="9000d")
'''
PERSON, OTHER = emirates_id(3), emirates_id(4)
VISITS = Ref("dataset", "visits")


def settings(folder: Path) -> dict[str, str]:
    return {
        "modules": f"project_{folder.name}", "name": "clinic", "clock": "replay", "runner": "memory", "host": "memory",
        "mirror": "none", "policy": "roles", "replay_from": "2026-03-02T00:00:00Z",
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / f"p{uuid4().hex[:12]}"
    made.mkdir()
    (made / f"project_{made.name}.py").write_text(PROJECT)
    contract = CONTRACT.replace("classification: health", "classification: personal")  # no law keeps what is not health data
    (made / "visits.odcs.yaml").write_text(contract)
    init_project(made, settings(made))
    return made


@pytest.fixture
def app(folder: Path) -> Iterator[App]:
    with opened(folder) as app:
        yield app


def opened(folder: Path) -> App:
    app = open_app(folder, settings(folder))
    if app.ledger.get("head", "dataset/visits") is None:
        app.contracts.ingest(OPERATOR, VISITS, until=NOW)
        app.features.refresh(NOW)
    return app


def do(app: App, noun: str, verb: str, subject: str | None = None, actor: Any = DPO, **given: Any) -> Any:
    operation = next(o for o in OPERATIONS if (o.noun, o.verb) == (noun, verb))
    return operation.do(app, actor, subject, given)


def readable(app: App, person: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for store in app.governance.privacy.stores():
        for each in store.find(person):
            if each.readable:
                found[each.store] = found.get(each.store, 0) + each.count
    return found


def on_disk(folder: Path, text: str) -> list[str]:
    """Every file below the state folder that holds the text."""
    state = folder / ".falaj"
    return [str(p.relative_to(state)) for p in state.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def test_a_person_is_found_handed_out_and_erased_in_every_store(app: App, folder: Path) -> None:
    assert readable(app, PERSON) == {"snapshots": 10, "online": 1}
    made = do(app, "subject", "export", person=PERSON)
    assert {record["store"] for record in made["records"]} == {"snapshots", "online"}
    decision = do(app, "subject", "erase", person=PERSON, identity="ticket/7", regimes=("adgm",))
    assert (decision.verdict, decision.reason) == ("allow", "erased")
    assert readable(app, PERSON) == {}
    assert [found for store in app.governance.privacy.stores() for found in store.probe(PERSON) if found.readable] == []
    assert readable(app, OTHER) == {"snapshots": 10, "online": 1}
    rows = app.contracts.frame("visits")
    assert (rows.height, rows["emirates_id"].null_count()) == (200, 10)
    assert on_disk(folder, PERSON) == []
    [request] = do(app, "request", "list")
    assert (request["state"], request["outcome"], sorted(request["clocks"])) == ("closed", "erased", ["adgm", "internal"])
    receipt = do(app, "receipt", "show", request["ref"])
    assert do(app, "receipt", "verify", actor=DPO, receipt=receipt).allowed
    assert PERSON not in json.dumps(receipt)


def test_the_data_does_not_come_back_with_the_next_load_or_refresh(app: App) -> None:
    do(app, "subject", "erase", person=PERSON, identity="ticket/7")
    app.clock.tell(NOW + DAY)
    app.contracts.ingest(OPERATOR, VISITS, until=NOW + DAY)
    app.features.refresh(NOW + DAY)
    assert readable(app, PERSON) == {}


def test_a_restored_vault_forgets_again_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    with opened(folder) as app:
        assert readable(app, PERSON)
    shutil.copytree(folder / ".falaj" / "vault", backup / "vault")
    shutil.copytree(folder / ".falaj" / "blobs", backup / "blobs")
    shutil.copytree(folder / ".falaj" / "online.lmdb", backup / "online.lmdb")
    with opened(folder) as app:
        assert do(app, "subject", "erase", person=PERSON, identity="ticket/7").allowed
    for name in ("vault", "blobs", "online.lmdb"):
        shutil.rmtree(folder / ".falaj" / name)
        shutil.copytree(backup / name, folder / ".falaj" / name)
    with opened(folder) as app:
        assert [found for store in app.governance.privacy.stores() for found in store.probe(PERSON) if found.readable] == []
        assert readable(app, PERSON) == {}
        assert readable(app, OTHER) == {"snapshots": 10, "online": 1}
        [event] = app.ledger.events(verb="subject.replay")
        assert (event.facts["people"], event.facts["keys"]) == (1, 1)
        assert app.contracts.frame("visits")["emirates_id"].null_count() == 10
    with opened(folder) as app:
        assert readable(app, PERSON) == {}
        assert len(list(app.ledger.events(verb="subject.replay"))) == 1


def test_a_round_of_the_worker_opens_the_vault_before_it_serves(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as app:
        pass
    shutil.copytree(folder / ".falaj" / "vault", tmp_path / "vault")
    with opened(folder) as app:
        do(app, "subject", "erase", person=PERSON, identity="ticket/7")
    shutil.rmtree(folder / ".falaj" / "vault")
    shutil.copytree(tmp_path / "vault", folder / ".falaj" / "vault")
    with open_app(folder, settings(folder)) as app:
        app.worker.tick(NOW + DAY)
        assert len(list(app.ledger.events(verb="subject.replay"))) == 1


def test_a_ledger_restored_from_before_the_erasure_brings_nobody_back(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as app:
        app.ledger.checkpoint()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        if (folder / ".falaj" / name).exists():
            shutil.copy(folder / ".falaj" / name, tmp_path / name)
    with opened(folder) as app:
        do(app, "subject", "erase", person=PERSON, identity="ticket/7")
        receipt = app.governance.privacy.subjects.subject(PERSON).name
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (folder / ".falaj" / name).unlink(missing_ok=True)
        if (tmp_path / name).exists():
            shutil.copy(tmp_path / name, folder / ".falaj" / name)
    with opened(folder) as app:
        assert app.ledger.find("erased") == []
        assert readable(app, PERSON) == {}
        do(app, "subject", "replay", tokens=(receipt,))  # from the receipt, so that the ledger knows it again
        assert [key for key, _ in app.ledger.find("erased")] == [receipt]


def test_a_hold_keeps_and_the_worker_erases_when_it_ends(app: App) -> None:
    do(app, "hold", "place", "case-1", person=PERSON, reason="case 1", until=NOW + 10 * DAY)
    assert do(app, "subject", "erase", person=PERSON, identity="ticket/7", request="r1").verdict == "hold"
    assert readable(app, PERSON) == {"snapshots": 10, "online": 1}
    assert not do(app, "subject", "check", person=PERSON, purpose="care", basis="other").allowed
    app.worker.tick(NOW + 5 * DAY)
    assert readable(app, PERSON)
    seen = app.worker.tick(NOW + 11 * DAY)
    assert "request/r1: erased" in seen.news
    assert "hold/case-1 is over: what it held may be deleted or erased" in seen.news
    assert readable(app, PERSON) == {}


def test_the_worker_tells_what_is_past_its_time_and_removes_it_only_where_it_is_told_to(folder: Path) -> None:
    (folder / "retention.toml").write_text('[retention.dataset_snapshot]\nceil = "30d"\n')
    own = {**settings(folder), "retention_file": "retention.toml"}
    with opened(folder):
        pass
    with open_app(folder, own) as app:
        seen = app.worker.tick(NOW + 40 * DAY)
        assert "1 things are past their time: falaj retention plan" in seen.news
        assert app.contracts.frame("visits").height == 200
    with open_app(folder, {**own, "retention": "apply"}) as app:
        assert app.contracts.frame("visits").height == 200  # what another process has read before does not matter
        seen = app.worker.tick(NOW + 41 * DAY)
        assert "1 things past their time were removed" in seen.news
        assert app.contracts.frame("visits").height == 0
        assert app.contracts.assets("visits") == []
        assert app.ledger.get("asset", "dataset/visits@1") is not None


def test_the_policy_also_denies_what_is_held(folder: Path) -> None:
    with opened(folder) as app:
        do(app, "hold", "place", "case-1", scope="dataset/visits", reason="case", until=NOW + 90 * DAY)
    with open_app(folder, {**settings(folder), "policy": "cedar"}) as app:
        remover, names = app.governance.privacy.retention.removers[0], Names(app.ledger, app.blobs)
        with pytest.raises(Denied, match="legal hold"):
            remover.expire(WORKER, Ref.parse("dataset/visits@1"), names=names)


def test_over_http_the_person_comes_in_the_body_and_stands_in_no_address_and_no_answer(app: App) -> None:
    key = app.keys.create(SETUP, Ref("key", "noura"), roles=["dpo"], kind="person")
    api = build_api(app, hosts=("testserver",))

    async def call(path: str, body: dict[str, Any]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://testserver") as client:
            return await client.post(path, json=body, headers={"authorization": f"Bearer {key}"})

    found = anyio.run(call, "/v1/subject:find", {"person": PERSON})
    assert (found.status_code, len(found.json()["found"])) == (200, 2)
    dry = anyio.run(call, "/v1/subject:erase", {"person": PERSON, "identity": "ticket/7", "dry_run": True})
    assert dry.json()["plan"]["outcome"] == "erased"
    assert dry.json()["arguments"]["person"] == "(hidden)"
    wrong = anyio.run(call, "/v1/subject:erase", {"person": [PERSON], "identity": "ticket/7"})
    assert wrong.status_code == 422
    named = anyio.run(call, "/v1/subject:erase", {"person": PERSON, "identity": f"mr {PERSON}"})
    assert named.status_code == 422
    for answer in (dry, wrong, named):
        assert PERSON not in answer.text
    assert readable(app, PERSON)
    assert all(
        operation.method == "POST" and "{subject}" not in operation.path
        for operation in OPERATIONS
        if operation.noun == "subject"
    )


def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, said: str = "") -> int:
    given = [w for name, value in settings(folder).items() for w in ("--set", f"{name}={value}")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
    return main([*words, "--json", "--project", str(folder), *given])


def test_a_command_reads_the_person_from_its_standard_input_or_from_a_file_of_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(folder) as app:
        key = app.keys.create(SETUP, Ref("key", "noura"), roles=["dpo"], kind="person")
    monkeypatch.setenv("FALAJ_API_KEY", key)
    assert cli(folder, monkeypatch, "subject", "find", said=f"{PERSON}\n") == 0
    assert {row["store"] for row in json.loads(capsys.readouterr().out)["found"]} == {"snapshots", "online"}
    file = tmp_path / "person"
    file.write_text(PERSON)
    file.chmod(0o644)
    assert cli(folder, monkeypatch, "subject", "find", "--person-file", str(file)) == 5
    assert "chmod 600" in capsys.readouterr().err
    file.chmod(0o600)
    assert cli(folder, monkeypatch, "subject", "erase", "--identity", "ticket/7", "--person-file", str(file)) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "erased"
    for said in ("", "   \n", "a\nb\n", "x" * 5000):
        assert cli(folder, monkeypatch, "subject", "find", said=said) == 2
        assert "xxx" not in capsys.readouterr().err
    assert cli(folder, monkeypatch, "subject", "find", "--person-file", str(tmp_path / "none")) == 3
    assert cli(folder, monkeypatch, "subject", "find", "--person", PERSON) == 2


def test_the_record_of_processing_is_made_from_the_ledger(app: App) -> None:
    [entry] = do(app, "privacy", "record")
    assert (entry["dataset"], entry["owner"], entry["rows"]) == ("visits", "clinic", 200)
    assert "personal" in entry["classes"]
    assert any("life_of_model + 5y" in line for line in entry["kept"])


def test_a_scoring_of_a_dataset_leaves_out_whoever_is_restricted(app: App) -> None:
    from falaj.scoring import _dataset

    model, asked = Ref("model", "none", "1"), {"dataset": "visits", "since": NOW - 9000 * DAY, "until": NOW}
    with app.ledger.transaction() as tx:
        body = {"ref": str(model), "training": "none"}
        tx.append(Event("model.register", model, OPERATOR, NOW, {}, (Change("model", "none@1", body),)))
    whole = _dataset(app, model, asked)
    people = [row for piece in whole.pieces() for row in piece["emirates_id"]]
    assert {PERSON, OTHER} <= set(people)
    do(app, "subject", "restrict", person=PERSON, reason="contested")
    do(app, "subject", "withdraw", person=OTHER, purpose="scoring")
    left = _dataset(app, model, asked)
    assert set(people) - {row for piece in left.pieces() for row in piece["emirates_id"]} == {PERSON, OTHER}
    assert left.digest != whole.digest
