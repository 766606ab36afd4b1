"""What is personal in a row is nowhere on the disk in clear, comes back as it was, and is gone for good with its person's key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from falaj.adapters.memory.vault import MemoryVault
from falaj.core.codec import canonical, encode
from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.core.ref import Ref
from falaj.stages.contracts import odcs
from falaj.stages.contracts.diff import diff
from falaj.stages.contracts.lint import lint
from falaj.stages.contracts.sealed import SEALED, SUBJECT, Sealing, as_text, scan, seal, tokens, unseal
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset, Derived
from tests.kits.clinic import CONTRACT, DAY, NORA, VISITS, Clinic, emirates_id, everything, visits

LATER = DAY + timedelta(days=1)
BY = Sealing("who", frozenset({"clear"}), "dataset|x")


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    clinic = Clinic(tmp_path, visits(200))
    yield clinic
    clinic.close()


def sealed_and_opened(frame: pl.DataFrame, vault: MemoryVault) -> pl.DataFrame:
    return unseal(lambda: vault, seal(vault, frame, BY), BY.about)


_STRUCTS = st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text("x'", max_size=2)})
_COLUMNS: dict[str, tuple[Any, Any]] = {
    "text": (pl.String, st.text(st.characters(exclude_categories=["Cs"]), max_size=12)),
    "int": (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    "unsigned": (pl.UInt64, st.integers(0, 2**64 - 1)),
    "tiny": (pl.Int8, st.integers(-128, 127)),
    "double": (pl.Float64, st.floats()),
    "single": (pl.Float32, st.floats(width=32)),
    "flag": (pl.Boolean, st.booleans()),
    "day": (pl.Date, st.dates()),
    "moment": (pl.Datetime("ms", "UTC"), st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))),
    "fine": (pl.Datetime("us"), st.datetimes(datetime(1970, 1, 1))),
    "hour": (pl.Time, st.times()),
    "span": (pl.Duration("us"), st.timedeltas(timedelta(-999), timedelta(999))),
    "bytes": (pl.Binary, st.binary(max_size=8)),
    "list": (pl.List(pl.String), st.lists(st.text("ab\"\\", max_size=3), max_size=3)),
    "struct": (pl.Struct({"a": pl.Int64, "b": pl.String}), _STRUCTS),
    "money": (pl.Decimal(12, 2), st.integers(-(10**9), 10**9).map(lambda n: Decimal(n) / 100)),
    "kind": (pl.Enum(["one", "two"]), st.sampled_from(["one", "two"])),
}  # fmt: skip


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_every_value_of_every_type_comes_back_as_it_was(data: st.DataObject) -> None:
    height = data.draw(st.integers(0, 6))
    names = data.draw(st.lists(st.sampled_from(sorted(_COLUMNS)), unique=True, min_size=1))
    rows = {name: data.draw(st.lists(st.none() | _COLUMNS[name][1], min_size=height, max_size=height)) for name in names}
    whose = data.draw(st.lists(st.none() | st.sampled_from(["a", "b", ""]), min_size=height, max_size=height))
    series = [pl.Series(name, values, dtype=_COLUMNS[name][0], strict=False) for name, values in rows.items()]
    frame = pl.DataFrame([pl.Series("who", whose, dtype=pl.String), *series, pl.Series("clear", range(height), dtype=pl.Int64)])
    vault = MemoryVault()
    shut = seal(vault, frame, BY)
    assert shut["clear"].to_list() == list(range(height))
    assert all(shut[name].null_count() == height for name in ("who", *names))
    assert_frame_equal(unseal(lambda: vault, shut, BY.about), frame)


def test_a_subject_is_the_same_person_as_text_number_or_padded() -> None:
    vault = MemoryVault()
    for series in (pl.Series("who", [" 17", "17 "]), pl.Series("who", [17, 17]), pl.Series("who", [17.0, 17.0])):
        assert set(tokens(vault, series.to_frame(), BY)) == {vault.token("17")}
    nobody = {*tokens(vault, pl.DataFrame({"who": [None, "", "  "]}), BY), *tokens(vault, pl.DataFrame({"x": [1]}), BY)}
    assert len(nobody) == 1
    assert as_text(pl.Series([[1], [2]])).null_count() == 2


def test_rows_of_nobody_can_be_destroyed_together() -> None:
    vault = MemoryVault()
    shut = seal(vault, pl.DataFrame({"who": [None, "a"], "x": ["n", "m"]}), BY)
    vault.shred([shut[SUBJECT][0]])
    assert unseal(lambda: vault, shut, BY.about)["x"].to_list() == [None, "m"]


def test_sealed_bytes_open_at_no_other_place_and_changed_ones_nowhere() -> None:
    vault = MemoryVault()
    shut = seal(vault, pl.DataFrame({"who": ["a"], "x": [1]}), BY)
    with pytest.raises(Conflict):
        unseal(lambda: vault, shut, "dataset|y")
    broken = shut.with_columns(pl.Series(SEALED, [shut[SEALED][0][:-1] + b"!"]))
    with pytest.raises(Conflict):
        unseal(lambda: vault, broken, BY.about)


def test_a_source_may_not_bring_falajs_own_columns() -> None:
    with pytest.raises(InvalidInput, match="falaj's own"):
        seal(MemoryVault(), pl.DataFrame({"who": ["a"], SEALED: [b""]}), BY)


def test_a_scan_opens_only_what_it_is_asked_for(tmp_path: Path) -> None:
    vault, path = MemoryVault(), tmp_path / "x.parquet"
    frame = pl.DataFrame({"who": [f"p{n % 7}" for n in range(100_000)], "x": range(100_000), "clear": range(100_000)})
    seal(vault, frame, BY).write_parquet(path, row_group_size=10_000)
    query = scan(lambda: vault, path, BY.about, frozenset({"who", "x"}))
    assert_frame_equal(query.collect(), frame)
    few = query.filter(pl.col("x") > 99_990, pl.col("clear") % 2 == 0).select("who", "clear")
    assert_frame_equal(
        few.collect(engine="streaming"), frame.filter(pl.col("x") > 99_990, pl.col("clear") % 2 == 0)["who", "clear"]
    )
    assert query.head(3).collect()["x"].to_list() == [0, 1, 2]
    assert query.select(pl.len()).collect().item() == 100_000

    def never() -> MemoryVault:
        raise AssertionError("opened")

    shy = scan(never, path, BY.about, frozenset({"who", "x"}))
    assert shy.filter(pl.col("clear") < 10).select("clear").collect().height == 10


def test_rows_are_read_as_they_came_and_no_value_of_a_person_is_on_the_disk(clinic: Clinic) -> None:
    contracts = clinic.contracts()
    decision = contracts.ingest(NORA, VISITS, until=LATER)
    assert decision.verdict == "allow"
    assert_frame_equal(contracts.frame("visits"), clinic.rows)
    assert_frame_equal(contracts.scan("visits").collect(), clinic.rows)
    assert_frame_equal(clinic.contracts(vault=clinic.another_vault()).frame("visits"), clinic.rows)
    there = everything(clinic.state)
    assert "heart" in there, "the search finds what lies in clear"
    for person in range(20):
        assert emirates_id(person) not in there
    assert not any(name in there for name in ("Mariam", "Yusuf", "Layla"))
    assert clinic.vault.token(emirates_id(3)) in there


def test_neither_profile_nor_label_nor_check_holds_a_persons_value(clinic: Clinic) -> None:
    clinic.rows = clinic.rows.with_columns(age=pl.lit(97), pressure=pl.lit(171.25), name=pl.lit("Zayd"))
    contracts = clinic.contracts()
    decision = contracts.ingest(NORA, VISITS, until=LATER)
    columns = contracts.profile(decision.subject)["columns"]
    for name in ("emirates_id", "name", "age", "pressure", "born", "smokes"):
        assert columns[name] == {"kind": "text", "missing": 0}
    assert columns["ward"]["kind"] == "category"
    labels = contracts.look("visits")["labels"]
    assert labels["sealed"] == {"subject": "emirates_id", "columns": ["emirates_id", "name", "age", "pressure", "born", "smokes"]}
    told = next(check for check in decision.checks if "nobody is too old" in check.name)
    assert told.passed
    assert "97" not in told.seen
    there = everything(clinic.state)
    assert "171.25" not in there
    assert "Zayd" not in there


def test_an_erased_person_is_null_everywhere_and_nothing_else_changes(clinic: Clinic) -> None:
    contracts, other = clinic.contracts(), clinic.contracts(vault=clinic.another_vault())
    ref = contracts.ingest(NORA, VISITS, until=LATER).subject
    other.frame("visits")  # and keeps it in memory
    assets, digests = clinic.ledger.get("asset", str(ref)), everything(clinic.state / "blobs")
    clinic.shred(emirates_id(3))
    gone = pl.col("visit").is_in(clinic.rows.filter(pl.col("emirates_id") == emirates_id(3))["visit"].to_list())
    for reader in (contracts, other):
        for frame in (reader.frame("visits"), reader.scan("visits").collect()):
            lost = frame.filter(gone)
            assert lost.height == 10
            assert all(lost[name].null_count() == 10 for name in ("emirates_id", "name", "age", "pressure", "born", "smokes"))
            assert_frame_equal(lost["visit", "at", "ward"], clinic.rows.filter(gone)["visit", "at", "ward"])
            assert_frame_equal(frame.filter(~gone), clinic.rows.filter(~gone))
    assert clinic.ledger.get("asset", str(ref)) == assets
    assert everything(clinic.state / "blobs") == digests


def test_erased_people_come_in_no_more_until_they_are_admitted(clinic: Clinic) -> None:
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=100))
    clinic.shred(emirates_id(3))
    assert emirates_id(3) not in contracts.recent("visits", DAY, LATER)["emirates_id"].to_list()
    decision = contracts.ingest(NORA, VISITS, until=LATER)
    told = next(check for check in decision.checks if "erased" in check.name)
    assert (told.seen, told.passed) == ("5 rows", True)
    frame = contracts.frame("visits")
    assert frame.height == 195
    assert emirates_id(3) not in frame["emirates_id"].to_list()
    clinic.vault.admit(clinic.vault.token(emirates_id(3)))
    clinic.rows = visits(40, start=2000)
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(days=2))
    assert contracts.frame("visits").filter(pl.col("emirates_id") == emirates_id(3)).height == 2


def test_large_loads_are_sealed_part_by_part_and_leave_no_draft(clinic: Clinic) -> None:
    contracts = clinic.contracts(part_rows=30)
    ref = contracts.ingest(NORA, VISITS, until=LATER).subject
    assert contracts.look("visits")["labels"]["parts"] == 7
    assert_frame_equal(contracts.frame("visits"), clinic.rows)
    assert_frame_equal(contracts.scan("visits", since=DAY + timedelta(minutes=50)).collect(), clinic.rows[51:])
    assert emirates_id(5) not in everything(clinic.state)
    assert contracts.profile(ref)["columns"]["age"]["kind"] == "text"


def broken(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(age=pl.when(pl.col("visit") == "v7").then(999).otherwise("age"))


def test_what_is_kept_out_is_sealed_whole_and_can_be_mended(clinic: Clinic) -> None:
    clinic.rows = broken(clinic.rows).with_columns(phone=pl.lit("+971501234567"))
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    there = everything(clinic.state)
    assert not any(text in there for text in (emirates_id(7), "+971501234567", "Yusuf"))
    kept = contracts.quarantine("visits", waiting=True)
    assert kept.select("visit", "age", "phone", "emirates_id").row(0) == ("v7", 999, "+971501234567", emirates_id(7))
    assert "999" not in json.dumps(contracts.report(VISITS)["findings"])
    assert contracts.report(VISITS)["findings"][0]["sample"] == [{"visit": "v7"}]
    rows = kept.select("_version", "_row", age=pl.lit(27))
    assert contracts.replay(NORA, VISITS, rows=rows).verdict == "allow"
    assert contracts.frame("visits").filter(pl.col("visit") == "v7")["age"].to_list() == [27]
    assert emirates_id(7) not in everything(clinic.state)


def test_of_an_erased_person_nothing_waits_to_be_mended(clinic: Clinic) -> None:
    clinic.rows = broken(clinic.rows)
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    assert contracts.quarantine("visits").height == 1
    clinic.shred(emirates_id(7))
    assert contracts.quarantine("visits").height == 0
    assert contracts.replay(NORA, VISITS).reason == "nothing to mend"


def test_late_rows_are_sealed_and_counted_once(clinic: Clinic) -> None:
    later = clinic.rows.filter(pl.col("visit") == "v50")
    clinic.rows, every = clinic.rows.filter(pl.col("visit") != "v50"), clinic.rows
    contracts = clinic.contracts(late="2h")
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=110))
    clinic.rows = every
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=120))
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=130))
    found = contracts.frame("visits").filter(pl.col("visit") == "v50")
    assert found["name"].to_list() == later["name"].to_list()
    assert emirates_id(50 % 20) not in everything(clinic.state)


def test_a_whole_table_is_compared_without_the_erased(clinic: Clinic) -> None:
    (clinic.folder / "visits.odcs.yaml").write_text(
        CONTRACT.replace("{name: visit, logicalType: string, primaryKey: true}", "{name: visit, logicalType: string}").replace(
            "        required: true\n        customProperties", "        primaryKey: true\n        customProperties"
        )
    )
    clinic.rows = visits(20)
    whole = lambda _since, _until: clinic.rows  # noqa: E731
    contracts = clinic.contracts(source=whole, brings="all")
    contracts.ingest(NORA, VISITS, until=LATER)
    clinic.shred(emirates_id(3))
    decision = contracts.ingest(NORA, VISITS, until=LATER + timedelta(days=1))
    assert decision.reason == "no new rows"
    assert contracts.current("visits").height == 19
    clinic.rows = clinic.rows.with_columns(age=pl.col("age") + 1)
    decision = contracts.ingest(NORA, VISITS, until=LATER + timedelta(days=2))
    assert decision.reason == "19 rows taken in"
    assert "0" in next(check.seen for check in decision.checks if "no longer has" in check.name)


def test_a_derived_dataset_may_not_write_in_clear_what_was_sealed(clinic: Clinic) -> None:
    columns = "\n".join(
        f"      - {{name: {name}, logicalType: {kind}}}"
        for name, kind in (("visit", "string"), ("at", "timestamp"), ("known_at", "timestamp"), ("age", "integer"))
    )
    head = CONTRACT[: CONTRACT.index("      - {name: visit")].replace("name: visits", "name: old")
    (clinic.folder / "old.odcs.yaml").write_text(head + columns)
    query = Derived(("visits",), sql='select visit, "at", known_at, age from visits where age > 60')
    clinic.datasets["old"] = Dataset("old", "old.odcs.yaml", query, time="at", known="known_at")
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    with pytest.raises(InvalidInput, match="does not say that age is personal"):
        contracts.ingest(NORA, Ref("dataset", "old"), until=LATER)
    sealed = columns.replace("age, logicalType: integer", "age, logicalType: integer, classification: personal") + (
        "\n      - {name: emirates_id, logicalType: string, customProperties: [{property: subject, value: true}]}"
    )
    (clinic.folder / "old.odcs.yaml").write_text(head + sealed)
    query = Derived(("visits",), sql='select visit, "at", known_at, age, emirates_id from visits where age > 30')
    clinic.datasets["old"] = Dataset("old", "old.odcs.yaml", query, time="at", known="known_at")
    contracts = clinic.contracts()
    assert contracts.ingest(NORA, Ref("dataset", "old"), until=LATER).allowed
    assert contracts.frame("old")["emirates_id"].null_count() == 0
    assert emirates_id(15) not in everything(clinic.state)


def test_without_a_vault_nothing_is_written(clinic: Clinic) -> None:
    sealed = clinic.contracts()
    bare = Contracts(clinic.kernel, clinic.blobs, sealed.datasets, clinic.folder, drafts=clinic.state / "drafts")
    with pytest.raises(Unavailable, match="vault"):
        bare.ingest(NORA, VISITS, until=LATER)
    assert not list((clinic.state / "blobs").rglob("*.parquet"))
    sealed.ingest(NORA, VISITS, until=LATER)
    with pytest.raises(Unavailable, match="vault"):
        bare.frame("visits")


def test_a_dataset_about_nobody_asks_for_no_vault(clinic: Clinic) -> None:
    plain = CONTRACT.replace("        customProperties: [{property: subject, value: true}]\n", "")
    (clinic.folder / "visits.odcs.yaml").write_text(plain)
    bare = Contracts(clinic.kernel, clinic.blobs, clinic.contracts().datasets, clinic.folder, drafts=clinic.state / "drafts")
    bare.ingest(NORA, VISITS, until=LATER)
    assert_frame_equal(bare.frame("visits"), clinic.rows)
    assert "sealed" not in bare.look("visits")["labels"]
    assert emirates_id(3) in everything(clinic.state), "which shows that the search finds it"


def test_the_subject_is_read_and_written_back() -> None:
    contract = odcs.read(CONTRACT.encode())
    assert contract.subject == "emirates_id"
    assert contract.personal == ("emirates_id", "name", "age", "pressure", "born", "smokes")
    assert odcs.read(odcs.write(contract)).subject == "emirates_id"
    whole = odcs.read(CONTRACT.replace("value: internal", "value: personal").encode())
    assert whole.personal == tuple(column.name for column in whole.columns)


def test_two_subjects_or_one_that_is_a_time_are_refused() -> None:
    other = CONTRACT.replace(
        "{name: ward, logicalType: string}",
        "{name: ward, logicalType: string, customProperties: [{property: subject, value: true}]}",
    )
    with pytest.raises(InvalidInput, match="two subjects"):
        odcs.read(other.encode())
    for kind in ("timestamp", "boolean", "date", "number"):
        wrong = f"{{name: ward, logicalType: {kind}, customProperties: [{{property: subject, value: true}}]}}"
        with pytest.raises(InvalidInput, match="string or integer"):
            odcs.read(CONTRACT.replace("{name: ward, logicalType: string}", wrong).encode())
    with pytest.raises(InvalidInput, match="true or false"):
        odcs.read(CONTRACT.replace("property: subject, value: true", "property: subject, value: perhaps").encode())


def test_other_custom_properties_of_a_column_stay_for_people() -> None:
    for said in ("[{property: unit, value: mmHg}]", "[{property: subject, value: false}]", "[]"):
        text = CONTRACT.replace(
            "{name: ward, logicalType: string}", f"{{name: ward, logicalType: string, customProperties: {said}}}"
        )
        assert odcs.read(text.encode()) == replace(odcs.read(CONTRACT.encode()), digest=odcs.read(text.encode()).digest)


def test_personal_columns_without_a_subject_are_a_warning() -> None:
    without = CONTRACT.replace("        customProperties: [{property: subject, value: true}]\n", "")
    (found,) = [finding for finding in lint(without.encode()).findings if "nobody can be erased" in finding.message]
    assert found.severity == "warning"
    assert "subject" in found.hint
    assert not [finding for finding in lint(CONTRACT.encode()).findings if "erased" in finding.message]
    clear = CONTRACT.replace("{name: at, logicalType: timestamp", "{name: at, classification: personal, logicalType: timestamp")
    assert any("stays in clear" in finding.message for finding in lint(clear.encode(), times=("at", "known_at")).findings)


def test_a_subject_that_comes_or_goes_is_told() -> None:
    contract = odcs.read(CONTRACT.encode())
    without = replace(contract, columns=tuple(replace(column, subject=False) for column in contract.columns))
    assert b"subject added" in canonical(encode(diff(without, contract)))
    assert b"subject removed" in canonical(encode(diff(contract, without)))


def test_days_and_times_that_nobody_has_seen_come_back_too() -> None:
    frame = pl.DataFrame({"who": ["a"], "d": [date.min], "t": [time.max], "n": [None], "clear": [1]})
    assert_frame_equal(sealed_and_opened(frame, MemoryVault()), frame)
