"""Destinations: where an adapter would lead, read from the very options that it is opened with, before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from falaj.core.errors import FalajError, InvalidInput
from falaj.core.places import UNKNOWN, Address, Places, read_host
from falaj.stages.governance.residency.registry import Registry

Secret = Callable[[str], bytes | None]
LOCI = ("storage", "compute", "backup", "keys", "telemetry", "serving egress", "human access")
LOCUS_OF: Mapping[str, str] = {
    # port: the locus of what it opens
    "ledger": "storage", "blobs": "storage", "online": "storage", "stream": "storage", "source": "storage",
    "predictions": "storage", "runner": "compute", "host": "compute", "mirror": "telemetry", "lineage": "telemetry",
    "notify": "telemetry", "traces": "telemetry", "keys": "keys", "backup": "backup",
}  # fmt: skip
EMBEDDED = frozenset({"sqlite", "duckdb"})
"""Databases that are files of this machine."""
ACCOUNTS = frozenset({"snowflake", "bigquery", "databricks"})
"""Warehouses whose addresses name an account, which the driver alone can turn into a host."""
OWN = frozenset(
    {
        "ledger.sqlite", "ledger.memory", "blobs.file", "blobs.memory", "online.lmdb", "online.memory", "stream.file",
        "stream.memory", "predictions.file", "runner.process", "runner.memory", "host.process", "host.memory", "mirror.none",
        "lineage.file", "lineage.memory", "notify.log", "source.files",
    }
)  # fmt: skip
"""Adapters that lead nowhere but to folders and processes of this machine."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One place that something may go to. `address` is shown to people and holds no password."""

    what: str
    """`blobs`, `dataset/flights`, `notify` …"""
    locus: str
    address: str
    hosts: tuple[Address | str, ...] = ()
    folder: str = ""
    bucket: str = ""
    region: str = ""
    """`aws:me-central-1`, where no host is named."""
    adapter: str = ""
    """`online.acme`, of another package, whose options name no address."""
    account: str = ""
    problem: str = ""
    """Why it cannot be told where it leads; that is nowhere where anything may go."""

    @property
    def is_here(self) -> bool:
        """Whether it is a folder or a process of this machine."""
        return not (self.hosts or self.bucket or self.region or self.adapter or self.account or self.problem)


def destinations(what: str, port: str, scheme: str, options: Mapping[str, Any]) -> tuple[Destination, ...]:
    """Where `<port>.<scheme>` would lead with these options. Never raises: what cannot be read is a destination of its own."""
    locus, secret = LOCUS_OF.get(port, "storage"), options.get("secret")
    resolve: Secret = secret if callable(secret) else lambda _: None
    try:
        found = _read(what, locus, f"{port}.{scheme}", (options, resolve))
        return (found[0], *(replace(more, what=f"{what}.{number}") for number, more in enumerate(found[1:], 2)))
    except FalajError as exc:
        return (Destination(what, locus, f"{port}.{scheme}", problem=exc.message),)
    except Exception as exc:  # a form that nobody thought of must not be let through
        return (Destination(what, locus, f"{port}.{scheme}", problem=f"it cannot be read ({type(exc).__name__})"),)


def of_url(what: str, locus: str, url: str) -> Destination:
    """Of an address with a scheme: one or more hosts, a file of this machine, or a socket file.

    Raises InvalidInput where it names no host, for then a driver would look elsewhere for one.
    """
    scheme, found, rest = url.partition("://")
    kind = scheme.lower().partition("+")[0]
    if not found or not kind.replace("-", "_").isidentifier():
        raise InvalidInput("It is no address with a scheme.", "write scheme://host/….")
    if kind in EMBEDDED:
        path = unquote(rest.partition("?")[0].removeprefix("/"))
        if path.lower().startswith("md:") or "motherduck" in url.lower():
            raise InvalidInput("MotherDuck is a service of its own.", "read it through another address.")
        return Destination(what, locus, f"{kind}:{path or 'memory'}", folder=path or ".")
    if kind == "unix":  # a socket file, as Redis writes it
        return Destination(what, locus, f"unix:{rest.partition('?')[0]}", folder=rest.partition("?")[0])
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    query = [(name.lower(), value) for name, value in parse_qsl(urlsplit(f"//{rest}").query, keep_blank_values=True)]
    named = authority.rpartition("@")[2]
    if kind in ACCOUNTS:
        account = named.partition(":")[0].lower()
        if not account:
            raise InvalidInput("It names no account.")
        return Destination(what, locus, f"{kind}://{account}", account=account)
    given = [part for part in named.split(",") if part] + [
        part
        for name, value in query
        if name in ("host", "hostaddr", "server", "unix_socket", "service")
        for part in value.split(",")
    ]
    if not given:
        raise InvalidInput("It names no host, and the driver would look elsewhere for one.", "write scheme://host/….")
    files = [part for part in given if part.startswith("/")]
    if files and len(files) == len(given):
        return Destination(what, locus, f"{kind}:{files[0]}", folder=files[0])
    hosts = tuple(read_host(_bare(unquote(part))) for part in given if not part.startswith("/"))
    return Destination(what, locus, f"{kind}://{','.join(map(_shown, given))}", hosts)


def of_store(what: str, locus: str, uri: str, options: Mapping[str, Any]) -> Destination:
    """Of `s3://bucket/prefix` with `endpoint` and `region`."""
    bucket = urlsplit(uri).netloc
    if not uri.startswith("s3://") or not bucket or "@" in bucket:
        raise InvalidInput("A store's address names a bucket.", "write s3://bucket/prefix.")
    endpoint, region = str(options.get("endpoint") or ""), str(options.get("region") or "us-east-1")
    if endpoint:
        found = of_url(what, locus, endpoint)
        return Destination(what, locus, f"s3://{bucket} at {found.address}", found.hosts, bucket=bucket)
    return Destination(what, locus, f"s3://{bucket} in aws:{region}", bucket=bucket, region=f"aws:{region}")


def zone_of(destination: Destination, places: Places, registry: Registry) -> tuple[str, str]:
    """(zone, what says so). Two words that differ are none: the zone is unknown."""
    if destination.problem:
        return UNKNOWN, destination.problem
    if destination.folder or destination.is_here:
        declared = places.of_folder(destination.folder) if destination.folder.startswith("/") else UNKNOWN
        return (declared, "[places]") if declared != UNKNOWN else (places.home, "this machine")
    said = [(places.of_host(host), str(host)) for host in destination.hosts]
    if destination.region:
        provider, _, code = destination.region.partition(":")
        said.append((registry.zone_of_region(provider, code), destination.region))
    if destination.bucket and places.of_bucket(destination.bucket) != UNKNOWN:
        # A region that no list has may be declared by its bucket; one that is listed elsewhere may not.
        said = [one for one in said if one[0] != UNKNOWN or not one[1].startswith("aws:")]
        said.append((places.of_bucket(destination.bucket), f"s3://{destination.bucket}"))
    if destination.adapter:
        said.append((places.adapters.get(destination.adapter, UNKNOWN), f"adapter:{destination.adapter}"))
    if destination.account:
        said.append((places.of_name(destination.account), destination.account))
    zones = {zone for zone, _ in said}
    if len(zones) == 1:
        return zones.pop(), ", ".join(dict.fromkeys(by for _, by in said))
    return UNKNOWN, "it is said to be in " + " and in ".join(f"{zone} ({by})" for zone, by in said)


def _read(what: str, locus: str, name: str, given: tuple[Mapping[str, Any], Secret]) -> list[Destination]:
    options, secret = given
    if name in OWN:
        folder = Path(str(options.get("folder") or options.get("path") or ""))
        if name == "source.files":  # it may lead out of the project's folder, to another disk
            folder /= str(options.get("path") or "")
        return [Destination(what, locus, name, folder=str(folder) if folder.is_absolute() else "")]
    path = str(options.get("path") or "")
    if name == "source.delta" and "://" not in path:
        return [Destination(what, locus, f"file:{path}", folder=str(Path(str(options.get("folder") or ""), path)))]
    if name in ("blobs.s3", "source.s3", "source.delta"):
        return [of_store(what, locus, str(options.get("uri") or path), options)]
    if name == "source.iceberg":
        return _catalog(what, locus, options, secret)
    if name == "source.stream" and not options.get("url"):
        return [Destination(what, locus, f"file:{path}")]
    url = str(options.get("tracking_uri") or options.get("url") or options.get("dsn") or "")
    if not url:
        return [Destination(what, locus, name, adapter=name)]
    if url.startswith(("env:", "file:")):
        url = (secret(url) or b"").decode("utf-8", "replace").strip()
    return [of_url(what, locus, url)]


def _catalog(what: str, locus: str, options: Mapping[str, Any], secret: Secret) -> list[Destination]:
    """A catalog of Iceberg tables, and the store that it names. Where a REST catalog puts a table is known to it alone."""
    read = {str(key).lower(): str(value) for key, value in (options.get("catalog") or {}).items()}
    read |= {str(key).lower(): (secret(value) or b"").decode() for key, value in (options.get("secrets") or {}).items()}
    found = [of_url(what, locus, read["uri"])] if "://" in read.get("uri", "") else []
    endpoints = [value for key, value in read.items() if key.endswith("endpoint") and value]
    found += [of_url(what, locus, value if "://" in value else f"https://{value}") for value in endpoints]
    house = read.get("warehouse", "")
    if house.startswith("s3://") and not endpoints:
        found.append(of_store(what, locus, house, {"region": read.get("s3.region") or read.get("client.region") or "unnamed"}))
    elif "://" in house and not house.startswith(("s3://", "file://")):
        found.append(of_url(what, locus, house))
    if not found and house and read.get("type") == "in-memory":
        return [Destination(what, locus, f"file:{house}", folder=house.removeprefix("file://"))]
    return found or [Destination(what, locus, "source.iceberg", problem="the catalog names no address")]


def _bare(part: str) -> str:
    """A host without its port."""
    if part.startswith("["):
        return part.partition("]")[0] + "]"
    return part.partition(":")[0] if part.count(":") <= 1 else part


def _shown(part: str) -> str:
    return unquote(part)[:120]
