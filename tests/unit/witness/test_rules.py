from __future__ import annotations

import pytest

from falaj.adapters.local.signing import SigningKey, verifier
from falaj.core.errors import InvalidInput
from falaj.core.merkle import consistency_proof, leaf_hash, root
from falaj.core.note import Statement, Verifier, b64, vkey, write_note
from falaj.witness.rules import SIZE, read_request, refuse

ORIGIN = "example.com/log"
HASHES = [leaf_hash(b"%d" % n) for n in range(20)]
KEY = SigningKey.generate()

# The requests of the tests of the public witness implementation in FiloSottile/torchwood: a race between two checkpoints.
SIGSUM = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
SIGSUM_KEY = bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f")
PUBLISHED = (
    (
        f"old 0\n\n{SIGSUM}\n1\nKgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"
        f"— {SIGSUM} UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=\n"
    ),
    (
        "old 1\nKgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nKgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"
        f"{SIGSUM}\n3\nRcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=\n\n"
        f"— {SIGSUM} UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=\n"
    ),
    (
        "old 1\nKgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=\n"
        f"KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n{SIGSUM}\n5\nQrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=\n\n"
        f"— {SIGSUM} UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=\n"
    ),
)


def body(old: int, size: int, *, path: list[bytes] | None = None, under: bytes | None = None, key: SigningKey = KEY) -> bytes:
    proof = (consistency_proof(HASHES[:size], old) if 0 < old <= size else []) if path is None else path
    told = Statement(ORIGIN, size, root(HASHES[:size]) if under is None else under)
    note = write_note(str(told), ORIGIN, key.public_key, key.sign)
    return f"old {old}\n{''.join(b64(node) + chr(10) for node in proof)}\n{note}".encode()


def seen(size: int) -> Statement:
    return Statement(ORIGIN, size, root(HASHES[:size]))


def status(sent: bytes, known: Statement | None, origin: str = ORIGIN) -> int | tuple[int, str]:
    keys: dict[str, list[Verifier]] = {origin: [verifier(vkey(origin, KEY.public_key))]}
    answer = refuse(read_request(sent), keys, known)
    if answer is None:
        return 200
    return (answer.status, answer.body) if answer.kind == SIZE else answer.status


def test_the_published_requests_are_judged_as_published() -> None:
    keys = {SIGSUM: [verifier(vkey(SIGSUM, SIGSUM_KEY))]}
    first, short, long = (read_request(sent.encode()) for sent in PUBLISHED)
    assert refuse(first, keys, None) is None
    assert refuse(short, keys, first.statement) is None
    assert refuse(long, keys, first.statement) is None
    # the longer one was kept first: the shorter would take two leaves back
    late = refuse(short, keys, long.statement)
    assert late is not None
    assert (late.status, late.body, late.kind) == (409, "5\n", SIZE)


@pytest.mark.parametrize(
    ("sent", "known", "wanted"),
    [
        (body(0, 0), None, 200),
        (body(0, 0, under=leaf_hash(b"leaf")), None, 422),
        (body(0, 0, path=[HASHES[0]]), None, 422),
        (body(0, 1), None, 200),
        (body(0, 1, path=[HASHES[0]]), None, 422),
        (body(0, 1), seen(1), (409, "1\n")),
        (body(1, 0), seen(1), 400),
        (body(5, 9), seen(5), 200),
        (body(5, 9), None, (409, "0\n")),
        (body(5, 9), seen(7), (409, "7\n")),
        (body(5, 9, path=[]), seen(5), 422),
        (body(5, 9), Statement(ORIGIN, 5, HASHES[0]), 422),
        (body(9, 9), seen(9), 200),
        (body(9, 9), Statement(ORIGIN, 9, HASHES[0]), (409, "9\n")),
        (body(5, 9, key=SigningKey.generate()), seen(5), 403),
    ],
)
def test_each_request_gets_the_answer_of_the_specification(
    sent: bytes, known: Statement | None, wanted: int | tuple[int, str]
) -> None:
    assert status(sent, known) == wanted


def test_a_log_that_nobody_named_is_not_known() -> None:
    assert status(body(0, 1), None, "example.com/other") == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"old 0\n",
        b"old 00\n\n" + body(0, 1)[7:],
        b"old -1\n\n" + body(0, 1)[7:],
        b"new 0\n\n" + body(0, 1)[7:],
        body(0, 1, path=[HASHES[0]] * 64),
        body(0, 1, path=[b"short"]),
        b"old 0\nnot base64\n\n" + body(0, 1)[7:],
        b"old 0\n\n" + b"no note\n",
        b"\xff" + body(0, 1),
    ],
)
def test_what_is_no_request_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_request(sent)
