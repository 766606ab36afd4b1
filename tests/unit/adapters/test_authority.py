"""The project's own certificate authority."""

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from falaj.adapters.local.authority import LIFE, Authority, ends_at, identity_of, trust_domain
from falaj.core.errors import Denied, InvalidInput

NOW = datetime.now(UTC).replace(microsecond=0)


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "app") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    )
    # What a request asks for beyond its key counts for nothing.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_service_gets_a_pair_for_a_day_with_its_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "Flights of 2013")
    assert authority.keep(tmp_path / "delay.pem", "delay", ["10.0.0.7", "box.example"], NOW)
    assert stat.S_IMODE((tmp_path / "delay.pem").stat().st_mode) == 0o600
    assert ends_at(tmp_path / "delay.pem") == NOW + LIFE
    held = x509.load_pem_x509_certificate((tmp_path / "delay.pem").read_bytes())
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://flights-of-2013/service/delay"]
    assert names.get_values_for_type(x509.DNSName) == ["box.example", "localhost"]
    assert [str(found) for found in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "127.0.0.1", "::1"]


def test_openssl_itself_finds_the_chain_good(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "flights")
    authority.keep(tmp_path / "delay.pem", "delay", [], NOW)
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        str(authority.path),
        str(tmp_path / "delay.pem"),
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("apt-get install openssl")
    assert found.returncode == 0, found.stderr


def test_a_pair_is_kept_until_half_of_its_life_is_gone(tmp_path: Path) -> None:
    authority, path = Authority(tmp_path, "flights"), tmp_path / "delay.pem"
    assert authority.keep(path, "delay", [], NOW)
    assert not authority.keep(path, "delay", [], NOW + LIFE / 2 - timedelta(minutes=5))
    assert authority.keep(path, "delay", [], NOW + LIFE / 2)
    assert ends_at(path) == NOW + LIFE * 1.5


@pytest.mark.parametrize("broken", ["", "nonsense", "hosts", "service", "authority", "clock"])
def test_a_pair_that_does_not_fit_any_more_is_made_anew(tmp_path: Path, broken: str) -> None:
    authority, path = Authority(tmp_path, "flights"), tmp_path / "delay.pem"
    authority.keep(path, "delay", [], NOW)
    if broken == "authority":
        authority = Authority(tmp_path / "other", "flights")
    elif broken in ("", "nonsense"):
        path.write_text(broken)
    at = NOW - timedelta(hours=1) if broken == "clock" else NOW
    hosts = ["box.example"] if broken == "hosts" else []
    assert authority.keep(path, "later" if broken == "service" else "delay", hosts, at)
    assert not authority.keep(path, "later" if broken == "service" else "delay", hosts, at)


def test_the_authority_stays_the_same_and_its_key_is_its_owners(tmp_path: Path) -> None:
    pem = Authority(tmp_path, "flights").path.read_bytes()
    assert Authority(tmp_path, "flights").path.read_bytes() == pem
    (tmp_path / "authority.key").chmod(0o644)
    with pytest.raises(Denied, match="Others than its owner"):
        Authority(tmp_path, "flights")
    (tmp_path / "authority.key").chmod(0o600)
    (tmp_path / "authority.key").write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(InvalidInput):
        Authority(tmp_path, "flights")


def test_a_client_is_admitted_under_the_name_that_was_given_and_for_its_own_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = Authority(tmp_path, "flights").admit(request(key, "operator"), "app", NOW, timedelta(hours=2))
    made = x509.load_pem_x509_certificate(pem)
    assert made.public_key() == key.public_key()
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [identity_of("flights", "app")]
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert made.not_valid_after_utc == NOW + timedelta(hours=2)


def test_what_is_no_request_or_brings_a_weak_key_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "flights")
    weak = request(ec.generate_private_key(ec.SECP192R1()))
    short = request(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    der = bytearray(
        x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1()))).public_bytes(serialization.Encoding.DER)
    )
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    for wrong in (b"", b"hello", weak, short, forged):
        with pytest.raises(InvalidInput):
            authority.admit(wrong, "app", NOW)


@pytest.mark.parametrize(("name", "domain"), [("flights", "flights"), ("My Project/1", "my-project-1"), ("", "project")])
def test_a_projects_name_becomes_a_trust_domain(name: str, domain: str) -> None:
    assert trust_domain(name) == domain
