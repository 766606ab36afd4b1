"""Twenty expectations of Great Expectations over a Parquet file, in memory with pandas: its fastest engine for one machine.

python gx_checks.py FILE
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
import great_expectations.expectations as e
import pandas as pd

ZONES, PAYMENTS = [f"zone {n:02d}" for n in range(40)], ["card", "cash", "free"]


def expectations() -> list[Any]:
    """The same twenty as the contract of benchmarks/contracts.py, one for one."""
    there = [e.ExpectColumnValuesToNotBeNull(column=name) for name in ("id", "at", "zone", "miles")]
    floors = [e.ExpectColumnValuesToBeBetween(column=name, min_value=0) for name in ("miles", "seats", "fare")]
    limits = {"miles": 500, "seats": 9, "fare": 1000}
    ceilings = [e.ExpectColumnValuesToBeBetween(column=name, max_value=most) for name, most in limits.items()]
    return [
        *there, *floors, *ceilings,
        e.ExpectColumnValuesToBeUnique(column="id"),
        e.ExpectColumnValuesToBeInSet(column="zone", value_set=ZONES),
        e.ExpectColumnValuesToBeInSet(column="payment", value_set=PAYMENTS),
        e.ExpectColumnValuesToMatchRegex(column="plate", regex="^[A-Z]{2}[0-9]{4}$"),
        e.ExpectColumnValueLengthsToBeBetween(column="plate", max_value=6),
        e.ExpectColumnPairValuesAToBeGreaterThanB(column_A="known_at", column_B="at", or_equal=True),
        e.ExpectColumnPairValuesAToBeGreaterThanB(column_A="fare", column_B="tip", or_equal=True),
        e.ExpectColumnMeanToBeBetween(column="miles", min_value=1, max_value=100),
        e.ExpectColumnMaxToBeBetween(column="fare", max_value=5000),
        e.ExpectTableRowCountToBeBetween(min_value=1),
    ]  # fmt: skip


def main(file: str) -> None:
    frame = pd.read_parquet(file)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("trips")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    took: dict[str, float] = {}
    naming = {"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]}
    for name, form in (("boolean", "BOOLEAN_ONLY"), ("complete", naming)):
        suite = gx.ExpectationSuite(name=name, expectations=expectations())
        cpu = time.process_time()
        found = batch.validate(suite, result_format=form)
        took[name] = time.process_time() - cpu
    told = {
        "rows": len(frame),
        "checks": len(found.results),
        "passed": sum(bool(each.success) for each in found.results),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": gx.__version__,
    }
    print(json.dumps({**took, **told}))


if __name__ == "__main__":
    main(sys.argv[1])
