"""Mutates what a stranger may be shown, or a witness sent, and reads it: words or a FalajError come out, and nothing else.

    python -m tests.fuzz.proofs --rounds 200000 --seed 1

Each round reads one harmed note, proof, bundle, path or request; and what was not harmed in its meaning has to be written back
to the same bytes, since each of these texts has one form. The standalone verifier reads the same: it may answer 0 only for what
it would answer 0 unharmed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from falaj.adapters.local.signing import SigningKey, verifier, witness_verifier
from falaj.auditor import verify
from falaj.core.cosignature import KIND, add_lines, cosign, cosignatures
from falaj.core.errors import FalajError
from falaj.core.merkle import consistency_proof, inclusion_proof, leaf_hash, root
from falaj.core.note import (
    Statement,
    b64,
    open_checkpoint,
    read_signatures,
    read_statement,
    read_vkey,
    split_note,
    vkey,
    write_note,
)
from falaj.core.tiles import read_entries, read_tile, write_entries
from falaj.core.tlog_proof import ProofText, read_proof, read_proofs, write_proof
from falaj.witness.rules import read_request, refuse
from tests.fuzz.readers import mutated

KEY, WITNESS = SigningKey.generate(), SigningKey.generate()
NAME, WHO = "falaj/fuzz", "w.example/one"
VKEY, WITNESS_VKEY = vkey(NAME, KEY.public_key), vkey(WHO, WITNESS.public_key, KIND)
LEAVES = [b'{"actor":"x","facts":{},"seq":%d,"verb":"a.b"}' % n for n in range(11)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
TEXT = str(Statement(NAME, 11, root(HASHES)))
LINE = cosign(TEXT, WHO, WITNESS.public_key, WITNESS.sign, at=1679315147)
NOTE = add_lines(write_note(TEXT, NAME, KEY.public_key, KEY.sign), [LINE])
PROOF = write_proof(ProofText(5, tuple(inclusion_proof(HASHES, 5)), NOTE, LEAVES[5]))
REQUEST = f"old 4\n{''.join(b64(node) + chr(10) for node in consistency_proof(HASHES, 4))}\n{NOTE}"
PIECES = (
    "\n\n",
    "\n",
    "— ",
    "+",
    "=",
    "==",
    " ",
    "0",
    "-",
    "\r\n",
    "\0",
    "٣",
    "\ud800",
    "index ",
    "extra ",
    "old ",
    "x000/",
    ".p/",
    "A" * 70,
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _note(data: bytes) -> None:
    text, signatures = split_note(_text(data))
    read_statement(text)
    assert text + "\n" + "".join(signature.line for signature in signatures) == _text(data)
    cosignatures(_text(data), [witness_verifier(WITNESS_VKEY)])
    told = open_checkpoint(_text(data), verifier(VKEY))
    assert (told.size, told.root, text) == (11, root(HASHES), TEXT)


def _proof(data: bytes) -> None:
    text = _text(data)
    found = read_proof(text)
    assert write_proof(found) == text
    read_proofs(text)


def _entries(data: bytes) -> None:
    assert write_entries(read_entries(data, len(LEAVES))) == data


def _request(data: bytes) -> None:
    found = read_request(data)
    answer = refuse(found, {NAME: [verifier(VKEY)]}, Statement(NAME, 4, root(HASHES[:4])))
    if answer is None:
        assert (found.statement.size, found.statement.root) == (11, root(HASHES))


def _lines(data: bytes) -> None:
    assert "".join(signature.line for signature in read_signatures(_text(data))) == _text(data)


def _tile(data: bytes) -> None:
    assert read_tile(_text(data)).path == _text(data)


def _key(data: bytes) -> None:
    assert vkey(*read_vkey(_text(data))) == _text(data)


SHOWN: Mapping[str, tuple[bytes, Callable[[bytes], None]]] = {
    "note": (NOTE.encode(), _note),
    "lines": (LINE.encode(), _lines),
    "proof": (PROOF.encode(), _proof),
    "request": (REQUEST.encode(), _request),
    "entries": (write_entries(LEAVES), _entries),
    "tile": (b"tile/0/x001/x234/067.p/8", _tile),
    "key": (VKEY.encode(), _key),
}


def harmed(data: bytes, chance: random.Random) -> bytes:
    """Bytes harmed as files are, or a piece that these texts are made of put in or taken out."""
    if chance.random() < 0.5:
        return mutated(data, chance)
    at = chance.randrange(len(data) + 1)
    piece = chance.choice(PIECES).encode("utf-8", "surrogatepass")
    return data.replace(piece, b"", 1) if chance.random() < 0.3 else data[:at] + piece + data[at:]


def read(name: str, data: bytes) -> str:
    """`read`, or the name of the error that said what is wrong."""
    try:
        SHOWN[name][1](data)
    except FalajError as exc:
        return type(exc).__name__
    return "read"


def judged(folder: Path, data: bytes) -> int:
    """What the standalone verifier answers to a proof; 0 only where it is the one that nobody harmed, in all that counts."""
    file = folder / "a.tlog-proof"
    file.write_bytes(data)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = verify.main(["proof", str(file), "--vkey", VKEY, "--witness", WITNESS_VKEY])
    if code == 0:
        found = verify.Proof.read(data.decode())
        assert (found.index, found.leaf, found.note.text) == (5, LEAVES[5], TEXT)
    return code


def some_rounds(seed: int, count: int, folder: Path) -> Counter[str]:
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(count):
        name = chance.choice(list(SHOWN))
        seen[f"{name} {read(name, harmed(SHOWN[name][0], chance))}"] += 1
        if name == "proof":
            seen[f"verify.py {judged(folder, harmed(PROOF.encode(), chance))}"] += 1
    return seen


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=20_000)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        total = some_rounds(given.seed, given.rounds, Path(folder))
    for what, number in sorted(total.items()):
        sys.stdout.write(f"{number:>8}  {what}\n")
    sys.stdout.write(f"{given.rounds} rounds in {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
