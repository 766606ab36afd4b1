"""falaj's own sources keep the contract of the port, each on the real thing that it reads."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from falaj.adapters import open_adapter
from falaj.adapters.tabular.columns import PIECE_ROWS
from falaj.core.errors import Denied, FalajError, InvalidInput, Unavailable
from falaj.ports.source import Source
from falaj.testing.source import END, SourceSuite, many, rows
from tests.kits.servers import S3, free_port, s3_server

TYPES = {"id": "integer", "known": "timestamp", "name": "string", "miles": "number", "late": "boolean", "day": "date"}
_numbers = itertools.count()


def secret(reference: str) -> bytes:
    """As the app resolves references."""
    return os.environ[reference.removeprefix("env:")].encode()


def as_csv(frame: pl.DataFrame) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(frame.columns)
    for row in frame.iter_rows():
        writer.writerow(["" if cell is None else cell.isoformat() if hasattr(cell, "isoformat") else cell for cell in row])
    return text.getvalue().encode()


def as_jsonl(frame: pl.DataFrame) -> bytes:
    return b"".join(
        json.dumps(row, default=lambda cell: cell.isoformat()).encode() + b"\n" for row in frame.iter_rows(named=True)
    )


def as_parquet(frame: pl.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.write_parquet(data)
    return data.getvalue()


class OnFiles(SourceSuite):
    """Two files in one folder, in the order of their names."""

    ending = ""
    options: dict[str, Any] = {}  # noqa: RUF012  # never changed

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def write(self, frame: pl.DataFrame) -> bytes:
        raise NotImplementedError

    def source(self, rows: pl.DataFrame) -> Source:
        (self.folder / "data").mkdir(exist_ok=True)
        half = rows.height // 2
        (self.folder / "data" / f"a{self.ending}").write_bytes(self.write(rows[:half]))
        (self.folder / "data" / f"b{self.ending}").write_bytes(self.write(rows[half:]))
        return self._open("data")

    def nowhere(self) -> Source:
        return self._open("nowhere")

    def stop(self) -> None:
        """Somebody writes on in a file that is being read."""
        with (self.folder / "data" / f"b{self.ending}").open("ab") as file:
            file.write(b"\n")
        with (self.folder / "data" / f"a{self.ending}").open("ab") as file:
            file.write(b"\n")

    def _open(self, path: str) -> Source:
        source: Source = open_adapter("source", "files", folder=self.folder, path=path, known="known", **self.options)
        return source


class TestCsvFiles(OnFiles):
    __test__ = True
    ending, options = ".csv", {"types": TYPES}

    def write(self, frame: pl.DataFrame) -> bytes:
        return as_csv(frame)


class TestPackedCsvFiles(OnFiles):
    __test__ = True
    ending, options = ".csv.gz", {"types": TYPES}

    def write(self, frame: pl.DataFrame) -> bytes:
        return gzip.compress(as_csv(frame), 1)


class TestJsonLines(OnFiles):
    __test__ = True
    ending, options = ".jsonl", {"types": TYPES}

    def write(self, frame: pl.DataFrame) -> bytes:
        return as_jsonl(frame)


class TestParquetFiles(OnFiles):
    __test__ = True
    ending = ".parquet"

    def write(self, frame: pl.DataFrame) -> bytes:
        return as_parquet(frame)


class OnS3(SourceSuite):
    secrets = ("s3-hunter2-secret",)
    ending = ""
    options: dict[str, Any] = {}  # noqa: RUF012  # never changed

    @pytest.fixture(autouse=True)
    def _server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("TEST_KEY", "test")
        monkeypatch.setenv("TEST_SECRET", "s3-hunter2-secret")
        self.running = s3_server()
        self.server = self.running.__enter__()
        yield
        if self.running is not None:
            self.running.__exit__(None, None, None)

    def write(self, frame: pl.DataFrame) -> bytes:
        raise NotImplementedError

    def source(self, rows: pl.DataFrame) -> Source:
        client = bucket_client(self.server)
        self.bucket = f"lake-{next(_numbers)}"  # every moto server of a process shares its state
        client.create_bucket(Bucket=self.bucket)
        half = rows.height // 2
        client.put_object(Bucket=self.bucket, Key=f"in/a{self.ending}", Body=self.write(rows[:half]))
        client.put_object(Bucket=self.bucket, Key=f"in/b{self.ending}", Body=self.write(rows[half:]))
        return self._open(f"s3://{self.bucket}/in")

    def nowhere(self) -> Source:
        return self._open("s3://nolake/in")

    def stop(self) -> None:
        assert self.running is not None
        self.running.__exit__(None, None, None)
        self.running = None

    def _open(self, path: str) -> Source:
        source: Source = open_adapter(
            "source", "s3", folder=None, secret=secret, path=path, known="known", endpoint=self.server.endpoint,
            key="env:TEST_KEY", key_secret="env:TEST_SECRET", timeout_s=3.0, **self.options,
        )  # fmt: skip
        return source


class TestCsvOnS3(OnS3):
    __test__ = True
    ending, options = ".csv", {"types": TYPES}

    def write(self, frame: pl.DataFrame) -> bytes:
        return as_csv(frame)


class TestParquetOnS3(OnS3):
    __test__ = True
    ending = ".parquet"

    def write(self, frame: pl.DataFrame) -> bytes:
        return as_parquet(frame)


def bucket_client(server: S3) -> Any:
    import boto3

    keys = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret}
    return boto3.client("s3", endpoint_url=server.endpoint, region_name=server.region, **keys)


class TestDelta(SourceSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def source(self, rows: pl.DataFrame) -> Source:
        from deltalake import write_deltalake

        half = rows.height // 2
        write_deltalake(self.folder / "trips", rows[:half].to_arrow())
        write_deltalake(self.folder / "trips", rows[half:].to_arrow(), mode="append")
        return self._open("trips")

    def nowhere(self) -> Source:
        return self._open("nowhere")

    def _open(self, path: str) -> Source:
        source: Source = open_adapter("source", "delta", folder=self.folder, path=path, known="known")
        return source


class TestIceberg(SourceSuite):
    __test__ = True
    secrets = ("iceberg-hunter2",)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path
        monkeypatch.setenv("TEST_CREDENTIAL", "iceberg-hunter2")
        (tmp_path / "lake").mkdir()
        self.catalog = {"type": "sql", "uri": "sqlite:///{folder}/catalog.db", "warehouse": "file://{folder}/lake"}

    def source(self, rows: pl.DataFrame) -> Source:
        from pyiceberg.catalog import load_catalog

        catalog = load_catalog("falaj", **{k: v.replace("{folder}", str(self.folder)) for k, v in self.catalog.items()})
        catalog.create_namespace_if_not_exists("air")
        table = catalog.create_table("air.trips", schema=rows.to_arrow().schema)
        half = rows.height // 2
        table.append(rows[:half].to_arrow())
        table.append(rows[half:].to_arrow())
        catalog.close()
        return self._open("air.trips")

    def nowhere(self) -> Source:
        return self._open("air.nowhere")

    def _open(self, table: str) -> Source:
        source: Source = open_adapter(
            "source", "iceberg", folder=self.folder, secret=secret, table=table, catalog=self.catalog, known="known",
            secrets={"credential": "env:TEST_CREDENTIAL"},
        )  # fmt: skip
        return source


class OnPostgres(SourceSuite):
    secrets = ("pg-hunter2",)
    scheme = ""

    @pytest.fixture(autouse=True)
    def _server(self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plain = postgresql_url
        self.table = f'trips {next(_numbers)} of "{self.scheme}"'
        monkeypatch.setenv("TEST_URL", self.address(postgresql_url.replace("falaj@", "falaj:pg-hunter2@")))

    def address(self, url: str) -> str:
        return url

    def source(self, rows: pl.DataFrame) -> Source:
        import adbc_driver_postgresql.dbapi

        with adbc_driver_postgresql.dbapi.connect(self.plain) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(self.table, rows.to_arrow(), mode="create")
            connection.commit()
        return self._open(self.table)

    def nowhere(self) -> Source:
        return self._open("nowhere")

    def stop(self) -> None:
        import adbc_driver_postgresql.dbapi

        with adbc_driver_postgresql.dbapi.connect(self.plain, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
            )
            cursor.fetchall()

    def _open(self, table: str, url: str = "env:TEST_URL", **options: Any) -> Source:
        given = {"known": "known", "order": ("id",)} | options
        source: Source = open_adapter("source", self.scheme, folder=None, secret=secret, url=url, table=table, **given)
        return source

    @pytest.mark.parametrize("database", ["postgres", "nodatabase"])
    def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address = self.address(f"postgresql://falaj:pg-hunter2@127.0.0.1:{free_port()}/{database}")
        monkeypatch.setenv("TEST_DEAD", address)
        with pytest.raises(Unavailable) as told:
            list(self._open("trips", "env:TEST_DEAD").read(None, END))
        self._says_no_secret(told.value)

    @pytest.mark.parametrize(
        "url", ["nonsense pg-hunter2", "postgresql://u:pg-hunter2%zz@[x", "postgresql://u:pg-hunter2@h:port/x"]
    )
    def test_an_address_that_is_none_is_refused_without_showing_it(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DEAD", url)
        with pytest.raises(FalajError) as told:
            list(self._open("trips", "env:TEST_DEAD").read(None, END))
        self._says_no_secret(told.value)

    def test_a_user_who_does_not_exist_is_denied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DEAD", self.address(self.plain.replace("falaj@", "nobody:pg-hunter2@")))
        with pytest.raises(Denied) as told:
            list(self._open("trips", "env:TEST_DEAD").read(None, END))
        self._says_no_secret(told.value)

    def test_a_secret_that_is_no_reference_is_refused_without_showing_it(self) -> None:
        with pytest.raises(InvalidInput) as told:
            self._open("trips", "postgresql://falaj:pg-hunter2@127.0.0.1/x")
        self._says_no_secret(told.value)

    def test_a_column_that_is_not_there_is_named(self) -> None:
        self.source(rows())
        for options in ({"known": "knows"}, {"order": ("nix",)}, {"columns": ("known", "nix")}, {"types": {"nix": "number"}}):
            with pytest.raises(InvalidInput, match=r"knows|nix"):
                list(self._open(self.table, **options).read(None, END))


class TestPostgres(OnPostgres):
    __test__ = True
    scheme = "postgres"

    def test_a_query_reads_and_never_writes(self) -> None:
        self.source(rows())
        name = self.table.replace('"', '""')
        asked = f'SELECT id, known, miles / 2 AS "half" FROM "{name}" WHERE late;'
        source = open_adapter("source", "postgres", secret=secret, url="env:TEST_URL", query=asked, known="known", order=("id",))
        assert pl.concat(source.read(None, END)).columns == ["id", "known", "half"]
        wrong = [
            f'DELETE FROM "{name}" RETURNING *',
            "SELECT 1 AS id; DROP TABLE x",
            "SELECT nix",
            "SELECT 1/0 AS id",
            "SELECT (",
        ]
        for query in (*wrong, f'SELECT miles * 2 AS twice FROM "{name}"'):
            with pytest.raises(InvalidInput):
                list(open_adapter("source", "postgres", secret=secret, url="env:TEST_URL", query=query).read(None, END))
        assert pl.concat(source.read(None, END)).height == 3

    def test_what_arrow_lacks_comes_as_the_text_that_the_server_writes(self) -> None:
        query = (
            "SELECT 12345678901234567890.10::numeric AS n, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS u, "
            """'{"a": 1}'::jsonb AS j, interval '1 day' AS i, ARRAY[1, 2] AS l"""
        )
        [piece] = list(open_adapter("source", "postgres", secret=secret, url="env:TEST_URL", query=query).read(None, END))
        assert piece.rows() == [("12345678901234567890.10", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", '{"a": 1}', "1 day", [1, 2])]
        source = open_adapter("source", "postgres", secret=secret, url="env:TEST_URL", query=query, types={"n": "number"})
        [piece] = list(source.read(None, END))
        assert piece["n"].to_list() == [12345678901234567890.1]


class TestDatabaseOnPostgres(OnPostgres):
    __test__ = True
    scheme = "database"

    def address(self, url: str) -> str:
        return url.replace("postgresql://", "postgresql+pg8000://")

    def test_a_query_names_its_types(self) -> None:
        options = {"secret": secret, "url": "env:TEST_URL", "query": "SELECT 1 AS id, timestamptz '2026-01-01T00:00:00Z' AS at;"}
        source = open_adapter("source", "database", **options, types={"id": "integer", "at": "timestamp"}, known="at")
        assert [piece.height for piece in source.read(None, END)] == [1]
        with pytest.raises(InvalidInput, match="type of each"):
            open_adapter("source", "database", **options)


class TestSqlite(SourceSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = tmp_path / "shop.db"
        monkeypatch.setenv("TEST_URL", f"sqlite:///{self.file}")

    def source(self, rows: pl.DataFrame) -> Source:
        with sqlite3.connect(self.file) as connection:
            connection.execute("CREATE TABLE trips (id BIGINT, known DATETIME, name TEXT, miles FLOAT, late BOOLEAN, day DATE)")
            texts = rows.with_columns(pl.col("known").dt.strftime("%Y-%m-%d %H:%M:%S%.6f"), pl.col("day").cast(pl.String))
            connection.executemany("INSERT INTO trips VALUES (?, ?, ?, ?, ?, ?)", texts.iter_rows())
        connection.close()
        return self._open("trips")

    def nowhere(self) -> Source:
        self.source(rows())
        return self._open("nowhere")

    def _open(self, table: str, **options: Any) -> Source:
        given = {"known": "known", "order": ("id",)} | options
        source: Source = open_adapter("source", "database", folder=None, secret=secret, url="env:TEST_URL", table=table, **given)
        return source

    def test_a_database_that_is_not_there_is_not_made(self) -> None:
        with pytest.raises(FalajError, match="no database"):
            list(self._open("trips").read(None, END))
        assert not self.file.exists()

    def test_a_value_that_is_not_of_its_columns_type_is_told(self) -> None:
        source = self.source(rows())
        with sqlite3.connect(self.file) as connection:
            connection.execute("UPDATE trips SET id = 'seven' WHERE id = 7")
        connection.close()
        with pytest.raises(InvalidInput, match="'id'"):
            list(source.read(None, END))


class TestDuckDbThroughIbis(SourceSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = tmp_path / "house.duckdb"
        monkeypatch.setenv("TEST_URL", f"duckdb://{self.file}")

    def source(self, rows: pl.DataFrame) -> Source:
        import duckdb

        with duckdb.connect(self.file) as connection:
            connection.register("given", rows.to_arrow())
            connection.execute("SET TimeZone = 'Asia/Dubai'; CREATE TABLE trips AS SELECT * FROM given")
        return self._open("trips")

    def nowhere(self) -> Source:
        self.source(rows())
        return self._open("nowhere")

    def _open(self, table: str) -> Source:
        source: Source = open_adapter(
            "source", "warehouse", folder=None, secret=secret, url="env:TEST_URL", table=table, known="known", order=("id",)
        )
        return source


class TestSegments(SourceSuite):
    """The embedded stream, written as an inference server writes its log."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def source(self, rows: pl.DataFrame) -> Source:
        place = self.folder / "segments"
        place.mkdir()
        half = rows.height // 2
        (place / "000000.jsonl").write_bytes(as_jsonl(rows[:half]))
        (place / "000001.jsonl").write_bytes(as_jsonl(rows[half:]))
        source: Source = open_adapter(
            "source", "stream", folder=self.folder, secret=secret, path="segments", known="known",
            types=TYPES,
        )  # fmt: skip
        return source

    def nowhere(self) -> Source:
        pytest.skip("a stream that nobody wrote to is empty, and no error")


def test_the_suite_has_rows_enough_for_more_than_one_piece() -> None:
    assert many().height > PIECE_ROWS
