"""Who may call, and how doors are locked: keys, tokens, certificates, logins, and what servers are told of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import absolute, secret
from falaj.adapters.oidc.pinned import Pinned, pinned_of
from falaj.config import Settings
from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import length
from falaj.stages.action import Kernel

if TYPE_CHECKING:
    import ssl

    from falaj.adapters.local.authority import Authority
    from falaj.adapters.oidc.identity import OidcIdentity
    from falaj.adapters.oidc.login import Login
    from falaj.inference.tls import Files
    from falaj.ports.identity import Identity
    from falaj.stages.governance.certificates import Certificates
    from falaj.stages.governance.elevation import Elevations
    from falaj.stages.governance.identity import Identities
    from falaj.stages.governance.keys import Keys
    from falaj.stages.governance.tokens import Tokens

HERE = ("127.0.0.1", "::1", "localhost")
_TOKENS = ("issuer", "audience", "claim", "roles")


def wall() -> datetime:
    return datetime.now(UTC)


class Access:
    """One object a project; what is in it is made when it is first asked for."""

    def __init__(
        self, settings: Settings, kernel: Callable[[], Kernel], look: Callable[[str], None] = lambda _host: None
    ) -> None:
        """`look`: raises Denied for a host that nothing may go to."""
        self.settings, self._kernel, self._look = settings, kernel, look
        self.folder = settings.state_folder / "keys"

    @cached_property
    def keys(self) -> Keys:
        from falaj.adapters.local.policy import ROLES
        from falaj.stages.governance.keys import Keys

        return Keys(self._kernel(), self._pepper, roles=ROLES, is_provided=self._is_watched)

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
            self._is_watched,
        )

    def _is_watched(self) -> bool:
        """Whether the company's provider says who approves, audits or protects data."""
        from falaj.stages.vouching import watching

        return self.pinned is not None and bool(watching(self.pinned.roles.values()))

    @cached_property
    def authority(self) -> Authority:
        """The project's own; its key is made when it is first needed. Raises InvalidInput for a `tls_life` that is none."""
        from falaj.adapters.local.authority import Authority

        return Authority(self.folder, str(self.settings.name), self.life)

    @property
    def life(self) -> timedelta:
        """How long the project's own authority vouches for a service. Raises InvalidInput."""
        found = length(str(self._get("tls_life")))
        if not timedelta(minutes=10) <= found <= timedelta(hours=24):
            raise InvalidInput(f"tls_life is {found}.", "write a span from 10m to 24h.")
        return found

    def _admit(self, request: bytes, service: str, now: datetime, life: timedelta | None) -> bytes:
        return self.authority.admit(request, service, now, life)

    # --- who asks ---

    @cached_property
    def identity(self) -> Identities:
        """Every way by which this project knows who asks, in the order in which they are asked.

        Raises InvalidInput or NotFound for settings of a login that do not fit together.
        """
        from falaj.stages.governance.identity import ByCertificate, ByKey, Identities

        ways: list[Identity] = [ByKey(self.keys), ByCertificate(self._kernel().ledger), self._own_tokens()]
        if self.oidc is not None:
            ways.append(self.oidc)
        return Identities(ways, self.elevations.actor)

    def _own_tokens(self) -> Identity:
        """Tokens that this project signed itself: the same ones, and by the same rules, that its endpoints take."""
        from falaj.adapters.local.signing import open_key
        from falaj.adapters.local.tokens import key_named, kid_of, publish
        from falaj.inference.tokens import Issuer, JwtTokens
        from falaj.stages.governance.identity import ByToken

        key = open_key(self.folder / "token.ed25519")
        kid = kid_of(key.public_key)
        tokens = JwtTokens([Issuer(self.issuer, self.issuer, publish(self.folder / "tokens.jwks", key))])

        def read(text: str) -> tuple[Actor, str, float]:
            tokens.look()
            found = tokens.read(text.encode(), wall().timestamp())
            return found.actor, found.id, found.issued

        # Without a provider there is nobody else's token to tell it from.
        return ByToken(lambda text: text.count(".") == 2 and (self.pinned is None or key_named(text) == kid), read,
                       self.tokens.is_revoked)  # fmt: skip

    @cached_property
    def pinned(self) -> Pinned | None:
        """What the settings say of the company's provider; None where they name none. Raises InvalidInput, NotFound."""
        from falaj.adapters.local.policy import ROLES

        return pinned_of(self._get, secret, ROLES)

    @cached_property
    def oidc(self) -> OidcIdentity | None:
        """The company's provider, where the settings name one. Raises MissingDependency without the extra `oidc`."""
        if self.pinned is None:
            return None
        found: OidcIdentity = open_adapter(
            "identity", "oidc", pinned=self.pinned, folder=self.folder, now=lambda: wall().timestamp(),
            is_revoked=self.tokens.is_revoked,
        )  # fmt: skip
        found.provider.fetch = replace(found.provider.fetch, look=self._look)
        return found

    @property
    def login(self) -> Login:
        """Raises NotFound where the settings name no provider."""
        if self.oidc is None:
            raise NotFound("There is no provider to log in at.", "set oidc_issuer, oidc_client, oidc_audience and oidc_roles.")
        from falaj.adapters.oidc.login import Login

        return Login(self.oidc.provider)

    @cached_property
    def elevations(self) -> Elevations:
        from falaj.adapters.local.policy import ROLES
        from falaj.stages.governance.elevation import Elevations

        named = [role.strip() for role in str(self._get("elevate_roles")).split(",") if role.strip()]
        unknown = [role for role in named if role not in ROLES]
        if unknown:
            raise NotFound.named("role", unknown[0], ROLES)
        return Elevations(self._kernel(), wall, frozenset(named), os.urandom)

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
        is_set = any(self._get(f"serve_tokens_{name}") for name in ("issuer", "audience", "jwks"))
        if self.pinned is not None and not is_set:
            # Endpoints take the provider's tokens too, by the keys that the control plane keeps fresh.
            pairs = " ".join(f"{group}={role}" for group, role in self.pinned.roles.items())
            told |= {
                "tokens_issuer": self.pinned.issuer,
                "tokens_audience": self.pinned.audience,
                "tokens_claim": self.pinned.claim,
            }
            told |= {"tokens_roles": pairs, "tokens_jwks": str((self.folder / "oidc.jwks").absolute())}
            from falaj.adapters.oidc.provider import OLDEST_S

            # By the same rules as here: what opens nothing here opens nothing there.
            clients = sorted({self.pinned.client, *self.pinned.clients})
            told |= {"tokens_clients": " ".join(clients), "tokens_longest_s": self.pinned.longest_s, "tokens_oldest_s": OLDEST_S}
            told |= {"tokens_types": " ".join(name for name in self.pinned.types if name)}
        elif is_set:
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

    def _locks(self, door: str = "serve") -> dict[str, str]:
        """How `serve`, the endpoints, or `api`, the control plane, is locked, in the words of an inference server's settings."""
        kind, files = str(self._get(f"{door}_tls")), [self._path(f"{door}_tls_{name}") for name in ("certificate", "key")]
        if (kind == "files") != all(files) or (kind != "files" and any(files)):
            raise InvalidInput(
                f'{door}_tls is "{kind}", and {sum(map(bool, files))} of certificate and key are named.',
                f'set {door}_tls = "files" with {door}_tls_certificate and {door}_tls_key, or neither of them.',
            )
        clients = str(self._get(f"{door}_tls_clients"))
        if kind == "off":
            if clients:
                raise InvalidInput(
                    f"{door}_tls_clients is set, but nothing is encrypted.", f'set {door}_tls = "local" or "files".'
                )
            return {}
        told = {
            "tls_certificate": files[0],
            "tls_key": files[1],
            "tls_passphrase": absolute(str(self._get(f"{door}_tls_passphrase"))),
            "tls_clients": str(self.authority.path.absolute()) if clients == "local" else self._path(f"{door}_tls_clients"),
            "tls_names": str(self._get(f"{door}_tls_names")) if clients else "",
        }
        return {name: value for name, value in told.items() if value}

    def lock(self) -> Files | None:
        """What the control plane is locked with, made or renewed where the project's own authority makes it; None for plain HTTP.

        For the start, and once in a while. Raises InvalidInput for settings that do not fit together.
        """
        from falaj.inference.tls import Files

        told = self._locks("api")
        if not told and self._get("api_tls") == "off":
            return None
        if self._get("api_tls") == "local":
            path = self.folder / "api.pem"
            self.authority.keep(path, "control-plane", _names(str(self._get("api_host"))), wall())
            told |= {"tls_certificate": str(path), "tls_key": str(path)}
        clients = Path(told["tls_clients"]) if "tls_clients" in told else None
        return Files(Path(told["tls_certificate"]), Path(told["tls_key"]), clients, secret(told.get("tls_passphrase", "")))

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
