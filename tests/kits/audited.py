"""A real ledger with its audit, a real witness, and what an auditor does with the standalone verifier."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cryptography

from falaj.adapters.local.keys import LedgerKeys
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.shelf import FolderShelf
from falaj.adapters.local.signing import verifier, witness_verifier
from falaj.adapters.local.witness import HttpWitness
from falaj.auditor import verifier_source
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.governance.audit import Audit
from falaj.stages.governance.witnessing import Witnesses
from falaj.testing.ledger import START, append, event, put
from tests.kits.witness import RunningWitness

LEDGER = Ref("ledger", "local")
AMAL = Actor("amal", "person", ("operator",))
ORIGIN = "falaj/local"


@dataclass
class Audited:
    """A ledger in a folder, its clock, its audit; opened again as often as somebody likes."""

    folder: Path
    watched_by: Sequence[RunningWitness] = ()
    quorum: int = 0
    now: datetime = START
    _open: list[SqliteLedger] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> Audit:
        self.close()
        self.ledger = SqliteLedger(self.folder / "ledger.db", self.folder / "keys" / "ledger.ed25519", ORIGIN)
        self._open.append(self.ledger)
        asked = [(witness_verifier(w.vkey), HttpWitness(w.vkey, w.url)) for w in self.watched_by]
        keys = LedgerKeys(self.folder / "keys" / "ledger.ed25519", ORIGIN)
        kernel = Kernel(self.ledger, RolePolicy(), lambda: self.now)
        witnesses = Witnesses(asked, self.quorum)
        self.audit = Audit(
            kernel, verifier(self.ledger.vkey), witnesses, keys, lambda: FolderShelf(self.folder / "exports" / "ledger")
        )
        return self.audit

    def write(self, count: int) -> None:
        """Events a second apart, in one commit."""
        size = sum(1 for _ in self.ledger.leaves())
        append(self.ledger, *(event("a.b", f"model/delay@{size + n}", put(f"k{n % 7}", n=size + n)) for n in range(count)))
        self.now += timedelta(seconds=count)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


@dataclass(frozen=True)
class Auditor:
    """Runs the verifier as a stranger would: a file of its own, no falaj anywhere on the way of its imports."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "verify.py").write_text(verifier_source())

    def run(self, *words: str | Path, module: str = "") -> tuple[int, dict[str, Any]]:
        code, said = self.say(*words, "--json", module=module)
        return code, json.loads(said or "{}")

    def say(self, *words: str | Path, module: str = "") -> tuple[int, str]:
        # -I: nothing of this test's paths; then only what brings `cryptography`, with everything that is falaj shut out.
        packages = str(Path(cryptography.__file__).parents[1])
        start = (
            "import runpy, sys\n"
            "class NoFalaj:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.partition('.')[0] == 'falaj': raise ImportError('a stranger has no falaj')\n"
            "sys.meta_path.insert(0, NoFalaj())\n"
            f"sys.path.append({packages!r})\n"
            f"sys.argv = ['verify.py', *{[str(word) for word in words]!r}]\n"
            f"{module}\n"
            f"runpy.run_path({str(self.folder / 'verify.py')!r}, run_name='__main__')\n"
        )
        argv = [sys.executable, "-I", "-c", start]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path


def broken(report: Mapping[str, Any]) -> set[str]:
    return {check["check"] for check in report["checks"] if not check["holds"]}


def copy_of(place: Audited, folder: Path, edit: Callable[[Path], None]) -> Path:
    """The state folder as it stands, copied and then edited."""
    place.ledger.close()
    shutil.copytree(place.folder, folder)
    place.open()
    edit(folder)
    return folder
