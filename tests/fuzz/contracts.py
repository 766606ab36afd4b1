"""Fuzzes the contract parser: whatever the bytes, a Contract or InvalidInput, and what was read can be written and read back.

python -m tests.fuzz.contracts --rounds 20000 --seed 7
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Contract
from tests.unit.contracts.conftest import CONTRACT
from tests.unit.contracts.made import contracts

RICH = """
apiVersion: v3.2.0
kind: DataContract
id: 7c2e
name: everything
version: 1.2.3
status: active
team: [{username: anna, role: owner}]
description: {purpose: to be broken, usage: by nobody}
slaDefaultElement: rich.at
slaProperties:
  - {property: freshness, value: 2, unit: h}
  - {property: retention, value: 3, unit: y}
  - {property: support, value: "9 to 5"}
schema:
  - name: rich
    relationships: [{from: rich.zone, to: zones.name}]
    properties:
      - {name: id, logicalType: string, primaryKey: true, logicalTypeOptions: {minLength: 1, maxLength: 9}}
      - {name: at, logicalType: timestamp, logicalTypeOptions: {minimum: 2013-01-01T00:00:00Z}}
      - {name: naive, logicalType: timestamp, logicalTypeOptions: {timezone: false, defaultTimezone: UTC}}
      - {name: day, logicalType: date, logicalTypeOptions: {maximum: 2030-01-01}}
      - {name: miles, logicalType: number, relationships: [{to: roads.miles}], logicalTypeOptions: {multipleOf: 0.5}}
      - {name: zone, logicalType: string, enum: [{value: east}, {value: west, label: the other one}]}
    quality:
      - {name: m, type: custom, engine: falaj, implementation: "mean(miles) between 1 and 50", severity: warn}
      - {name: d, type: custom, engine: falaj, implementation: "drift(miles) <= 0.1", severity: critical}
      - {name: g, type: custom, engine: falaj, implementation: "growth() not between 0 and 0.5", severity: quarantine}
      - {name: e, type: custom, engine: falaj, implementation: "miles * 2 < 7 or zone is null and day is not null"}
      - {metric: duplicateValues, arguments: {properties: [at, zone]}, mustBe: 0}
      - {metric: rowCount, mustBeGreaterThan: 0}
"""
EXAMPLES = sorted((Path(__file__).parents[2] / "examples/flights/contracts").glob("*.odcs.yaml"))
TEXTS = [CONTRACT, RICH, *(path.read_text("utf-8") for path in EXAMPLES)]
WORDS = sorted(
    {
        "",
        ":",
        "\n",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "'",
        '"',
        "#",
        "null",
        "~",
        "9" * 20,
        "1e999",
        ".nan",
        "-.inf",
        "\t",
        "é",
        "\u2028",
        "\x00",
    }
    | {
        "&a ",
        "*a",
        "!!set ",
        "!!python/name:os.system",
        "<<: ",
        "? ",
        "| ",
        "> ",
        "---\n",
        "...\n",
        "%TAG ! x\n",
        "2013-99-99",
        "0x1F",
    }
    | {word for text in TEXTS for word in text.replace(",", " ").split()}
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.dates()
    | st.datetimes()
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A contract with a few pieces cut out, doubled, or put in from elsewhere."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.sampled_from(WORDS) | st.text(max_size=4)) + text[end if draw(st.booleans()) else start :]
    return text.encode("utf-8", "surrogatepass")


@st.composite
def grafted(draw: st.DrawFn) -> bytes:
    """A contract's tree with values of any kind in any place."""
    document = yaml.safe_load(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = document
        while True:
            key = draw(st.sampled_from(sorted(holder, key=str) if isinstance(holder, dict) else range(len(holder))))
            if not isinstance(holder[key], (dict, list)) or not holder[key] or draw(st.integers(0, 3)) == 0:
                break
            holder = holder[key]
        value = draw(VALUES)
        if isinstance(holder, dict) and draw(st.booleans()):
            holder[draw(st.sampled_from(WORDS))] = value
        else:
            holder[key] = value
    return yaml.safe_dump(document, allow_unicode=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def stated(draw: st.DrawFn) -> bytes:
    """Expressions and measures made of the words that they are made of."""
    words = ["miles", "at", "id", "zone", "and", "or", "not", "is", "null", "(", ")", "<=", "==", "+", "%", "1", "0.5", "'x'"]
    words += ["mean(", "drift(", "growth()", "between", "month(", "abs(", "-", ",", "[", "lambda", "if", "else", "**", "1e9"]
    text = " ".join(draw(st.lists(st.sampled_from(words), max_size=14)))
    quoted = yaml.safe_dump(text, default_style='"', width=10_000).strip()
    return RICH.replace('"miles * 2 < 7 or zone is null and day is not null"', quoted).encode()


def inputs() -> st.SearchStrategy[bytes]:
    return st.one_of(mutated(), grafted(), stated(), st.binary(max_size=300), contracts().map(odcs.write))


def tried(data: bytes) -> str:
    """`read` or `refused`. Raises whatever else happens."""
    try:
        contract = odcs.read(data, "fuzzed")
    except InvalidInput:
        return "refused"
    assert isinstance(contract, Contract)
    assert replace(odcs.read(odcs.write(contract)), digest=contract.digest) == contract
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    counts: Counter[str] = Counter()
    slowest = (0.0, b"")

    @seed(given_.seed)
    @settings(max_examples=given_.rounds, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs())
    def rounds(data: bytes) -> None:
        nonlocal slowest
        start = time.process_time()
        counts[tried(data)] += 1
        slowest = max(slowest, (time.process_time() - start, data))

    rounds()
    told = f"{counts['read']:,} read, {counts['refused']:,} refused"
    sys.stdout.write(f"{sum(counts.values()):,} rounds: {told}; slowest {slowest[0]:.3f} CPU seconds\n")


if __name__ == "__main__":
    main()
