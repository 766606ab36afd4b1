"""A version with a whole life behind it, the archive about it, and a stranger without falaj who looks at it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from falaj.adapters.cyclonedx.schema import check
from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.signing import SigningKey, sign_envelope, verifier
from falaj.adapters.memory.host import MemoryHost
from falaj.auditor import archive_programs
from falaj.core.actor import Actor
from falaj.core.codec import canonical
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.governance.evidence.archive import PAYLOAD_TYPE
from falaj.stages.governance.evidence.service import Evidence, Keys
from falaj.stages.registry.approvals import Approvals
from falaj.stages.registry.dossier import Description, Dossier
from falaj.stages.rollouts.endpoints import Endpoints
from falaj.stages.rollouts.kills import Kills, Measured
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import Endpoint
from tests.kits.life import APPROVER, AT, MODEL, Life, life

REPORT = "sha256:" + "a" * 64
LINA, OMAR = Actor("lina", "person", ("data_scientist",)), Actor("omar", "person", ("operator",))
DPO = Actor("dana", "person", ("dpo",))
ENDPOINT, VERSION = Ref("endpoint", "delay"), Ref("model", "delay", "1")
SAID = Description(
    "tells which flights will be late", "high", "noura", "in_the_loop", {"validation": "lina"}, "contract", ("planning",)
)


@dataclass
class Case:
    world: Life
    evidence: Evidence

    @property
    def vkey(self) -> str:
        return self.evidence.keys.vkey

    def unpacked(self, folder: Path, model: Ref = VERSION) -> Path:
        made = self.evidence.make(DPO, model)
        with zipfile.ZipFile(made.path) as archive:
            archive.extractall(folder)
        return folder


def case(folder: Path, ledger: Any = None) -> Case:
    """Trained, judged, tested, approved by two, promoted, served, drilled, objected to and that taken back."""
    (folder / "life").mkdir()
    world = life(folder / "life", ledger=ledger)
    version = world.registered("r1")
    assert version == VERSION
    world.registered("r2")
    later = Kernel(world.kernel.ledger, RolePolicy(), lambda: AT + timedelta(days=1))
    dossier, approvals = Dossier(later), Approvals(later)
    dossier.describe(LINA, MODEL, said=SAID)
    approvals.tier(APPROVER, MODEL, tier="tier1", responsible="noura")
    dossier.test(LINA, version, kind="bias", report=REPORT, passed=True, reason="even")
    dossier.test(LINA, version, kind="validation", report=REPORT, passed=True, reason="looked at it")
    dossier.dpia(DPO, version, digest=REPORT, reason="acceptable")
    approvals.object(LINA, version, reason="wait")
    approvals.withdraw(LINA, version, reason="answered", what="objection")
    for person in (APPROVER, DPO):
        assert approvals.approve(person, version, reason="looked at its report").allowed
    world.registry.kernel = later
    assert world.registry.promote(APPROVER, version, reason="yes").allowed
    rollouts = Rollouts(Endpoints(later, MemoryHost(), {"delay": Endpoint("delay", "delay")}, dict))
    rollouts.deploy(OMAR, ENDPOINT, model=version, reason="serve it")
    Kills(rollouts.place, lambda _e: _NoLog(), later.now, lambda _w: Measured(60, 20, 20, 20)).drill(OMAR, ENDPOINT)
    signed: Any = world.kernel.ledger
    keys = Keys(verifier(signed.vkey), signed.vkey, world.key.public_key)

    def sign(payload: bytes, kind: str) -> dict[str, Any]:
        return sign_envelope(payload, kind, world.key)

    return Case(world, Evidence(later, world.blobs, folder / "exports", sign, keys, archive_programs(), check))


class _NoLog:
    seals: Any = staticmethod(list)
    line: Any = None
    lines: Any = None
    follow: Any = None


def stranger(folder: Path) -> Path:
    """A folder with what a machine has that knows Python and `cryptography`, and nothing of falaj."""
    site = Path(sysconfig.get_paths()["purelib"])
    folder.mkdir(exist_ok=True)
    for found in (*site.glob("cryptography"), *site.glob("cffi"), *site.glob("_cffi_backend*"), *site.glob("pycparser")):
        (folder / found.name).symlink_to(found)
    return folder


_RUN = """
import sys, runpy
sys.path.append(sys.argv[1])
try:
    import falaj
except ImportError:
    pass
else:
    sys.exit("falaj is here")
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def ran(archive: Path, packages: Path, *words: str, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The archive's own verify.py, or another copy of it, run apart from everything that is installed."""
    argv = [sys.executable, "-I", "-S", "-B", "-c", _RUN, str(packages), str(program or archive / "verify.py"), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=archive.parent)


def looked_at(archive: Path, packages: Path, *words: str, program: Path | None = None) -> tuple[int, dict[str, Any]]:
    """What it says: its exit code, and what it told."""
    done = ran(archive, packages, "--json", *words, program=program)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"faults": [["stderr", done.stderr]]}


def edit(archive: Path, name: str, change: Callable[[Any], Any]) -> None:
    """A JSON file of the archive, changed."""
    body = json.loads((archive / name).read_bytes())
    told = change(body)
    (archive / name).write_text(json.dumps(body if told is None else told))


def signed_again(archive: Path, key: SigningKey, *, told: bool = True) -> None:
    """The manifest made anew and signed by that key, as somebody would who wants the archive to agree with itself."""
    manifest = json.loads((archive / "manifest.json").read_bytes())
    if told:
        shown = json.loads((archive / "keys.json").read_bytes())
        shown["model"] = base64.b64encode(key.public_key).decode()
        (archive / "keys.json").write_text(json.dumps(shown))
    there = [path for path in archive.rglob("*") if path.is_file() and not path.name.startswith("manifest.d")]
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in there if path != archive / "manifest.json"}
    manifest["files"] = {
        path.relative_to(archive).as_posix(): {"sha256": found, "bytes": path.stat().st_size} for path, found in digests.items()
    }
    data = canonical(manifest)
    (archive / "manifest.json").write_bytes(data)
    (archive / "manifest.dsse.json").write_text(json.dumps(sign_envelope(data, PAYLOAD_TYPE, key)))
