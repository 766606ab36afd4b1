"""What is loaded before anything is asked for: nothing heavy, so that the command line answers at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("polars", "numpy", "pandas", "pyarrow", "lightgbm", "onnx", "onnxruntime", "mlflow", "matplotlib", "sklearn", "scipy")
FACES = ("cedarpy", "starlette", "uvicorn", "rich", "yaml", "lmdb", "orjson", "cryptography", "sqlite3", "asyncio")


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "code",
    [
        "import falaj",
        "from falaj.cli.main import main; main(['--help'])",
        "from falaj.cli.main import main; main(['model', 'promote', '--help'])",
        "from falaj.cli.main import main; main(['modle'])",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    assert not loaded(code) & set(HEAVY + FACES)


def test_the_public_names_of_a_project_load_nothing_heavy() -> None:
    assert not loaded("import falaj\nfor name in falaj.__all__: getattr(falaj, name)") & set(HEAVY + FACES)


def test_the_control_plane_loads_nothing_that_trains() -> None:
    assert not loaded("import falaj.api.serve, falaj.app") & {
        "lightgbm",
        "onnx",
        "onnxruntime",
        "mlflow",
        "matplotlib",
        "sklearn",
        "scipy",
    }


def test_a_supervisor_stays_small() -> None:
    assert not loaded("import falaj.serve, falaj.inference.supervise") & {*HEAVY, "asyncio", "uvloop", "cryptography", "psutil"}


@pytest.mark.parametrize(
    ("worker", "others"),
    [("falaj.endpoint_http", ("grpc", "google")), ("falaj.endpoint_grpc", ("uvloop", "httptools"))],
)
def test_a_worker_loads_what_it_speaks_and_no_list_of_packages(worker: str, others: tuple[str, ...]) -> None:
    """`email` is what `importlib.metadata` brings, which the search for other packages' adapters takes."""
    assert not loaded(f"import {worker}") & {*others, "email", "jwt"}


@pytest.mark.parametrize("code", ["import falaj.inference.models.sessions", "import falaj, onnxruntime"])
def test_no_library_keeps_a_book_of_what_it_is_used_for(code: str, tmp_path: Path) -> None:
    # Nothing else: where CI is set, onnxruntime keeps none anyway.
    given = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**given, **home})
    assert list(tmp_path.rglob("*")) == []
