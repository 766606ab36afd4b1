"""What an inference server is told when it starts, and how it tells the time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import iso, moment

TOLERANCE = timedelta(seconds=5)
"""How far a caller's clock may be from the server's under the wall clock."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Written by the host as `settings.json`; every path is absolute."""

    endpoint: str
    blobs: str
    online: str
    """The folder of the embedded online store."""
    public_key: str
    pepper: str
    host: str = "127.0.0.1"
    port: int = 0
    clock: str = "wall"
    """`wall`, or `replay`: the event time is the request's own."""
    online_scheme: str = "lmdb"
    """Which online store; any other than the embedded one is at `online_url`."""
    online_url: str = ""
    """A reference (env:NAME, file:PATH), or an address of this machine without a password."""
    project: str = ""
    """Whose features are read there."""
    sync: str = "interval"
    """`interval`: an answer is on disk within a second. `always`: before it leaves."""
    segment_rows: int = 5000
    segment_idle_s: float = 60.0
    max_body_bytes: int = 1 << 20
    max_header_bytes: int = 16 << 10
    batch_rows: int = 1024
    """At most so many rows of waiting calls become one run of the model; one call may have more."""
    max_waiting: int = 256
    """Requests that wait at once; one more is told to come back (429)."""
    max_connections: int = 1024
    request_timeout_s: float = 10.0
    """From the first byte of a request to its last."""
    keep_alive_s: int = 75
    drain_s: int = 10
    """What was taken on is answered within that time after an endpoint, or one of its workers, is told to stop."""
    tls_certificate: str = ""
    """The chain that is shown, and `tls_key` for it; empty: plain HTTP."""
    tls_key: str = ""
    tls_passphrase: str = ""
    """A reference (env:NAME, file:PATH)."""
    tls_clients: str = ""
    """Who vouches for clients; with it, nobody gets in without a certificate."""
    tls_names: str = "spiffe"
    """`spiffe` or `cn`: what in a client's certificate says who it is."""
    tls_handshakes: int = 128
    """Handshakes under way at once, each within `tls_handshake_s`; one connection more is closed."""
    tls_handshake_s: float = 5.0
    issuer: str = ""
    """Of the project's own tokens, and whom they are for; `issuer_jwks` holds its key."""
    issuer_jwks: str = ""
    tokens_issuer: str = ""
    """Another issuer, with `tokens_audience` and `tokens_jwks`."""
    tokens_audience: str = ""
    tokens_jwks: str = ""
    tokens_claim: str = "roles"
    tokens_roles: str = ""
    """`value=role value=role`."""
    tokens_clients: str = ""
    """To whom its tokens must have been issued (`client_id` or `azp`); empty for anybody. With it no ID token is taken."""
    tokens_types: str = ""
    """What the header of its tokens may call itself; empty for JWT and at+jwt."""
    tokens_longest_s: float = 0.0
    """How far their beginning and end may be apart; 0: as far as they like. None ends more than a day from now."""
    tokens_oldest_s: float = 0.0
    """So long after they were written its keys are believed; 0: for ever, where whoever set them keeps them fresh."""
    timeout_ms: int = 0
    """After so long nobody waits for an answer, where the caller does not say; 0: never."""
    trace_url: str = ""
    """The collector's, for OTLP over HTTP; empty: no traces."""
    trace_networks: str = ""
    """Where its address may lie, as `falaj.core.places.within` reads it; empty: on this machine alone."""
    trace_share: float = 0.1
    workers: int = 1
    """Processes that answer REST; 0: one for each core."""
    grpc: str = "auto"
    """`on`, `off`, or `auto`: where its package is installed."""
    grpc_port: int = 0
    hang_s: float = 15.0
    """A worker that gives no sign of life for so long is killed and started again."""
    provider: str = "cpu"
    """Where models run: one of inference.models.PROVIDERS."""
    device: int = 0
    """Which graphics card, counted from 0."""
    device_memory_mb: int = 0
    """At most so much of its memory; 0 sets no bound."""
    stream_scheme: str = "file"
    """Where requests come as messages: `file`, `kafka`, `nats`, `redis`."""
    stream_url: str = ""
    """As `online_url`."""
    stream_folder: str = ""
    """Where the embedded streams are."""
    stream_source: str = ""
    """The stream of requests; empty where the endpoint takes none."""
    stream_sink: str = ""
    stream_dead: str = ""
    stream_group: str = ""
    stream_batch: int = 128
    """Messages that are in hand at once, at most."""
    stream_tries: int = 5
    """A message that the server fails at, or dies of, is tried so often."""
    stream_visible_s: float = 30.0
    """What a worker that died had in hand comes to the next after that time."""


def read_settings(folder: Path) -> ServerSettings:
    """The settings in a serving folder. Raises NotFound or InvalidInput."""
    return load_settings(folder)[0]


def load_settings(folder: Path) -> tuple[ServerSettings, str]:
    """The settings in a serving folder, and their generation: other bytes are another one. Raises NotFound or InvalidInput."""
    path = folder / "settings.json"
    try:
        data = path.read_bytes()
        body: Any = json.loads(data)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no {path}.", "falaj promote starts an endpoint and writes it.") from exc
    except (OSError, ValueError) as exc:
        raise InvalidInput(f"{path} cannot be read: {exc}.", "remove it; the host writes it again.") from exc
    return settings_from(body, str(path)), hashlib.sha256(data).hexdigest()[:16]


def address_of(settings: ServerSettings, port: int, grpc_port: int) -> dict[str, Any]:
    """Where an endpoint is found: `port`, `url` and `grpc_url`, empty where gRPC is not spoken."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = port or settings.port
    scheme = "https" if settings.tls_certificate else "http"
    return {"port": port, "url": f"{scheme}://{host}:{port}", "grpc_url": f"{host}:{grpc_port}" if grpc_port else ""}


def settings_from(body: Any, where: str = "settings.json") -> ServerSettings:
    """Raises InvalidInput for a missing, unknown or mistyped setting."""
    if not isinstance(body, Mapping):
        raise InvalidInput(f"{where} must hold an object.")
    known = {field.name: field for field in fields(ServerSettings)}
    for name, value in body.items():
        if name not in known:
            raise InvalidInput(f"{where} has the unknown setting {name!r}.", f"there is: {', '.join(known)}.")
        kinds = {"str": str, "int": int, "float": (int, float)}[str(known[name].type)]
        if not isinstance(value, kinds) or isinstance(value, bool):  # type: ignore[arg-type]
            raise InvalidInput(f"The setting {name!r} in {where} must be a {known[name].type}, got {value!r}.")
    try:
        settings = ServerSettings(**body)
    except TypeError as exc:
        raise InvalidInput(f"{where} is incomplete: {exc}.") from exc
    choices_of = {
        "clock": ("wall", "replay"),
        "sync": ("interval", "always"),
        "grpc": ("auto", "on", "off"),
        "tls_names": ("spiffe", "cn"),
    }
    for name, choices in choices_of.items():
        if getattr(settings, name) not in choices:
            raise InvalidInput(f"The setting {name!r} in {where} must be one of {', '.join(choices)}.")
    return settings


def event_time(clock: str, given: Any, now: datetime) -> datetime:
    """When a request happens. Raises InvalidInput where it says nothing that the clock could use.

    Replay believes the request. The wall clock is the server's own: a caller that is more than 5 s away is wrong about something.
    """
    if given is not None and not isinstance(given, str):
        raise InvalidInput(f"The field 'at' must be a time, got {given!r}.", "write it as 2013-05-01T09:30:00Z.")
    if clock == "replay":
        if given is None:
            raise InvalidInput(
                "The request has no field 'at'.", "under the replay clock a request says when it happens: 2013-05-01T09:30:00Z."
            )
        return moment(given)
    if given is not None and abs(moment(given) - now) > TOLERANCE:
        raise InvalidInput(
            f"The request is for {given}, but it is {iso(now)} here.",
            'leave `at` out, set the clock right, or serve with clock = "replay".',
        )
    return now
