"""What opens an endpoint's doors in its own process: who is known, what is encrypted, who hears of its requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from falaj.adapters.local.reference import secret
from falaj.core.errors import Denied, FalajError, Unavailable
from falaj.core.places import within
from falaj.inference.auth import Keyring
from falaj.inference.settings import ServerSettings
from falaj.inference.traces import Traces

if TYPE_CHECKING:
    from falaj.inference.tls import Certificates

Complain = Callable[[FalajError], None]
LOOK_EVERY_S = 1.0


def scheme(settings: ServerSettings) -> str:
    """`http` or `https`, as the endpoint's address begins."""
    return "https" if settings.tls_certificate else "http"


def keyring(folder: Path, pepper: bytes, settings: ServerSettings) -> Keyring:
    """Everybody who is known by key, token or certificate.

    Raises InvalidInput for an issuer that is named by halves, MissingDependency where its tokens could not be read.
    """
    from falaj.inference.tokens import Issuer, JwtTokens, issuers_of, library

    own = Issuer(settings.issuer, settings.issuer, Path(settings.issuer_jwks)) if settings.issuer_jwks else None
    issuers = issuers_of(
        own, settings.tokens_issuer, settings.tokens_audience, settings.tokens_jwks,
        (settings.tokens_claim, settings.tokens_roles),
    )  # fmt: skip
    if settings.tokens_issuer:
        issuers[-1] = replace(
            issuers[-1], clients=frozenset(settings.tokens_clients.split()),
            types=frozenset(settings.tokens_types.split()) or issuers[-1].types,
            longest_s=settings.tokens_longest_s or issuers[-1].longest_s,
            oldest_s=settings.tokens_oldest_s or issuers[-1].oldest_s,
        )  # fmt: skip
        library()  # now, and not while the first of its holders waits
    return Keyring(folder / "keys.json", pepper, JwtTokens(issuers) if issuers else None)


def certificates(settings: ServerSettings) -> Certificates | None:
    """What is shown to callers; None for plain HTTP. Raises NotFound, Denied or InvalidInput, as Certificates does."""
    if not settings.tls_certificate:
        return None
    from falaj.inference.tls import Certificates, Files

    clients = Path(settings.tls_clients) if settings.tls_clients else None
    passphrase = secret(settings.tls_passphrase)
    return Certificates(Files(Path(settings.tls_certificate), Path(settings.tls_key), clients, passphrase))


@contextlib.contextmanager
def traces(settings: ServerSettings, complain: Complain) -> Iterator[Traces]:
    """Tells the collector that the settings name, until the end. Raises MissingDependency without OpenTelemetry."""
    if not settings.trace_url:
        yield Traces()
        return
    from falaj.inference.otlp import OtlpSpans

    about = {"service.name": settings.endpoint, "service.namespace": settings.issuer or "falaj"}
    spans = OtlpSpans(settings.trace_url, about, permitted=lambda: look_up(settings), complain=complain)
    try:
        found = Traces(spans.send, settings.trace_share)
        found.dropped = lambda: spans.dropped
        yield found
    finally:
        spans.close()


def look_up(settings: ServerSettings) -> None:
    """Raises Denied where the collector's name leads, now, to an address that no trace may go to; Unavailable where it leads
    nowhere."""
    host = urlsplit(settings.trace_url).hostname or ""
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as exc:
        raise Unavailable(f"{host} has no address.", "check the name, and this machine's name servers.") from exc
    for address in sorted(found):
        if not within(settings.trace_networks, ip_address(address)):
            raise Denied(f"{host} leads to {address}, where no trace may go.", "falaj zone show says what is declared.")


@contextlib.asynccontextmanager
async def accepting(
    listener: socket.socket,
    connection: Callable[[], asyncio.Protocol],
    settings: ServerSettings,
    shown: Certificates | None,
) -> AsyncIterator[Callable[[], int]]:
    """Takes connections within the block, encrypted where a certificate is shown; those that stand at its end go on.

    Gives what tells how many came to nothing, for want of a good handshake or of room.
    """
    loop = asyncio.get_running_loop()
    if shown is None:
        listening = await loop.create_server(connection, sock=listener)
        try:
            yield int
        finally:
            listening.close()
        return
    from falaj.inference.tls import Door

    door = Door(listener, shown, handshakes=settings.tls_handshakes, within_s=settings.tls_handshake_s)
    opening = loop.create_task(door.serve(connection))
    try:
        yield lambda: door.refused
    finally:
        opening.cancel()
        await asyncio.wait((opening,))


async def keep_fresh(shown: Certificates | None, complain: Complain) -> None:
    """Takes changed certificates over, until it is cancelled, and says once what is wrong with one that is not taken."""
    told: FalajError | None = None
    while shown is not None:
        await asyncio.sleep(LOOK_EVERY_S)
        shown.look()
        if shown.problem is not None and shown.problem is not told:
            complain(shown.problem)
        told = shown.problem
