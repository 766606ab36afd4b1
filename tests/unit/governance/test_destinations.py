"""Where an adapter would lead is read from its options, and what cannot be read leads nowhere that anything may go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters import ADAPTERS
from falaj.core.places import UNKNOWN, read_places
from falaj.stages.governance.residency.destinations import OWN, destinations, zone_of
from falaj.stages.governance.residency.registry import registry

KNOWN = registry()
PLACES = read_places(
    "127.0.0.2=difc,10.0.0.0/8=uae-onshore,*.ae.example=uae-onshore,eu.example=eu,s3://lake=uae-onshore,xy12=uae-onshore,"
    "adapter:online.acme=uae-onshore,/mnt/eu=eu",
    "uae-onshore", KNOWN.zone_of,
)  # fmt: skip
SECRETS = {"env:DB": b"postgresql://u:hush@db.ae.example:5432/x", "env:ELSE": b"postgresql://u:hush@eu.example/x"}


def zones(name: str, **options: Any) -> list[str]:
    port, _, scheme = name.partition(".")
    found = destinations(port, port, scheme, {"secret": SECRETS.get, **options})
    assert not any("hush" in f"{one.address} {one.problem}" for one in found)
    return [zone_of(one, PLACES, KNOWN)[0] for one in found]


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("blobs.file", {"folder": "/x"}, "uae-onshore"),
        ("blobs.file", {"folder": "/mnt/eu/x"}, "eu"),
        ("blobs.s3", {"uri": "s3://a/b", "region": "me-central-1"}, "uae-onshore"),
        ("blobs.s3", {"uri": "s3://a/b", "region": "me-south-1"}, "bahrain"),
        ("blobs.s3", {"uri": "s3://a/b", "region": "me-central-9"}, UNKNOWN),
        ("blobs.s3", {"uri": "s3://lake/b", "region": "me-central-9"}, "uae-onshore"),
        ("blobs.s3", {"uri": "s3://lake/b", "region": "me-south-1"}, UNKNOWN),
        ("blobs.s3", {"uri": "s3://a/b", "endpoint": "https://s.ae.example:9000", "region": "x"}, "uae-onshore"),
        ("blobs.s3", {"uri": "s3://lake/b", "endpoint": "https://eu.example", "region": "x"}, UNKNOWN),
        ("blobs.s3", {"uri": "s3://lake/b", "endpoint": "https://nobody.example", "region": "x"}, UNKNOWN),
        ("blobs.s3", {"uri": "file:///etc"}, UNKNOWN),
        ("online.redis", {"url": "redis://:hush@127.0.0.1:6379/0"}, "uae-onshore"),
        ("online.redis", {"url": "redis://127.0.0.2"}, "difc"),
        ("online.redis", {"url": "redis://2130706434/0"}, UNKNOWN),
        ("online.redis", {"url": "unix:///run/redis.sock?db=1"}, "uae-onshore"),
        ("online.redis", {"url": "env:NONE"}, UNKNOWN),
        ("online.acme", {"token": "x"}, "uae-onshore"),
        ("online.other", {"token": "x"}, UNKNOWN),
        ("stream.kafka", {"url": "kafka://10.0.0.1:9092,10.0.0.2:9092"}, "uae-onshore"),
        ("stream.kafka", {"url": "kafka://10.0.0.1:9092,eu.example:9092"}, UNKNOWN),
        ("source.postgres", {"url": "env:DB"}, "uae-onshore"),
        ("source.postgres", {"url": "env:ELSE"}, "eu"),
        ("source.postgres", {"url": "postgresql://10.0.0.1/x?host=eu.example"}, UNKNOWN),
        ("source.postgres", {"url": "postgresql://10.0.0.1/x?hostaddr=192.0.2.1"}, UNKNOWN),
        ("source.postgres", {"url": "postgresql:///x"}, UNKNOWN),
        ("source.postgres", {"url": "postgresql:///x?host=/var/run/postgresql"}, "uae-onshore"),
        ("source.postgres", {"url": "postgresql://u:p@eu.example@10.0.0.1/x"}, "uae-onshore"),
        ("source.postgres", {"url": "host=10.0.0.1"}, UNKNOWN),
        ("source.database", {"url": "sqlite:////data/x.db"}, "uae-onshore"),
        ("source.database", {"url": "mssql+pyodbc:///?odbc_connect=Server%3Deu"}, UNKNOWN),
        ("source.warehouse", {"url": "duckdb://x.ddb"}, "uae-onshore"),
        ("source.warehouse", {"url": "duckdb://md:x"}, UNKNOWN),
        ("source.warehouse", {"url": "duckdb:///md:x"}, UNKNOWN),
        ("source.warehouse", {"url": "snowflake://u:hush@xy12/db"}, "uae-onshore"),
        ("source.warehouse", {"url": "bigquery://project"}, UNKNOWN),
        ("source.delta", {"path": "lake/t"}, "uae-onshore"),
        ("source.delta", {"path": "s3://a/t", "region": "eu-central-1"}, "eu"),
        ("source.delta", {"path": "gs://a/t"}, UNKNOWN),
        ("source.stream", {"path": "log", "types": {}}, "uae-onshore"),
        ("source.stream", {"path": "t", "stream": "nats", "url": "env:ELSE"}, "eu"),
        ("source.iceberg", {"catalog": {"type": "sql", "uri": "sqlite:////c.db", "warehouse": "file:///w"}}, "uae-onshore"),
        ("source.iceberg", {"catalog": {"type": "in-memory", "warehouse": "/w"}}, "uae-onshore"),
        ("source.iceberg", {"catalog": {"type": "glue"}}, UNKNOWN),
        ("mirror.mlflow", {"tracking_uri": "sqlite:////x/mlflow.db"}, "uae-onshore"),
        ("mirror.mlflow", {"tracking_uri": "https://eu.example/mlflow"}, "eu"),
    ],
)  # fmt: skip
def test_an_adapter_leads_where_its_options_say(name: str, options: dict[str, Any], wanted: str) -> None:
    assert zones(name, **options) == [wanted]


def test_a_catalog_leads_to_its_store_too() -> None:
    catalog = {"type": "rest", "uri": "https://c.ae.example", "warehouse": "s3://lake/x", "s3.endpoint": "https://eu.example"}
    assert zones("source.iceberg", catalog=catalog) == ["uae-onshore", "eu"]
    catalog = {"type": "sql", "uri": "sqlite:////c.db", "warehouse": "s3://a/x", "s3.region": "me-south-1"}
    assert zones("source.iceberg", catalog=catalog) == ["uae-onshore", "bahrain"]


@pytest.mark.parametrize("name", sorted(set(ADAPTERS) - OWN - {"policy.roles"}))
def test_every_adapter_that_is_not_this_machines_own_needs_an_address(name: str) -> None:
    """A new adapter is foreign until somebody says in which option its address is."""
    assert zones(name) in ([UNKNOWN], ["uae-onshore"])
    if name not in ("source.stream", "source.delta"):
        assert zones(name) == [UNKNOWN]


@given(
    st.text(max_size=60),
    st.sampled_from(["online.redis", "source.database", "source.warehouse", "stream.kafka", "mirror.mlflow"]),
)
def test_any_address_at_all_is_read_or_leads_nowhere(url: str, name: str) -> None:
    for zone in zones(name, url=url):
        assert zone in {*KNOWN.zones, UNKNOWN}


@given(st.text(alphabet="/:@?,.=&[]%123abehost", max_size=40))
def test_no_spelling_leads_an_undeclared_host_home(rest: str) -> None:
    """Whatever stands around it, an address that nobody declared does not come out in a zone."""
    found = destinations("online", "online", "redis", {"url": f"redis://nobody.example,{rest}"})
    assert all(zone_of(one, PLACES, KNOWN)[0] == UNKNOWN for one in found)
