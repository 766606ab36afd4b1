"""The table of adapters, and the one way to open one."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from falaj.core.errors import Conflict, MissingDependency, NotFound

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ADAPTERS: Mapping[str, tuple[str, str]] = {
    # <port>.<scheme>: (where, the extra that brings its packages)
    "ledger.memory": ("falaj.adapters.memory.ledger:MemoryLedger", ""),
    "ledger.sqlite": ("falaj.adapters.local.ledger:SqliteLedger", ""),
    "blobs.memory": ("falaj.adapters.memory.blobs:MemoryBlobs", ""),
    "blobs.file": ("falaj.adapters.local.blobs:FileBlobs", ""),
    "blobs.s3": ("falaj.adapters.s3.blobs:S3Blobs", "s3"),
    "source.files": ("falaj.adapters.files.source:FilesSource", "data"),
    "source.s3": ("falaj.adapters.s3.source:S3Source", "s3"),
    "source.delta": ("falaj.adapters.delta.source:DeltaSource", "delta"),
    "source.iceberg": ("falaj.adapters.iceberg.source:IcebergSource", "iceberg"),
    "source.postgres": ("falaj.adapters.postgres.source:PostgresSource", "postgres"),
    "source.database": ("falaj.adapters.database.source:DatabaseSource", "database"),
    "source.warehouse": ("falaj.adapters.warehouse.source:WarehouseSource", "warehouse"),
    "source.stream": ("falaj.adapters.stream.source:StreamSource", "data"),
    "online.memory": ("falaj.adapters.memory.online:MemoryOnline", ""),
    "online.lmdb": ("falaj.adapters.local.online:LmdbOnline", "serve"),
    "online.redis": ("falaj.adapters.redis.online:RedisOnline", "redis"),
    "online.postgres": ("falaj.adapters.postgres.online:PostgresOnline", "postgres"),
    "stream.memory": ("falaj.adapters.memory.stream:MemoryStream", ""),
    "stream.file": ("falaj.adapters.local.stream:FileStream", ""),
    "stream.kafka": ("falaj.adapters.kafka.stream:KafkaStream", "kafka"),
    "stream.nats": ("falaj.adapters.nats.stream:NatsStream", "nats"),
    "stream.redis": ("falaj.adapters.redis.stream:RedisStream", "redis"),
    "predictions.file": ("falaj.adapters.local.predictions:SegmentPredictions", ""),
    "runner.memory": ("falaj.adapters.memory.runner:MemoryRunner", ""),
    "runner.process": ("falaj.adapters.local.runner:ProcessRunner", ""),
    "host.memory": ("falaj.adapters.memory.host:MemoryHost", ""),
    "host.process": ("falaj.adapters.local.host:ProcessHost", "serve"),
    "mirror.none": ("falaj.adapters.memory.mirror:MemoryMirror", ""),
    "mirror.mlflow": ("falaj.adapters.mlflow.mirror:MlflowMirror", "mlflow"),
    "lineage.memory": ("falaj.adapters.memory.lineage:MemoryLineage", ""),
    "lineage.file": ("falaj.adapters.local.lineage:FileLineage", ""),
    "lineage.http": ("falaj.adapters.local.lineage:HttpLineage", ""),
    "identity.oidc": ("falaj.adapters.oidc.identity:OidcIdentity", "oidc"),
    "policy.roles": ("falaj.adapters.local.policy:RolePolicy", ""),
    "witness.http": ("falaj.adapters.local.witness:HttpWitness", ""),
    "notify.log": ("falaj.adapters.local.notify:LogNotify", ""),
    "notify.webhook": ("falaj.adapters.local.webhook:WebhookNotify", ""),
}


@functools.cache
def _plugins() -> tuple[EntryPoint, ...]:
    """What other installed packages offer; found once, since it means reading the metadata of every package."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group="falaj.adapters"))


def known(port: str) -> list[str]:
    """The schemes that a port can be opened with, from falaj and from other packages."""
    names = set(ADAPTERS) | {entry.name for entry in _plugins()}
    return sorted(name.partition(".")[2] for name in names if name.startswith(port + "."))


def open_adapter(port: str, scheme: str, /, **options: Any) -> Any:
    """Imports and opens `<port>.<scheme>`.

    Raises NotFound with the nearest names, MissingDependency with the install line, Conflict where two packages claim the name.
    """
    name = f"{port}.{scheme}"
    plugins = [entry for entry in _plugins() if entry.name == name]
    if len(plugins) + (name in ADAPTERS) > 1:
        owners = ", ".join(sorted({entry.value for entry in plugins} | ({"falaj"} if name in ADAPTERS else set())))
        raise Conflict(f"More than one package offers the adapter {name!r}: {owners}.", "uninstall all but one.")
    if name not in ADAPTERS and not plugins:
        raise NotFound.named(f"{port} adapter", scheme, known(port))
    return _opened(name, ADAPTERS.get(name) or (plugins[0].value, ""), options)


def open_own(port: str, scheme: str, /, **options: Any) -> Any:
    """As `open_adapter`, for a process that is waited for: it looks at other packages only for what falaj has not itself.

    That two packages claim a name is then found where the project is opened, and falaj's own is used meanwhile.
    """
    name = f"{port}.{scheme}"
    return _opened(name, ADAPTERS[name], options) if name in ADAPTERS else open_adapter(port, scheme, **options)


def _opened(name: str, place: tuple[str, str], options: Mapping[str, Any]) -> Any:
    where, extra = place
    module_name, _, attribute = where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.startswith("falaj"):
            raise
        raise MissingDependency.of(f"The adapter {name!r}", exc.name or module_name, extra or "all") from exc
    return getattr(module, attribute)(**options)
