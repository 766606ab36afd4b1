"""The one way out for falaj's own web requests: every address is looked at when it is connected to, and no one leads further."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any
from urllib.parse import urlsplit

from falaj.core.errors import Denied, InvalidInput, Unavailable
from falaj.core.places import never, plain, read_host

ANSWER_BYTES = 4096
Reach = Callable[[str, Sequence[str]], None]
"""(host as it was written, all of its addresses): raises Denied where nothing may go to one of them. A name is shown once before
its addresses are known, with none: of a name that nothing may go to, no name server is asked."""
UNANSWERED = (OSError, http.client.HTTPException, ValueError)
"""What `send` may raise where nobody answers."""


_OTHER_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL: the chain is good, the name is another's."""


def only_here(host: str, addresses: Sequence[str]) -> None:
    """The rule where nobody gave another one: this machine alone. Raises Denied."""
    for one in addresses:
        if not ipaddress.ip_address(one).is_loopback:
            raise Denied(f"{host} is not on this machine ({one}).", 'declare its network below [places]: "<network>" = "<zone>".')


def address(url: str, what: str, reach: Reach = only_here) -> tuple[str, str, urllib.request.OpenerDirector]:
    """The address, how errors name it, and what opens it. Raises InvalidInput for one that is not https, http of this machine.

    The opener resolves the name once for each connection, shows all its addresses to `reach`, and connects to one of those: an
    answer of the name server that changes in between changes nothing. It follows no redirect and asks no proxy, since what
    either of them connects to cannot be looked at.
    """
    checked, where = _checked(url, what)
    handlers = (_NoRedirect(), urllib.request.ProxyHandler({}), _Http(reach), _Https(reach))
    return checked, where, urllib.request.build_opener(*handlers)


def send(opener: urllib.request.OpenerDirector, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float) -> int:
    """The status of the answer, of which nothing else counts. `url` and `opener` as `address` gave them."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310  # checked by address
    try:
        with opener.open(request, timeout=timeout) as answer:
            answer.read(ANSWER_BYTES)
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code


def fetch(
    opener: urllib.request.OpenerDirector, url: str, *, headers: Mapping[str, str], timeout: float, most: int = 1 << 16
) -> tuple[int, Mapping[str, str], bytes]:
    """(status, headers in lower case, at most `most` bytes of the body) of a GET. `url` and `opener` as `address` gave them."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  # checked by address
    try:
        with opener.open(request, timeout=timeout) as answer:
            return int(answer.status), _lower(answer.headers), bytes(answer.read(most))
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, _lower(exc.headers), bytes(exc.read(most))


def resolved(host: str, port: int = 0) -> tuple[str, ...]:
    """Every address of the name, as its name servers say now. Raises Unavailable where they say none."""
    try:
        found = socket.getaddrinfo(host, port or None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise Unavailable(f"{host} has no address.", "check the name, and this machine's name servers.") from exc
    return tuple(dict.fromkeys(str(plain(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]))) for entry in found))


def connected(host: str, port: int, reach: Reach, timeout: Any = None) -> socket.socket:
    """A connection to one of the host's addresses, each of which `reach` has let pass. Raises Denied, OSError, Unavailable.

    Raises InvalidInput for a host that programs read differently, such as 2130706433.
    """
    name = read_host(host)
    if isinstance(name, str):
        reach(host, ())
    addresses = resolved(str(name), port)
    for one in addresses:
        if why := never(ipaddress.ip_address(one)):
            raise Denied(f"{host} leads to {one}: {why}.", "name the place itself that is meant.")
    reach(host, addresses)
    problem: OSError = OSError(f"{host} has no address")
    for one in addresses:
        try:
            return socket.create_connection((one, port), timeout)
        except OSError as exc:
            problem = exc
    raise problem


def named_rightly(host: str, port: int, reach: Reach, timeout: float = 5.0) -> bool:
    """Whether who answers there shows a certificate of that name. No data is sent.

    Raises Denied as `connected`, Unavailable where nobody answers, or with a certificate of which this machine cannot tell whose
    it is: a client may trust other authorities.
    """
    try:
        with connected(host, port, reach, timeout) as link, ssl.create_default_context().wrap_socket(link, server_hostname=host):
            return True
    except ssl.SSLCertVerificationError as exc:
        if exc.verify_code in _OTHER_NAME:
            return False
        raise Unavailable(f"The certificate of {host}:{port} cannot be checked here.", "trust its authority here too.") from exc
    except OSError as exc:
        raise Unavailable(f"{host}:{port} does not answer ({type(exc).__name__}).", "it is looked at again.") from exc


def _lower(headers: Any) -> Mapping[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _guarded(kind: type[http.client.HTTPConnection], reach: Reach) -> Callable[..., http.client.HTTPConnection]:
    def made(host: str, **options: Any) -> http.client.HTTPConnection:
        connection = kind(host, **options)

        def create(address: tuple[str, int], timeout: Any = None, _source: Any = None) -> socket.socket:
            return connected(address[0], address[1], reach, timeout)

        connection._create_connection = create  # type: ignore[attr-defined]  # where http.client itself lets another be put
        return connection

    return made


class _Http(urllib.request.HTTPHandler):
    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self._made = _guarded(http.client.HTTPConnection, reach)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, reach: Reach) -> None:
        context = ssl.create_default_context()
        super().__init__(context=context)
        self._made, self._trust = _guarded(http.client.HTTPSConnection, reach), context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made, req, context=self._trust)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917  # as the standard library has it
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> None:
        """A redirect would carry a signed message to an address that nobody checked."""


def _checked(url: str, what: str) -> tuple[str, str]:
    """The address, and how errors name it: without its path, which often holds a token."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise InvalidInput(f"The {what}'s address cannot be read.", "write it as https://host/path.") from exc
    where = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise InvalidInput(
            f"The {what}'s address must be https://host/path, without a password.", "a secret goes into the settings."
        )
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise InvalidInput(f"The {what}'s address has a space or a control character.")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidInput(f"{where} is not encrypted.", "use https; http is for 127.0.0.1 only.")
    read_host(host)
    return url, where


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names(hosts: Sequence[Any]) -> list[str]:
    """Those of the hosts that a name server has to be asked for."""
    return [host for host in hosts if isinstance(host, str) and host != "localhost"]
