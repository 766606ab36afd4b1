"""A Feast repository becomes a module of falaj: read as text, never run, and nothing lost without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.adapters.feast.importer import Imported, Target, import_feast, write
from falaj.adapters.feast.reading import Repository, read_module
from falaj.cli.main import main
from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.contracts import odcs
from falaj.stages.contracts.spec import From

REPOSITORY = """
from datetime import timedelta
import feast
from feast import Entity, FeatureService, FeatureView as FV, Field, FileSource, PushSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float32, Float64, Int64, String
from elsewhere import PATH

open("/tmp/this-was-run", "w").write("it was run")
DAYS = 7
driver = Entity(name="driver", join_keys=["driver_id"], description="Who drives.", owner="fleet")
customer = Entity(name="customer")
pair = Entity(name="pair", join_keys=["driver_id", "customer_id"])
stats = FileSource(
    name="Driver Stats", path="data/stats.parquet", timestamp_field="event_timestamp", created_timestamp_column="created")
rides = feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source.PostgreSQLSource(
    name="rides", table="rides", timestamp_field="at")
pushed = PushSource(name="pushed", batch_source=stats)
asked = RequestSource(name="asked", schema=[Field(name="fare", dtype=Float64)])

driver_hourly = FV(
    name="driver_hourly", entities=[driver], ttl=timedelta(days=DAYS), source=stats, tags={"team": "fleet"}, owner="fleet",
    description="How a driver has been doing.",
    schema=[Field(name="driver_id", dtype=Int64), Field(name="rate", dtype=Float32), Field(name="trips", dtype=Int64),
            Field(name="photo", dtype=Array(Float32))],
)
fresh = [Field(name="rate", dtype=Float32)]
driver_fresh = FV(name="driver_fresh", entities=[driver], source=pushed, ttl=timedelta(hours=2), schema=fresh)
customer_rides = FV(name="customer_rides", entities=["customer"], source=rides, schema=[Field(name="rides", dtype=Int64)])
of_both = FV(name="of_both", entities=[pair], source=stats, schema=[Field(name="rate", dtype=Float32)])
hidden = FV(name="hidden", entities=[driver], source=make(PATH), schema=[Field(name="rate", dtype=Float32)])
words_only = FV(name="words_only", entities=[driver], source=stats, schema=[Field(name="photo", dtype=Array(String))])
if True:
    late = FV(name="late", entities=[driver], source=stats, schema=[])

@on_demand_feature_view(sources=[driver_hourly, asked], schema=[Field(name="sum", dtype=Float64)])
def summed(inputs):
    return inputs

v1 = FeatureService(name="v1", features=[driver_hourly[["rate", "photo"]], customer_rides, summed])
"""
SETTINGS = """
project: shop
registry: data/registry.db
provider: local
online_store: {type: redis, connection_string: "redis:6379,password=geheim"}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "feast"
    (folder / ".venv").mkdir(parents=True)
    (folder / ".venv" / "other.py").write_text("this is no Python")
    (folder / "features.py").write_text(REPOSITORY)
    (folder / "broken.py").write_text("def (")
    (folder / "feature_store.yaml").write_text(SETTINGS)
    return folder


def run(made: Imported) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(made.module, names)
    return names


def test_entities_views_and_sources_are_carried_over(repository: Path) -> None:
    made = import_feast(repository)
    names = run(made)
    assert made.views == ["driver_hourly", "driver_fresh", "customer_rides"]
    view = names["driver_hourly"]
    assert (view.dataset, view.entity, view.features) == ("driver_stats", "driver_id", ("rate", "trips"))
    assert (view.time, view.created, view.ttl) == ("event_timestamp", "created", "1w")
    assert names["driver_fresh"].ttl == "2h"
    assert names["customer_rides"].entity == "customer"
    assert names["driver_stats_data"].source == From("files", {"path": "data/stats.parquet", "known": "created"})
    assert names["rides_data"].source == From("postgres", {"url": "env:DATABASE_URL", "table": "rides"})
    assert names["rides_data"].brings == "all"
    assert names["v1_recipe"].names == ("driver_hourly.rate", "customer_rides.rides")


def test_first_contracts_can_be_read(repository: Path) -> None:
    made = import_feast(repository)
    contract = odcs.read(made.contracts["contracts/driver_stats.odcs.yaml"].encode(), "driver_stats")
    assert contract.key == ("driver_id", "event_timestamp")
    assert contract.kinds["rate"] == "number"
    assert contract.kinds["driver_id"] == "integer"
    assert contract.kinds["created"] == "timestamp"


def test_nothing_of_it_is_run(repository: Path) -> None:
    import_feast(repository)
    assert not Path("/tmp/this-was-run").exists()


@pytest.mark.parametrize(
    "lost",
    ["broken.py, line 1 is not Python", "'of_both' (features.py, line", "'hidden' (features.py, line", "photo: of a type",
     "no feature of it could be carried over", "declares inside `if`", "OnDemandFeatureView 'summed'", "RequestSource 'asked'",
     "FeatureService 'v1'", "tags of 'driver_hourly'", "online_store redis", "its address; DATABASE_URL"],
)  # fmt: skip
def test_what_is_lost_is_told_with_its_reason(repository: Path, lost: str) -> None:
    told = import_feast(repository).lost
    assert any(lost in line for line in told), told
    assert "geheim" not in str(told)


def test_a_falaj_that_knows_more_gets_more(repository: Path) -> None:
    rich = Target(frozenset({"description", "owner", "tags", "descriptions"}), has_entity=True)
    module = import_feast(repository, rich).module
    for text in (
        "owner='fleet'",
        "tags=('team=fleet',)",
        "Entity('driver', 'driver_id', description='Who drives.', owner='fleet', kind='integer')",
        "Entity('pair', keys=('driver_id', 'customer_id'))",
        "of_both = View(",
    ):
        assert text in module
    compile(module, "module", "exec")


def test_the_command_writes_and_never_writes_over(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "shop" / "project.py"
    assert main(["feature", "import", str(repository), "--to", str(to), "--json", "--dry-run"]) == 0
    assert not to.exists()
    assert main(["feature", "import", str(repository), "--to", str(to), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"driver_hourly", "driver_fresh", "customer_rides"} <= set(told["views"])
    assert sorted(path.name for path in (to.parent / "contracts").iterdir()) == ["driver_stats.odcs.yaml", "rides.odcs.yaml"]
    assert main(["feature", "import", str(repository), "--to", str(to)]) == 4
    assert "is there already" in capsys.readouterr().err


def test_a_folder_without_feast_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="declares nothing of Feast"):
        import_feast(tmp_path)
    with pytest.raises(NotFound, match="There is no folder"):
        import_feast(tmp_path / "nowhere")


LINES = REPOSITORY.splitlines()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(
    st.binary(max_size=300), st.text(max_size=300).map(str.encode),
    st.lists(st.sampled_from(LINES), max_size=40).map(lambda lines: "\n".join(lines).encode()),
    st.tuples(st.integers(0, len(REPOSITORY)), st.text(max_size=5)).map(
        lambda at: (REPOSITORY[: at[0]] + at[1] + REPOSITORY[at[0] :]).encode()),
    st.integers(1, 3000).map(lambda n: b"Entity(name=" + b"(" * n + b")" * n + b")"),
    st.integers(1, 3000).map(lambda n: b"x = FeatureView(name=" + b"-" * n + b"1)"),
))  # fmt: skip
def test_any_file_gives_a_module_or_says_what_is_wrong(data: bytes) -> None:
    found = Repository()
    try:
        read_module(data, "any.py", found)
    except InvalidInput:
        return
    compile(write(found, Target()).module, "module", "exec")
    compile(write(found, Target(frozenset({"owner", "descriptions"}), has_entity=True)).module, "module", "exec")
