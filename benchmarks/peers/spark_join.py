"""Spark's answers to joins as SQL, in local mode: `spark_join.py <folder>`, run in an environment with what spark.txt names.

Each folder in it has spine.parquet, rows.parquet and query.sql. Prints one JSON object: the version of Spark, and by the name
of the folder the rows of the answer: number of the row of the spine, microseconds of the time that was found, value.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession


def main(folder: Path) -> dict[str, object]:
    builder = SparkSession.builder.master("local[2]").config("spark.sql.session.timeZone", "UTC")
    spark = builder.config("spark.sql.shuffle.partitions", "2").config("spark.ui.enabled", "false").getOrCreate()
    answers = {}
    for case in sorted(folder.iterdir()):
        for name in ("spine", "rows"):
            spark.read.parquet(str(case / f"{name}.parquet")).createOrReplaceTempView(name)
        found = spark.sql((case / "query.sql").read_text()).selectExpr("row", "unix_micros(v__at)", "v__value")
        answers[case.name] = [list(row) for row in found.collect()]
    return {"spark": spark.version, "answers": answers}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
