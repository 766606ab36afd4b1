"""Semantic versions (semver.org, 2.0.0): their three numbers."""

from __future__ import annotations

import re

_SEMANTIC = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:[-+].*)?")


def parts(version: str) -> tuple[int, int, int] | None:
    """Major, minor and patch; None where it is no semantic version. A `v` before it is let pass."""
    found = _SEMANTIC.fullmatch(version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
