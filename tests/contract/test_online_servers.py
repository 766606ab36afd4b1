"""Redis and PostgreSQL keep the contract of the online store, and say clearly what is wrong with them."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pg8000 import native

from falaj.adapters.postgres.online import PostgresOnline
from falaj.adapters.redis.online import RedisOnline
from falaj.core.errors import Conflict, Denied, InvalidInput, Unavailable
from falaj.ports.online import Online, Stored
from falaj.testing.online import OnlineSuite
from tests.kits.servers import free_port

pytestmark = pytest.mark.slow
_NAMES = itertools.count()


class TestRedisOnline(OnlineSuite):
    @pytest.fixture
    def online(self, redis_url: str) -> Iterator[Online]:
        opened = RedisOnline(redis_url, f"suite {next(_NAMES)}")
        yield opened
        opened.close()


class TestPostgresOnline(OnlineSuite):
    @pytest.fixture
    def online(self, postgresql_url: str) -> Iterator[Online]:
        opened = PostgresOnline(postgresql_url, f"suite {next(_NAMES)}")
        yield opened
        opened.close()


@pytest.fixture(params=["redis", "postgres"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[..., Online]]:
    kind = RedisOnline if request.param == "redis" else PostgresOnline
    url = request.getfixturevalue("redis_url" if request.param == "redis" else "postgresql_url")
    opened: list[Online] = []

    def make(project: str, **options: Any) -> Online:
        opened.append(kind(url, project, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_projects_share_a_server_without_seeing_each_other(open_store: Callable[..., Online]) -> None:
    one, two = open_store("one"), open_store("two")
    one.put("a", {"x": Stored(1, (1.0,))}, "m")
    assert (two.get([("a", "x")]), two.count("a"), two.mark("a")) == ([None], 0, None)
    two.clear("a")
    assert one.count("a") == 1
    again = open_store("one", readonly=True)
    assert again.get([("a", "x")]) == [Stored(1, (1.0,))]


def test_a_store_opened_for_reading_refuses_to_write(open_store: Callable[..., Online]) -> None:
    online = open_store("reader", readonly=True)
    assert online.get([("never_written", "x")]) == [None]
    assert (online.freshness("never_written"), online.count("never_written")) == (None, 0)
    for change in (lambda: online.put("a", {"x": Stored(1, (1.0,))}), lambda: online.clear("a")):
        with pytest.raises(Denied, match="for reading only"):
            change()


def _write(kind: type[Any], url: str, project: str, own: int) -> None:
    online = kind(url, project)
    for n in range(20):
        online.put("a", {f"e{m}": Stored(2 * n + own, (own, n)) for m in range(50)}, f"{own}")
    online.close()


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_two_processes_write_at_once_from_the_first_row_on(server: str, request: pytest.FixtureRequest) -> None:
    """They make the tables at once, too."""
    kind: type[Any] = RedisOnline if server == "redis" else PostgresOnline
    url = request.getfixturevalue("redis_url" if server == "redis" else "postgresql_url")
    if server == "postgres":
        with contextlib.closing(_plain(url)) as link:
            link.run("drop table if exists falaj_online, falaj_online_views")
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(kind, url, "pair", own)) for own in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    online = kind(url, "pair")
    assert online.get([("a", f"e{m}") for m in range(50)]) == [Stored(39, (1, 19))] * 50
    assert (online.count("a"), online.freshness("a")) == (50, 39)
    online.close()


@pytest.mark.parametrize(("kind", "url"), [
    (RedisOnline, "redis://:hush@127.0.0.1:{port}/0"), (PostgresOnline, "postgresql://falaj:hush@127.0.0.1:{port}/postgres"),
])  # fmt: skip
def test_a_server_that_is_away_is_named_without_its_password(kind: type[Any], url: str) -> None:
    online = kind(url.format(port=free_port()), "p", timeout_s=1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as told:
        online.get([("a", "x")])
    assert "hush" not in str(told.value)
    with pytest.raises(Unavailable, match="does not answer"):
        online.put("a", {"x": Stored(1, (1.0,))})
    online.close()


@pytest.mark.parametrize("kind", [RedisOnline, PostgresOnline])
@pytest.mark.parametrize("url", [
    "", "nonsense", "http://host/0", "redis://", "postgresql://host", "redis://h/0?decode_responses=1", "redis://:hush@h:x/0",
    "postgresql://u:hush@h:x/d", "postgresql://u:hush@h/d?host=other", "postgresql://u:hush@h/",
])  # fmt: skip
def test_an_address_that_is_none_is_refused_without_showing_it(kind: type[Any], url: str) -> None:
    with pytest.raises(InvalidInput, match=r"no .* address") as told:
        kind(url, "p")
    assert "hush" not in str(told.value)


# --- Redis ---


@contextlib.contextmanager
def own_redis(folder: Path, *options: str, port: int = 0) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis is not installed: apt-get install -y redis-server")
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/")
    client = redis.Redis(port=port)
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(redis.exceptions.RedisError):
                client.ping()
                break
            if server.poll() is None and "--requirepass" in options:
                with contextlib.suppress(redis.exceptions.AuthenticationError, redis.exceptions.ConnectionError):
                    redis.Redis(port=port, password="right").ping()
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        client.close()
        server.terminate()
        server.wait(20)


def test_a_redis_that_comes_back_is_used_again_without_opening_anything(tmp_path: Path) -> None:
    with own_redis(tmp_path) as url:
        online = RedisOnline(url, "p", timeout_s=1)
        online.put("a", {"x": Stored(1, (1.0,))})
    with pytest.raises(Unavailable):
        online.get([("a", "x")])
    with own_redis(tmp_path, port=int(url.split(":")[2].partition("/")[0])):
        assert online.get([("a", "x")]) == [None]
        online.put("a", {"x": Stored(1, (2.0,))})
        assert online.get([("a", "x")]) == [Stored(1, (2.0,))]
    online.close()


def test_a_wrong_password_is_denied_and_the_right_one_is_not(tmp_path: Path) -> None:
    with own_redis(tmp_path, "--requirepass", "right") as url:
        for password in ("", ":wrong@"):
            online = RedisOnline(url.replace("redis://", f"redis://{password}"), "p")
            with pytest.raises(Denied, match="refuses") as told:
                online.get([("a", "x")])
            assert "wrong" not in str(told.value)
            online.close()
        online = RedisOnline(url.replace("redis://", "redis://:right@"), "p")
        assert online.put("a", {"x": Stored(1, (1.0,))}) == 1
        online.close()


def test_a_redis_that_is_full_keeps_all_of_a_batch_or_none(tmp_path: Path) -> None:
    with own_redis(tmp_path, "--maxmemory", "6mb", "--maxmemory-policy", "noeviction") as url:
        online = RedisOnline(url, "p")
        told = ""
        for batch in range(40):
            before = (online.count("a"), online.freshness("a"), online.mark("a"))
            try:
                online.put("a", {f"{batch}-{n}": Stored(batch, (1.0,) * 20) for n in range(3_000)}, f"{batch}")
            except Unavailable as exc:
                told = str(exc)
                break
            assert online.count("a") == 3_000 * (batch + 1)
        assert "is full" in told
        assert (online.count("a"), online.freshness("a"), online.mark("a")) == before
        online.clear("a")
        until = time.monotonic() + 20
        while online.count("a") == 0 and time.monotonic() < until:  # the memory is freed in the background
            with contextlib.suppress(Unavailable):
                online.put("a", {"x": Stored(1, (1.0,))})
        assert online.count("a") == 1
        online.close()


def test_a_hung_redis_does_not_hang_falaj(tmp_path: Path) -> None:
    with own_redis(tmp_path) as url:
        online = RedisOnline(url, "p", timeout_s=0.2)
        online.put("a", {"x": Stored(1, (1.0,))})
        redis.Redis.from_url(url).execute_command("CLIENT", "PAUSE", "1500")
        with pytest.raises(Unavailable, match="does not answer"):
            online.get([("a", "x")])
        time.sleep(1.6)
        assert online.get([("a", "x")]) == [Stored(1, (1.0,))]
        online.close()


def certificate(folder: Path) -> None:
    """A certificate for this machine that vouches for itself: cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_a_redis_behind_tls_is_trusted_by_its_certificate_alone(tmp_path: Path) -> None:
    certificate(tmp_path)
    secure = free_port()
    options = [
        "--tls-port",
        str(secure),
        "--tls-cert-file",
        str(tmp_path / "cert.pem"),
        "--tls-key-file",
        str(tmp_path / "key.pem"),
    ]
    with own_redis(tmp_path, *options, "--tls-auth-clients", "no"):
        known = RedisOnline(f"rediss://127.0.0.1:{secure}/0?ssl_ca_certs={tmp_path}/cert.pem", "p")
        assert known.put("a", {"x": Stored(1, (1.0,))}) == 1
        assert known.get([("a", "x")]) == [Stored(1, (1.0,))]
        known.close()
        stranger = RedisOnline(f"rediss://127.0.0.1:{secure}/0", "p")
        with pytest.raises(Unavailable, match="does not answer"):
            stranger.get([("a", "x")])
        stranger.close()


def test_a_key_of_another_kind_is_a_conflict(redis_url: str) -> None:
    with contextlib.closing(redis.Redis.from_url(redis_url)) as plain:
        plain.set("falaj:taken:{a}:rows", "mine")
    online = RedisOnline(redis_url, "taken")
    with pytest.raises(Conflict, match="something else"):
        online.put("a", {"x": Stored(1, (1.0,))}, "m")
    assert online.mark("a") is None
    with contextlib.closing(redis.Redis.from_url(redis_url)) as plain:
        plain.hset("falaj:taken:{b}:rows", "x", b"\1\2")
    with pytest.raises(Conflict, match="nobody can read"):
        online.get([("b", "x")])
    assert online.put("b", {"x": Stored(1, (1.0,))}) == 1
    online.close()


# --- PostgreSQL ---


def _plain(url: str) -> Any:
    port = int(url.rpartition(":")[2].partition("/")[0])
    return native.Connection("falaj", host="127.0.0.1", port=port, database="postgres")


def test_a_connection_that_the_server_ends_is_opened_anew(postgresql_url: str) -> None:
    online = PostgresOnline(postgresql_url, "ended")
    online.put("a", {"x": Stored(1, (1.0,))})
    for change in (lambda: online.put("a", {"x": Stored(2, (2.0,))}), lambda: online.put("a", {"y": Stored(3, (3.0,))})):
        with contextlib.closing(_plain(postgresql_url)) as link:
            link.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'falaj'")
        assert change() == 1
    assert online.get([("a", "x"), ("a", "y")]) == [Stored(2, (2.0,)), Stored(3, (3.0,))]
    online.close()


def test_a_put_that_fails_midway_leaves_nothing_and_the_store_goes_on(postgresql_url: str) -> None:
    online = PostgresOnline(postgresql_url, "midway")
    online.put("a", {"x": Stored(1, (1.0,))}, "first")
    with contextlib.closing(_plain(postgresql_url)) as link:
        link.run("alter table falaj_online_views add constraint small check (count < 5 or project <> 'midway')")
        with pytest.raises(Conflict):
            online.put("a", {f"e{n}": Stored(2, (2.0,)) for n in range(100)}, "second")
        assert (online.count("a"), online.mark("a"), online.get([("a", "e1")])) == (1, "first", [None])
        link.run("alter table falaj_online_views drop constraint small")
    assert online.put("a", {f"e{n}": Stored(2, (2.0,)) for n in range(100)}) == 100
    online.close()


def test_a_user_or_a_database_that_is_not_there_is_denied(postgresql_url: str) -> None:
    for url in (postgresql_url.replace("falaj@", "nobody_here@"), postgresql_url.replace("/postgres", "/none")):
        online = PostgresOnline(url, "p")
        with pytest.raises(Denied, match="refuses"):
            online.get([("a", "x")])
        online.close()


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(postgresql_url: str) -> None:
    online = PostgresOnline(postgresql_url + "?sslmode=require", "p")
    with pytest.raises(Unavailable, match="does not answer"):
        online.get([("a", "x")])
    online.close()
    with pytest.raises(InvalidInput, match="sslmode"):
        PostgresOnline(postgresql_url + "?sslmode=maybe", "p")
