"""Reads a Feast repository as text: what its modules declare, without running a line of them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from falaj.core.errors import InvalidInput, NotFound

MOST_FILES, MOST_BYTES, DEEPEST = 500, 1 << 20, 100
"""Python files of a repository, bytes of one, and how deep an expression may be."""
_SKIPPED = frozenset({"__pycache__", "venv", "node_modules", "site-packages"})
_SOURCES = frozenset({
    "FileSource", "BigQuerySource", "SnowflakeSource", "RedshiftSource", "PostgreSQLSource", "TrinoSource", "AthenaSource",
    "SparkSource",
    "RaySource", "MsSqlServerSource", "CouchbaseColumnarSource", "ClickhouseSource", "OracleSource", "PushSource", "KafkaSource",
    "KinesisSource", "RequestSource", "CustomSource",
})  # fmt: skip
KINDS = _SOURCES | {
    "Entity", "FeatureView", "BatchFeatureView", "StreamFeatureView", "OnDemandFeatureView", "LabelView", "FeatureService",
    "Field", "Feature", "Project", "ValueType",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only running the module would tell."""

    text: str


@dataclass(slots=True, eq=False)
class Made:
    """One object that a module declares: `FeatureView(name="…", …)`."""

    kind: str
    given: dict[str, Any]
    where: str
    """File and line."""
    variable: str = ""

    def text(self, *names: str, default: str = "") -> str:
        """The first of these that was given as a text."""
        return next((value for name in names if isinstance(value := self.given.get(name), str) and value), default)

    def items(self, *names: str) -> list[Any]:
        """The first of these that was given as a list."""
        return next((list(value) for name in names if isinstance(value := self.given.get(name), list)), [])


@dataclass(frozen=True, slots=True)
class Picked:
    """`view[["a", "b"]]` of a feature service."""

    view: Made
    names: tuple[str, ...]


@dataclass(slots=True)
class Repository:
    made: list[Made] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """What could not be read, and why."""
    settings: dict[str, Any] = field(default_factory=dict)
    """feature_store.yaml."""

    def of(self, *kinds: str) -> list[Made]:
        return [each for each in self.made if each.kind in kinds]


def read_repository(folder: Path) -> Repository:
    """What the Python files under `folder` declare. Raises NotFound where there is no such folder or nothing of Feast in it.

    A file that is not Python is told in `unread`; the others are read all the same.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", "name the folder with feature_store.yaml.")
    found = Repository()
    paths = sorted(_modules(folder))
    if len(paths) > MOST_FILES:
        raise InvalidInput(
            f"{folder} has {len(paths):,} Python files; {MOST_FILES} are read.", "name the repository's own folder."
        )
    known: dict[str, Any] = {}
    for _ in range(2):  # a module may use what a later one declares
        found.made, found.unread = [], []
        for path in paths:
            name = path.relative_to(folder).as_posix()
            try:
                with path.open("rb") as file:
                    read_module(file.read(MOST_BYTES + 1), name, found, known)
            except (InvalidInput, OSError) as exc:
                found.unread.append(exc.message if isinstance(exc, InvalidInput) else f"{name}: {exc.strerror}")
    if not found.made:
        raise NotFound(f"{folder} declares nothing of Feast.", "name the folder with the feature definitions.")
    return found


def _modules(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        inside = path.relative_to(folder).parts
        if not any(part.startswith(".") or part in _SKIPPED for part in inside) and path.is_file() and not path.is_symlink():
            yield path


def read_module(data: bytes, name: str, found: Repository, known: dict[str, Any] | None = None) -> None:
    """Adds what one module declares. `known`: names of other modules. Raises InvalidInput for what is no Python."""
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"{name} is longer than {MOST_BYTES:,} bytes.", "is it a feature definition?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python says about a stranger's escapes is not for us
            tree = ast.parse(data, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError, UnicodeDecodeError) as exc:
        why = getattr(exc, "msg", "") or type(exc).__name__
        line = f", line {exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
        raise InvalidInput(f"{name}{line} is not Python: {why}.", "mend it, or leave it out.") from exc
    module = _Module(name, {} if known is None else known, found)
    for node in tree.body:
        try:
            module.statement(node)
        except RecursionError:
            found.unread.append(f"{name}, line {node.lineno}: nested too deeply to be read.")


@dataclass(slots=True)
class _Module:
    name: str
    names: dict[str, Any]
    found: Repository
    aliases: dict[str, str] = field(default_factory=dict)
    """Local name → Feast's name."""
    depth: int = 0

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ImportFrom):
            self.aliases |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name in KINDS}
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            value = self.value(node.value)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    self.names[target.id] = value
                    if isinstance(value, Made) and not value.variable:
                        value.variable = target.id
        elif isinstance(node, ast.Expr):
            self.value(node.value)
        elif isinstance(node, ast.FunctionDef):
            self._function(node)
        elif isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try) and self._declares(node):
            kind = type(node).__name__.lower()
            self.found.unread.append(f"{self._at(node)}: declares inside `{kind}`, which is not run here.")

    def _declares(self, node: ast.stmt) -> bool:
        return any(isinstance(each, ast.Call) and self._called(each) in KINDS for each in ast.walk(node))

    def _function(self, node: ast.FunctionDef) -> None:
        """A decorated function is an on-demand or a stream view; its body is code, which is not carried over."""
        for decorator in node.decorator_list:
            name = self._called(decorator) if isinstance(decorator, ast.Call) else ""
            kind = {"on_demand_feature_view": "OnDemandFeatureView", "stream_feature_view": "StreamFeatureView",
                    "batch_feature_view": "BatchFeatureView"}.get(name)  # fmt: skip
            if kind and isinstance(decorator, ast.Call):
                given = {word.arg: self.value(word.value) for word in decorator.keywords if word.arg}
                made = Made(kind, {"name": node.name, **given, "udf": Unknown(node.name)}, self._at(node), node.name)
                self.found.made.append(made)
                self.names[node.name] = made

    def value(self, node: ast.expr) -> Any:
        """Constants, names, lists, dictionaries, `timedelta(…)` and Feast's own constructors; anything else is Unknown."""
        self.depth += 1
        try:
            return self._value(node) if self.depth < DEEPEST else self._unknown(node)
        finally:
            self.depth -= 1

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.names.get(node.id, self.aliases.get(node.id, Unknown(node.id)))
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.Dict):
            return {self.value(key): self.value(value) for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)}  # fmt: skip
        if isinstance(node, ast.Attribute):
            return Unknown(ast.unparse(node)[:200])
        if isinstance(node, ast.Subscript):
            return self._picked(node)
        if isinstance(node, ast.UnaryOp | ast.BinOp):
            return self._reckoned(node)
        return self._call(node) if isinstance(node, ast.Call) else self._unknown(node)

    def _reckoned(self, node: ast.UnaryOp | ast.BinOp) -> Any:
        """`7 * 24` and texts put together; no powers, nothing long."""
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            if isinstance(left, int | float) and isinstance(right, int | float) and max(abs(left), abs(right)) < 1e9:
                if isinstance(node.op, ast.Mult):
                    return left * right
                return left + right if isinstance(node.op, ast.Add) else self._unknown(node)
            if (
                isinstance(left, str)
                and isinstance(right, str)
                and isinstance(node.op, ast.Add)
                and len(left) + len(right) < 10_000
            ):
                return left + right
        return self._unknown(node)

    def _picked(self, node: ast.Subscript) -> Any:
        view, names = self.value(node.value), self.value(node.slice)
        if isinstance(view, Made) and isinstance(names, list):
            return Picked(view, tuple(name for name in names if isinstance(name, str)))
        return self._unknown(node)

    def _call(self, node: ast.Call) -> Any:
        name = self._called(node)
        if name == "timedelta":
            return self._span(node)
        if name not in KINDS:
            return self._unknown(node)
        given: dict[str, Any] = {str(place): self.value(value) for place, value in enumerate(node.args)}
        given |= {word.arg: self.value(word.value) for word in node.keywords if word.arg}
        if "0" in given:
            given.setdefault("name", given["0"])
        made = Made(name, given, self._at(node))
        self.found.made.append(made)
        return made

    def _span(self, node: ast.Call) -> Any:
        words = {word.arg: self.value(word.value) for word in node.keywords if word.arg}
        words |= dict(zip(("days", "seconds"), (self.value(value) for value in node.args), strict=False))
        if not all(isinstance(value, int | float) for value in words.values()):
            return self._unknown(node)
        try:
            return timedelta(**words)
        except (TypeError, OverflowError, ValueError):
            return self._unknown(node)

    def _called(self, node: ast.Call) -> str:
        """The last part of what is called, by Feast's name for it."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        return self.aliases.get(name, name)

    def _unknown(self, node: ast.expr) -> Unknown:
        return Unknown(ast.unparse(node)[:200] if self.depth < DEEPEST else "…")

    def _at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.name}, line {node.lineno}"
