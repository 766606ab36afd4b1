"""Encryption: what the endpoint shows, what it refuses to be opened with, and whom it lets in."""

import contextlib
import socket
import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from falaj.core.errors import Denied, FalajError, InvalidInput, NotFound
from falaj.inference.tls import Certificates, Files, grpc_credentials, peer_of, peer_of_pem
from tests.kits.doors import NOW, authority, client_pair, connected, opened, said, trusting

DAY = timedelta(days=1)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority(tmp_path).keep(tmp_path / "service.pem", "delay", ["127.0.0.1"], NOW)
    return Files(tmp_path / "service.pem", tmp_path / "service.pem")


def renew(files: Files, tmp_path: Path) -> None:
    files.certificate.unlink()
    authority(tmp_path).keep(files.certificate, "delay", ["127.0.0.1"], NOW)


def split(files: Files, passphrase: bytes | None = None) -> Files:
    """The pair in two files, the key locked where a passphrase is given."""
    pem = files.certificate.read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    place = files.certificate.with_suffix(".key")
    place.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    place.chmod(0o600)
    certificate = files.certificate.with_suffix(".crt")
    certificate.write_bytes(x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.PEM))
    return Files(certificate, place, passphrase=passphrase)


def serial(connection: ssl.SSLSocket) -> Any:
    held = connection.getpeercert()
    assert held is not None
    return held["serialNumber"]


def test_a_caller_who_trusts_the_authority_gets_through(files: Files, tmp_path: Path) -> None:
    with opened(Certificates(files)) as (port, _), connected(port, trusting(tmp_path / "keys" / "authority.pem")) as connection:
        assert said(connection, b"hello") == b"hello"
        assert (connection.version(), connection.selected_alpn_protocol()) == ("TLSv1.3", None)


def test_the_certificate_passes_the_strictest_rules(files: Files, tmp_path: Path) -> None:
    context = trusting(tmp_path / "keys" / "authority.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    with opened(Certificates(files)) as (port, _), connected(port, context) as connection:
        held = connection.getpeercert() or {}
        assert ("URI", "spiffe://flights/service/delay") in held["subjectAltName"]
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_tls_below_1_2_is_refused(files: Files, tmp_path: Path) -> None:
    with opened(Certificates(files)) as (port, door):
        context = trusting(tmp_path / "keys" / "authority.pem")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with connected(port, context) as connection:
            assert connection.version() == "TLSv1.2"
            assert (connection.cipher() or ("",))[0].startswith("ECDHE-")
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)), connected(port, context):
            pass
        plain = trusting(tmp_path / "keys" / "authority.pem")
        plain.maximum_version = ssl.TLSVersion.TLSv1_2
        plain.set_ciphers("AES128-SHA256")  # without forward secrecy
        with pytest.raises((ssl.SSLError, OSError)), connected(port, plain):
            pass
        assert door.refused == 2


def test_who_speaks_no_tls_gets_nothing(files: Files) -> None:
    with opened(Certificates(files)) as (port, door), socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP")
        assert door.refused == 1


# --- changed while it is open ---


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(files: Files, tmp_path: Path) -> None:
    certificates, context = Certificates(files), trusting(tmp_path / "keys" / "authority.pem")
    with opened(certificates) as (port, _), connected(port, context) as before:
        assert not certificates.look()
        renew(files, tmp_path)
        assert certificates.look()
        with connected(port, context) as after:
            assert serial(after) != serial(before)
            assert said(after, b"new") == b"new"
        assert said(before, b"old") == b"old"


def test_a_pair_that_is_no_good_is_not_taken_over(files: Files, tmp_path: Path) -> None:
    certificates, context = Certificates(split(files)), trusting(tmp_path / "keys" / "authority.pem")
    shown, until = certificates.pair, certificates.until
    renew(files, tmp_path)
    certificates.files.certificate.write_bytes(files.certificate.read_bytes())
    assert not certificates.look()
    assert "is not the certificate's" in str(certificates.problem)
    with opened(certificates) as (port, _), connected(port, context):
        assert (certificates.pair, certificates.until) == (shown, until)
    split(files)  # the key follows
    assert certificates.look()
    assert certificates.problem is None
    certificates.files.key.unlink()
    assert not certificates.look()
    assert isinstance(certificates.problem, NotFound)


# --- refused at the start ---


def refusal(files: Files, now: float = NOW.timestamp()) -> FalajError:
    with pytest.raises(FalajError) as caught:
        Certificates(files, lambda: now)
    assert caught.value.hint
    return caught.value


def test_a_key_that_others_may_read_is_refused(files: Files) -> None:
    files.key.chmod(0o640)
    error = refusal(files)
    assert isinstance(error, Denied)
    assert error.hint == f"chmod 600 {files.key}"


def test_a_certificate_that_is_over_or_not_good_yet_is_refused(files: Files) -> None:
    assert "ended at" in refusal(files, (NOW + DAY).timestamp()).message
    assert "begins at" in refusal(files, (NOW - DAY).timestamp()).message


def test_a_key_of_another_certificate_is_refused(files: Files, tmp_path: Path) -> None:
    pair = split(files)
    renew(files, tmp_path)
    pair.certificate.write_bytes(files.certificate.read_bytes())
    assert "is not the certificate's" in refusal(pair).message


def test_a_locked_key_needs_its_passphrase(files: Files, tmp_path: Path) -> None:
    pair = split(files, b"open sesame")
    for wrong in (None, b"wrong"):
        error = refusal(Files(pair.certificate, pair.key, passphrase=wrong))
        assert "locked" in error.message
        assert "sesame" not in str(error)
    with opened(Certificates(pair)) as (port, _), connected(port, trusting(tmp_path / "keys" / "authority.pem")) as connection:
        assert said(connection, b"x") == b"x"


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_or_no_key_is_refused(files: Files, content: bytes) -> None:
    pair = split(files)
    held = pair.certificate.read_bytes()
    pair.certificate.write_bytes(content)
    assert "holds no certificate" in refusal(pair).message
    pair.certificate.write_bytes(held)
    pair.key.write_bytes(content)
    assert "no private key" in refusal(pair).message
    assert "holds no certificate" in refusal(Files(files.certificate, files.key, clients=pair.key)).message


def test_a_file_that_is_missing_is_not_found(files: Files, tmp_path: Path) -> None:
    for wrong in (
        Files(tmp_path / "no", files.key),
        Files(files.certificate, tmp_path / "no"),
        Files(files.key, files.key, tmp_path / "no"),
    ):
        assert isinstance(refusal(wrong), NotFound)


def test_a_chain_in_the_wrong_order_is_refused(files: Files, tmp_path: Path) -> None:
    files.certificate.write_bytes((tmp_path / "keys" / "authority.pem").read_bytes() + files.certificate.read_bytes())
    assert "in no order" in refusal(files).message


def test_a_key_that_openssl_finds_too_short_is_refused(files: Files, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(NOW - DAY).not_valid_after(NOW + DAY).sign(key, hashes.SHA256())
    )  # fmt: skip
    files.certificate.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert isinstance(refusal(files), InvalidInput)


# --- clients ---


@pytest.fixture
def mutual(files: Files, tmp_path: Path) -> Files:
    return Files(files.certificate, files.key, tmp_path / "keys" / "authority.pem")


def got_in(port: int, context: ssl.SSLContext) -> bool:
    """Under TLS 1.3 a client learns only with its first read that its certificate was refused."""
    try:
        with connected(port, context) as connection:
            return said(connection, b"x") == b"x"
    except (ssl.SSLError, ConnectionError):
        return False


def test_without_a_certificate_of_that_authority_nobody_gets_in(mutual: Files, tmp_path: Path) -> None:
    trusted = tmp_path / "keys" / "authority.pem"
    (tmp_path / "other").mkdir()
    stranger = client_pair(tmp_path / "other", authority(tmp_path / "other"), "app")
    known = client_pair(tmp_path, authority(tmp_path), "app")
    with opened(Certificates(mutual)) as (port, _):
        assert [got_in(port, trusting(trusted, pair)) for pair in (None, stranger, known)] == [False, False, True]
        old = trusting(trusted, known)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not got_in(port, old)


def test_a_client_that_got_in_is_known_by_its_identity(mutual: Files, tmp_path: Path) -> None:
    context = trusting(tmp_path / "keys" / "authority.pem", client_pair(tmp_path, authority(tmp_path), "app"))
    with opened(Certificates(mutual)) as (port, _), connected(port, context) as connection:
        assert said(connection, b"who") == b"spiffe://flights/service/app"


def test_an_authority_that_is_taken_away_takes_its_clients_with_it(mutual: Files, tmp_path: Path) -> None:
    trusted, place = tmp_path / "keys" / "authority.pem", tmp_path / "clients.pem"
    (tmp_path / "other").mkdir()
    other = authority(tmp_path / "other")
    place.write_bytes(trusted.read_bytes() + other.path.read_bytes())
    certificates = Certificates(Files(mutual.certificate, mutual.key, place))
    context = trusting(trusted, client_pair(tmp_path / "other", other, "app"))
    with opened(certificates) as (port, _), connected(port, context) as standing:
        assert said(standing, b"x") == b"x"
        place.write_bytes(trusted.read_bytes())
        assert certificates.look()
        assert not got_in(port, context)
        assert said(standing, b"x") == b"x"
        assert not (standing.session and standing.session.has_ticket)  # nothing to come back with


def test_a_certificate_names_its_holder_by_one_uri_or_by_its_common_name(tmp_path: Path) -> None:
    until = "Jan  1 00:00:00 2030 GMT"
    uri = {"notAfter": until, "subjectAltName": (("DNS", "a"), ("URI", "spiffe://x/y")), "subject": ((("commonName", "app"),),)}
    two = {**uri, "subjectAltName": (("URI", "spiffe://x/y"), ("URI", "spiffe://x/z"))}
    assert (found := peer_of(uri)) is not None
    assert (found.identity, found.until) == ("spiffe://x/y", 1893456000)
    assert (found := peer_of(uri, "cn")) is not None
    assert found.identity == "cn:app"
    assert [peer_of(None), peer_of({}), peer_of(two), peer_of({"notAfter": until, "subject": ()})] == [None] * 4
    pem = client_pair(tmp_path, authority(tmp_path), "app")[0].read_bytes()
    assert (read := peer_of_pem(pem)) is not None
    assert read.identity == "spiffe://flights/service/app"
    assert (read := peer_of_pem(pem, "cn")) is not None
    assert read.identity == "cn:app"
    assert peer_of_pem(b"x") is None


# --- half a handshake ---


def test_handshakes_that_do_not_come_to_an_end_are_few_and_short(files: Files, tmp_path: Path) -> None:
    with opened(Certificates(files), handshakes=2, within_s=0.4) as (port, door):
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]
        silent[0].sendall(b"\x16\x03\x01")  # half a greeting
        with socket.create_connection(("127.0.0.1", port), timeout=10) as third:
            assert third.recv(10) == b""
        for connection in silent:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
            connection.close()
        until = time.monotonic() + 20
        while not got_in(port, trusting(tmp_path / "keys" / "authority.pem")):
            assert time.monotonic() < until
        assert door.refused >= 3


# --- gRPC ---


@pytest.mark.slow
def test_grpc_shows_the_same_certificate_and_its_next_one(mutual: Files, tmp_path: Path) -> None:
    import grpc

    certificates, seen = Certificates(mutual), []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append(peer_of_pem(context.auth_context()["x509_pem_cert"][0]))
        return request

    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("s", {"m": grpc.unary_unary_rpc_method_handler(answer)}),)
    )
    port = server.add_secure_port("127.0.0.1:0", grpc_credentials(certificates))
    server.start()
    trusted = (tmp_path / "keys" / "authority.pem").read_bytes()
    certificate, key = (path.read_bytes() for path in client_pair(tmp_path, authority(tmp_path), "app"))

    def call(**pair: bytes) -> bytes:
        credentials = grpc.ssl_channel_credentials(trusted, **pair)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
            found: bytes = channel.unary_unary("/s/m")(b"x", timeout=10)
            return found

    try:
        assert call(private_key=key, certificate_chain=certificate) == b"x"
        assert seen[0].identity == "spiffe://flights/service/app"
        with pytest.raises(grpc.RpcError):
            call()
        before = ssl_serial(port, tmp_path)
        renew(mutual, tmp_path)
        assert certificates.look()
        assert ssl_serial(port, tmp_path) != before
        assert call(private_key=key, certificate_chain=certificate) == b"x"
    finally:
        server.stop(None).wait()


def ssl_serial(port: int, tmp_path: Path) -> Any:
    context = trusting(tmp_path / "keys" / "authority.pem")
    context.load_cert_chain(tmp_path / "app.pem", tmp_path / "app.key")
    context.set_alpn_protocols(["h2"])
    with connected(port, context) as connection:
        return serial(connection)


def test_no_key_is_left_on_a_disk_or_in_an_open_file(files: Files) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    Certificates(files)
    assert set(Path("/proc/self/fd").iterdir()) == before
