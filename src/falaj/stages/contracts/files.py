"""Files of a project: only what lies in its folder, not hidden, and not reached through a link that leads out."""

from __future__ import annotations

from pathlib import Path

from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.contracts.document import LARGEST

ENDINGS = (".odcs.yaml", ".odcs.yml")


def inside(folder: Path, name: str) -> Path:
    """The path of a file in the project's folder; it need not exist. Raises InvalidInput for any other place."""
    try:
        root = folder.resolve()
        path = (root / name).resolve()
        parts = path.relative_to(root).parts if name.strip() else ()
    except (OSError, ValueError, RuntimeError) as exc:
        raise InvalidInput(f"{name[:200]!r} is outside the project's folder.", "name a file of the project.") from exc
    if not parts or ".." in Path(name).parts:
        raise InvalidInput(f"{name[:200]!r} names no file of the project.", "write its path from the project's folder.")
    if any(part.startswith(".") for part in parts):
        raise InvalidInput(f"{name[:200]!r} is hidden, or in a hidden folder.", "name a file that is not.")
    return path


def contract_bytes(folder: Path, name: str, declared: frozenset[str] = frozenset()) -> bytes:
    """The bytes of a contract file: one that ends in .odcs.yaml, or that a dataset declares. Raises InvalidInput, NotFound."""
    path = inside(folder, name)
    if not path.name.endswith(ENDINGS) and path not in {inside(folder, other) for other in declared}:
        raise InvalidInput(f"{name[:200]!r} is no contract file.", f"a contract ends in {ENDINGS[0]}, or is named by a dataset.")
    if not path.is_file():
        raise NotFound(
            f"There is no contract file {name[:200]!r} in the project.", "name a dataset, or a file's path from its folder."
        )
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as exc:
        raise NotFound(f"The contract file {name[:200]!r} cannot be read: {exc.strerror}.", "look at its permissions.") from exc
