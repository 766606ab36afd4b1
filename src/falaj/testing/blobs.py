"""What every store of blobs has to keep: subclass BlobsSuite in your tests and say how yours is opened."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.ports.blobs import Blobs

NEVER = "sha256:" + "0" * 64


class BlobsSuite:
    __test__ = False

    def open(self) -> Blobs:
        raise NotImplementedError

    def tamper(self, blobs: Blobs, digest: str, data: bytes) -> None:
        """Changes what is stored, past the port; a store that nobody can reach from outside skips here."""
        pytest.skip("the store cannot be changed from outside")

    @pytest.fixture
    def blobs(self) -> Blobs:
        return self.open()

    @pytest.mark.parametrize("data", [b"", b"x", b"\x00\xff" * 100_000])
    def test_bytes_come_back_by_their_digest(self, blobs: Blobs, data: bytes) -> None:
        digest = blobs.put(data)
        assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert blobs.get(digest) == data
        assert blobs.path(digest).read_bytes() == data
        assert blobs.has(digest)

    def test_the_same_bytes_again_change_nothing(self, blobs: Blobs) -> None:
        assert blobs.put(b"x") == blobs.put(b"x")
        assert blobs.get(blobs.put(b"x")) == b"x"

    def test_what_was_never_kept_is_not_found(self, blobs: Blobs) -> None:
        assert not blobs.has(NEVER)
        for read in (blobs.get, blobs.path):
            with pytest.raises(NotFound):
                read(NEVER)

    @pytest.mark.parametrize(
        "digest",
        [
            "",
            "sha256:",
            "0" * 64,
            "sha256:" + "A" * 64,
            "sha256:../../etc/passwd",
            NEVER + "\n",
            NEVER + "/..",
            "md5:" + "0" * 32,
        ],
    )
    def test_a_text_that_is_no_digest_is_refused(self, blobs: Blobs, digest: str) -> None:
        for read in (blobs.get, blobs.path, blobs.has):
            with pytest.raises(InvalidInput):
                read(digest)

    def test_bytes_that_were_tampered_with_are_never_handed_out(self, blobs: Blobs) -> None:
        digest = blobs.put(b"the model")
        blobs.path(digest)
        self.tamper(blobs, digest, b"the mudel")
        for read in (blobs.get, blobs.path):
            with pytest.raises(Conflict):
                read(digest)

    def test_putting_the_bytes_again_mends_what_was_tampered_with(self, blobs: Blobs) -> None:
        digest = blobs.put(b"the model")
        self.tamper(blobs, digest, b"the mudel")
        assert blobs.put(b"the model") == digest
        assert blobs.get(digest) == b"the model"
        assert blobs.path(digest).read_bytes() == b"the model"

    def test_what_is_deleted_is_gone_and_may_be_put_again(self, blobs: Blobs) -> None:
        digest, other = blobs.put(b"the rows"), blobs.put(b"other rows")
        copy = blobs.path(digest)
        assert blobs.delete(digest) is True
        assert not blobs.has(digest)
        assert not copy.exists()
        for read in (blobs.get, blobs.path):
            with pytest.raises(NotFound):
                read(digest)
        assert blobs.get(other) == b"other rows"
        assert blobs.put(b"the rows") == digest
        assert blobs.get(digest) == blobs.path(digest).read_bytes() == b"the rows"

    def test_deleting_twice_or_what_was_never_there_changes_nothing(self, blobs: Blobs) -> None:
        digest = blobs.put(b"x")
        assert [blobs.delete(digest), blobs.delete(digest), blobs.delete(NEVER)] == [True, False, False]

    @pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", NEVER + "/.."])
    def test_a_text_that_is_no_digest_deletes_nothing(self, blobs: Blobs, digest: str) -> None:
        with pytest.raises(InvalidInput):
            blobs.delete(digest)

    def test_what_was_tampered_with_can_be_deleted(self, blobs: Blobs) -> None:
        digest = blobs.put(b"the model")
        self.tamper(blobs, digest, b"the mudel")
        assert blobs.delete(digest)
        assert not blobs.has(digest)

    def test_many_threads_may_put_the_same_bytes(self, blobs: Blobs) -> None:
        with ThreadPoolExecutor(4) as pool:
            digests = set(pool.map(blobs.put, [b"same" * 1000] * 16))
        assert len(digests) == 1
        assert blobs.get(digests.pop()) == b"same" * 1000
