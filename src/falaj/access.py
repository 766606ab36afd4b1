"""Who may call an endpoint and how its door is locked: keys, tokens, certificates, and what its server is told of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.adapters.local.reference import absolute, secret
from falaj.config import Settings
from falaj.core.errors import InvalidInput
from falaj.stages.action import Kernel

if TYPE_CHECKING:
    import ssl

    from falaj.adapters.local.authority import Authority
    from falaj.stages.governance.certificates import Certificates
    from falaj.stages.governance.keys import Keys
    from falaj.stages.governance.tokens import Tokens

HERE = ("127.0.0.1", "::1", "localhost")
_TOKENS = ("issuer", "audience", "claim", "roles")


def wall() -> datetime:
    return datetime.now(UTC)


class Access:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(self, settings: Settings, kernel: Callable[[], Kernel]) -> None:
        self.settings, self._kernel = settings, kernel
        self.folder = settings.state_folder / "keys"

    @cached_property
    def keys(self) -> Keys:
        from falaj.adapters.local.policy import ROLES
        from falaj.stages.governance.keys import Keys

        return Keys(self._kernel(), self._pepper, roles=ROLES)

    @cached_property
    def tokens(self) -> Tokens:
        from falaj.adapters.local.policy import ROLES
        from falaj.adapters.local.signing import open_key
        from falaj.adapters.local.tokens import mint
        from falaj.stages.governance.tokens import Tokens

        def sign(claims: Mapping[str, Any]) -> str:
            return mint(claims, open_key(self.folder / "token.ed25519"))

        return Tokens(self._kernel(), sign, self.issuer, self._pepper, wall, ROLES, os.urandom)

    @cached_property
    def certificates(self) -> Certificates:
        from falaj.adapters.local.authority import identity_of
        from falaj.adapters.local.policy import ROLES
        from falaj.stages.governance.certificates import Certificates

        name = str(self.settings.name)
        return Certificates(
            self._kernel(),
            lambda service: identity_of(name, service),
            self._admit,
            wall,
            ROLES,
        )

    @cached_property
    def authority(self) -> Authority:
        """The project's own; its key is made when it is first needed."""
        from falaj.adapters.local.authority import Authority

        return Authority(self.folder, str(self.settings.name))

    def _admit(self, request: bytes, service: str, now: datetime) -> bytes:
        return self.authority.admit(request, service, now)

    @property
    def issuer(self) -> str:
        """Whose name the project's own tokens carry, and for whom they are."""
        return f"falaj/{self.settings.name}"

    @cached_property
    def _pepper(self) -> bytes:
        return (self.folder / "pepper").read_bytes()

    def allowed(self) -> Mapping[str, Mapping[str, Any]]:
        """Everybody who is let in and every token that is shut out: what hosts hand to their endpoints."""
        return {**self.keys.allowed(), **self.certificates.allowed(), **self.tokens.revoked()}

    # --- the door ---

    def door(self) -> dict[str, Any]:
        """What every endpoint's server is told, in the words of its own settings; publishes the key of the project's tokens.

        Raises InvalidInput for settings that do not fit together.
        """
        from falaj.adapters.local.signing import open_key
        from falaj.adapters.local.tokens import publish

        told: dict[str, Any] = {
            "issuer": self.issuer,
            "issuer_jwks": str(publish(self.folder / "tokens.jwks", open_key(self.folder / "token.ed25519"))),
        }
        if any(self._get(f"serve_tokens_{name}") for name in ("issuer", "audience", "jwks")):
            told |= {f"tokens_{name}": str(self._get(f"serve_tokens_{name}")) for name in _TOKENS}
            told["tokens_jwks"] = self._path("serve_tokens_jwks")
        if self._get("serve_trace_url"):
            share = float(self._get("serve_trace_share"))
            if not 0 <= share <= 1:
                raise InvalidInput(f"serve_trace_share is {share}.", "write a share from 0 to 1.")
            told |= {"trace_url": _collector(str(self._get("serve_trace_url"))), "trace_share": share}
        if (timeout := int(self._get("serve_timeout_ms"))) < 0:
            raise InvalidInput(f"serve_timeout_ms is {timeout}.", "write milliseconds; 0 is never.")
        return told | self._locks() | ({"timeout_ms": timeout} if timeout else {})

    def pair(self, endpoint: str, folder: Path) -> dict[str, str]:
        """Sees to it that an endpoint has its certificate, where the project's own authority makes them; what its server is
        told of it. For each start, and once in a while: a pair is renewed when half of its life is gone."""
        if self._get("serve_tls") != "local":
            return {}
        path = folder / "service.pem"
        self.authority.keep(path, endpoint, _names(str(self._get("serve_host"))), wall())
        return {"tls_certificate": str(path), "tls_key": str(path)}

    def ends(self) -> dict[str, datetime]:
        """Which certificate ends when: one for each endpoint, or the one that all of them show; none for plain HTTP.

        Raises InvalidInput, NotFound or Denied for one that no endpoint can show.
        """
        kind = self._get("serve_tls")
        if kind == "local":
            from falaj.adapters.local.authority import ends_at

            served = sorted(path.parent for path in (self.settings.state_folder / "serving").glob("*/wanted.json"))
            found = {f"endpoint/{folder.name}": ends_at(folder / "service.pem") for folder in served}
            return {name: until for name, until in found.items() if until is not None}
        if kind != "files":
            return {}
        from falaj.inference.tls import Files, read_pair

        told = self._locks()
        clients = Path(told["tls_clients"]) if "tls_clients" in told else None
        files = Files(Path(told["tls_certificate"]), Path(told["tls_key"]), clients, secret(told.get("tls_passphrase", "")))
        return {told["tls_certificate"]: datetime.fromtimestamp(read_pair(files, wall().timestamp()).until, UTC)}

    def trust(self, endpoint: str) -> ssl.SSLContext | None:
        """What a caller on this machine trusts of an endpoint that is encrypted; it shows that endpoint's own certificate."""
        import ssl

        kind = self._get("serve_tls")
        if kind == "off":
            return None
        own = self.settings.state_folder / "serving" / endpoint / "service.pem"
        trusted = str(self.authority.path) if kind == "local" else self._path("serve_tls_certificate")
        context = ssl.create_default_context(cafile=trusted)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate in the settings, whoever signed it
        context.check_hostname = kind == "local"
        if own.is_file():
            context.load_cert_chain(own)
        return context

    @property
    def is_in_clear(self) -> bool:
        """Whether keys and predictions cross a network that anybody may listen to."""
        return self._get("serve_tls") == "off" and self._get("serve_host") not in HERE

    def _locks(self) -> dict[str, str]:
        kind, files = str(self._get("serve_tls")), [self._path(f"serve_tls_{name}") for name in ("certificate", "key")]
        if (kind == "files") != all(files) or (kind != "files" and any(files)):
            raise InvalidInput(
                f'serve_tls is "{kind}", and {sum(map(bool, files))} of certificate and key are named.',
                'set serve_tls = "files" with serve_tls_certificate and serve_tls_key, or neither of them.',
            )
        clients = str(self._get("serve_tls_clients"))
        if kind == "off":
            if clients:
                raise InvalidInput("serve_tls_clients is set, but nothing is encrypted.", 'set serve_tls = "local" or "files".')
            return {}
        told = {
            "tls_certificate": files[0],
            "tls_key": files[1],
            "tls_passphrase": absolute(str(self._get("serve_tls_passphrase"))),
            "tls_clients": str(self.authority.path.absolute()) if clients == "local" else self._path("serve_tls_clients"),
            "tls_names": str(self._get("serve_tls_names")) if clients else "",
        }
        return {name: value for name, value in told.items() if value}

    def _path(self, name: str) -> str:
        """A path in the settings, from the project's folder on."""
        given = str(self._get(name))
        return str((self.settings.folder / given).absolute()) if given else ""

    def _get(self, name: str) -> Any:
        return self.settings.values[name].value


def _names(host: str) -> list[str]:
    """By which names callers may know a server that listens there."""
    return [socket.gethostname().lower()] if host in ("0.0.0.0", "::") else [host]  # noqa: S104  # compared, not bound


def _collector(url: str) -> str:
    """Raises InvalidInput for one that is no http address, holds a password, or is not encrypted and not of this machine."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username and not parts.password
        is_safe = parts.scheme == "https" or parts.hostname in HERE
    except ValueError:
        good = is_safe = False
    if not good or not is_safe:
        raise InvalidInput(
            "serve_trace_url is no address that traces may go to.",
            "write https://collector/v1/traces; http is for this machine only. A key goes into OTEL_EXPORTER_OTLP_HEADERS.",
        )
    return url
