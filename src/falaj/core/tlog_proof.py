"""Proof text: one file that shows a stranger, offline, that an event is in a signed ledger (C2SP tlog-proof@v1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from falaj.core.errors import InvalidInput
from falaj.core.note import b64, unb64

HEADER = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
_LIMIT_BYTES = 1 << 20
_LIMIT_PATH = 63


@dataclass(frozen=True, slots=True)
class ProofText:
    """Leaf `index`, its path from its sibling up to below the root, and the checkpoint as it was signed and cosigned.

    `extra` is whatever came along; falaj puts the leaf there, so that one file is enough. It counts only when it is
    hashed against the path.
    """

    index: int
    path: tuple[bytes, ...]
    note: str
    extra: bytes = b""


def write_proof(proof: ProofText) -> str:
    """The text of a `.tlog-proof` file."""
    extra = f"extra {b64(proof.extra)}\n" if proof.extra else ""
    path = "".join(f"{b64(node)}\n" for node in proof.path)
    return f"{HEADER}\n{extra}index {proof.index}\n{path}\n{proof.note}"


def read_proof(text: str) -> ProofText:
    """What such a file says; nothing of it is checked but its form. Raises InvalidInput for any other form."""
    if len(text) > _LIMIT_BYTES:
        raise InvalidInput("The text is no proof, or larger than one may be.")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or not note or lines.pop(0) != HEADER:
        raise InvalidInput(f"The text is not a proof of the form {HEADER}.")
    extra = unb64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else b""
    found = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if found is None or len(lines) > _LIMIT_PATH:
        raise InvalidInput("The proof does not say which event it is of, or has too long a path.")
    path = tuple(unb64(line) for line in lines)
    if any(len(node) != 32 for node in path):
        raise InvalidInput("A hash of the proof is not 32 bytes of base64.")
    return ProofText(int(found[1]), path, note, extra)


def read_proofs(text: str) -> list[ProofText]:
    """Several proofs, one behind the other, as the chain of a ledger's keys comes. Raises as `read_proof`."""
    if len(text) > 64 * _LIMIT_BYTES:
        raise InvalidInput("The text holds more proofs than anybody needs.")
    parts = text.split(HEADER + "\n")
    if parts[0].strip():
        raise InvalidInput(f"The text does not begin with {HEADER}.")
    return [read_proof(f"{HEADER}\n{part}") for part in parts[1:]]
