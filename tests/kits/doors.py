"""An authority, certificates and a little server behind a Door, for tests of encryption."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from falaj.adapters.local.authority import Authority
from falaj.inference.tls import Certificates, Door, peer_of

NOW = datetime.now(UTC)


def authority(folder: Path, project: str = "flights") -> Authority:
    return Authority(folder / "keys", project)


def client_pair(folder: Path, issuer: Authority, service: str, life: timedelta = timedelta(hours=1)) -> tuple[Path, Path]:
    """A key that only the client has, and a certificate for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")]))
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    certificate, place = folder / f"{service}.pem", folder / f"{service}.key"
    certificate.write_bytes(issuer.admit(pem, service, NOW, life))
    place.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, place


def trusting(path: Path, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client that trusts one authority, and shows a certificate where it has one."""
    context = ssl.create_default_context(cafile=str(path))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


class Echo(asyncio.Protocol):
    """Sends back what it is sent; to `who`, the identity behind the connection."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        peer = peer_of(self.transport.get_extra_info("peercert"))
        self.transport.write((peer.identity if peer else "nobody").encode() if data == b"who" else data)


@contextlib.contextmanager
def opened(certificates: Certificates, **limits: Any) -> Iterator[tuple[int, Door]]:
    """A Door on uvloop, as an endpoint runs it: its port, and the Door."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    listener.setblocking(False)
    door = Door(listener, certificates, **limits)
    loop = uvloop.new_event_loop()
    task = loop.create_task(door.serve(Echo))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1], door
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.01))
        listener.close()
        loop.close()


@contextlib.contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def said(connection: ssl.SSLSocket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1000)
