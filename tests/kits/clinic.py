"""A clinic in Dubai whose visits are about people who do not exist, on a disk that can be searched to its last byte."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.vault import SqliteVault
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.snapshots import PART_ROWS
from falaj.stages.contracts.spec import Dataset

DAY = datetime(2026, 3, 1, tzinfo=UTC)
VISITS = Ref("dataset", "visits")
NORA = Actor("nora")
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: c11c
version: 1.0.0
status: active
team: {name: clinic}
customProperties:
  - {property: classification, value: internal}
schema:
  - name: visits
    properties:
      - {name: visit, logicalType: string, primaryKey: true}
      - name: emirates_id
        logicalType: string
        required: true
        customProperties: [{property: subject, value: true}]
        logicalTypeOptions: {pattern: '^784-[0-9]{4}-[0-9]{7}-[0-9]$'}
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: name, logicalType: string, classification: personal}
      - {name: age, logicalType: integer, classification: personal, logicalTypeOptions: {minimum: 0, maximum: 120}}
      - {name: pressure, logicalType: number, classification: health}
      - {name: born, logicalType: date, classification: personal}
      - {name: smokes, logicalType: boolean, classification: health}
      - {name: ward, logicalType: string}
    quality:
      - {name: nobody is too old, type: custom, engine: falaj, implementation: maximum(age) <= 110, severity: warning}
"""
_NAMES = ("Mariam Al Hashimi", "Yusuf Rahman", "Layla Haddad", "Omar Farooq", "Aisha Noor", "Pedro Santos")


def emirates_id(number: int) -> str:
    """784, a year of birth, seven digits and a last one: the form of an Emirates ID, of nobody."""
    return f"784-{1940 + number % 70}-{number * 7919 % 10_000_000:07d}-{number % 10}"


def visits(count: int, *, people: int = 20, start: int = 0) -> pl.DataFrame:
    """Visit n happens n minutes after DAY, by person n modulo `people`, and is known a minute later."""
    chance = random.Random(start + 1)
    numbers = range(start, start + count)
    at = [DAY + timedelta(minutes=n) for n in numbers]
    who = [n % people for n in numbers]
    return pl.DataFrame(
        {
            "visit": [f"v{n}" for n in numbers],
            "emirates_id": [emirates_id(person) for person in who],
            "at": at,
            "known_at": [moment + timedelta(minutes=1) for moment in at],
            "name": [f"{_NAMES[person % 6]} {person}" for person in who],
            "age": [20 + person % 70 for person in who],
            "pressure": [None if n % 17 == 0 else 110 + chance.random() * 60 for n in numbers],
            "born": [(DAY - timedelta(days=365 * (20 + person % 70))).date() for person in who],
            "smokes": [person % 3 == 0 for person in who],
            "ward": ["heart" if n % 2 else "eyes" for n in numbers],
        },
        schema_overrides={"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")},
    )


class AllowAll:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: object) -> Decision:
        return Decision(subject, "policy", "allow")


@dataclass
class Clinic:
    folder: Path
    rows: pl.DataFrame
    datasets: dict[str, Dataset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "visits.odcs.yaml").write_text(CONTRACT)
        self.state = self.folder / ".falaj"
        self.ledger = SqliteLedger(self.state / "ledger.db", key_path=self.state / "keys" / "ledger.ed25519", origin="clinic")
        self.blobs = FileBlobs(self.state / "blobs")
        self.vault = self.another_vault()
        self.kernel = Kernel(self.ledger, AllowAll(), lambda: DAY + timedelta(days=100))

    def another_vault(self) -> SqliteVault:
        """As another process has it."""
        return SqliteVault(self.state / "vault" / "subjects.db", self.state / "keys" / "vault.kek", b"p" * 32)

    def contracts(self, *, part_rows: int = PART_ROWS, vault: SqliteVault | None = None, **declared: Any) -> Contracts:
        own = {"source": self.fetch, "time": "at", "known": "known_at", **declared}
        sets = {"visits": Dataset("visits", "visits.odcs.yaml", **own), **self.datasets}
        return Contracts(
            self.kernel, self.blobs, sets, self.folder, drafts=self.state / "drafts", part_rows=part_rows,
            vaults=lambda: vault or self.vault,
        )  # fmt: skip

    def fetch(self, since: datetime | None, until: datetime) -> pl.DataFrame:
        rows = self.rows.filter(pl.col("known_at") <= until)
        return rows if since is None else rows.filter(pl.col("known_at") > since)

    def shred(self, subject: str) -> None:
        self.vault.shred([self.vault.token(subject)])

    def close(self) -> None:
        self.vault.close()
        self.ledger.close()


def everything(folder: Path) -> str:
    """Every byte of every file, and what is behind the compression of those that are Parquet."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found.append(data.decode("latin-1"))
        if data[:4] == b"PAR1":
            for row in pl.read_parquet(io.BytesIO(data)).iter_rows():
                found.append("|".join(cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in row))
    return "\n".join(found)
