"""Sizes of memory, and the one way each is written down."""

from __future__ import annotations

import re

from falaj.core.errors import InvalidInput

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([KMGT]?B|)")


def size(text: str) -> int:
    """The bytes that `2GB`, `512MB` or `1.5GB` names, by thousands. Raises InvalidInput for anything else."""
    found = _SIZE.fullmatch(text.strip().upper())
    if not found or not (amount := int(float(found[1]) * _UNITS[found[2] if found[2] != "B" else ""])):
        raise InvalidInput(f"{text!r} is not a size.", "write it as 512MB or 2GB.")
    return amount
