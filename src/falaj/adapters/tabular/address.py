"""Addresses: where a source lies, with its secrets named by reference, and never outside of what a project may read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from falaj.core.errors import InvalidInput

Secret = Callable[[str], bytes | None]
STORE_OPTIONS = ("endpoint", "region", "key", "key_secret", "token", "allow_http")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an S3-compatible store."""

    name: str
    prefix: str
    in_clear: bool
    """Whether it is spoken to without TLS."""
    given: Mapping[str, str] = field(repr=False)
    """`access_key_id`, `secret_access_key`, `session_token`, `endpoint`, `region`, as far as they are known."""

    @property
    def shown(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    def as_aws(self, timeout_s: float) -> dict[str, str]:
        """The names that libraries on object_store (polars, deltalake) know these under."""
        names = {"endpoint": "aws_endpoint_url"}
        limits = {
            "timeout": f"{timeout_s}s",
            "connect_timeout": f"{min(5.0, timeout_s)}s",
            "aws_allow_http": str(self.in_clear).lower(),
        }
        return {names.get(name, f"aws_{name}"): value for name, value in self.given.items()} | limits


def bucket(address: str, secret: Secret | None, options: Mapping[str, Any]) -> Bucket:
    """`address` is `s3://bucket/prefix`. `options`: `endpoint`, `region`, and by reference `key`, `key_secret`, `token`;
    without keys the machine's own identity is used. `allow_http` lets a store that is not on this machine go without TLS.

    Raises InvalidInput for an address that is none, an unknown option, and an endpoint that would send data in the clear.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInput("A store's address names a bucket.", "write s3://bucket/prefix; keys are named by reference.")
    unknown = sorted(set(options) - set(STORE_OPTIONS))
    if unknown:
        raise InvalidInput(f"A store has no option {unknown[0]!r}.", f"there is: {', '.join(STORE_OPTIONS)}.")
    endpoint = str(options.get("endpoint") or "")
    in_clear = _in_clear(endpoint, allowed=options.get("allow_http") is True)
    keys = {name: resolved(str(options.get(name) or ""), secret) for name in ("key", "key_secret", "token")}
    if bool(keys["key"]) != bool(keys["key_secret"]):
        raise InvalidInput("A store takes a key and its secret, or neither.", "set both `key` and `key_secret` to references.")
    given = {
        "access_key_id": keys["key"], "secret_access_key": keys["key_secret"], "session_token": keys["token"],
        "endpoint": endpoint, "region": str(options.get("region") or "us-east-1"),
    }  # fmt: skip
    return Bucket(parts.netloc, parts.path.strip("/"), in_clear, {name: value for name, value in given.items() if value})


def resolved(reference: str, secret: Secret | None) -> str:
    """The secret behind a reference; empty for an empty one. Raises InvalidInput where it leads nowhere or is no text."""
    if not reference:
        return ""
    if secret is None or not reference.startswith(("env:", "file:")):
        raise InvalidInput("A secret stands here that is no reference.", "write env:NAME or file:PATH and keep the secret there.")
    try:
        return (secret(reference) or b"").decode("utf-8").strip()
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"What {reference} refers to is no text.", "keep one line of UTF-8 there.") from exc


def inside(folder: Path, path: str, *, outside: bool = False) -> Path:
    """The place that `path` names below `folder`. Raises InvalidInput where it lies outside and that is not allowed."""
    if not path or "\0" in path:
        raise InvalidInput("A source of files needs a path.", 'write path="data/trips.csv".')
    named = folder / path
    if not outside and (Path(path).is_absolute() or ".." in Path(path).parts or not named.resolve().is_relative_to(folder)):
        raise refused(path)
    return named


def refused(path: str) -> InvalidInput:
    return InvalidInput(
        f"{path} lies outside of the project's folder.", "copy it into the folder, or set outside=True where you declare it."
    )


def _in_clear(endpoint: str, *, allowed: bool) -> bool:
    if not endpoint:
        return False
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise InvalidInput("The endpoint of a store is no address.", "write https://host:port.")
    if parts.scheme == "https":
        return False
    if allowed or _is_here(parts.hostname):
        return True
    raise InvalidInput(
        f"The endpoint http://{parts.hostname} would send keys and data in the clear.",
        "write https://, or set allow_http=True where the network itself is trusted.",
    )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
