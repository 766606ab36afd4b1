"""A model that somebody made to harm: it is refused by its format, and nothing in it runs."""

from __future__ import annotations

import ast
import io
import marshal
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falaj.core.errors import FalajError
from falaj.inference.models import FORMATS, scorer
from tests.architecture.tree import modules
from tests.security.classes import attack

MUST_NOT_BE_NAMED = {
    # whatever runs what it reads, or hands it to a shell
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "torch", "skops",
    "tarfile", "zipimport", "pty", "commands",
}  # fmt: skip
MUST_NOT_BE_CALLED = {"eval", "exec", "compile", "__import__", "system", "popen", "unpack_archive", "extractall", "literal_eval"}


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def harmful(mark: Path) -> dict[str, bytes]:
    """name → bytes of models that do something where they are loaded as what they are, or as a scanner would not see it."""
    plain = pickle.dumps(Canary(mark))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # as torch.save writes
        archive.writestr("archive/data.pkl", plain)
        archive.writestr("archive/version", "3")
    broken = bytearray(packed.getvalue())
    broken[14:18] = b"\0\0\0\0"  # a checksum that makes a scanner give up and a lenient reader go on
    rows = io.BytesIO()
    np.save(rows, np.array([Canary(mark)], dtype=object), allow_pickle=True)
    return {
        "pickle": plain,
        "pickle of the first protocol": pickle.dumps(Canary(mark), protocol=0),
        "pickle behind an ONNX head": b"\x08\x08\x12\x04evil" + plain,
        "pickle behind a safetensors length": len(plain).to_bytes(8, "little") + plain,
        "torch archive": packed.getvalue(),
        "torch archive with a wrong checksum": bytes(broken),
        "numpy object array": rows.getvalue(),
        "code": marshal.dumps(compile("import os", "x", "exec")),
        "booster text with a template": b"tree\nversion=v4\n${jndi:ldap://127.0.0.1/x}{{ 7*7 }}\n",
    }


@attack("malicious model")
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_no_model_of_its_format_is_refused_and_does_nothing(form: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name, data in harmful(mark).items():
        with pytest.raises(FalajError):
            scorer(data, form, 4)
        assert not mark.exists(), name


@attack("trusted scanner")
@pytest.mark.parametrize("name", ["torch archive with a wrong checksum", "pickle behind an ONNX head"])
def test_a_file_that_misleads_scanners_is_refused_by_every_format(name: str, tmp_path: Path) -> None:
    data = harmful(tmp_path / "mark")[name]
    for form in FORMATS:
        with pytest.raises(FalajError):
            scorer(data, form, 4)
    assert not (tmp_path / "mark").exists()


@attack("malicious model")
def test_the_canary_would_have_sung(tmp_path: Path) -> None:
    """The attempts above are worth something only because this is what a careless reader would have done."""
    pickle.loads(harmful(tmp_path / "mark")["pickle"])
    assert (tmp_path / "mark").is_dir()


@attack("malicious model")
def test_nothing_here_unpickles() -> None:
    wrong = [f"{m.name} names {name}" for m in modules() for name in m.imports() if name.partition(".")[0] in MUST_NOT_BE_NAMED]
    assert not wrong


@attack("archive traversal")
def test_nothing_here_unpacks_an_archive() -> None:
    """One module writes archives; none opens one to read, and none takes anything out."""
    unpackers = {"tarfile", "zipfile", "py7zr", "rarfile"}
    naming = [m for m in modules() if {name.partition(".")[0] for name in m.imports()} & unpackers]
    assert [m.name for m in naming] == ["falaj.stages.governance.evidence.archive"]
    for node in ast.walk(naming[0].tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in ("extract", "extractall", "open", "read", "unpack_archive")
            if node.func.attr == "ZipFile":
                assert [argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)] in (["w"], ["x"])


@attack("command injection")
def test_nothing_here_evaluates_text_or_starts_a_shell() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("os", "shutil", "builtins", "ast"):
                name = node.func.attr
            if name in MUST_NOT_BE_CALLED or any(
                word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                for word in node.keywords
            ):
                wrong.append(f"{module.name}:{node.lineno} {name}")
    assert not wrong
