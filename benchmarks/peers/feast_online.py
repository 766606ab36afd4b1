"""Feast's online store, asked for the same features as falaj's.

`feast_online.py <folder> <sqlite|redis|postgres> <address> <plan>`, run in an environment with what feast.txt names.
Prints one JSON object: p50_us, p99_us and cpu_p99_us of a read, rows_per_s of a write.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ["FEAST_USAGE"] = "False"  # it reports home otherwise
os.environ["FEAST_TELEMETRY"] = "False"

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.repo_config import RegistryConfig
from feast.types import Float64
from feast.value_type import ValueType


def store_of(kind: str, address: str, folder: Path) -> Any:
    parts = urlsplit(address)
    if kind == "sqlite":
        return {"type": "sqlite", "path": str(folder / "online.db")}
    if kind == "redis":
        return {"type": "redis", "connection_string": f"{parts.hostname}:{parts.port}"}
    return {
        "type": "postgres", "host": parts.hostname, "port": parts.port, "database": parts.path.lstrip("/"),
        "user": parts.username, "password": "", "sslmode": "disable",
    }  # fmt: skip


def main(folder: Path, kind: str, address: str, plan: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).replace(microsecond=0)
    draw = np.random.default_rng(1)
    names = [f"entity-{n}" for n in range(plan["entities"])]
    views, frames = [], []
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.STRING)
    for view, width in plan["views"].items():
        fields = [f"{view}_{place}" for place in range(width)]
        frame = pd.DataFrame({"entity": names, "at": pd.Timestamp(now - timedelta(hours=1))})
        for field in fields:
            frame[field] = draw.random(len(names))
        path = folder / f"{view}.parquet"
        frame.to_parquet(path)
        source = FileSource(path=str(path), timestamp_field="at")
        schema = [Field(name=field, dtype=Float64) for field in fields]
        views.append(FeatureView(name=view, entities=[entity], schema=schema, source=source, ttl=timedelta(days=1)))
        frames.append(frame)
    config = RepoConfig(
        project="falaj_bench", provider="local", registry=RegistryConfig(path=str(folder / "registry.db")),
        online_store=store_of(kind, address, folder), entity_key_serialization_version=3,
    )  # fmt: skip
    store = FeatureStore(config=config)
    store.apply([entity, *views])
    start = time.perf_counter()
    for view, frame in zip(views, frames, strict=True):
        store.write_to_online_store(view.name, frame)
    wrote = time.perf_counter() - start
    asked = [f"{view.name}:{field.name}" for view in views for field in view.schema if field.name != "entity"]
    times = []
    for n in range(plan["reads"] + 10):
        rows = [{"entity": names[place]} for place in draw.integers(0, len(names), plan["asked"])]
        start, used = time.perf_counter(), time.thread_time()
        answer = store.get_online_features(features=asked, entity_rows=rows)
        taken = time.perf_counter() - start, time.thread_time() - used
        if n == 0:
            values = answer.to_dict()
            assert all(value is not None for name in values for value in values[name])
        if n >= 10:  # the first ones open connections and fill caches
            times.append(taken)
    wall, cpu = (
        np.percentile(np.array(kind).reshape(plan["rounds"], -1), [50, 99], axis=1).min(axis=1) * 1e6
        for kind in zip(*times, strict=True)
    )
    rate = len(names) * len(views) / wrote
    return {"p50_us": wall[0], "p99_us": wall[1], "cpu_p99_us": cpu[1], "rows_per_s": rate, "reads": len(times)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))))
