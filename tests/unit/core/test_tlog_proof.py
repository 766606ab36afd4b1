from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.note import b64
from falaj.core.tlog_proof import ProofText, read_proof, read_proofs, write_proof

# The cases of the Go package transparency-dev/formats/proof.
H1, H2 = (hashlib.sha256(text).digest() for text in (b"hash1", b"hash2"))
PUBLISHED = (
    (ProofText(5, (H1, H2), "test checkpoint\n"), f"index 5\n{b64(H1)}\n{b64(H2)}\n\ntest checkpoint\n"),
    (
        ProofText(10, (H1,), "checkpoint data\n", b"extra information"),
        f"extra {b64(b'extra information')}\nindex 10\n{b64(H1)}\n\ncheckpoint data\n",
    ),
    (ProofText(0, (), "checkpoint\n"), "index 0\n\ncheckpoint\n"),
)
HEADER = "c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(("proof", "text"), PUBLISHED)
def test_the_published_proofs_are_written_and_read(proof: ProofText, text: str) -> None:
    assert write_proof(proof) == HEADER + text
    assert read_proof(HEADER + text) == proof


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wrong-header\nindex 0\n\ncheckpoint\n",
        HEADER,
        HEADER + "extra !!notbase64!!\nindex 0\n\ncheckpoint\n",
        HEADER + "\n\ncheckpoint\n",
        HEADER + "index notanumber\n\ncheckpoint\n",
        HEADER + "index -5\n\ncheckpoint\n",
        HEADER + "index 05\n\ncheckpoint\n",
        HEADER + "index ٥\n\ncheckpoint\n",
        HEADER + f"index {10**19}\n\ncheckpoint\n",
        HEADER + "index 0\n!!notbase64!!\n\ncheckpoint\n",
        HEADER + f"index 0\n{b64(bytes(64))}\n\ncheckpoint\n",
        HEADER + "index 0\n" + f"{b64(H1)}\n" * 64 + "\ncheckpoint\n",
        HEADER + "index 0\n" + "a" * 65 * 1024 + "\n",
        HEADER + "index 0\n\n",
        HEADER + f"index 0\nextra {b64(H1)}\n\ncheckpoint\n",
        HEADER + "index 0\n\n" + "a" * (1 << 20),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_proof(text)


@given(st.integers(0, 10**18), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.binary(max_size=300))
def test_what_was_written_is_read(index: int, path: list[bytes], extra: bytes) -> None:
    proof = ProofText(index, tuple(path), "a\n1\nb\n\n— x y\n", extra)
    assert read_proof(write_proof(proof)) == proof


def test_a_chain_of_proofs_is_read_one_by_one() -> None:
    proofs = [proof for proof, _ in PUBLISHED]
    assert read_proofs("".join(map(write_proof, proofs))) == proofs
    assert read_proofs("") == []
    with pytest.raises(InvalidInput):
        read_proofs("something else\n" + write_proof(proofs[0]))
