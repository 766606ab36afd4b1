"""A few rounds of the contract fuzzer; `python -m tests.fuzz.contracts --rounds N` runs more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings

from falaj.core.errors import InvalidInput
from falaj.stages.contracts import odcs
from falaj.stages.contracts.document import LARGEST
from tests.fuzz.contracts import RICH, TEXTS, inputs, tried


@pytest.mark.parametrize("text", TEXTS)
def test_the_fuzzer_starts_from_contracts_that_are_read(text: str) -> None:
    assert tried(text.encode()) == "read"


@pytest.mark.slow
@given(inputs())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@example(RICH.replace("rich", "r").encode())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    tried(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        (
            "schema:\n  - name: t\n    properties:\n"
            + "".join(f"      - {{name: c{n}, logicalType: string}}\n" for n in range(10_000))
        ),
        "a: " + "[" * 15 + ",".join(["1"] * 300_000) + "]" * 15,
        "a:\n" + "".join(f"  k{n}: 1\n" for n in range(60_000)),
        "a: '" + "x" * (LARGEST - 20) + "'",
        "".join(f"# {'x' * 90}\n" for _ in range(11_000)),
    ],
    ids=["10,000 columns", "a long list", "many keys", "a long text", "nothing but comments"],
)
def test_a_large_file_is_refused_with_a_reason(data: str) -> None:
    head = "apiVersion: v3.1.0\nkind: DataContract\nid: a\nversion: '1'\nstatus: active\n"
    with pytest.raises(InvalidInput) as refused:
        odcs.read((head + data).encode())
    assert len(str(refused.value)) < 700


def test_ten_thousand_columns_are_too_many() -> None:
    columns = "".join(f"      - {{name: c{n}, logicalType: string}}\n" for n in range(10_000))
    head = "apiVersion: v3.1.0\nkind: DataContract\nid: a\nversion: '1'\nstatus: active\n"
    with pytest.raises(InvalidInput, match="1 to 200 columns, got 10,000"):
        odcs.read(f"{head}schema:\n  - name: t\n    properties:\n{columns}".encode())
