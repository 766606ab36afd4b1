"""The project's own certificate authority: short-lived certificates for its services, with SPIFFE-shaped names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from falaj.adapters.local.signing import open_secret, write_once, write_over
from falaj.core.errors import InvalidInput

LIFE = timedelta(hours=1)
"""Of a service's certificate, where nothing else is said; half of it later it is renewed."""
LONGEST = timedelta(hours=24)
_AUTHORITY_LIFE = timedelta(days=3650)
_EARLY = timedelta(minutes=5)
"""Clocks of two machines may differ by this much."""


def trust_domain(project: str) -> str:
    """The project's name as the SPIFFE ID standard (section 2.1) takes it: lower case letters, digits, `.`, `-` and `_`."""
    return re.sub(r"[^a-z0-9._-]", "-", project.lower())[:255] or "project"


def identity_of(project: str, service: str) -> str:
    """`spiffe://<project>/service/<name>`."""
    return f"spiffe://{trust_domain(project)}/service/{service}"


class Authority:
    """`authority.key` and `authority.pem` in a folder of keys, made on first use. The key signs certificates and nothing else."""

    def __init__(self, folder: Path, project: str, life: timedelta = LIFE) -> None:
        """`life`: of what it signs. Raises Denied where others may read the key, InvalidInput where it is none."""
        self.project, self.life = project, life
        self.path = folder / "authority.pem"
        """The certificate that clients trust; everybody may have it."""
        pem = open_secret(folder / "authority.key", _new_key)
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidInput(f"{folder / 'authority.key'} does not hold the key of an authority.")
        self._key = key
        if not self.path.is_file():
            write_once(self.path, self._self_signed())
        self._certificate = x509.load_pem_x509_certificate(self.path.read_bytes())

    def keep(self, path: Path, service: str, hosts: Sequence[str], now: datetime) -> bool:
        """Sees to it that `path` holds a good pair for a service, key and certificate in one file; True where it made one.

        The file changes as a whole, so that nobody reads a key beside another one's certificate. The certificate is for
        these hosts (names or addresses) and for this machine itself.
        """
        wanted = list(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"]))
        held = _held(path)
        if held is not None and self._is_good(held, service, wanted, now):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(service, key.public_key(), now, self.life)
        names = [x509.UniformResourceIdentifier(identity_of(self.project, service)), *map(_name, wanted)]
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = self._sign(builder, names, usage)
        write_over(path, certificate.public_bytes(serialization.Encoding.PEM) + _pem(key))
        return True

    def admit(self, request: bytes, service: str, now: datetime, life: timedelta | None = None) -> bytes:
        """A client's certificate for the key of a signing request (PKCS #10, PEM), in PEM, for a day at most.

        Of the request only the key counts; the name is the one given here. Raises InvalidInput for what is no request, is
        not signed with its own key, or brings a weak one, and for a life that is too long.
        """
        life = life or self.life
        if not timedelta(0) < life <= LONGEST:
            raise InvalidInput(
                f"A certificate cannot be good for {life}.", "write a ttl up to 24h, and have it signed again in time."
            )
        try:
            asked = x509.load_pem_x509_csr(request)
            is_own = asked.is_signature_valid
        except ValueError as exc:
            raise InvalidInput("That is no signing request.", "openssl req -new -key client.key -subj /CN=client") from exc
        public = asked.public_key()
        if not is_own:
            raise InvalidInput("The signing request is not signed with its own key.", "make it anew.")
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.key_size < 256:
            raise InvalidInput(
                "The key is none of an elliptic curve.", "openssl ecparam -genkey -name prime256v1 -noout -out client.key"
            )
        builder = self._builder(service, public, now, life)
        names = [x509.UniformResourceIdentifier(identity_of(self.project, service))]
        return self._sign(builder, names, [ExtendedKeyUsageOID.CLIENT_AUTH]).public_bytes(serialization.Encoding.PEM)

    def _is_good(self, held: x509.Certificate, service: str, hosts: Sequence[str], now: datetime) -> bool:
        life = held.not_valid_after_utc - held.not_valid_before_utc
        if not held.not_valid_before_utc <= now < held.not_valid_after_utc - life / 2:
            return False
        try:
            held.verify_directly_issued_by(self._certificate)
            names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:  # another authority's, or anything else: a new one mends it
            return False
        return list(names) == [x509.UniformResourceIdentifier(identity_of(self.project, service)), *map(_name, hosts)]

    def _builder(
        self, service: str, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLY)
            .not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    def _sign(
        self, builder: x509.CertificateBuilder, names: Sequence[x509.GeneralName], usage: Sequence[x509.ObjectIdentifier]
    ) -> x509.Certificate:
        public = self._key.public_key()
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _self_signed(self) -> bytes:
        now, public = datetime.now(UTC), self._key.public_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"falaj {trust_domain(self.project)}"[:64])])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLY)
            .not_valid_after(now + _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain(self.project)}")]),
                           critical=False)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        return certificate.public_bytes(serialization.Encoding.PEM)


def ends_at(path: Path) -> datetime | None:
    """When the first certificate in a file ends; None where there is none."""
    held = _held(path)
    return held.not_valid_after_utc if held is not None else None


def _held(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):
        return None


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _new_key() -> bytes:
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
