"""Other people's tools, each in an environment of its own, so that falaj can be measured beside them in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLACE = Path(os.environ.get("FALAJ_BENCH_PEERS", HERE.parents[1] / ".bench"))


def python_of(peer: str) -> Path:
    """The interpreter of an environment with what `<peer>.txt` names, made when it is first asked for (minutes, network)."""
    python = PLACE / peer / "bin" / "python"
    wanted = (HERE / f"{peer}.txt").read_text()
    stamp = PLACE / peer / ".stamp"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"  (making an environment for {peer} in {PLACE / peer})", file=sys.stderr, flush=True)
        uv = [str(Path(sys.executable).parent / "uv")]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PLACE / peer)], check=True)
        subprocess.run(
            [*uv, "pip", "install", "--quiet", "--no-config", "--python", str(python), "-r", str(HERE / f"{peer}.txt")],
            check=True,
        )
        stamp.write_text(wanted)
    return python


def ask(peer: str, script: str, *arguments: str, timeout: float = 1800) -> dict[str, Any]:
    """Runs `benchmarks/peers/<script>.py` in the peer's environment; it prints one JSON object as its last line."""
    command = [str(python_of(peer)), str(HERE / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{peer} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
