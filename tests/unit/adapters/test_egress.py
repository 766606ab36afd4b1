"""falaj's own web requests connect to an address that was looked at, and let nobody lead them to another."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local import egress
from falaj.adapters.local.authority import Authority
from falaj.adapters.local.egress import address, connected, fetch, named_rightly, only_here, resolved, send
from falaj.adapters.local.lineage import HttpLineage
from falaj.adapters.local.webhook import WebhookNotify
from falaj.core.errors import Denied, InvalidInput, Unavailable
from tests.kits.foreign import OK, Foreign, abroad


def no_foreigner(host: str, seen: Sequence[str]) -> None:
    """The zone of 127.0.0.2 is another one."""
    if "127.0.0.2" in seen:
        raise Denied(f"{host} is abroad (127.0.0.2).")


@pytest.fixture
def both() -> Iterator[tuple[Foreign, Foreign]]:
    with abroad(["127.0.0.1", "127.0.0.2"]) as (home, other):
        yield home, other


def names(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """A name server that answers each question with the next address."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        try:
            ipaddress.ip_address(host)
            found = host
        except ValueError:
            asked.append(host)
            found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_what_may_be_reached_is_reached(both: tuple[Foreign, Foreign]) -> None:
    home, _ = both
    url, _, opener = address(home.url(path="/hook"), "webhook", no_foreigner)
    assert send(opener, url, b"hello", headers={}, timeout=5) == 200
    assert home.wait().endswith(b"hello")
    assert fetch(opener, url, headers={"X-A": "b"}, timeout=5)[0] == 200
    assert b"X-A: b" in home.bytes


def test_no_connection_is_made_to_what_may_not_be_reached(both: tuple[Foreign, Foreign]) -> None:
    _, other = both
    url, _, opener = address(other.url(), "webhook", no_foreigner)
    with pytest.raises(Denied):
        send(opener, url, b"hello", headers={}, timeout=5)
    assert (other.came, other.bytes) == (0, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_leads_a_request_on(status: int) -> None:
    with abroad(["127.0.0.2"]) as (other,):
        turned = f"HTTP/1.1 {status} Go\r\nLocation: {other.url()}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with abroad(["127.0.0.1"], turned.encode()) as (home,):
            url, _, opener = address(home.url(), "webhook", no_foreigner)
            assert send(opener, url, b"hello", headers={}, timeout=5) == status
            assert fetch(opener, url, headers={}, timeout=5)[0] == status
        assert other.came == 0


def test_a_name_that_leads_elsewhere_the_second_time_is_connected_where_it_was_looked_at(
    both: tuple[Foreign, Foreign], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the first answer is harmless, the next one is not. There is no second question to answer."""
    home, other = both
    asked = names(monkeypatch, "127.0.0.1", "127.0.0.2")
    with connected("rebound.example", home.port, no_foreigner, 5) as link:
        assert link.getpeername()[0] == "127.0.0.1"
    assert asked == ["rebound.example"]
    with pytest.raises(Denied):
        connected("rebound.example", other.port, no_foreigner, 5)
    assert other.came == 0


def test_every_address_of_a_name_has_to_be_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(Denied, match=r"127\.0\.0\.2"):
        connected("two.example", 9, no_foreigner, 5)


@pytest.mark.parametrize("host", ["2130706434", "0x7f000002", "127.2", "0177.0.0.2"])
def test_an_address_in_another_spelling_is_refused(host: str, both: tuple[Foreign, Foreign]) -> None:
    _, other = both
    with pytest.raises(InvalidInput):
        connected(host, other.port, no_foreigner, 5)
    with pytest.raises(InvalidInput):
        WebhookNotify(f"https://{host}/")
    assert other.came == 0


def test_an_ipv4_address_in_ipv6_is_the_same_address(both: tuple[Foreign, Foreign]) -> None:
    _, other = both
    with pytest.raises(Denied):
        connected("::ffff:127.0.0.2", other.port, no_foreigner, 5)
    assert other.came == 0


@pytest.mark.parametrize("where", ["169.254.169.254", "::ffff:169.254.169.254", "100.100.100.200", "0.0.0.0", "fd00:ec2::254"])
def test_the_machines_own_credentials_are_never_asked_for(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    with pytest.raises(Denied):
        connected(where, 80, lambda _host, _seen: None, 5)
    family = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (where, 0, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: family)
    with pytest.raises(Denied):
        connected("metadata.example", 80, lambda _host, _seen: None, 5)


def test_no_proxy_is_asked(both: tuple[Foreign, Foreign], monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = both
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, other.url())
    monkeypatch.delenv("no_proxy", raising=False)
    url, _, opener = address(home.url(), "webhook", no_foreigner)
    assert send(opener, url, b"hello", headers={}, timeout=5) == 200
    assert other.came == 0


def test_where_nobody_gave_a_rule_only_this_machine_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "192.0.2.7")
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    for adapter in (WebhookNotify("https://hooks.example/x"), HttpLineage("https://lineage.example/x")):
        with pytest.raises(Denied, match=r"192\.0\.2\.7"):
            adapter.send({}) if isinstance(adapter, WebhookNotify) else adapter.emit([{}])
    only_here("localhost", ("127.0.0.1", "::1"))


def test_of_a_name_that_nothing_may_go_to_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(host: str, _addresses: Sequence[str]) -> None:
        raise Denied(f"{host} is in no place.")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name server was asked"))
    with pytest.raises(Denied):
        connected("secrets-of-somebody.example", 443, nowhere, 5)


def test_a_name_without_an_address_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        resolved("nowhere.invalid")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of somebody who shows a certificate for other.example, and the authority that vouches for it."""
    authority = Authority(tmp_path, "somebody")
    authority.keep(tmp_path / "pair.pem", "other", ["other.example"], datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):
                context.wrap_socket(link, server_side=True).close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(listener.getsockname()[1]), authority.path
        thread.join()


def test_a_certificate_is_of_the_name_that_is_meant_or_not(served: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, authority = served
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    names(monkeypatch, "127.0.0.1")
    assert named_rightly("wanted.example", port, no_foreigner) is False


def test_a_certificate_of_the_right_name_is_right(served: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, authority = served
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    names(monkeypatch, "127.0.0.1")
    assert named_rightly("other.example", port, no_foreigner)


def test_whose_certificate_it_is_cannot_be_told_without_its_authority(
    served: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, "127.0.0.1")
    with pytest.raises(Unavailable, match="cannot be checked"):
        named_rightly("other.example", served[0], no_foreigner)
    with pytest.raises(Unavailable, match="does not answer"):
        named_rightly("127.0.0.1", 1, no_foreigner)


def test_the_answer_of_a_store_is_read_to_a_bound() -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + b"x" * 100_000
    with abroad(["127.0.0.1"], long) as (home,):
        url, _, opener = address(home.url(), "store")
        assert len(fetch(opener, url, headers={}, timeout=5)[2]) == 1 << 16
    assert OK.startswith(b"HTTP/1.1 200")
    assert egress.is_loopback("::1")
