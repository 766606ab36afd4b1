"""A project that declares nothing, under a module name of its own: one process holds one module of a name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from falaj.app import init_project

SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay"}


def empty_project(folder: Path, **settings: str) -> dict[str, str]:
    """Initialises it unless that was done; the settings to open it with."""
    module = f"project_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    given = {**SETTINGS, "modules": module, **settings}
    if not (folder / ".falaj").exists():
        (folder / f"{module}.py").write_text('"""Declares nothing."""\n')
        init_project(folder, given)
    return given
