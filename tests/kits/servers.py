"""Real servers for the contract suites, each started once a test session on a free port of this machine, and ended with it.

A server that is not installed skips its tests and says how to install it. FALAJ_TEST_REQUIRE=redis,postgresql,s3,nats,kafka,oidc
turns such a skip into a failure, as continuous integration does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class S3:
    endpoint: str
    key: str = "test"
    secret: str = "test-secret"  # any will do: moto checks none
    region: str = "us-east-1"


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[str]:
    """The address of an empty Redis, `redis://127.0.0.1:<port>/0`."""
    program = _program("redis", "redis-server", "redis-server")
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with _running(command, lambda: _answers(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def nats_server(folder: Path, port: int = 0, *options: str) -> Iterator[str]:
    """The address of a NATS with JetStream, `nats://127.0.0.1:<port>`, that keeps its streams in `folder`."""
    program = _program("nats", "nats-server", "nats-server")
    port = port or free_port()
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder), *options]
    with _running(command, lambda: _answers(port)):
        yield f"nats://127.0.0.1:{port}"


class Broker(str):
    """Its address, and the process that can be stopped and go on (SIGSTOP, SIGCONT)."""

    pid: int


@contextmanager
def kafka_server() -> Iterator[Broker]:
    """The address of librdkafka's own broker in a process of its own, `kafka://127.0.0.1:<port>`.

    It speaks Kafka's protocol to any client, and keeps topics and offsets for as long as it runs. It stores nothing on disk.
    """
    try:
        import confluent_kafka
    except ModuleNotFoundError:
        _missing("kafka", "confluent-kafka", "pip install confluent-kafka")
    code = "from tests.kits.servers import _broker; _broker()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code]
    broker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert confluent_kafka is not None
    assert broker.stdin is not None
    assert broker.stdout is not None
    try:
        found = Broker(f"kafka://{broker.stdout.readline().strip()}")
        found.pid = broker.pid
        yield found
    finally:
        broker.kill()
        broker.wait(20)
        broker.stdin.close()
        broker.stdout.close()


def _broker() -> None:
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    places = ",".join(f"{b.host}:{b.port}" for b in producer.list_topics(timeout=20).brokers.values())
    sys.stdout.write(f"{places}\n")
    sys.stdout.flush()
    sys.stdin.read()


@contextmanager
def postgresql_server(folder: Path) -> Iterator[str]:
    """The address of an empty PostgreSQL, `postgresql://falaj@127.0.0.1:<port>/postgres`, which trusts this machine."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name))
    if not places:
        _missing("postgresql", "postgresql")
    user = _nobody()
    data = folder / "data"
    data.mkdir(parents=True)
    if user:
        for place in (data, folder, *folder.parents):
            if place in (Path("/"), Path("/tmp")):
                break
            place.chmod(place.stat().st_mode | 0o011)
        shutil.chown(data, user)
    quiet = {"stdout": subprocess.DEVNULL, "cwd": "/", "user": user}
    initdb = [str(places[-1] / "initdb"), "-D", str(data), "-U", "falaj", "--auth=trust", "--encoding=UTF8", "--no-sync", "-N"]
    subprocess.run(initdb, check=True, **quiet)  # type: ignore[call-overload]
    port = free_port()
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(data), "-c", "fsync=off", "-c", "log_min_messages=fatal"]
    command = [str(places[-1] / "postgres"), "-D", str(data), *options]
    with _running(command, lambda: _accepts(places[-1], port), user):
        yield f"postgresql://falaj@127.0.0.1:{port}/postgres"


@contextmanager
def s3_server() -> Iterator[S3]:
    """An S3-compatible server without any bucket (moto's)."""
    try:
        from moto.server import ThreadedMotoServer
    except ModuleNotFoundError:
        _missing("s3", "moto", "pip install 'moto[s3]' flask flask-cors")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(server: str, name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        _missing(server, package)
    return str(found)


def _missing(server: str, package: str, how: str = "") -> None:
    reason = f"{server} is not installed: {how or f'apt-get install -y {package}'}"
    if server in os.environ.get("FALAJ_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def _nobody() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


@contextmanager
def _running(command: list[str], is_ready: Callable[[], bool], user: str | None = None) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, cwd="/", user=user)
    try:
        until = time.monotonic() + 60
        while not is_ready():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                said = process.stderr.read().decode(errors="replace")[-2000:] if process.stderr else ""
                raise RuntimeError(f"{command[0]} did not start: {said}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _accepts(place: Path, port: int) -> bool:
    asked = [str(place / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "falaj", "-d", "postgres"]
    return subprocess.run(asked, check=False).returncode == 0
