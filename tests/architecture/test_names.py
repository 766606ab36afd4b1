"""The same words everywhere: actions, commands, routes, roles, adapters, errors, and the pages that list them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest

import falaj
from falaj.adapters import ADAPTERS
from falaj.adapters.local.policy import ROLES, VERBS
from falaj.cli.parser import COMMANDS, words_of
from falaj.core.errors import FalajError, MissingDependency
from falaj.operations import INTERNAL, OPERATIONS, SHORT
from tests.architecture.tree import ROOT, modules

PORTS = {
    "ledger": "Ledger", "blobs": "Blobs", "online": "Online", "predictions": "Predictions", "runner": "Runner", "host": "Host",
    "lineage": "Lineage", "mirror": "Mirror", "policy": "Policy", "notify": "Notify", "source": "Source",
    "stream": "Stream", "identity": "Identity", "witness": "Witness",
}  # fmt: skip
OTHER_RIGHTS = {
    # verbs of the role table that no action and no operation asks for: where they are asked instead
    "endpoint.feedback": "the inference server",
    "endpoint.predict": "the inference server",
    "project.init": "setting up, before anybody can ask",
}

PROSE = {"goes", "keeps", "runs"}
"""What falaj does in a sentence, rather than what is typed behind it."""


def actions() -> dict[str, tuple[str, str]]:
    """verb → (module, method) of every `@action`."""
    found = {}
    for module in modules():
        for name, function in module.functions():
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "action":
                    (verb,) = decorator.args
                    assert isinstance(verb, ast.Constant)
                    assert verb.value not in found, f"{verb.value} stands twice"
                    found[str(verb.value)] = (module.name, name.rpartition(".")[2])
    return found


def test_an_action_is_named_after_its_method() -> None:
    assert not {verb: method for verb, (_, method) in actions().items() if verb.rpartition(".")[2] != method}


def test_every_action_is_offered_by_the_faces_or_says_why_not() -> None:
    offered = {verb for operation in OPERATIONS for verb in operation.needs}
    assert set(actions()) - offered - set(INTERNAL) == set()


def test_what_is_internal_exists_and_is_not_offered() -> None:
    offered = {verb for operation in OPERATIONS for verb in operation.needs}
    assert set(INTERNAL) <= set(actions())
    assert not set(INTERNAL) & offered


def test_every_changing_operation_goes_through_an_action_that_exists() -> None:
    wrong = {o.name: o.needs for o in OPERATIONS if o.changes and not o.asks_itself and not set(o.needs) <= set(actions())}
    assert not wrong


def test_every_right_that_is_asked_for_is_in_the_role_table() -> None:
    asked = {verb for operation in OPERATIONS for verb in operation.needs} | set(actions())
    assert asked <= VERBS


def test_every_right_in_the_role_table_is_asked_for_somewhere() -> None:
    asked = {verb for operation in OPERATIONS for verb in operation.needs} | set(actions())
    assert VERBS - asked == set(OTHER_RIGHTS)


def test_no_role_has_a_right_that_does_not_exist() -> None:
    assert set().union(*ROLES.values()) == VERBS


def test_operations_have_one_name_and_one_place_each() -> None:
    assert len({o.name for o in OPERATIONS}) == len({(o.method, o.path) for o in OPERATIONS}) == len(OPERATIONS)
    assert not set(SHORT) & {o.noun for o in OPERATIONS} - {"status"}
    assert set(SHORT.values()) <= {(o.noun, o.verb) for o in OPERATIONS}


def test_the_public_names_are_sorted_and_there() -> None:
    names = falaj.__all__
    assert names == ["__version__", *sorted(names[1:])]
    assert all(getattr(falaj, name) is not None for name in names)
    with pytest.raises(AttributeError, match="There is: "):
        falaj.Nothing  # noqa: B018


def test_the_public_names_are_typed_as_they_are_loaded() -> None:
    tree = ast.parse((ROOT / "src/falaj/__init__.py").read_text())
    typed = {
        alias.asname or alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == dict(falaj._PLACES)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_is_where_the_table_says_and_keeps_its_port(name: str) -> None:
    """Method by method: the same parameters under the same names, so that a port is one thing and not sixteen."""
    port_name = name.partition(".")[0]
    where, _, attribute = ADAPTERS[name][0].partition(":")
    port = getattr(importlib.import_module(f"falaj.ports.{port_name}"), PORTS[port_name])
    adapter = getattr(importlib.import_module(where), attribute)
    for method, wanted in inspect.getmembers(port, inspect.isfunction):
        if method.startswith("_"):
            continue
        seen = getattr(adapter, method, None)
        assert seen is not None, f"{attribute} lacks {method}"
        assert _shape(seen)[: len(_shape(wanted))] == _shape(wanted), f"{attribute}.{method}"
    if "capabilities" in get_type_hints(port):
        assert hasattr(adapter, "capabilities") or "capabilities" in inspect.getsource(adapter)


def _shape(function: Any) -> list[tuple[str, str]]:
    signature = inspect.signature(inspect.unwrap(function))
    return [(p.name, str(p.kind)) for p in signature.parameters.values() if p.name != "self"]


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_missing_driver_is_an_error_that_names_the_extra(name: str) -> None:
    """The table itself needs no driver: what is not installed is said when it is opened."""
    extra = ADAPTERS[name][1]
    code = f"""
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {{
            'lmdb', 'mlflow', 'onnxruntime', 'polars', 'numpy', 'orjson', 'httptools', 'uvloop', 'obstore', 'deltalake',
            'pyiceberg', 'pyarrow', 'confluent_kafka', 'nats', 'redis',
            'adbc_driver_manager', 'adbc_driver_postgresql', 'sqlalchemy', 'ibis', 'duckdb',
        }}:
            raise ModuleNotFoundError('No module named ' + repr(name), name=name)
sys.meta_path.insert(0, Nothing())
from falaj.adapters import open_adapter
from falaj.core.errors import MissingDependency
try:
    open_adapter({name.partition(".")[0]!r}, {name.partition(".")[2]!r})
except MissingDependency as exc:
    print(exc.hint)
except TypeError:
    print('opens')
else:
    print('opens')
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said in ("opens", f"pip install 'falaj[{extra}]'")
    if not extra:
        assert said == "opens"


def test_every_extra_of_an_adapter_exists() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, extra in ADAPTERS.values() if extra} <= set(extras)
    assert MissingDependency.of("x", "y", "data").hint == "pip install 'falaj[data]'"


def test_errors_have_distinct_codes_and_exits() -> None:
    kinds = FalajError.__subclasses__()
    assert len({k.code for k in kinds}) == len({k.exit_code for k in kinds}) == len(kinds)
    assert not {k.exit_code for k in kinds} & {0, 1, 9}


def test_the_error_tree_in_the_docstring_is_the_code() -> None:
    doc = importlib.import_module("falaj.core.errors").__doc__ or ""
    for kind in FalajError.__subclasses__():
        line = next(line for line in doc.splitlines() if kind.__name__ in line)
        assert line.split()[-3:] == [str(kind.exit_code), str(kind.http_status), "yes" if kind.retryable else "no"]


def test_every_command_in_a_hint_exists() -> None:
    """A hint that names a command which does not exist sends its reader into the next error."""
    verbs: dict[str, set[str]] = {noun: set() for noun in SHORT}
    for command in COMMANDS:
        verbs.setdefault(words_of(command)[0], set()).update(words_of(command)[1:])
    wrong = [
        f"{module.place}: falaj {noun} {verb}"
        for module in modules()
        for hint in _hints(module.tree)
        for noun, verb in re.findall(r"(?:^|[`:] ?)falaj ([a-z]+)(?: ([a-z]+))?", hint)
        if noun not in PROSE and (noun not in verbs or (verbs[noun] and noun not in SHORT and verb not in verbs[noun]))
    ]
    assert not wrong


def _hints(tree: ast.AST) -> Iterator[str]:
    """What stands second in a call, which is where errors take their hint; the fixed part of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            parts = node.args[1].values if isinstance(node.args[1], ast.JoinedStr) else [node.args[1]]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
