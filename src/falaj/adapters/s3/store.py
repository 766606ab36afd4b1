"""One bucket and prefix of a store that speaks S3, opened with time limits, and its errors translated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from falaj.adapters.tabular.address import Bucket
from falaj.core.errors import Denied, InvalidInput, NotFound, Unavailable

CONNECT_S, RETRIES = 5.0, 2
BLOCK = 8 << 20
_NOBODY = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403 Forbidden", "401 Unauthorized")


def open_store(bucket: Bucket, timeout_s: float) -> S3Store:
    """Every request ends within `timeout_s` and is tried three times at most."""
    try:
        return S3Store(
            bucket.name,
            client_options={
                "allow_http": bucket.in_clear,
                "timeout": f"{timeout_s}s",
                "connect_timeout": f"{min(CONNECT_S, timeout_s)}s",
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=timeout_s)},
            **bucket.given,  # type: ignore[arg-type]
        )
    except (BaseError, ValueError) as exc:
        raise InvalidInput(f"The store of {bucket.shown} cannot be opened with these options.", "check its endpoint.") from exc


def read_on(
    store: S3Store, where: str, key: str, meta: tuple[str | None, int], *, between: tuple[int, int] | None = None
) -> Iterator[bytes]:
    """The bytes of one object of that tag and size, block by block; Unavailable where it was replaced meanwhile."""
    tag, size = meta
    first, last = between or (0, size)
    for start in range(first, last, BLOCK):
        with border(where):
            end = min(start + BLOCK, last)
            given = obstore.get(store, key, options={"range": (start, end), **({"if_match": tag} if tag else {})})
            data = bytes(given.bytes())
        yield data


@contextmanager
def border(where: str) -> Iterator[None]:
    """What the store's own errors mean. Their texts stay inside: they hold the whole request."""
    try:
        yield
    except FileNotFoundError as exc:
        if "NoSuchBucket" in str(exc):
            raise _no_bucket(where) from exc
        raise NotFound(f"There is no {where}.", "it was never kept here, or was removed.") from exc
    except (PermissionDeniedError, UnauthenticatedError) as exc:
        raise _refused(where) from exc
    except PreconditionError as exc:
        raise Unavailable(f"{where} was replaced while it was read.", "load again.") from exc
    except (BaseError, OSError) as exc:
        said = str(exc)
        if "NoSuchBucket" in said:
            raise _no_bucket(where) from exc
        if any(word in said for word in _NOBODY):
            raise _refused(where) from exc
        raise Unavailable(f"The store does not answer for {where}.", "check its endpoint and region, and try again.") from exc


def _no_bucket(where: str) -> NotFound:
    return NotFound(f"There is no bucket for {where}.", "make it, or check its name and region.")


def _refused(where: str) -> Denied:
    return Denied(f"The store refuses {where} to these keys.", "check the keys' rights and that their references are current.")
