"""Project: the declarations that a user wrote, collected from the project's own modules."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.stages.contracts.spec import Dataset
from falaj.stages.features.spec import View, WindowView
from falaj.stages.gates.spec import Gate
from falaj.stages.monitoring.spec import Monitor
from falaj.stages.rollouts.spec import Endpoint
from falaj.stages.training.spec import Training

_KINDS: Mapping[type, str] = {
    Dataset: "datasets",
    View: "views",
    WindowView: "views",
    Training: "trainings",
    Gate: "gates",
    Endpoint: "endpoints",
    Monitor: "monitors",
}


@dataclass(frozen=True, slots=True)
class Project:
    folder: Path
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    views: Mapping[str, View | WindowView] = field(default_factory=dict)
    trainings: Mapping[str, Training] = field(default_factory=dict)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    monitors: Mapping[str, Monitor] = field(default_factory=dict)
    code: str = ""
    """Digest of every Python and contract file of the project."""

    def one(self, kind: str, name: str) -> Any:
        """The declaration of that name. Raises NotFound with the nearest names."""
        found: Mapping[str, Any] = getattr(self, kind)
        if name not in found:
            raise NotFound.named(kind.removesuffix("s"), name, found)
        return found[name]


def load_project(folder: Path, modules: str) -> Project:
    """Imports the project's modules and collects what they declare.

    Raises InvalidInput where a module does not import, Conflict where two declarations of one kind share a name.
    """
    found: dict[str, dict[str, Any]] = {kind: {} for kind in set(_KINDS.values())}
    for name in filter(None, (part.strip() for part in modules.split(","))):
        for item in _declared(_import(folder.resolve(), name)):
            kind = _KINDS[type(item)]
            key = getattr(item, "name", None) or getattr(item, "model", None) or item.endpoint
            if found[kind].get(key, item) is not item:
                raise Conflict(f"Two {kind} are named {key!r}.", "give one of them another name.")
            found[kind][key] = item
    return Project(folder.resolve(), **found, code=code_digest(folder))


def code_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the project's Python, TOML and contract files, in name order."""
    summed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix in (".py", ".yaml", ".toml") and not any(part.startswith((".", "__pycache__")) for part in inside.parts):
            data = path.read_bytes()
            summed.update(f"{inside.as_posix()}\0{len(data)}\0".encode() + data)
    return "sha256:" + summed.hexdigest()


def _import(folder: Path, name: str) -> ModuleType:
    """Imports a module of the project; a folder with an `__init__.py` is a package, and so are its parents."""
    if not (folder / f"{name}.py").is_file():
        raise NotFound(f"The project has no module {folder / name}.py.", "write it, or mend `modules` in falaj.toml.")
    root, dotted = folder, name
    while (root / "__init__.py").is_file():
        root, dotted = root.parent, f"{root.name}.{dotted}"
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    known = sys.modules.get(dotted)
    if known is not None and Path(known.__file__ or "").resolve() != folder / f"{name}.py":
        raise Conflict(f"Another module named {dotted!r} is already loaded.", "one process holds one project.")
    try:
        return importlib.import_module(dotted)
    except Exception as exc:
        raise InvalidInput(
            f"The project's module {name!r} does not import: {type(exc).__name__}: {exc}.",
            f"python {folder / name}.py shows where.",
        ) from exc


def _declared(module: ModuleType) -> Iterator[Any]:
    for value in vars(module).values():
        if type(value) in _KINDS:
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if type(item) in _KINDS)
