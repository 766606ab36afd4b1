"""Lake tables, warehouses, stores and streams as sources: what is asked of them, and which state they are read in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import polars as pl
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog import load_catalog

import falaj
from falaj.adapters import open_adapter
from falaj.adapters.local.stream import FileStream
from falaj.adapters.s3.source import _pattern
from falaj.adapters.warehouse.source import WarehouseSource
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.message import Message
from falaj.ports.stream import Stream
from falaj.stages.contracts.spec import From
from tests.kits.servers import S3

SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


def opened(source: From, folder: Path) -> Any:
    """As a load opens it."""
    return open_adapter("source", source.scheme, folder=folder, secret=lambda _: b"hunter2", **source.options)


def test_a_delta_table_is_read_as_it_was(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    for id_ in (1, 2):
        write_deltalake(tmp_path / "t", pl.DataFrame({"id": [id_]}).to_arrow(), mode="append")
    assert pl.concat(opened(falaj.delta("t"), tmp_path).read(None, UNTIL))["id"].sort().to_list() == [1, 2]
    assert pl.concat(opened(falaj.delta("t", version=0), tmp_path).read(None, UNTIL))["id"].to_list() == [1]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert pl.concat(opened(falaj.delta("t", at=later), tmp_path).read(None, UNTIL)).height == 2
    for source in (falaj.delta("t", version=9), falaj.delta("t", at=before.isoformat())):
        with pytest.raises(NotFound):
            list(opened(source, tmp_path).read(None, UNTIL))


def test_a_delta_table_that_is_damaged_or_outside_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pl.DataFrame({"id": [1]}).to_arrow())
    [part] = (tmp_path / "t").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InvalidInput):
        list(opened(falaj.delta("t"), tmp_path).read(None, UNTIL))
    part.unlink()
    with pytest.raises(FalajError):
        list(opened(falaj.delta("t"), tmp_path).read(None, UNTIL))
    for path in ("../t", str(tmp_path / "t")):
        with pytest.raises(InvalidInput, match="outside"):
            opened(falaj.delta(path), tmp_path / "project")


def test_a_delta_table_in_a_store_is_read(s3: S3, tmp_path: Path) -> None:
    import boto3

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    boto3.client("s3", endpoint_url=s3.endpoint, region_name=s3.region, **keys).create_bucket(Bucket="lake-delta")
    options = {"aws_endpoint_url": s3.endpoint, "aws_region": s3.region, "aws_allow_http": "true", "aws_conditional_put": "etag"}
    write_deltalake("s3://lake-delta/t", pl.DataFrame({"id": [1]}).to_arrow(), storage_options=options | keys)
    source = falaj.delta("s3://lake-delta/t", endpoint=s3.endpoint, key="env:K", key_secret="env:S")
    assert pl.concat(opened(source, tmp_path).read(None, UNTIL)).rows() == [(1,)]


def test_an_iceberg_table_is_read_as_it_was(tmp_path: Path) -> None:
    place = {"type": "sql", "uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}"}
    catalog = load_catalog("falaj", **place)
    catalog.create_namespace("air")
    data = pl.DataFrame({"id": [1], "known": [datetime(2026, 1, 2)]}).to_arrow()
    table = catalog.create_table("air.t", schema=data.schema)
    table.append(data)
    table.append(data)
    first = table.snapshots()[0].snapshot_id
    catalog.close()
    given = {"type": "sql", "uri": "sqlite:///{folder}/c.db", "warehouse": "file://{folder}"}

    def height(**options: Any) -> int:
        return pl.concat(opened(falaj.iceberg("air.t", given, **options), tmp_path).read(None, UNTIL)).height

    assert height() == 2
    assert height(snapshot=first) == 1
    assert height(known="known") == 2  # a time without a zone is meant in UTC
    assert height(at="2100-01-01T00:00:00Z") == 2
    for options in ({"snapshot": 5}, {"at": "2020-01-01T00:00:00Z"}):
        with pytest.raises(NotFound):
            height(**options)
    for options in ({"known": "id"}, {"columns": ("nix",)}, {"snapshot": 1, "at": "2020-01-01T00:00:00Z"}):
        with pytest.raises(InvalidInput):
            height(**options)


def test_a_catalog_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    source = falaj.iceberg("air.t", {"type": "rest", "uri": "http://127.0.0.1:1/"})
    with pytest.raises(Unavailable):
        list(opened(source, tmp_path).read(None, UNTIL))


COLUMNS = {"from": "string", "kn own": "timestamp('UTC')", "left": "timestamp", "u": "uuid"}
TABLE = ibis.table(COLUMNS, name="trips", catalog="c", database="s")
ASKED = {
    # what each warehouse is sent, but for white space
    "snowflake": """SELECT "t0"."kn own", "t0"."from", CAST("t0"."u" AS VARCHAR) AS "u" FROM "c"."s"."trips" AS "t0"
        WHERE "t0"."kn own" <= TIMESTAMP_TZ_FROM_PARTS(2026, 2, 1, 0, 0, 0, 0, 'UTC')
        AND "t0"."kn own" > TIMESTAMP_TZ_FROM_PARTS(2026, 1, 1, 0, 0, 0, 0, 'UTC') ORDER BY "t0"."kn own" ASC, "t0"."from" ASC""",
    "bigquery": """SELECT `t0`.`kn own`, `t0`.`from`, CAST(`t0`.`u` AS STRING) AS `u` FROM `c`.`s`.`trips` AS `t0`
        WHERE `t0`.`kn own` <= TIMESTAMP('2026-02-01T00:00:00+00:00') AND `t0`.`kn own` > TIMESTAMP('2026-01-01T00:00:00+00:00')
        ORDER BY `t0`.`kn own` ASC NULLS LAST, `t0`.`from` ASC NULLS LAST""",
    "trino": """SELECT "t0"."kn own", "t0"."from", CAST("t0"."u" AS VARCHAR) AS "u" FROM "c"."s"."trips" AS "t0"
        WHERE "t0"."kn own" <= CAST(FROM_ISO8601_TIMESTAMP('2026-02-01T00:00:00+00:00') AS TIMESTAMP WITH TIME ZONE)
        AND "t0"."kn own" > CAST(FROM_ISO8601_TIMESTAMP('2026-01-01T00:00:00+00:00') AS TIMESTAMP WITH TIME ZONE)
        ORDER BY "t0"."kn own" ASC, "t0"."from" ASC""",
}


@pytest.mark.parametrize("dialect", sorted(ASKED))
def test_a_warehouse_is_asked_for_the_period_the_columns_and_the_order_in_quotes(dialect: str) -> None:
    address = f"{dialect}://u:hunter2@host/c/s".encode()
    source = WarehouseSource(
        url="env:URL", secret=lambda _: address, table="trips", known="kn own", order=("from",), columns=("kn own", "from", "u")
    )
    assert "hunter2" not in str(source.origin)
    sent = ibis.to_sql(source.asked(TABLE, SINCE, UNTIL), dialect=dialect)
    assert _words(sent) == _words(ASKED[dialect])


@pytest.mark.parametrize("dialect", ["snowflake", "bigquery", "trino", "duckdb"])
def test_a_time_without_a_zone_is_compared_with_one_without(dialect: str) -> None:
    source = WarehouseSource(url="env:URL", secret=lambda _: b"trino://h/c", table="trips", known="left")
    sent = _words(ibis.to_sql(source.asked(TABLE, None, UNTIL), dialect=dialect))
    assert "2026-02-01T00:00:00+00:00" not in sent
    assert "UTC" not in sent
    assert "ORDER BY" in sent


def test_a_warehouse_without_its_driver_says_what_is_missing(tmp_path: Path) -> None:
    for url in (b"snowflake://u:hunter2@account/db/schema", b"nonsense hunter2", b"nosuch://u:hunter2@host/db"):
        with pytest.raises(FalajError) as told:
            list(open_adapter("source", "warehouse", url="env:URL", secret=lambda _, url=url: url, table="t").read(None, UNTIL))
        assert "hunter2" not in f"{told.value} {told.value.facts}"


def _words(sql: str) -> str:
    return " ".join(sql.split()).replace("( ", "(").replace(" )", ")")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("in/*.csv", ("in/a.csv",), ("in/x/a.csv", "in/a.csvx", "in/axcsv")),
        ("in/**/*.csv", ("in/a.csv", "in/x/y/a.csv"), ("out/a.csv",)),
        ("in/2026-??/x[1].csv", ("in/2026-01/x[1].csv",), ("in/2026-1/x[1].csv", "in/2026-01/x1.csv")),
    ],
)
def test_a_pattern_of_a_store_chooses_keys(pattern: str, yes: tuple[str, ...], no: tuple[str, ...]) -> None:
    import re

    chosen = re.compile(_pattern(pattern)).fullmatch
    assert [key for key in (*yes, *no) if chosen(key)] == list(yes)


def test_objects_of_a_store_are_chosen_by_prefix_pattern_and_name(s3: S3, tmp_path: Path) -> None:
    import boto3

    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    client = boto3.client("s3", endpoint_url=s3.endpoint, region_name=s3.region, **keys)
    client.create_bucket(Bucket="lake-names")
    for key in ("in/a.csv", "in/b.csv", "in/deep/c.csv", "in/_SUCCESS", "in/.draft.csv", "inside.csv", "in/d.csv"):
        client.put_object(Bucket="lake-names", Key=key, Body=f"key\n{key}\n".encode())

    def read(path: str, **options: Any) -> list[str]:
        source = falaj.s3(f"s3://lake-names/{path}", endpoint=s3.endpoint, key="env:K", key_secret="env:S", **options)
        return pl.concat(opened(source, tmp_path).read(None, datetime(2100, 1, 1, tzinfo=UTC)))["key"].to_list()

    assert read("in") == ["in/a.csv", "in/b.csv", "in/d.csv"]
    assert read("in/b.csv") == ["in/b.csv"]
    assert read("in/**/*.csv", arrived="at") == ["in/a.csv", "in/b.csv", "in/d.csv", "in/deep/c.csv"]
    assert read("in*.csv") == ["inside.csv"]
    with pytest.raises(NotFound):
        read("nothing")


def test_records_of_a_stream_become_columns(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    records = [{"at": "2026-01-02T00:00:00Z", "inputs": {"miles": n}, "id": f"r{n}", "more": 1} for n in range(3)]
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in [*records, {"at": "2026-03-01T00:00:00Z"}])
    (tmp_path / "log" / "000000.jsonl").write_bytes(lines + b'{"at": "2026-01-03T')
    source = falaj.stream("log", {"id": "string", "inputs.miles": "number", "at": "timestamp"}, known="at")
    found = pl.concat(opened(source, tmp_path).read(SINCE, UNTIL))
    assert found.drop("at").rows() == [("r0", 0.0), ("r1", 1.0), ("r2", 2.0)]
    with pytest.raises(InvalidInput, match=r"record 0 of segment 0, column 'id'"):
        list(opened(falaj.stream("log", {"id": "integer"}), tmp_path).read(None, UNTIL))
    with pytest.raises(InvalidInput, match="outside"):
        opened(falaj.stream("../log", {"id": "string"}), tmp_path / "log")


def test_a_source_is_checked_where_it_is_declared() -> None:
    assert falaj.files("data/*.csv", known="at") == From("files", {"path": "data/*.csv", "known": "at"})
    with pytest.raises(NotFound, match="knwon"):
        falaj.files("x.csv", knwon="at")  # type: ignore[call-arg]
    for make in (falaj.postgres, falaj.database, falaj.warehouse):
        with pytest.raises(InvalidInput, match="no reference") as told:
            make("postgresql://u:hunter2@h/db", table="t")
        assert "hunter2" not in str(told.value)


def _messages(stream: Stream) -> None:
    stream.produce([Message(json.dumps({"id": f"r{n}", "inputs": {"miles": n}}).encode(), "k", id=f"m{n}") for n in range(3)])
    stream.close()


TYPES_OF_MESSAGES = {
    "id": "string",
    "inputs.miles": "number",
    "_key": "string",
    "_id": "string",
    "_position": "string",
    "_at": "timestamp",
}


def test_messages_of_an_embedded_stream_become_columns(tmp_path: Path) -> None:
    _messages(FileStream(tmp_path / "streams", "requests"))
    source = falaj.stream("streams/requests", TYPES_OF_MESSAGES, stream="messages", known="_at")
    found = pl.concat(opened(source, tmp_path).read(None, datetime.now(UTC)))
    assert found.drop("_at").rows() == [(f"r{n}", float(n), "k", f"m{n}", str(n)) for n in range(3)]
    assert found["_at"].null_count() == 0
    FileStream(tmp_path / "streams", "requests").produce([Message(b"no json")])
    with pytest.raises(InvalidInput, match="message 3 is no JSON"):
        list(opened(source, tmp_path).read(None, datetime.now(UTC)))
    with pytest.raises(InvalidInput, match="outside"):
        opened(falaj.stream("../streams", {"id": "string"}, stream="messages"), tmp_path / "streams")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["redis", "nats", "kafka"])
def test_messages_of_a_broker_become_columns(scheme: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{scheme}_url")
    _messages(open_adapter("stream", scheme, url=url, name="rows"))
    source = falaj.stream("rows", {"id": "string", "_id": "string"}, stream=scheme, url="env:WHERE")
    for _ in range(2):  # nobody's place is moved
        read = open_adapter("source", "stream", folder=tmp_path, secret=lambda _: url.encode(), **source.options)
        assert pl.concat(read.read(None, UNTIL)).rows() == [(f"r{n}", f"m{n}") for n in range(3)]
        assert (read.origin.namespace, read.origin.name) == (f"{scheme}://{url.partition('//')[2].partition('/')[0]}", "rows")


def test_the_address_of_a_stream_is_a_reference() -> None:
    with pytest.raises(InvalidInput, match="no reference"):
        falaj.stream("rows", {"id": "string"}, stream="kafka", url="kafka://user:hush@host:9092")
