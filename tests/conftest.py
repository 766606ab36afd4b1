"""What every test may ask for: real servers, started when the first test asks and ended with the session."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import hypothesis
import pytest

from tests.kits.oidc import Op, oidc_provider
from tests.kits.servers import S3, kafka_server, nats_server, postgresql_server, redis_server, s3_server

# No test is timed: how long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SERVERS = {"redis_url", "postgresql_url", "s3", "nats_url", "kafka_url", "op"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever starts a server is slow."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _no_project_left() -> Iterator[None]:
    """One process holds one project of a name, and `project` is what a test calls its own that needs no other name."""
    yield
    sys.modules.pop("project", None)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql_server(tmp_path_factory.mktemp("postgresql")) as url:
        yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    with kafka_server() as url:
        yield url


@pytest.fixture(scope="session")
def op() -> Iterator[Op]:
    with oidc_provider() as found:
        yield found
