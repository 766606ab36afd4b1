"""Settings: one table; a value comes from the default, the project's file, the environment or a flag, and says which."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.sizes import size

FILE = "falaj.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    default: str | int | float | bool
    help: str
    one_of: tuple[str, ...] = ()


TABLE: tuple[Setting, ...] = (
    Setting("name", "project", "The project's name, shown in reports and in the ledger's origin."),
    Setting("modules", "project", "Python modules of the project that hold its declarations, separated by commas."),
    Setting("zone", "local", "Where this installation stands, such as uae-onshore."),
    Setting("state", ".falaj", "Folder for the ledger, blobs, keys and logs, relative to the project."),
    Setting(
        "clock",
        "wall",
        "wall: the machine's clock. replay: the time that the caller tells, to live through past data.",
        ("wall", "replay"),
    ),
    Setting("replay_from", "2000-01-01T00:00:00Z", "Where the replay clock starts."),
    Setting("ledger", "sqlite", "Ledger adapter: sqlite or memory."),
    Setting("blobs", "file", "Blob adapter: file, s3 or memory."),
    Setting("blobs_uri", "", "Where blobs lie in a store: s3://bucket/prefix."),
    Setting("blobs_endpoint", "", "Address of an S3-compatible store; empty means AWS. Without TLS only on this machine."),
    Setting("blobs_region", "us-east-1", "Region of the store."),
    Setting(
        "blobs_key", "", "Reference to the store's access key: env:NAME or file:PATH; empty uses the machine's own identity."
    ),
    Setting("blobs_secret", "", "Reference to the store's secret key: env:NAME or file:PATH."),
    Setting("online", "lmdb", "Online feature store adapter: lmdb, redis, postgres or memory."),
    Setting(
        "online_url",
        "",
        "Address of that Redis or PostgreSQL: env:NAME or file:PATH that holds it, or one of this machine without a password.",
    ),
    Setting("stream", "file", "Where endpoints' messages are: file, kafka, nats, redis or memory."),
    Setting(
        "stream_url",
        "",
        "Address of that Kafka, NATS or Redis: env:NAME or file:PATH that holds it, or one of this machine without a password.",
    ),
    Setting("runner", "process", "Where training runs: process, or memory for inside this process."),
    Setting("host", "process", "Where endpoints run: process or memory."),
    Setting("mirror", "mlflow", "Copy of runs and models: mlflow or none. Without MLflow installed, none."),
    Setting("mlflow_uri", "", "Address of an MLflow server; empty keeps a SQLite file in the state folder."),
    Setting("webhook", "", "Address that alerts are sent to; empty writes them to the log only."),
    Setting("webhook_secret", "", "Reference to the webhook's signing secret: env:NAME or file:PATH."),
    Setting("openlineage", "", "Where OpenLineage events go: file:PATH (in the state folder) or https://…; empty sends none."),
    Setting("openlineage_key", "", "Reference to the collector's API key: env:NAME or file:PATH."),
    Setting("api_host", "127.0.0.1", "Address that the control plane listens on."),
    Setting("api_port", 7700, "Port of the control plane; 0 picks a free one."),
    Setting(
        "api_tls",
        "off",
        "off: the control plane speaks plain HTTP. local: with a certificate of the project's own authority. files: with yours.",
        ("off", "local", "files"),
    ),
    Setting("api_tls_certificate", "", "Certificate chain of the control plane, in PEM; taken over when the file changes."),
    Setting("api_tls_key", "", "Its private key, in PEM, readable by its owner only."),
    Setting("api_tls_passphrase", "", "Reference to the key's passphrase, if it has one: env:NAME or file:PATH."),
    Setting(
        "api_tls_clients",
        "",
        "Who vouches for clients: a PEM file, or local for the project's own authority. Clients need a certificate then.",
    ),
    Setting(
        "api_tls_names",
        "spiffe",
        "spiffe: a client is who the URI in its certificate says. cn: who its common name says.",
        ("spiffe", "cn"),
    ),
    Setting("tls_life", "1h", "How long the project's own authority vouches for a service, 10m to 24h; renewed at half of it."),
    Setting("oidc_issuer", "", "The company's OpenID provider, where people log in, as in https://id.example; empty: keys only."),
    Setting("oidc_client", "", "The client by which people log in there: public, with loopback redirects."),
    Setting("oidc_client_secret", "", "Reference to its secret, if it has one: env:NAME or file:PATH."),
    Setting("oidc_audience", "", "Whom access tokens must be meant for (aud), as in https://falaj.example."),
    Setting("oidc_claim", "groups", "Which claim tells a person's groups; realm_access.roles leads into an object."),
    Setting("oidc_roles", "", "Which group gives which role here, as in ml-team=ml_engineer risk=approver."),
    Setting("oidc_clients", "", "Other clients of the provider whose tokens are taken, as programs' tokens."),
    Setting("oidc_scope", "openid", "What is asked for at a login; with offline_access it is renewed without another one."),
    Setting("oidc_longest", "10m", "For how long an access token may be good at most, up to 24h."),
    Setting(
        "oidc_type",
        "at+jwt",
        "at+jwt: access tokens call themselves so (RFC 9068). jwt: they need not, as with providers that do not know it.",
        ("at+jwt", "jwt"),
    ),
    Setting(
        "elevate_roles", "operator,ml_engineer", "Roles that a person may take in an emergency; none that approves or reviews."
    ),
    Setting("serve_host", "127.0.0.1", "Address that inference servers listen on."),
    Setting("serve_port", 7710, "Port of the first endpoint, the next ones follow; 0 picks free ones."),
    Setting("serve_workers", 1, "Processes of each endpoint that answer REST; 0 is one for each core."),
    Setting(
        "serve_grpc", "auto", "Whether endpoints speak gRPC too; auto: where its package is installed.", ("auto", "on", "off")
    ),
    Setting("serve_grpc_port", 0, "gRPC port of the first endpoint, the next ones follow; 0 picks free ones, which are kept."),
    Setting(
        "serve_tls",
        "off",
        "off: endpoints speak plain HTTP. local: with certificates of the project's own authority. files: with yours.",
        ("off", "local", "files"),
    ),
    Setting("serve_tls_certificate", "", "Certificate chain of the endpoints, in PEM; taken over when the file changes."),
    Setting("serve_tls_key", "", "Its private key, in PEM, readable by its owner only."),
    Setting("serve_tls_passphrase", "", "Reference to the key's passphrase, if it has one: env:NAME or file:PATH."),
    Setting(
        "serve_tls_clients",
        "",
        "Who vouches for clients: a PEM file, or local for the project's own authority. Clients need a certificate then.",
    ),
    Setting(
        "serve_tls_names",
        "spiffe",
        "spiffe: a client is who the URI in its certificate says. cn: who its common name says.",
        ("spiffe", "cn"),
    ),
    Setting("serve_tokens_issuer", "", "Whose tokens endpoints take beside the project's own, as in https://id.example."),
    Setting("serve_tokens_audience", "", "Whom those tokens must be meant for."),
    Setting("serve_tokens_jwks", "", "File with that issuer's public keys (JWKS), kept fresh by you."),
    Setting("serve_tokens_claim", "roles", "Which claim of those tokens tells what their holder may do."),
    Setting("serve_tokens_roles", "", "What its values mean here, as in ml-callers=caller ml-admins=operator."),
    Setting(
        "serve_timeout_ms", 0, "After how many milliseconds nobody waits for an answer, where a caller does not say; 0: never."
    ),
    Setting("serve_trace_url", "", "Where traces go by OTLP, as in http://127.0.0.1:4318/v1/traces; empty sends none."),
    Setting("serve_trace_share", 0.1, "Share of the requests that are traced, where a caller has not decided, 0 to 1."),
    Setting(
        "log_sync",
        "interval",
        "interval: a prediction is on disk within a second of its answer. always: before its answer.",
        ("interval", "always"),
    ),
    Setting(
        "serve_provider",
        "cpu",
        "Where endpoints run their models: cpu, or cuda, tensorrt or rocm with the onnxruntime that has it.",
        ("cpu", "cuda", "tensorrt", "rocm"),
    ),
    Setting("serve_device", 0, "Which graphics card, counted from 0."),
    Setting("serve_device_memory", 0, "At most so many MB of its memory for each server; 0 sets no bound."),
    Setting(
        "witnesses", "", "Who keeps watch over the ledger: each `<key> <address>`, as `python -m falaj.witness` prints them."
    ),
    Setting("witness_quorum", 0, "How many of them have to have cosigned a checkpoint; 0 is all."),
    Setting("witness_wait", "1h", "How long an event may wait for that, before an alert says so and audit verify holds."),
    Setting("witness_required", False, "Whether nothing may be written any more when it has waited longer."),
    Setting("seed", 0, "Makes the splits of traffic other ones."),
    Setting("memory", "auto", "About how much a join may hold at once, such as 2GB; auto is a quarter of the machine's memory."),
    Setting("tick", 5.0, "Seconds between two rounds of the worker under the wall clock."),
)
_BY_NAME = {setting.name: setting for setting in TABLE}


@dataclass(frozen=True, slots=True)
class Value:
    value: Any
    origin: str
    """`default`, the file's path, `environment FALAJ_…` or `flag`."""


class Settings:
    """The settings of one project, read by attribute: `settings.api_port`."""

    def __init__(self, folder: Path, values: Mapping[str, Value]) -> None:
        self.folder = folder
        self.values = dict(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name].value
        except KeyError:
            raise AttributeError(name) from None

    @property
    def state_folder(self) -> Path:
        return self.folder / str(self.values["state"].value)

    @property
    def memory_bytes(self) -> int:
        """What the setting `memory` names. Raises InvalidInput where that is no size."""
        text = str(self.values["memory"].value)
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 if text == "auto" else size(text)


def load(folder: Path, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of the project in `folder`.

    Raises NotFound for an unknown setting (with the nearest name), InvalidInput for a value of the wrong kind or a file
    that does not parse.
    """
    values = {setting.name: Value(setting.default, "default") for setting in TABLE}
    path = folder / FILE
    for name, given in _from_file(path).items():
        values[name] = Value(_read(name, given, str(path)), str(path))
    for variable, given in sorted((os.environ if environment is None else environment).items()):
        name = variable.removeprefix("FALAJ_").lower()
        if (
            variable.startswith("FALAJ_")
            and variable not in ("FALAJ_API_KEY", "FALAJ_PROJECT")
            and not variable.startswith(("FALAJ_TEST_", "FALAJ_BENCH_"))
        ):
            values[name] = Value(_read(name, given, f"environment {variable}"), f"environment {variable}")
    for name, given in (flags or {}).items():
        values[name] = Value(_read(name, given, "flag"), "flag")
    return Settings(folder, values)


def blobs_options(settings: Settings, secret: Callable[[str], bytes | None]) -> dict[str, Any]:
    """What the adapter that `blobs` names is opened with. `secret` resolves a reference."""
    if settings.blobs == "file":
        return {"folder": settings.state_folder / "blobs"}
    if settings.blobs != "s3":
        return {}
    place = {name: str(settings.values[f"blobs_{name}"].value) for name in ("uri", "endpoint", "region", "key")}
    return {**place, "key_secret": str(settings.blobs_secret), "cache": settings.state_folder / "blobs-cache", "secret": secret}


def serving_options(settings: Settings) -> dict[str, Any]:
    """What every endpoint is told, by the names of the inference server's own settings, without its defaults."""
    options: dict[str, Any] = {
        "clock": str(settings.clock),
        "sync": str(settings.log_sync),
        "workers": int(settings.serve_workers),
        "grpc": str(settings.serve_grpc),
        "grpc_port": int(settings.serve_grpc_port),
    }
    if settings.serve_provider != "cpu":
        options["provider"] = str(settings.serve_provider)
        options |= {"device": int(settings.serve_device), "device_memory_mb": int(settings.serve_device_memory)}
    return options


def _from_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise InvalidInput(f"{path} cannot be read: {exc}.", "mend the file; `falaj config show` lists every setting.") from exc


def _read(name: str, given: Any, origin: str) -> Any:
    setting = _BY_NAME.get(name)
    if setting is None:
        error = NotFound.named("setting", name, _BY_NAME)
        raise NotFound(f"{error.message[:-1]} ({origin}).", error.hint)
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        given = ",".join(given)
    wanted = type(setting.default)
    try:
        value = _cast(given, wanted)
    except ValueError as exc:
        raise InvalidInput(f"The setting {name!r} must be a {wanted.__name__}, got {given!r} ({origin}).", setting.help) from exc
    if setting.one_of and value not in setting.one_of:
        raise InvalidInput(
            f"The setting {name!r} must be one of {', '.join(setting.one_of)}, got {value!r} ({origin}).", setting.help
        )
    return value


def _cast(given: Any, wanted: type) -> Any:
    if isinstance(given, bool) != (wanted is bool) and not isinstance(given, str):
        raise ValueError(given)
    if wanted is bool and isinstance(given, str):
        if given.lower() not in ("true", "false"):
            raise ValueError(given)
        return given.lower() == "true"
    if wanted is str and not isinstance(given, str):
        raise ValueError(given)
    if wanted is int and isinstance(given, float):
        raise ValueError(given)
    return wanted(given)
