"""A value on its way: from the source's row through contract, snapshot and store to the request, and to the training frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.moments import millis
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset
from falaj.stages.features.rules import reader
from falaj.stages.features.service import Features
from falaj.stages.features.spec import Entity, View, age_hours, category, inputs, ratio, years_since

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)
WORKER = Actor("worker", "service", ("service",))
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: planes
version: 1.0.0
status: active
schema:
  - name: planes
    properties:
      - {name: carrier, logicalType: string}
      - {name: number, logicalType: integer}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: maker, logicalType: string}
      - {name: flown, logicalType: integer}
      - {name: active, logicalType: boolean}
      - {name: weight, logicalType: number}
      - {name: checked_at, logicalType: timestamp}
"""
ROWS: list[tuple[Any, ...]] = [
    ("UA", 7, NOON, "BOEING", 2**62 + 1, True, 0.1, NOON - timedelta(hours=36, microseconds=1)),
    ("UA", 8, NOON, None, None, None, None, None),
    ("A|A", 7, NOON, "Ünïcode \\ |", -(2**63), False, -0.0, NOON),
]
NAMES = ("carrier", "number", "known_at", "maker", "flown", "active", "weight", "checked_at")
PLANE = View(
    "plane",
    "planes",
    Entity("tail", keys=("carrier", "number")),
    ("maker", "flown", "active", "weight", "checked_at"),
    "known_at",
)
RECIPE = inputs(
    category(PLANE["maker"], ("AIRBUS", "BOEING"), "maker"),
    PLANE["flown"],
    PLANE["active"],
    PLANE["weight"],
    age_hours(PLANE["checked_at"], "age"),
    ratio("fuel", PLANE["weight"], "fuel"),
)


def test_every_value_keeps_its_type_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "planes.odcs.yaml").write_text(CONTRACT)
    times = pl.Datetime("us", "UTC")
    table = pl.DataFrame(ROWS, orient="row", schema=list(NAMES), schema_overrides={"known_at": times, "checked_at": times})

    def source(since: datetime | None, until: datetime) -> pl.DataFrame:
        return table.filter((pl.col("known_at") <= until) & (True if since is None else pl.col("known_at") > since))

    kernel = Kernel(MemoryLedger(), RolePolicy(), lambda: NOON)
    dataset = Dataset("planes", "planes.odcs.yaml", source, "known_at", "known_at")
    contracts = Contracts(kernel, MemoryBlobs(), {"planes": dataset}, tmp_path)
    contracts.ingest(WORKER, Ref("dataset", "planes"), until=NOON)
    store = LmdbOnline(tmp_path / "online.lmdb")
    made = Features(kernel, contracts, store, {"plane": PLANE})
    made.refresh(NOON)
    keys = [("plane", "UA|7"), ("plane", "UA|8"), ("plane", "A\\|A|7")]
    found = [row.values if row else None for row in store.get(keys)]
    assert found == [
        ("BOEING", 2**62 + 1, True, 0.1, millis(NOON) - 36 * 3_600_000 - 1),
        (None, None, None, None, None),
        ("Ünïcode \\ |", -(2**63), False, -0.0, millis(NOON)),
    ]
    assert [type(value) for value in found[0] or ()] == [str, int, bool, float, int]
    asked = [{"at": NOON, "carrier": row[0], "number": row[1], "fuel": 3.0} for row in [*ROWS, ("UA", 9), ("UA", None)]]
    follow = reader(RECIPE, {"plane": PLANE})
    online = []
    for request in asked:
        key = follow.keys_of(request).get("plane")
        (row,) = store.get([("plane", key)]) if key else [None]
        online.append(follow.vector(request, NOON, {"plane": row.values if row else None}))
    offline, _ = made.training_frame(RECIPE, pl.DataFrame(asked, infer_schema_length=None))
    assert np.array_equal(np.array(online, np.float32), offline, equal_nan=True)
    assert offline[0].tolist()[:4] == [1.0, 2.0**62, 1.0, np.float32(0.1)]
    assert np.isnan(offline[[1, 3, 4]]).all()
    assert made.sample("plane", NOON, lambda names, count: list(names)[:count]).is_clear
    store.close()


def test_a_year_may_be_a_whole_number(tmp_path: Path) -> None:
    from falaj.stages.features.rules import stored_rows, vectors

    view = View("p", "planes", "id", ("built",), "at")
    rows = stored_rows(pl.DataFrame({"id": ["a"], "at": [NOON], "built": [1999]}), view)
    spine = pl.DataFrame({"at": [NOON], "id": ["a"]})
    assert vectors(inputs(years_since(view["built"], "age")), spine, {"p": view}, {"p": rows})[0].tolist() == [[14.0]]
