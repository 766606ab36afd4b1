"""Feast's historical features for the same spine and views as falaj's join.

`feast_join.py <folder> <duckdb|dask>`, run in an environment with what feast.txt names. Writes the answer to
`<folder>/feast_<store>.parquet` and prints one JSON object: cpu_s and peak_mb of this process, before the writing.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"  # it reports home otherwise
os.environ["FEAST_TELEMETRY"] = "False"

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.repo_config import RegistryConfig
from feast.types import Float64
from feast.value_type import ValueType

TTLS = (timedelta(days=7), None, timedelta(days=3))


def main(folder: Path, store: str) -> dict[str, float]:
    spine = pd.read_parquet(folder / "spine.parquet").dropna(subset=["entity"]).rename(columns={"t": "event_timestamp"})
    spine["entity"] = spine["entity"].astype("int64")  # Feast takes no null keys: without those rows
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
    views, wanted = [], []
    for view, ttl in enumerate(TTLS):
        created = "created" if view == 2 else ""
        path = str(folder / f"view{view}.parquet")
        source = FileSource(name=f"s{view}", path=path, timestamp_field=f"at{view}", created_timestamp_column=created)
        fields = [Field(name=f"v{view}_f{n}", dtype=Float64) for n in range(7)]
        views.append(FeatureView(name=f"view{view}", entities=[entity], schema=fields, source=source, ttl=ttl))
        wanted += [f"view{view}:{field.name}" for field in fields]
    with tempfile.TemporaryDirectory() as own:
        config = RepoConfig(
            project="falaj_bench", provider="local", registry=RegistryConfig(path=f"{own}/registry.db"),
            offline_store={"type": store}, online_store={"type": "sqlite", "path": f"{own}/online.db"},
            entity_key_serialization_version=3,
        )  # fmt: skip
        feast = FeatureStore(config=config)
        feast.apply([entity, *views])
        answer = feast.get_historical_features(entity_df=spine, features=wanted).to_arrow()
    used = resource.getrusage(resource.RUSAGE_SELF)
    peaks = [text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM:")]
    pq.write_table(
        answer.set_column(answer.schema.get_field_index("row"), "row", answer["row"].cast(pa.int64())),
        folder / f"feast_{store}.parquet",
    )
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": int(peaks[0].split()[1]) * 1024 / 1_000_000}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
