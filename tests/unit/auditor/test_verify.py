"""The standalone verifier, run as a stranger runs it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.signing import SigningKey
from falaj.auditor import verify
from falaj.core.errors import Conflict
from falaj.core.merkle import inclusion_proof, leaf_hash, root
from falaj.core.note import Statement, b64, vkey, write_note
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId, seal
from falaj.core.tlog_proof import ProofText, read_proof, write_proof
from falaj.stages.governance.two_steps import prove_prediction, seal_of
from falaj.stages.serving.service import Serving
from tests.kits.audited import AMAL, LEDGER, Audited, Auditor, broken
from tests.kits.witness import running_witness
from tests.unit.core.test_cosignature import LOG, REAL, WITNESSES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Auditor:
    return Auditor(tmp_path_factory.mktemp("auditor"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """600 events, two witnesses, a rotation at 400 and another at 500, cosigned at the end, exported."""
    folder = tmp_path_factory.mktemp("place")
    with ExitStack() as open_things:
        made = Audited(folder / "state")
        first = made.ledger.vkey
        made.watched_by = [
            open_things.enter_context(running_witness(folder / name, [first], f"{name}.example")) for name in ("w1", "w2")
        ]
        audit = made.open()
        made.write(399)
        remembered = made.ledger.checkpoint()
        assert audit.witness(AMAL, LEDGER).allowed
        for count in (100, 100):
            vkey = audit.rotate(AMAL, LEDGER)["vkey"]
            for witness in made.watched_by:
                with (witness.folder / "logs").open("a") as file:
                    file.write(vkey + "\n")
            made.write(count)
            made.ledger.checkpoint()
        assert audit.witness(AMAL, LEDGER).allowed
        audit.export(AMAL, LEDGER)
        (folder / "remembered").write_text(remembered.note)
        made.first, made.remembered = first, folder / "remembered"  # type: ignore[attr-defined]
        yield made
        made.close()


def keys(place: Audited) -> list[str]:
    return ["--vkey", place.first, *(word for w in place.watched_by for word in ("--witness", w.vkey))]  # type: ignore[attr-defined]


def bundle(place: Audited) -> Path:
    return place.folder / "exports" / "ledger"


def test_a_whole_bundle_holds_with_its_rotations_its_witnesses_and_what_was_remembered(place: Audited, auditor: Auditor) -> None:
    code, report = auditor.run("bundle", bundle(place), *keys(place), "--remember", place.remembered)  # type: ignore[attr-defined]
    assert (code, broken(report)) == (0, set())
    assert {check["check"] for check in report["checks"]} == {
        "checkpoints", "leaves", "tiles", "roots", "remembered", "witnesses",
    }  # fmt: skip
    assert any("(3 keys)" in check["seen"] for check in report["checks"])


def test_it_says_so_in_words_and_that_nobody_asked_the_witnesses(place: Audited, auditor: Auditor) -> None:
    code, said = auditor.say("bundle", bundle(place), "--vkey", place.first)  # type: ignore[attr-defined]
    assert code == 0
    assert "holds   roots" in said
    assert "not asked" in said


@pytest.mark.parametrize("seq", [0, 255, 256, 398, 399, 450, 500, 601])
def test_a_proof_of_any_event_holds(place: Audited, auditor: Auditor, seq: int) -> None:
    proof = auditor.file("a.tlog-proof", place.audit.proof(seq))
    rotations = auditor.file("rotations", "".join(place.audit.rotations()))
    code, report = auditor.run("proof", proof, *keys(place), "--rotations", rotations)
    assert (code, broken(report), report["event"]["seq"]) == (0, set(), seq)


def test_without_the_rotations_the_new_key_is_nobodys(place: Audited, auditor: Auditor) -> None:
    proof = auditor.file("a.tlog-proof", place.audit.proof(3))
    code, report = auditor.run("proof", proof, *keys(place))
    assert (code, broken(report)) == (1, {"signature"})


def test_a_quorum_that_was_not_reached_is_broken(place: Audited, auditor: Auditor) -> None:
    proof = auditor.file("a.tlog-proof", place.audit.proof(3))
    rotations = auditor.file("rotations", "".join(place.audit.rotations()))
    stranger = place.watched_by[0].vkey, WITNESSES[2]
    asked = [
        "proof",
        proof,
        "--vkey",
        keys(place)[1],
        "--rotations",
        rotations,
        "--witness",
        stranger[0],
        "--witness",
        stranger[1],
    ]
    assert auditor.run(*asked)[0] == 1
    assert auditor.run(*asked, "--quorum", "1")[0] == 0
    assert auditor.run(*asked, "--quorum", "-1")[0] == 1


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def without_last(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


HARMS: dict[str, tuple[Callable[[Path], Any], set[str]]] = {
    "a byte of a leaf": (
        lambda f: flipped(f / "tile/entries/001", (f / "tile/entries/001").read_bytes().index(b"facts")),
        {"tiles", "roots"},
    ),
    "a number of a leaf": (
        lambda f: (f / "tile/entries/000").write_bytes((f / "tile/entries/000").read_bytes().replace(b'"seq":17,', b'"seq":18,')),
        {"leaves", "tiles", "roots"},
    ),
    "a hash": (lambda f: flipped(f / "tile/0/000", 99), {"tiles"}),
    "a hash above": (lambda f: flipped(f / "tile/1/000.p/2", 40), {"tiles"}),
    "no tile": (lambda f: (f / "tile/0/001").unlink(), {"tiles"}),
    "no newest among them": (lambda f: without_last(f / "checkpoints.jsonl"), {"checkpoints"}),
    "a length": (lambda f: flipped(f / "tile/entries/001", 1), {"form"}),
    "another checkpoint": (
        lambda f: (f / "checkpoint").write_text(json.loads((f / "checkpoints.jsonl").read_text().splitlines()[0])["note"]),
        {"form"},
    ),
    "no events": (lambda f: (f / "tile/entries/000").unlink(), {"form"}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_bundle_that_was_harmed_does_not_hold(place: Audited, auditor: Auditor, harm: str, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle(place), copy)
    do, wanted = HARMS[harm]
    do(copy)
    code, report = auditor.run("bundle", copy, "--vkey", keys(place)[1])
    assert broken(report) == wanted
    assert code == 1


def test_what_is_not_there_cannot_be_looked_at(place: Audited, auditor: Auditor, tmp_path: Path) -> None:
    assert auditor.say("bundle", tmp_path / "none", *keys(place))[0] == 2
    assert auditor.say("proof", tmp_path / "none", *keys(place))[0] == 2
    assert auditor.say("proof", tmp_path)[0] == 2
    assert auditor.say("nonsense", tmp_path, *keys(place))[0] == 2


@pytest.mark.parametrize("change", ["leaf", "index", "path", "root", "size", "signature", "header"])
def test_a_proof_that_was_changed_does_not_hold(place: Audited, auditor: Auditor, change: str) -> None:
    proof = read_proof(place.audit.proof(40))
    node = bytes(32)
    origin, size, root, *rest = proof.note.split("\n")
    notes = {
        "root": "\n".join([origin, size, b64(node), *rest]),
        "size": "\n".join([origin, str(int(size) + 1), root, *rest]),
        "signature": proof.note.replace("— falaj/local ", "— falaj/other "),
    }
    changed = {
        "leaf": lambda: replace(proof, extra=proof.extra.replace(b"amal", b"omar")),
        "index": lambda: replace(proof, index=41),
        "path": lambda: replace(proof, path=(node, *proof.path[1:])),
    }.get(change, lambda: replace(proof, note=notes.get(change, proof.note)))()
    text = (
        write_proof(changed).replace("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2")
        if change == "header"
        else write_proof(changed)
    )
    rotations = auditor.file("rotations", "".join(place.audit.rotations()))
    code, _ = auditor.run("proof", auditor.file("a.tlog-proof", text), *keys(place), "--rotations", rotations)
    assert code == 1


def test_a_retired_key_signs_nothing_any_more(place: Audited, auditor: Auditor) -> None:
    """Somebody who got hold of the first key signs the ledger as it is now."""
    from falaj.adapters.local.signing import open_key
    from falaj.core.note import write_note

    proof = read_proof(place.audit.proof(40))
    secret = auditor.folder / "stolen"
    shutil.copy(place.folder / "keys" / "ledger.ed25519.retired", secret)
    secret.chmod(0o600)
    first = open_key(secret)
    text = proof.note.partition("\n\n")[0] + "\n"
    forged = replace(proof, note=write_note(text, "falaj/local", first.public_key, first.sign))
    rotations = auditor.file("rotations", "".join(place.audit.rotations()))
    shown = auditor.file("a.tlog-proof", write_proof(forged))
    code, report = auditor.run("proof", shown, "--vkey", keys(place)[1], "--rotations", rotations)
    assert (code, broken(report)) == (1, {"signature"})
    assert not (place.folder / "keys" / "ledger.ed25519").exists()


def test_one_prediction_is_proven_in_two_steps(tmp_path: Path, auditor: Auditor) -> None:
    place = Audited(tmp_path / "state")
    lines = [b'{"id":"p0-%d","score":0.%d}' % (n, n) for n in range(9)]
    sealed = seal("delay", 0, b"\n".join(lines) + b"\n", "2013-05-01T00:00:00.000Z", "2013-05-01T01:00:00.000Z")
    Serving(place.audit.kernel, lambda _: None).seal(AMAL, Ref("endpoint", "delay"), seals=[sealed])  # type: ignore[arg-type,return-value]

    class Log:
        def lines(self, segment: int) -> list[bytes]:
            return lines

        def line(self, segment: int, row: int) -> bytes:
            return lines[row]

    found = PredictionId(0, 4, 0)
    shown = dict(prove_prediction(found, Log(), seal_of(place.ledger, "delay", 0), place.audit.proof))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="not sealed yet"):
        seal_of(place.ledger, "delay", 1)
    with pytest.raises(Conflict, match="not what was sealed"):
        prove_prediction(found, Log(), (0, replace(sealed, root="sha256:00")), place.audit.proof)  # type: ignore[arg-type]
    asked = ["--vkey", place.ledger.vkey]
    code, report = auditor.run("prediction", auditor.file("p.json", json.dumps(shown)), *asked)
    assert (code, broken(report), report["prediction"]["score"]) == (0, set(), 0.4)
    for wrong in ({"row": 5}, {"rows": 8}, {"line": b64(lines[5])}, {"path": []}):
        code, report = auditor.run("prediction", auditor.file("p.json", json.dumps(shown | wrong)), *asked)
        assert (code, broken(report)) == (1, {"prediction"})
    assert auditor.run("prediction", auditor.file("p.json", "{}"), *asked)[0] == 1
    place.close()


def test_it_reads_what_a_public_log_and_public_witnesses_signed() -> None:
    note = verify.Note.read(REAL)
    assert note.is_signed_by(verify.Key.read(LOG, verify.LOG))
    found = note.cosigned_by([verify.Key.read(text, verify.WITNESS) for text in WITNESSES])
    assert len(found) == 4
    assert set(found.values()) == {0x6A122120}


def test_the_file_is_short_enough_to_be_read_and_needs_nothing_else() -> None:
    import ast

    from falaj.auditor import verifier_source

    tree = ast.parse(verifier_source())
    named = {a.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {str(n.module).partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    import sys

    assert named - set(sys.stdlib_module_names) == {"cryptography"}
    assert len(verifier_source().splitlines()) <= 400


def test_a_proof_without_its_event_is_no_proof(place: Audited, auditor: Auditor) -> None:
    proof = read_proof(place.audit.proof(40))
    shown = auditor.file("a.tlog-proof", write_proof(ProofText(proof.index, proof.path, proof.note)))
    assert auditor.run("proof", shown, *keys(place))[0] == 1


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def grown(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 33)  # a hole, of which nothing lies on the disk


TRAPS: dict[str, Callable[[Path], Any]] = {
    "a pipe": lambda f: piped(f / "checkpoint"),
    "a link to a device that never ends": lambda f: linked(f / "checkpoint", "/dev/zero"),
    "a link out of the folder": lambda f: linked(f / "vkeys", "/etc/hostname"),
    "a tile larger than memory": lambda f: grown(f / "tile/entries/001"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_bundle_that_is_a_trap_is_refused_at_once(place: Audited, auditor: Auditor, trap: str, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle(place), copy)
    TRAPS[trap](copy)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); import signal; signal.alarm(60)"
    code, report = auditor.run("bundle", copy, "--vkey", keys(place)[1], module=limit)
    assert (code, broken(report)) == (1, {"form"})


def log_of(*leaves: bytes, origin: str = "falaj/local", key: SigningKey | None = None) -> tuple[SigningKey, list[str]]:
    """A log with a good signature, whatever its leaves say, and the proof of each of them."""
    key = key or SigningKey.generate()
    hashes = [leaf_hash(leaf) for leaf in leaves]
    note = write_note(str(Statement(origin, len(leaves), root(hashes))), origin, key.public_key, key.sign)
    paths = (tuple(inclusion_proof(hashes, seq)) for seq in range(len(leaves)))
    return key, [
        write_proof(ProofText(seq, path, note, leaf)) for (seq, leaf), path in zip(enumerate(leaves), paths, strict=True)
    ]


@pytest.mark.parametrize("leaf", [b'{"verb":"model.deny","verb":"model.promote"}', '{"verb":"model.promote"}'.encode("utf-16")])
def test_a_leaf_that_two_readers_would_read_as_two_things_does_not_hold(auditor: Auditor, leaf: bytes) -> None:
    key, (proof,) = log_of(leaf)
    shown = auditor.file("a.tlog-proof", proof)
    code, report = auditor.run("proof", shown, "--vkey", vkey("falaj/local", key.public_key))
    assert (code, broken(report)) == (1, {"form"})


def test_a_rotation_hands_over_to_a_key_of_the_same_ledger_only(auditor: Auditor) -> None:
    """Else what any other log signs would count as this one's."""
    other, (shown,) = log_of(b'{"verb":"model.promote"}', origin="other.example/log")
    named = vkey("other.example/log", other.public_key)
    leaf = json.dumps({"facts": {"vkey": named}, "verb": "audit.rotate"}).encode()
    first, (handover,) = log_of(leaf)
    proof, chain = auditor.file("a.tlog-proof", shown), auditor.file("rotations", handover)
    code, report = auditor.run("proof", proof, "--vkey", vkey("falaj/local", first.public_key), "--rotations", chain)
    assert (code, broken(report)) == (1, {"form"})
