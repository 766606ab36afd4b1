"""An archive about a version is checked by a stranger without falaj, and whatever is changed in it is named."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.adapters.local.signing import SigningKey
from falaj.auditor import archive_programs, verify_archive
from falaj.core.errors import Denied, InvalidInput, NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.stages.governance.evidence.archive import packed, sealed
from falaj.stages.governance.evidence.gather import gather
from tests.kits.audited import AMAL, LEDGER, Audited
from tests.kits.evidence import DPO, OMAR, VERSION, Case, case, edit, looked_at, ran, signed_again, stranger
from tests.kits.life import APPROVER, SERVICE, life
from tests.kits.witness import running_witness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def whole(made: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.unpacked(tmp_path_factory.mktemp("unpacked") / "archive")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stranger(tmp_path_factory.mktemp("packages") / "site")


@pytest.fixture
def archive(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(whole, tmp_path / "archive"))


def names(told: dict[str, Any]) -> set[str]:
    return {name for name, _ in told["faults"]}


def test_a_stranger_finds_that_everything_holds(made: Case, archive: Path, packages: Path) -> None:
    code, told = looked_at(archive, packages, "--vkey", made.vkey)
    assert (code, told["faults"], told["pinned"]) == (0, [], True)
    assert {name for name, _ in told["seen"]} == {
        "files", "signature", "proofs", "signer", "weights", "quotes", "people", "promoted"
    }  # fmt: skip
    code, told = looked_at(archive, packages)
    assert (code, told["pinned"]) == (0, False)


def test_it_is_told_to_a_person_line_by_line(archive: Path, packages: Path, made: Case) -> None:
    done = ran(archive, packages, "--vkey", made.vkey)
    assert done.returncode == 0
    assert done.stdout.count("holds ") == 8
    assert "BROKEN" not in done.stdout


@pytest.mark.parametrize(
    "name",
    ["model/model-card.json", "index.html", "audit/checkpoint", "model/mlbom.cdx.json", "README.txt", "people/approvals.json"],
)
def test_a_file_that_was_changed_is_named(archive: Path, packages: Path, name: str) -> None:
    data = bytearray((archive / name).read_bytes())
    data[len(data) // 2] ^= 1
    (archive / name).write_bytes(data)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert name in names(told)


def test_a_file_that_was_added_or_is_missing_is_named(archive: Path, packages: Path) -> None:
    (archive / "people" / "more.json").write_text("{}")
    (archive / "tests" / "gate.md").unlink()
    code, told = looked_at(archive, packages)
    assert code == 1
    assert {"people/more.json", "tests/gate.md"} <= names(told)


def test_proofs_that_were_swapped_are_named_also_where_everything_was_signed_again(
    made: Case, archive: Path, packages: Path
) -> None:
    one, two = sorted((archive / "audit").glob("*.tlog-proof"))[:2]
    text, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(other)
    two.write_bytes(text)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert {f"audit/{one.name}", f"audit/{two.name}"} <= names(told)
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert {f"audit/{one.name}", f"audit/{two.name}"} <= names(told)


@pytest.mark.parametrize("told_so", [True, False])
def test_a_manifest_that_another_key_signed_is_named(archive: Path, packages: Path, told_so: bool) -> None:
    """Whether or not the other key is put into keys.json: the ledger knows who signs."""
    signed_again(archive, SigningKey.generate(), told=told_so)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert names(told) & {"manifest.json", "signature"}


def test_an_archive_of_another_ledger_is_named_by_whoever_knows_the_key(archive: Path, packages: Path) -> None:
    from falaj.core.note import vkey

    code, told = looked_at(archive, packages, "--vkey", vkey("falaj/memory", SigningKey.generate().public_key))
    assert code == 1
    assert "keys.json" in names(told)


def _no_approval(body: Any) -> None:
    body["approval"] = body["approval"][:1]


def _no_dpia(body: Any) -> None:
    body["dpia"] = []


def _another_reason(body: Any) -> None:
    body["approval"][0]["body"]["reason"] = "I did not look"


def _objection_gone_back(body: Any) -> None:
    body["objection"] = [{"kind": "objection", "key": "model/delay@1|lina", "event": 0, "body": {"name": "lina"}}]


@pytest.mark.parametrize("change", [_no_approval, _no_dpia, _another_reason, _objection_gone_back])
def test_what_people_said_cannot_be_left_out_or_added_even_by_whoever_holds_the_key(
    made: Case, archive: Path, packages: Path, change: Callable[[Any], None]
) -> None:
    edit(archive, "people/approvals.json", change)
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert "people/approvals.json" in names(told)


def test_an_approval_whose_event_is_taken_out_too_is_missed_by_the_promotion(made: Case, archive: Path, packages: Path) -> None:
    gone = {one["event"] for one in json.loads((archive / "people/approvals.json").read_bytes())["approval"][:1]}
    edit(archive, "people/approvals.json", _first_gone)
    edit(
        archive, "model/inventory.json", lambda body: body.update(steps=[s for s in body["steps"] if s.get("event") not in gone])
    )
    for seq in gone:
        (archive / "audit" / f"{seq:08d}.tlog-proof").unlink()
    lines = (archive / "audit/events.jsonl").read_bytes().splitlines(keepends=True)
    (archive / "audit/events.jsonl").write_bytes(b"".join(line for line in lines if json.loads(line)["seq"] not in gone))
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert any("as an approver" in what for _, what in told["faults"])


def _first_gone(body: Any) -> None:
    body["approval"] = body["approval"][1:]


def test_a_card_that_speaks_of_other_weights_is_named_even_if_it_is_signed(made: Case, archive: Path, packages: Path) -> None:
    edit(archive, "model/model-card.json", lambda body: body["model"].update(weights="sha256:" + "0" * 64))
    edit(archive, "tests/decisions.json", lambda body: body["gate"]["body"].update(verdict="deny"))
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert {"model/model-card.json", "tests/decisions.json"} <= names(told)


@pytest.mark.parametrize(
    "name", ["manifest.json", "keys.json", "people/approvals.json", "audit/events.jsonl", "manifest.dsse.json"]
)
@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"nonsense", b"[" * 5000])
def test_whatever_stands_in_a_file_the_verifier_ends_with_a_no(archive: Path, packages: Path, name: str, data: bytes) -> None:
    (archive / name).write_bytes(data)
    code, told = looked_at(archive, packages)
    assert code in (1, 2), told


def test_whoever_brings_a_verifier_of_their_own_runs_nothing_of_the_archive(
    made: Case, archive: Path, packages: Path, tmp_path: Path
) -> None:
    for name, text in archive_programs().items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    lie = 'print(\'{"holds": true, "faults": [], "seen": []}\')\nraise SystemExit(0)\n'
    for name in ("verify.py", "audit/verify_ledger.py"):
        (archive / name).write_text(lie)
    (archive / "index.html").write_text("all is well")
    assert ran(archive, packages).returncode == 0  # the liar
    code, told = looked_at(archive, packages, str(archive), "--vkey", made.vkey, program=tmp_path / "own" / "verify.py")
    assert code == 1
    assert names(told) == {"verify.py", "audit/verify_ledger.py", "index.html"}


def test_an_archive_may_lie_anywhere_from_where_one_looks(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    assert verify_archive.main(["../archive", "--json"]) == 0


@pytest.mark.parametrize("name", ["manifest.json", "keys.json", "audit/events.jsonl", "audit/rotations"])
def test_a_pipe_or_a_device_in_an_archive_is_not_waited_for(archive: Path, packages: Path, name: str) -> None:
    (archive / name).unlink(missing_ok=True)
    os.mkfifo(archive / name)
    assert looked_at(archive, packages)[0] in (1, 2)
    (archive / name).unlink()
    (archive / name).symlink_to("/dev/zero")
    assert looked_at(archive, packages)[0] in (1, 2)


def test_a_file_that_says_a_thing_twice_is_named(made: Case, archive: Path, packages: Path) -> None:
    """One reader would see the first of it, another the last."""
    path = archive / "model" / "model-card.json"
    path.write_text(path.read_text().replace("{", '{"model": {"weights": "none"},', 1))
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages)
    assert code == 1
    assert any("twice" in what for _, what in told["faults"])


def test_names_that_lead_out_of_the_archive_are_not_read(made: Case, archive: Path, packages: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    edit(archive, "manifest.json", lambda body: body["files"].update({"../secret.json": {"sha256": "0" * 64, "bytes": 2}}))
    code, told = looked_at(archive, packages)
    assert code == 1
    assert "../secret.json" in names(told)


def test_the_same_ledger_gives_the_same_bytes(made: Case) -> None:
    one, two = made.evidence.files(VERSION), made.evidence.files(VERSION)
    assert packed(one[0]) == packed(two[0])


def test_the_bill_of_materials_keeps_the_published_schema_and_has_a_model_card(whole: Path) -> None:
    text = (whole / "model/mlbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    component = json.loads(text)["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    metrics = {metric["type"] for metric in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert "roc_auc" in metrics
    assert json.loads((whole / "manifest.json").read_bytes())["bom_schema"] == "CycloneDX 1.6"


def test_a_bill_that_breaks_its_schema_never_leaves(made: Case) -> None:
    from falaj.adapters.cyclonedx.schema import check

    with pytest.raises(InvalidInput, match="breaks CycloneDX"):
        check({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [{"type": "model"}]})


def test_the_papers_say_who_agreed_what_it_was_made_of_and_what_nobody_said(whole: Path) -> None:
    people = json.loads((whole / "people/approvals.json").read_bytes())
    assert sorted(one["body"]["name"] for one in people["approval"]) == ["dana", "noura"]
    assert people["objection"] == []
    lineage = {hop["hop"]: hop for hop in json.loads((whole / "data/lineage.json").read_bytes())}
    assert {one["key"].partition("@")[0] for one in lineage["snapshots"]["records"]} == {"dataset/trips", "dataset/sky"}
    assert len(list((whole / "data/contracts").iterdir())) == 2
    assert json.loads((whole / "legal/residency.json").read_bytes()).startswith("not known")
    assert json.loads((whole / "legal/ropa.json").read_bytes())["lawful_basis"] == "contract"
    card = (whole / "model/model-card.md").read_text()
    assert "الموافقات" in card
    assert "tells which flights will be late" in card
    page = (whole / "index.html").read_text()
    assert 'dir="rtl"' in page
    assert "<script" not in page


def test_the_archive_is_for_its_owner_and_kept_in_the_ledger(made: Case) -> None:
    archive = made.evidence.make(DPO, VERSION)
    path = Path(archive.path)
    assert path.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(path) as packed_files:
        assert packed_files.testzip() is None
    last = list(made.world.kernel.ledger.events(verb="evidence.make"))[-1]
    assert last.facts["archive"] == archive.digest


def test_a_folder_that_cannot_be_written_is_unavailable_and_nothing_is_recorded(made: Case, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder is wanted")
    before = len(list(made.world.kernel.ledger.events(verb="evidence.make")))
    with pytest.raises(Unavailable):
        replace(made.evidence, folder=tmp_path / "blocked").make(DPO, VERSION)
    assert len(list(made.world.kernel.ledger.events(verb="evidence.make"))) == before


def test_nobody_without_the_right_gets_one_and_there_is_none_of_what_does_not_exist(made: Case) -> None:
    with pytest.raises(Denied):
        made.evidence.make(SERVICE, VERSION)
    with pytest.raises(NotFound):
        made.evidence.make(OMAR, Ref("model", "delay", "9"))


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/./b", "manifest.json", "a\\b", ""])
def test_no_file_has_a_name_that_leads_out_of_the_archive(name: str) -> None:
    with pytest.raises(InvalidInput):
        sealed({name: b""}, {}, lambda _payload, _kind: {})


def test_an_archive_of_a_ledger_with_two_keys_and_a_witness_holds_and_shows_who_cosigned(packages: Path, tmp_path: Path) -> None:
    place = Audited(tmp_path / "ledger")
    made = case(tmp_path, place.ledger)
    rotated = str(place.audit.rotate(AMAL, LEDGER)["vkey"])
    with running_witness(tmp_path / "witness", [made.vkey, rotated]) as witness:
        place.watched_by = [witness]
        audit = place.open()
        keys = replace(made.evidence.keys, rotations=audit.rotations, witnesses=audit.witnesses)
        kernel = replace(made.evidence.kernel, ledger=place.ledger)
        evidence = replace(made.evidence, keys=keys, kernel=kernel)
        place.write(1)
        place.ledger.checkpoint()  # the first that the second key signs
        assert audit.witness(AMAL, LEDGER).allowed
        archive = Case(made.world, evidence).unpacked(tmp_path / "archive")
        pinned = ("--vkey", made.vkey)
        code, told = looked_at(archive, packages, *pinned, "--witness", witness.vkey)
        assert (code, told["faults"]) == (0, [])
        assert ["witnesses", "cosigned by witness.example/w1"] in told["seen"]
        place.close()
    note = (archive / "audit/checkpoint").read_text()
    without = "".join(line for line in note.splitlines(keepends=True) if "witness.example" not in line)
    for path in (archive / "audit").iterdir():
        path.write_text(path.read_text().replace(note, without))
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages, *pinned, "--witness", witness.vkey)
    assert (code, names(told)) == (1, {"audit/checkpoint"})
    (archive / "audit/rotations").write_text("")
    signed_again(archive, made.world.key)
    code, told = looked_at(archive, packages, *pinned)
    assert code == 1
    assert any("is not signed by key" in what for _, what in told["faults"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_byte_of_whatever_file_is_changed_it_is_found(whole: Path, tmp_path: Path, data: Any) -> None:
    """In this process, with the verifier of this machine, which runs nothing of the archive."""
    names_of = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    name = data.draw(st.sampled_from(names_of))
    path = whole / name
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "more"]))
    mask = data.draw(st.integers(1, 255))
    after = {
        "flip": before[:place] + bytes([before[place] ^ mask]) + before[place + 1 :],
        "cut": before[:place],
        "more": before + b" ",
    }
    try:
        path.write_bytes(after[how])
        if after[how].strip() != before.strip() or name != "manifest.dsse.json":
            assert verify_archive.main([str(whole), "--json"]) in (1, 2) or _is_same(name, before, after[how])
    finally:
        path.write_bytes(before)


def _is_same(name: str, before: bytes, after: bytes) -> bool:
    """A signature's envelope may be written otherwise and say the same: nothing else may."""
    if name != "manifest.dsse.json":
        return False
    told, was = json.loads(after), json.loads(before)
    return [told["payload"], told["payloadType"]] == [was["payload"], was["payloadType"]] and any(
        one["sig"] == was["signatures"][0]["sig"] for one in told["signatures"]
    )


def test_an_alias_that_was_taken_back_is_in_the_archives_of_both_versions(tmp_path: Path) -> None:
    """Also where no endpoint had anything to do with it."""
    world = life(tmp_path)
    one, two, other = world.registered("r1"), world.registered("r2"), world.registered("r3")
    for version in (one, two):
        assert world.registry.promote(APPROVER, version, reason="yes").allowed
    assert world.registry.rollback(APPROVER, two, reason="no") == one
    events = list(world.kernel.ledger.events())
    moves = [event.seq for event in events if event.verb in ("model.promote", "model.rollback")]
    kept = {version: {event.seq for event in gather(events, version).events} for version in (one, two, other)}
    assert set(moves) <= kept[one]
    assert set(moves[1:]) <= kept[two]
    assert not set(moves) & kept[other]
