"""Where a dataset's rows come from, in words that hold no secret."""

from __future__ import annotations

from urllib.parse import urlsplit

from falaj.core.errors import FalajError
from falaj.ports.source import Origin
from falaj.stages.contracts.document import parse
from falaj.stages.contracts.spec import Dataset, Derived, From

_NAMED_BY = ("path", "table", "topic", "query", "key", "name")
"""Options of a source that say what is read, the most telling first."""
_AT = ("url", "uri", "endpoint", "bucket", "host")


def origin_of(declared: Dataset, contract: bytes = b"") -> Origin:
    """From the declaration alone, nothing is opened. A function is named by the contract's `physicalName` of its table, and
    without one by its own name."""
    source = declared.source
    if isinstance(source, Derived):
        return Origin("falaj", declared.name)
    if isinstance(source, From):
        name = next((str(source.options[key]) for key in _NAMED_BY if source.options.get(key)), declared.name)
        place = next((str(source.options[key]) for key in _AT if source.options.get(key)), "")
        # As the opened source says it once there is a load.
        scheme = "file" if source.scheme == "files" else source.scheme
        return Origin(_bare(place) or scheme, name.partition("?")[0][:200])
    if physical := _physical(contract, declared.contract):
        return Origin("file", physical)
    return Origin("python", f"{getattr(source, '__module__', '')}.{getattr(source, '__qualname__', declared.name)}")


def _bare(address: str) -> str:
    """An address without user, password, path and query."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else address.partition("?")[0].rpartition("@")[2]


def _physical(contract: bytes, file: str) -> str:
    try:
        tables = list(parse(contract, file).get("schema").items()) if contract else []
        return tables[0].get("physicalName").text("") if tables else ""
    except FalajError:
        return ""
