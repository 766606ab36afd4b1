"""Digest texts: `sha256:` and 64 hexadecimal digits, and nothing else that somebody may send."""

from __future__ import annotations

import re
from typing import Any

from falaj.core.errors import InvalidInput

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def hex_of(digest: Any) -> str:
    """The hexadecimal digits of a digest. Raises InvalidInput for any other text, so that no digest is ever a path."""
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if found is None:
        raise InvalidInput(f"{str(digest)[:80]!r} is not a digest.", "write sha256: and 64 hexadecimal digits in lower case.")
    return found[1]


def is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
