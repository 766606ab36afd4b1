from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from falaj.adapters.local.signing import SigningKey, verifier
from falaj.core.errors import Denied, InvalidInput
from falaj.core.note import Statement, Verifier, open_checkpoint, open_note, read_statement, read_vkey, vkey, write_note

# The example of the Go package golang.org/x/mod/sumdb/note, where signed notes come from.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
ROOT = bytes(range(32))


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


def trusted(key: SigningKey, name: str = "example.com/log") -> Verifier:
    return verifier(vkey(name, key.public_key))


def signed(text: str, key: SigningKey, name: str = "example.com/log") -> str:
    return write_note(text, name, key.public_key, key.sign)


def test_the_published_note_is_opened() -> None:
    assert open_note(TEXT + "\n" + LINE, verifier(VKEY)) == TEXT


def test_the_published_key_writes_the_published_note() -> None:
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(SEED))
    assert vkey("PeterNeumann", key.public_key) == VKEY
    assert signed(TEXT, key, "PeterNeumann") == TEXT + "\n" + LINE


def test_the_key_of_a_public_log_is_read() -> None:
    name, public_key = read_vkey("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    assert (name, len(public_key)) == ("sum.golang.org", 32)


def test_signatures_of_other_keys_are_passed_over(key: SigningKey) -> None:
    other = signed("x\n", SigningKey.generate()).splitlines()[-1]
    note = signed("x\n", key)
    assert open_note(note + other + "\n", trusted(key)) == "x\n"
    assert open_note(note.replace("\n\n", f"\n\n{other}\n"), trusted(key)) == "x\n"


@pytest.mark.parametrize(("old", "new"), [("answer", "answers"), ("problem is.", "problem is!"), ("x08go/ZJ", "x08go/ZK")])
def test_a_changed_note_is_denied(old: str, new: str) -> None:
    with pytest.raises(Denied):
        open_note((TEXT + "\n" + LINE).replace(old, new), verifier(VKEY))


def test_a_note_of_nobody_that_is_trusted_is_denied(key: SigningKey) -> None:
    with pytest.raises(Denied):
        open_note(signed("x\n", SigningKey.generate()), trusted(key))
    with pytest.raises(Denied):
        open_note(signed("x\n", key), trusted(key, "example.com/another"))


def test_one_bad_signature_of_a_known_key_spoils_the_note(key: SigningKey) -> None:
    good = signed("x\n", key)
    bad = signed("y\n", key).splitlines()[-1]
    with pytest.raises(Denied):
        open_note(good.replace("\n\n", f"\n\n{bad}\n"), trusted(key))


def test_a_text_may_hold_empty_lines_and_even_signatures(key: SigningKey) -> None:
    text = "a\n\n" + LINE
    assert open_note(signed(text, key), trusted(key)) == text


@pytest.mark.parametrize(
    "note",
    [
        "",
        "x",
        "x\n",
        TEXT,
        TEXT + "\n",
        TEXT + LINE,
        TEXT + "\n" + LINE[:-1],
        TEXT + "\n-" + LINE[1:],
        TEXT + "\n" + LINE * 101,
        TEXT + "\n— a b\n",
        TEXT + "\n— a+b " + "A" * 92 + "\n",
        "x\r\n\n" + LINE,
        "\ud800\n\n" + LINE,
        TEXT + "\n" + LINE.replace("nAM=", "nAN="),
    ],
)
def test_what_is_no_signed_note_is_refused(note: str) -> None:
    with pytest.raises(InvalidInput):
        open_note(note, verifier(VKEY))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b"])
def test_a_name_that_cannot_name_a_key_is_refused(name: str, key: SigningKey) -> None:
    with pytest.raises(InvalidInput):
        signed("x\n", key, name)


@pytest.mark.parametrize(
    "text", ["", "x", VKEY[:-1], VKEY.replace("c74f", "c75f"), VKEY.replace("Peter", "Paul"), "a+00000000+AQ=="]
)
def test_what_is_no_verifiers_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_vkey(text)


def test_a_checkpoint_says_origin_size_and_root(key: SigningKey) -> None:
    statement = Statement("example.com/log", 20852163, ROOT)
    assert str(statement) == "example.com/log\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert open_checkpoint(signed(str(statement), key), trusted(key)) == statement


def test_a_checkpoint_of_another_log_is_denied(key: SigningKey) -> None:
    with pytest.raises(Denied):
        open_checkpoint(signed(str(Statement("example.com/other", 1, ROOT)), key), trusted(key))


GOOD = str(Statement("example.com/log", 7, ROOT))


def test_extension_lines_are_allowed_and_ignored() -> None:
    assert read_statement(GOOD + "more\n") == Statement("example.com/log", 7, ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        GOOD[:-1],
        GOOD + "\n",
        GOOD.replace("\n7\n", "\n07\n"),
        GOOD.replace("\n7\n", "\n-7\n"),
        GOOD.replace("\n7\n", "\n٧\n"),
        GOOD.replace("\n7\n", "\n" + "9" * 20 + "\n"),
        GOOD.replace("=", ""),
        "a\n7\nAAEC\n",
        "\n7\n" + GOOD.split("\n")[2] + "\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_statement(text)
