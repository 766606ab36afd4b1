"""Files as a source: what is read, what is refused, and how exactly it is told."""

from __future__ import annotations

import csv
import gzip
import io
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.adapters.files.source import FilesSource
from falaj.core.errors import InvalidInput, NotFound, Unavailable

UNTIL = datetime(2027, 1, 1, tzinfo=UTC)


def read(folder: Path, path: str, since: datetime | None = None, until: datetime = UNTIL, **options: Any) -> pl.DataFrame:
    return pl.concat(FilesSource(folder=folder, path=path, **options).read(since, until))


def given_file(folder: Path, data: bytes, name: str = "x.csv", **options: Any) -> pl.DataFrame:
    (folder / name).write_bytes(data)
    return read(folder, name, **options)


@pytest.mark.parametrize(
    ("data", "options", "told"),
    [
        (b"", {}, "x.csv is empty"),
        (b"a,a\n1,2\n", {}, "names the column 'a' twice"),
        (b"a,\n1,2\n", {}, "line 1: column 2 has no name"),
        (b"1,2\n3,4\n", {}, "has no header"),
        (b"a,b\n1,2\n3\n", {}, "line 3 has 1 columns, the header 2"),
        (b"a,b\n1,2\n3,4,5\n6\n", {}, "line 3 has 3 columns"),
        (b'a,b\n"x\ny",2\n3\n', {}, "line 4 has 1 columns"),
        (b'a,b\n1,2\n3,"4\n', {}, "line 3: a quote is never closed"),
        (b'a,b\n1,2\n3,4"4"\n', {}, "line 3: a quote is never closed, or stands inside"),
        (b"a\n1\r2\n", {}, "carriage return alone"),
        (b"a\nx\xff\n", {}, "not utf-8: the bytes ff 0a at offset 3 mean nothing"),
        (b"a\n1\n2.5\n", {"types": {"a": "integer"}}, "line 3, column 'a': '2.5' is no integer"),
        (b'a,b\n"x\ny",1\nz,no\n', {"types": {"b": "integer"}}, "line 4, column 'b': 'no' is no integer"),
        (b"a\n 1\n", {"types": {"a": "number"}}, "' 1' is no number"),
        (b"a\nyes\n", {"types": {"a": "boolean"}}, "'yes' is no boolean"),
        (b"a\n2026-02-30\n", {"types": {"a": "date"}}, "'2026-02-30' is no date"),
        (b"a\n2026-01-01T00:00:00\n", {"types": {"a": "timestamp"}}, "is no timestamp"),
        (b"a\n12026-01-01T00:00:00Z\n", {"types": {"a": "timestamp"}}, "is no timestamp"),
        (b"a\n29/03/2026 02:30\n", {"times": {"a": ("%d/%m/%Y %H:%M", "Europe/Berlin")}}, "is no timestamp"),
        (b"a\n25/10/2026 02:30\n", {"times": {"a": ("%d/%m/%Y %H:%M", "Europe/Berlin")}}, "is no timestamp"),
        (b"a\n9223372036854775808\n", {"types": {"a": "integer"}}, "is no integer"),
        (b"a\n1\n", {"types": {"b": "integer"}}, "has no column 'b'"),
        (b"a\n1\n", {"known": "a"}, "says when a row became known"),
        (b"a\n1\n", {"columns": ("b",)}, "has no column 'b'"),
        (b"a\n1\n", {"arrived": "a"}, "has a column 'a' already"),
        (",".join(f"c{n}" for n in range(10_000)).encode(), {}, "has 10,000 columns"),
    ],
)
def test_a_broken_csv_is_told_with_its_place(data: bytes, options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        given_file(tmp_path, data, **options)
    assert told in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("data", "options", "told"),
    [
        (b'{"a":1}\n{"a":"x"}\n', {}, "line 2, column 'a': a text, where lines before have a whole number"),
        (b'{"a":1}\n{"a":true}\n', {}, "line 2, column 'a': a boolean"),
        (b'{"a":1}\n{"a":2\n', {}, "line 2 is no JSON"),
        (b'{"a":1}\n\n[2]\n', {}, "line 3 is no object"),
        (b'{"a":1,"a":2}\n', {}, "names 'a' twice"),
        (b'{"a":9223372036854775808}\n', {}, "'9223372036854775808' is no Int64"),
        (b'{"a":9007199254740993}\n{"a":0.5}\n', {}, "'9007199254740993' is no Float64"),
        (b'{"a":' + b"[" * 100_000 + b"\n", {}, "nested too deeply"),
        (b'{"a":"\\ud800"}\n', {}, "holds what String cannot hold"),
        (b'{"a":"1"}\n', {"types": {"a": "integer"}}, "'1' is no integer"),
        (b'{"a":"1 May"}\n', {"types": {"a": "date"}}, "line 1, column 'a': '1 May' is no date"),
        (b'{"":1}\n', {}, "has no name"),
        (b"", {}, "no columns"),
    ],
)
def test_broken_json_lines_are_told_with_their_place(data: bytes, options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        given_file(tmp_path, data, "x.jsonl", **options)
    assert told in error.value.message


def test_a_json_column_is_as_wide_as_all_of_its_lines_ask(tmp_path: Path) -> None:
    frame = given_file(tmp_path, b'{"a":1,"b":null}\n{"c":{"d":[1]},"a":2.5}\n', "x.jsonl")
    assert frame.rows() == [(1.0, None, None), (2.5, None, '{"d": [1]}')]
    assert frame.schema == {"a": pl.Float64, "b": pl.String, "c": pl.String}


def test_text_is_text_unless_it_is_declared(tmp_path: Path) -> None:
    data = b"a,b\n007,2026-01-01\nNA,\n"
    assert given_file(tmp_path, data).rows() == [("007", "2026-01-01"), ("NA", None)]
    assert given_file(tmp_path, data, nulls=("NA",)).rows() == [("007", "2026-01-01"), (None, "")]
    assert given_file(tmp_path, data, nulls=("", "NA"), types={"a": "integer"})["a"].to_list() == [7, None]


def test_what_is_not_finite_is_a_number_that_the_contract_judges(tmp_path: Path) -> None:
    frame = given_file(tmp_path, b"a\nNaN\ninf\n-Infinity\n", types={"a": "number"})
    assert [str(value) for value in frame["a"]] == ["nan", "inf", "-inf"]


def test_times_are_read_in_their_own_format_and_zone(tmp_path: Path) -> None:
    data = b"a,b,c\n01/02/2026 10:00,2026-02-01 10:00:00,2026-02-01T10:00:00.000001+04:00\n"
    times = {"a": ("%d/%m/%Y %H:%M", "Asia/Dubai"), "b": ("", "Asia/Dubai")}
    row = given_file(tmp_path, data, times=times, types={"c": "timestamp"}).row(0)
    assert row == (datetime(2026, 2, 1, 6, tzinfo=UTC),) * 2 + (datetime(2026, 2, 1, 6, 0, 0, 1, tzinfo=UTC),)


def test_other_encodings_are_declared(tmp_path: Path) -> None:
    assert given_file(tmp_path, "a\ncafé\n".encode("latin-1"), encoding="latin-1").row(0) == ("café",)
    assert given_file(tmp_path, "a\n“x” €\n".encode("cp1252"), encoding="windows-1252").row(0) == ("“x” €",)
    assert given_file(tmp_path, "\ufeffa\nx\n".encode()).columns == ["a"]
    with pytest.raises(InvalidInput, match="utf-16"):
        given_file(tmp_path, "a\nx\n".encode("utf-16"), encoding="utf-16")


def test_a_file_without_header_takes_its_names_from_the_options(tmp_path: Path) -> None:
    assert given_file(tmp_path, b"1;x\n2;y\n", separator=";", header=("id", "name")).columns == ["id", "name"]
    assert given_file(tmp_path, b"", header=("id", "name")).height == 0


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    for data in (packed[:-9], packed[: len(packed) // 2], b"a,b\n1,2\n"):
        with pytest.raises(InvalidInput, match="gzip"):
            given_file(tmp_path, data, "x.csv.gz")
    assert given_file(tmp_path, packed + packed[:0] + gzip.compress(b"3,4\n"), "x.csv.gz").height == 1001
    whole = io.BytesIO()
    pl.DataFrame({"a": range(1000)}).write_parquet(whole)
    for data in (whole.getvalue()[:-10], whole.getvalue()[100:], b""):
        with pytest.raises(InvalidInput, match="cannot be read as Parquet"):
            given_file(tmp_path, data, "x.parquet")


def test_files_that_differ_become_one_table_or_say_why_not(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1], "b": ["x"]}, schema={"a": pl.Int32, "b": pl.String}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"a": [2**40], "c": [0.5]}).write_parquet(tmp_path / "2.parquet")
    (tmp_path / ".draft.parquet").write_bytes(b"not whole")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    assert read(tmp_path, ".").rows() == [(1, "x", None), (2**40, None, 0.5)]
    pl.DataFrame({"a": ["text"]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(InvalidInput, match=r"'a' is Int64 in .* and String in 3\.parquet"):
        read(tmp_path, "*.parquet")


def test_what_arrived_is_chosen_by_the_time_at_which_a_file_was_changed(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        (tmp_path / f"{day}.csv").write_text(f"a\n{day}\n")
        at = datetime(2100, 1, day, tzinfo=UTC).timestamp()
        os.utime(tmp_path / f"{day}.csv", (at, at))
    source = FilesSource(folder=tmp_path, path="*.csv", arrived="at")
    assert "known" in source.capabilities
    found = read(tmp_path, "*.csv", datetime(2100, 1, 1, tzinfo=UTC), datetime(2100, 1, 2, tzinfo=UTC), arrived="at")
    assert found.rows() == [("2", datetime(2100, 1, 2, tzinfo=UTC))]
    assert read(tmp_path, "*.csv", UNTIL, UNTIL, arrived="at").columns == ["a", "at"]
    assert "known" not in FilesSource(folder=tmp_path, path="*.csv").capabilities


def test_a_file_that_was_written_aside_arrives_when_it_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a\n1\n")
    aside = tmp_path / ".2.csv"
    aside.write_text("a\n2\n")
    written = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    os.utime(aside, (written, written))
    seen: list[str] = []
    since, until = None, datetime.now(UTC) + timedelta(milliseconds=20)
    time.sleep(0.05)
    for _ in range(2):
        seen += read(tmp_path, "*.csv", since, until, arrived="at")["a"].to_list()
        if aside.exists():
            aside.rename(tmp_path / "2.csv")
        since, until = until, datetime(2100, 1, 1, tzinfo=UTC)
    assert seen == ["1", "2"]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["", "UTC", "Asia/Dubai"])
def test_a_period_means_the_same_in_every_unit_and_zone(unit: Any, zone: str, tmp_path: Path) -> None:
    ticks = pl.Series("at", [1_767_225_600_000 + n for n in range(4)], dtype=pl.Int64)
    times = ticks.cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit(unit)
    times = times.dt.convert_time_zone(zone) if zone else times.dt.replace_time_zone(None)
    pl.DataFrame([times]).write_parquet(tmp_path / "x.parquet")
    since, until = (datetime(2026, 1, 1, 0, 0, 0, micros, tzinfo=UTC) for micros in (1_000, 2_999))
    assert read(tmp_path, "x.parquet", since, until, known="at").height == 1
    assert read(tmp_path, "x.parquet", None, until, known="at").height == 3


def test_nothing_outside_of_the_folder_is_read_unless_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "out.csv").write_text("a\n1\n")
    (folder / "data" / "link.csv").symlink_to(tmp_path / "out.csv")
    (folder / "away").symlink_to(tmp_path)
    for path in (
        "../out.csv",
        str(tmp_path / "out.csv"),
        "data/link.csv",
        "data",
        "data/*.csv",
        "away/out.csv",
        "away",
        "*/*.csv",
    ):
        with pytest.raises(InvalidInput, match="outside of the project's folder"):
            read(folder, path)
    for path in ("../out.csv", str(tmp_path / "out.csv"), "data/link.csv", "data"):
        assert read(folder, path, outside=True).height == 1


def test_what_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("no.csv", "empty", "*.csv"):
        with pytest.raises(NotFound):
            read(tmp_path, path)
    (tmp_path / "x.zip").write_bytes(b"")
    for path in ("x.zip", "", "\0", "[*.csv"):
        with pytest.raises((InvalidInput, NotFound)):
            read(tmp_path, path)


@pytest.mark.parametrize(
    "options",
    [
        {"typez": {}}, {"types": {"a": "int"}}, {"times": {"a": "%Y"}}, {"times": {"a": ("%Y", "")}},
        {"times": {"a": ("%Y", "Mars/X")}}, {"format": "xlsx"}, {"header": False}, {"separator": "||"}, {"separator": '"'},
        {"columns": "a"}, {"known": "a", "arrived": "b"},
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_when_the_source_is_opened(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        FilesSource(folder=tmp_path, path="x.csv", **options)


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"a\n" + b"1\n" * 60_000)
    reading = FilesSource(folder=tmp_path, path="x.csv").read(None, UNTIL)
    next(reading)
    with (tmp_path / "x.csv").open("ab") as file:
        file.write(b"2")
    with pytest.raises(Unavailable, match="was changed"):
        list(reading)


cells = st.text(alphabet="ab,\"\n;' é\t", max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells), max_size=12), block=st.integers(1, 40), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_is_read_as_python_reads_it_wherever_a_block_ends(
    rows: list[tuple[str, str]], block: int, end: str, tmp_path: Path
) -> None:
    """Cells of quotes, separators and line ends, cut into blocks at every place."""
    held = io.StringIO(newline="")
    writer = csv.writer(held, lineterminator=end)
    writer.writerow(("x", "y"))
    writer.writerows(rows)
    (tmp_path / "x.csv").write_bytes(held.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("falaj.adapters.tabular.text.BLOCK", block)
        patch.setattr("falaj.adapters.files.source.BLOCK", block)
        found = read(tmp_path, "x.csv", nulls=())
    assert found.rows() == rows


@pytest.mark.slow
def test_a_large_file_is_held_in_small_parts(tmp_path: Path) -> None:
    with (tmp_path / "x.csv").open("w") as file:
        file.write("a,b\n")
        for _ in range(60):
            file.write("1,some text that takes room\n" * 20_000)
    heights = [piece.height for piece in FilesSource(folder=tmp_path, path="x.csv").read(None, UNTIL)]
    assert sum(heights) == 1_200_000
    assert max(heights) <= 50_000


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_declared_column_that_only_newer_files_have_is_null_in_the_older_ones(ending: str, tmp_path: Path) -> None:
    for number, frame in enumerate((pl.DataFrame({"a": ["1"]}), pl.DataFrame({"a": ["2"], "tip": ["0.5"]}))):
        path = tmp_path / f"{number}.{ending}"
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    if ending == "jsonl":
        (tmp_path / "1.jsonl").write_text('{"a": "2", "tip": 0.5}\n')
    types = {"a": "string", "tip": "number"}
    assert read(tmp_path, f"*.{ending}", types=types).rows() == [("1", None), ("2", 0.5)]
    # Also in a load that reads the older files alone.
    os.utime(tmp_path / f"1.{ending}", (UNTIL.timestamp() + 2**32, UNTIL.timestamp() + 2**32))
    found = read(tmp_path, f"*.{ending}", until=datetime(2100, 1, 1, tzinfo=UTC), types=types, arrived="at")
    assert found.drop("at").rows() == [("1", None)]
    assert found.schema["tip"] == pl.Float64


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_declared_column_that_no_file_has_is_a_misspelling(ending: str, tmp_path: Path) -> None:
    for number in range(2):
        frame = pl.DataFrame({"a": ["1"]})
        {"csv": frame.write_csv, "parquet": frame.write_parquet}[ending](tmp_path / f"{number}.{ending}")
    with pytest.raises(InvalidInput, match="What lies in 2 files has no column 'tpi'"):
        read(tmp_path, f"*.{ending}", types={"tpi": "number"})


def test_the_column_that_says_when_a_row_became_known_is_in_every_file(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("a,at\n1,2026-01-01T00:00:00Z\n")
    with pytest.raises(InvalidInput, match=r"1\.csv: the column 'at' says when a row became known, and is not there"):
        read(tmp_path, "*.csv", known="at", types={"at": "timestamp"})
