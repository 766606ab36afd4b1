"""Data files as tables: what they hold is seen, and the source that is shown reads them alike."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import falaj
from falaj.adapters import open_adapter
from falaj.cli.table import ENCODINGS, Table, read_table, unlike
from falaj.core.errors import InvalidInput
from falaj.stages.contracts.infer import infer
from falaj.stages.contracts.rules import check

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def made(folder: Path, name: str, text: str | bytes, encoding: str = "") -> Table:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(folder / name, name, encoding)


def as_declared(folder: Path, call: str) -> pl.DataFrame:
    """What the source reads whose declaration was shown."""
    source: Any = eval(call, {"falaj": falaj})  # the test's own text
    opened = open_adapter("source", source.scheme, folder=folder, secret=lambda _: b"", **source.options)
    return pl.concat(opened.read(None, datetime(2027, 1, 1, tzinfo=UTC)))


LINES = '{"id": "a", "at": "2026-05-01T12:00:00Z"}\n{"id": "b", "at": "2026-05-01T16:00:00.250+04:00"}\n{"id": "c", "at": null}\n'
CSV = """id,at,seen,day,miles,seats,paid,note
a,2026-05-01T12:00:00Z,2026-05-01 12:00:00,2026/05/01,1.5,2,true,x
b,2026-05-01T16:00:00+04:00,2026-05-01 13:30:00,2026/05/02,2.5,3,false,y
"""


def test_texts_that_are_rfc_3339_are_times(tmp_path: Path) -> None:
    table = made(tmp_path, "x.jsonl", LINES)
    assert table.frame["at"].to_list() == [NOON, NOON.replace(microsecond=250_000), None]
    assert table.call("x.jsonl", "at") == 'falaj.files("x.jsonl", known="at", types={"at": "timestamp"})'
    assert made(tmp_path, "y.jsonl", LINES.replace("Z", "")).frame.schema["at"] == pl.String
    assert made(tmp_path, "z.jsonl", '{"at": "2026-05-01T25:00:00Z"}\n').frame.schema["at"] == pl.String


@pytest.mark.parametrize(("name", "text"), [("x.jsonl", LINES), ("x.csv", CSV)])
def test_what_the_shown_source_reads_keeps_the_contract(tmp_path: Path, name: str, text: str) -> None:
    table = made(tmp_path, name, text)
    found = infer(table.frame, "x", time="at", known="at")
    judged = check(as_declared(tmp_path, table.call(name)), found.contract)
    assert (judged.stopped, judged.quarantined) == ("", 0)


@pytest.mark.parametrize(
    ("first", "style"),
    [("2012/01/01", "%Y/%m/%d"), ("31/12/2012", "%d/%m/%Y"), ("12/31/2012", "%m/%d/%Y"), ("2012-01-01", "%Y-%m-%d")],
)
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_days_in_another_form_name_the_option_that_reads_them(tmp_path: Path, first: str, style: str, name: str) -> None:
    table = made(tmp_path, name, f"id,at\na,{first}\n" if name == "x.csv" else f'{{"id": "a", "at": "{first}"}}\n')
    wrong = unlike(table, name, "at")
    assert wrong is not None
    option = f'falaj.files("{name}", times={{"at": ("{style}", "UTC")}})'
    assert option in wrong.hint
    assert as_declared(tmp_path, option).schema["at"] == pl.Datetime("us", "UTC")
    assert unlike(table, name, "nothing") is None


def test_bytes_that_are_not_of_the_encoding_are_named(tmp_path: Path) -> None:
    latin = "id,town\na,Köln\n".encode("latin-1")
    with pytest.raises(InvalidInput, match=r"x\.csv is not in utf-8: line 2, byte 4 of it is 0xf6") as caught:
        made(tmp_path, "x.csv", latin)
    assert "--encoding windows-1252" in caught.value.hint
    table = made(tmp_path, "x.csv", latin, "windows-1252")
    assert table.frame["town"].to_list() == ["Köln"]
    assert as_declared(tmp_path, table.call("x.csv"))["town"].to_list() == ["Köln"]
    with pytest.raises(InvalidInput, match="is not in utf-8: line 1"):
        made(tmp_path, "x.jsonl", '{"town": "Köln"}\n'.encode("latin-1"))
    with pytest.raises(InvalidInput, match="is not in windows-1252: line 2"):
        made(tmp_path, "x.csv", b"id\n\x81\n", "windows-1252")
    with pytest.raises(InvalidInput, match="encoding 'utf-16'"):
        made(tmp_path, "x.csv", latin, "utf-16")


def test_the_encodings_are_those_of_the_source() -> None:
    from falaj.adapters.tabular.text import ENCODINGS as READ

    assert sorted(ENCODINGS) == sorted(READ)
