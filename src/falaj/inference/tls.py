"""Encryption at the endpoint's door: certificates that may change while it is open, and who stands behind a client's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from falaj.core.errors import Denied, FalajError, InvalidInput, NotFound
from falaj.core.moments import iso

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated alone. TLS 1.3 has no others."""
_FAREWELL_S = 1.0
"""For a caller to say that it has seen the end; one that says nothing must not hold up a server that leaves."""
_PUBLIC = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Files:
    """Where the server's certificate chain, its key and the authority of the clients lie; key and chain may be one file."""

    certificate: Path
    key: Path
    clients: Path | None = None
    """Certificates of whoever may vouch for clients. With it, nobody gets in without a certificate."""
    passphrase: bytes | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain and its key that belong together, as PEM; `until` in seconds since 1970."""

    chain: bytes
    key: bytes
    clients: bytes
    until: float


class Certificates:
    """What new connections are shown. `look` takes changed files over; connections that stand are not touched.

    A changed pair that is not good is not taken: the old one goes on, and `problem` says why.
    """

    def __init__(self, files: Files, now: Callable[[], float] = time.time) -> None:
        """Raises NotFound, InvalidInput or Denied for files that cannot be served with."""
        self.files, self._now = files, now
        self.problem: FalajError | None = None
        self._seen = self._stats()
        self.pair = read_pair(files, now())
        self._current = _context(self.pair, files.passphrase)
        self.context = _context(self.pair, files.passphrase)
        """For the server. Each handshake changes over to the newest certificate before it shows one."""
        self.context.sni_callback = self._choose

    @property
    def until(self) -> float:
        """When the certificate that is shown ends, in seconds since 1970."""
        return self.pair.until

    def look(self) -> bool:
        """True where other files were taken over. For once a second."""
        seen = self._stats()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            pair = read_pair(self.files, self._now())
            self._current = _context(pair, self.files.passphrase)
        except FalajError as exc:
            self.problem = exc
            return False
        self.pair, self.problem = pair, None
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _stats(self) -> list[tuple[int, int, int] | None]:
        paths = (self.files.certificate, self.files.key, self.files.clients)
        return [_stat(path) for path in paths if path is not None]


def read_pair(files: Files, now: float) -> Pair:
    """The files, if a server can be opened with them at `now`.

    Raises NotFound, Denied for a key that others may read, InvalidInput for what is no certificate or key, for two that do
    not belong together and for a certificate that is over or not good yet.
    """
    chain, key = _bytes(files.certificate), _bytes(files.key)
    if (mode := files.key.stat().st_mode) & 0o077:
        raise Denied(f"Others than its owner may use the key {files.key} (mode {mode & 0o777:o}).", f"chmod 600 {files.key}")
    leaf = _leaf(files.certificate, chain)
    try:
        private = serialization.load_pem_private_key(key, files.passphrase)
    except (ValueError, TypeError) as exc:
        why = "it is locked, or the passphrase is wrong" if b"ENCRYPTED" in key else "it is no private key"
        raise InvalidInput(
            f"{files.key} cannot be used: {why}.", "set serve_tls_key, and serve_tls_passphrase for a locked one."
        ) from exc
    if private.public_key().public_bytes(*_PUBLIC) != leaf.public_key().public_bytes(*_PUBLIC):
        raise InvalidInput(
            f"The key {files.key} is not the certificate's in {files.certificate}.", "put the pair there that was made together."
        )
    begins, until = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    at = datetime.fromtimestamp(now, UTC)
    if until <= at:
        raise InvalidInput(f"The certificate {files.certificate} ended at {iso(until)}.", "put a new one there.")
    if begins > at:
        raise InvalidInput(
            f"The certificate {files.certificate} begins at {iso(begins)} only.", "set this machine's clock right."
        )
    clients = b""
    if files.clients is not None:
        clients = _bytes(files.clients)
        _chain(files.clients, clients)
    return Pair(chain, key, clients, until.timestamp())


def _leaf(path: Path, pem: bytes) -> x509.Certificate:
    """The server's own certificate. Raises InvalidInput where the next one in the file did not sign it."""
    certificates = _chain(path, pem)
    for certificate, issuer in itertools.pairwise(certificates):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as exc:
            raise InvalidInput(
                f"The certificates in {path} are in no order.", "write the server's own first, then each one's issuer."
            ) from exc
    return certificates[0]


def _chain(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise InvalidInput(f"{path} holds no certificate.", "write it in PEM: -----BEGIN CERTIFICATE-----.") from exc


def _context(pair: Pair, passphrase: bytes | None) -> ssl.SSLContext:
    """Raises InvalidInput for a pair that OpenSSL finds too weak."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _in_memory(pair.chain + b"\n" + pair.key) as place:
            context.load_cert_chain(place, password=passphrase)
        if pair.clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=pair.clients.decode("ascii", "replace"))
            # A session that is taken up again would let a client in without a look at its certificate. TLS 1.3 has none
            # without tickets; that of TLS 1.2 cannot be turned off from here.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
    except (ssl.SSLError, ValueError) as exc:
        raise InvalidInput(
            f"The certificate cannot be served with: {exc}.", "its key may be too short; make a new pair."
        ) from exc
    return context


@contextlib.contextmanager
def _in_memory(data: bytes) -> Any:
    """A path to these bytes: OpenSSL reads the very bytes that were checked, and a key reaches no disk."""
    handle = os.memfd_create("falaj-tls", os.MFD_CLOEXEC)
    try:
        os.write(handle, data)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise NotFound(
            f"There is no {path}.", "set serve_tls_certificate, serve_tls_key and serve_tls_clients to files."
        ) from exc
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}.", "check who owns it.") from exc


def _stat(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size
    return None


# --- who stands behind a connection ---


@dataclass(frozen=True, slots=True)
class Peer:
    """Who a client's certificate says it is, and until when it may say so (seconds since 1970)."""

    identity: str
    until: float


def peer_of(certificate: Mapping[str, Any] | None, names: str = "spiffe") -> Peer | None:
    """What `SSLObject.getpeercert()` gave, as a Peer; None where there is no certificate or it names nobody.

    `spiffe`: the one URI that an X.509-SVID has (SPIFFE). `cn`: the subject's one common name, written `cn:<name>`.
    """
    if not certificate:
        return None
    until = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    if names == "cn":
        found = [f"cn:{value}" for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    else:
        found = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return Peer(found[0], until) if len(found) == 1 else None


def peer_of_pem(pem: bytes, names: str = "spiffe") -> Peer | None:
    """The same from the certificate's own PEM, as gRPC hands it out (`x509_pem_cert`)."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        until = certificate.not_valid_after_utc.timestamp()
        if names == "cn":
            found = [f"cn:{part.value!s}" for part in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        else:
            held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found = held.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return None
    return Peer(found[0], until) if len(found) == 1 else None


# --- connections ---


class Door:
    """Takes connections from a listening socket, shakes hands, and gives what came through to a protocol.

    asyncio's own server would begin any number of handshakes; here at most `handshakes` are under way, each for at most
    `within_s` seconds. One more is closed at once.
    """

    def __init__(
        self, listener: socket.socket, certificates: Certificates, *, handshakes: int = 128, within_s: float = 5.0
    ) -> None:
        self.refused = 0
        """Connections that came to nothing: over the limit, too slow, or no good handshake."""
        self._listener, self._certificates = listener, certificates
        self._handshakes, self._within_s = handshakes, within_s
        self._under_way: set[asyncio.Task[None]] = set()

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Until it is cancelled; handshakes that are under way then end too, connections that stand go on."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                except OSError:  # no more handles, or the caller went away already
                    self.refused += 1
                    await asyncio.sleep(0.05)
                    continue
                if len(self._under_way) >= self._handshakes:
                    self.refused += 1
                    connection.close()
                    continue
                task = loop.create_task(self._welcome(connection, factory))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        finally:
            for task in list(self._under_way):
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _welcome(self, connection: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                factory, connection, ssl=self._certificates.context,
                ssl_handshake_timeout=self._within_s, ssl_shutdown_timeout=_FAREWELL_S,
            )  # fmt: skip
        except (OSError, asyncio.CancelledError):
            self.refused += 1
            connection.close()


def grpc_credentials(certificates: Certificates) -> Any:
    """The same files for a gRPC server; each new connection is shown the newest certificate."""
    import grpc

    def configuration(pair: Pair) -> Any:
        return grpc.ssl_server_certificate_configuration([(_plain(pair, certificates.files), pair.chain)], pair.clients or None)

    shown = certificates.pair

    def fetch() -> Any:
        nonlocal shown
        if certificates.pair is shown:
            return None
        shown = certificates.pair
        return configuration(shown)

    return grpc.dynamic_ssl_server_credentials(configuration(shown), fetch, require_client_authentication=bool(shown.clients))


def _plain(pair: Pair, files: Files) -> bytes:
    """The key as gRPC takes it: it has no way to be told a passphrase."""
    private = serialization.load_pem_private_key(pair.key, files.passphrase)
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
