"""A small dataset with its contract, on the adapters in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.ref import Ref
from falaj.ports.source import Origin
from falaj.stages.action import Kernel
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.snapshots import PART_ROWS
from falaj.stages.contracts.spec import Dataset

DAY = datetime(2013, 1, 1, tzinfo=UTC)
TRIPS = Ref("dataset", "trips")
ANNA = Actor("anna")
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: 5b1c
version: 1.0.0
status: active
team: {name: taxis}
customProperties:
  - {property: classification, value: internal}
  - {property: purposes, value: [planning]}
slaProperties:
  - {property: latency, value: 2, unit: h, element: trips.known_at}
schema:
  - name: trips
    properties:
      - {name: id, logicalType: string, primaryKey: true, logicalTypeOptions: {pattern: "^t[0-9]+$"}}
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: miles, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 500}}
      - {name: seats, logicalType: integer, logicalTypeOptions: {format: i8}}
      - name: zone
        logicalType: string
        quality:
          - {name: a known zone, metric: invalidValues, arguments: {validValues: [east, west]}, mustBe: 0}
          - {name: most zones are there, metric: nullValues, mustBeLessThan: 50, unit: percent}
          - {name: all zones are there, metric: nullValues, mustBe: 0, severity: warning}
    quality:
      - {name: known after it happened, type: custom, engine: falaj, implementation: "known_at >= at"}
"""


class AllowAll:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: object) -> Decision:
        return Decision(subject, "policy", "allow")


def trips(count: int, start: int = 0, **columns: object) -> pl.DataFrame:
    """Trip n happens n hours after DAY and is known half an hour later."""
    at = [DAY + timedelta(hours=n) for n in range(start, start + count)]
    frame = pl.DataFrame(
        {
            "id": [f"t{n}" for n in range(start, start + count)],
            "at": at,
            "known_at": [moment + timedelta(minutes=30) for moment in at],
            "miles": [float(n % 50) for n in range(start, start + count)],
            "seats": [n % 5 for n in range(start, start + count)],
            "zone": ["east" if n % 3 else "west" for n in range(start, start + count)],
        },
        schema_overrides={"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")},
    )
    return frame.with_columns(
        **{name: value if isinstance(value, pl.Expr) else pl.Series(value) for name, value in columns.items()}
    )  # type: ignore[arg-type]


@dataclass
class World:
    folder: Path
    rows: pl.DataFrame
    asked: list[tuple[datetime | None, datetime]] = field(default_factory=list)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    others: dict[str, Dataset] = field(default_factory=dict)
    source: Callable[[datetime | None, datetime], pl.DataFrame] | None = None

    def contracts(self, *, part_rows: int = PART_ROWS, **declared: Any) -> Contracts:
        kernel = Kernel(self.ledger, AllowAll(), lambda: DAY + timedelta(days=400))
        source = declared.pop("source", self.source or self.fetch)
        dataset = Dataset("trips", "trips.odcs.yaml", source, time="at", known="known_at", **declared)
        drafts = self.folder / "drafts"
        return Contracts(kernel, self.blobs, {"trips": dataset, **self.others}, self.folder, drafts=drafts, part_rows=part_rows)

    def fetch(self, since: datetime | None, until: datetime) -> pl.DataFrame:
        self.asked.append((since, until))
        rows = self.rows.filter(pl.col("known_at") <= until)
        return rows if since is None else rows.filter(pl.col("known_at") > since)

    def write(self, contract: str) -> None:
        (self.folder / "trips.odcs.yaml").write_text(contract)


class Pieces:
    """A source that hands its rows out in pieces."""

    def __init__(self, rows: pl.DataFrame, size: int, *, known: bool = True, stops_after: int | None = None) -> None:
        self.rows, self.size, self.stops_after = rows, size, stops_after
        self.capabilities = frozenset({"known"} if known else ())
        self.origin = Origin("test://here", "trips")

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        rows = self.rows
        if "known" in self.capabilities:
            rows = rows.filter(pl.col("known_at") <= until)
            rows = rows if since is None else rows.filter(pl.col("known_at") > since)
        for number, start in enumerate(range(0, max(rows.height, 1), self.size)):
            if number == self.stops_after:
                raise ConnectionResetError("the line went dead")
            yield rows.slice(start, self.size)


def reading(contracts: Contracts, **changes: Any) -> Contracts:
    """The contract of the trips, changed beyond what this test's file says."""
    declared = contracts.datasets["trips"]
    written, contract = contracts._contract(declared)
    contracts._read["trips"] = (written, replace(contract, **changes))
    return contracts


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, trips(100))
    world.write(CONTRACT)
    return world
