"""Writes what a Feast repository declares as a module of falaj and first contracts."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import falaj
from falaj.core.errors import Conflict, InvalidInput, Unavailable


def import_features(repository: Path, to: Path, dry_run: bool = False) -> dict[str, Any]:
    """What was written and what was not carried over.

    Raises Conflict rather than write over a file, NotFound without a repository.
    """
    from falaj.adapters.feast.importer import Target, import_feast

    target = Target(frozenset(field.name for field in fields(falaj.View)), "Entity" in falaj.__all__)
    if to.suffix != ".py":
        raise InvalidInput(f"{to.name} is no Python file.", "end it with .py.")
    made = import_feast(repository, target)
    texts = {to: made.module, **{to.parent / name: text for name, text in made.contracts.items()}}
    there = [path for path in texts if path.exists()]
    if there:
        raise Conflict(f"{there[0]} is there already.", "name another file with --to.")
    told = {"datasets": made.datasets, "views": made.views, "entities": made.entities, "not_carried_over": made.lost}
    if dry_run:
        return {"dry_run": True, "would_write": [str(path) for path in texts], **told}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as exc:
        raise Unavailable(f"{path} cannot be written: {exc.strerror}.", "name another file with --to.") from exc
    return {"written": [str(path) for path in texts], **told}
