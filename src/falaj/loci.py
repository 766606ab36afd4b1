"""Where the open project leads: every adapter and setting of it as a destination, in its locus of residency."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from falaj.adapters.local.reference import absolute, secret
from falaj.config import TABLE, blobs_options
from falaj.core.errors import FalajError, NotFound
from falaj.core.places import read_host
from falaj.stages.contracts.spec import From
from falaj.stages.governance.residency.destinations import Destination, destinations, of_url

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.contracts.spec import Dataset

READ_ELSEWHERE = frozenset(
    {
        "blobs_uri", "blobs_endpoint", "online_url", "stream_url", "mlflow_uri", "webhook", "openlineage", "serve_trace_url",
        "serve_tokens_issuer", "places",
    }
)  # fmt: skip
"""Settings with an address that a line below speaks of. Every other setting with an address is a destination by itself."""
LOCUS_BY_WORD: Mapping[str, str] = {
    # a word in a setting's name: the locus of its address
    "ledger": "storage", "backup": "backup", "witness": "backup", "bundle": "backup", "export": "backup", "key": "keys",
    "vault": "keys", "kms": "keys", "issuer": "human access", "oidc": "human access", "login": "human access",
    "trace": "telemetry", "log": "telemetry", "metrics": "telemetry",
}  # fmt: skip
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
_SPACE = re.compile(r"[\s,]+")
_NAMES = tuple(setting.name for setting in TABLE)


def destinations_of(app: App) -> list[Destination]:
    """Everything, in the order of the loci. Nothing is opened or asked."""
    return [
        *_stores(app),
        *_sources(app),
        _here(app, "runner", "compute", "processes of this machine"),
        _here(app, "host", "compute", "processes of this machine"),
        *_others(app),
        _here(app, "keys", "keys", "keys in the state folder", "keys"),
        *_telemetry(app),
        *proxies(),
        _listens(app, "endpoints", "serving egress", "serve_host"),
        _listens(app, "control plane", "human access", "api_host"),
        *_named(app, "issuer", "human access", "serve_tokens_issuer"),
    ]


def endpoint_of(options: Mapping[str, Any], environment: Mapping[str, str]) -> Mapping[str, Any]:
    """The options with what the environment says where they say nothing: the drivers would ask it too."""
    if options.get("endpoint") or not ("uri" in options or "path" in options):
        return options
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return {**options, "endpoint": next((environment[name] for name in names if environment.get(name)), "")}


def proxies() -> list[Destination]:
    """Whom the drivers of other systems ask to connect for them, as the environment says."""
    found = getproxies()
    return [_url(f"proxy {kind}", "serving egress", found[kind]) for kind in ("http", "https", "all") if found.get(kind)]


def source_options(app: App, source: From) -> dict[str, Any]:
    return {"folder": app.settings.folder, "secret": secret, **source.options}


def _stores(app: App) -> Iterator[Destination]:
    settings = app.settings
    yield _here(app, "ledger", "storage", f"ledger.{settings.ledger}")
    for what, options in (
        ("blobs", lambda: blobs_options(settings, secret)),
        ("online", lambda: _addressed(app, "online")),
        ("stream", lambda: _addressed(app, "stream")),
    ):
        yield from _asked(what, str(getattr(settings, what)), options)


def _asked(what: str, scheme: str, options: Callable[[], Mapping[str, Any]]) -> tuple[Destination, ...]:
    try:
        return destinations(what, what, scheme, options())
    except FalajError as exc:
        return (Destination(what, "storage", f"{what}.{scheme}", problem=exc.message),)


def _addressed(app: App, name: str) -> dict[str, Any]:
    url = str(app.settings.values[f"{name}_url"].value)
    return {"folder": app.state / name, "secret": secret, **({"url": absolute(url)} if url else {})}


def declared(app: App) -> Mapping[str, Dataset]:
    """The datasets of the project; none where it has no module yet: keys are made before anything is declared."""
    try:
        return app.project.datasets
    except NotFound:
        return {}


def _sources(app: App) -> Iterator[Destination]:
    for name, dataset in declared(app).items():
        what = f"dataset/{name}"
        if isinstance(dataset.source, From):
            yield from destinations(what, "source", dataset.source.scheme, source_options(app, dataset.source))
        else:
            # What a function of the project reads is its own affair: it runs here, and nothing here sees where it looks.
            yield Destination(what, "storage", "code of the project")


def _telemetry(app: App) -> Iterator[Destination]:
    settings = app.settings
    if settings.mirror == "mlflow":
        uri = str(settings.mlflow_uri) or f"sqlite:///{app.state / 'mlflow.db'}"
        yield from destinations("mirror", "mirror", "mlflow", {"tracking_uri": uri})
    yield from _named(app, "notify", "telemetry", "webhook")
    lineage = str(settings.openlineage)
    if lineage.startswith("file:"):
        yield _here(app, "lineage", "telemetry", lineage)
    elif lineage:
        yield _url("lineage", "telemetry", lineage)
    yield from _named(app, "traces", "telemetry", "serve_trace_url")


def _others(app: App) -> Iterator[Destination]:
    """Addresses in settings that no line above speaks of: a new setting must not be a way around."""
    for name, value in app.settings.values.items():
        if name in READ_ELSEWHERE:
            continue
        text, locus = str(value.value), next((where for word, where in LOCUS_BY_WORD.items() if word in name), "serving egress")
        if text.startswith(("env:", "file:")) and name.endswith(("_url", "_uri", "_endpoint")):
            try:
                text = (secret(text) or b"").decode("utf-8", "replace")
            except FalajError as exc:
                yield Destination(name, locus, text.partition(":")[0] + ":…", problem=exc.message)
        for number, part in enumerate((part for part in _SPACE.split(text) if "://" in part), 1):
            yield _url(name if number == 1 else f"{name}.{number}", locus, part)


def _named(app: App, what: str, locus: str, setting: str) -> Iterator[Destination]:
    if url := str(app.settings.values[setting].value):
        yield _url(what, locus, url)


def _listens(app: App, what: str, locus: str, setting: str) -> Destination:
    """Where somebody from outside comes in: an address of this machine, and so in the zone of its network. Of one that listens
    on every network a project has to say where all of them are, as of `adapter:listen.endpoints`."""
    host = str(app.settings.values[setting].value)
    if host in EVERYWHERE:
        return Destination(what, locus, f"every network ({host})", adapter=f"listen.{what.replace(' ', '-')}")
    try:
        return Destination(what, locus, host, (read_host(host),))
    except FalajError as exc:
        return Destination(what, locus, host, problem=exc.message)


def _here(app: App, what: str, locus: str, address: str, folder: str = "") -> Destination:
    return Destination(what, locus, address, folder=str((app.state / folder).absolute()))


def _url(what: str, locus: str, url: str) -> Destination:
    try:
        return of_url(what, locus, url)
    except FalajError as exc:
        return Destination(what, locus, "an address that cannot be read", problem=exc.message)
