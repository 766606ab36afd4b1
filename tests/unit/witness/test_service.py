from __future__ import annotations

import http.client
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from falaj.adapters.local.signing import SigningKey, witness_verifier
from falaj.adapters.local.witness import HttpWitness
from falaj.core.cosignature import cosignatures
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.core.merkle import consistency_proof, leaf_hash, root
from falaj.core.note import Statement, vkey, write_note
from falaj.ports.witness import Witness
from falaj.witness.book import LOGS, Book, open_book
from falaj.witness.rules import MOST_BYTES
from falaj.witness.service import WitnessServer
from tests.kits.witness import RunningWitness, running_witness

ORIGIN = "falaj/test"
HASHES = [leaf_hash(b"%d" % n) for n in range(300)]
KEY = SigningKey.generate()
VKEY = vkey(ORIGIN, KEY.public_key)


def note(size: int, key: SigningKey = KEY, hashes: list[bytes] = HASHES) -> str:
    return write_note(str(Statement(ORIGIN, size, root(hashes[:size]))), ORIGIN, key.public_key, key.sign)


def path(old: int, size: int) -> list[bytes]:
    return consistency_proof(HASHES[:size], old) if old else []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Witness, Book, WitnessServer]]:
    with open_book(tmp_path / "w", "w.example/one") as book:
        book.trust([VKEY])
        with WitnessServer(book, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield HttpWitness(book.vkey, server.url), book, server
            server.shutdown()
            thread.join()


def raw(server: WitnessServer, sent: bytes) -> bytes:
    with socket.create_connection(server.server_address[:2], timeout=20) as wire:  # type: ignore[arg-type]
        wire.sendall(sent)
        data = b""
        while piece := wire.recv(65536):
            data += piece
    return data


def test_a_log_that_grows_is_cosigned_each_time(served: tuple[Witness, Book, WitnessServer]) -> None:
    witness, book, _ = served
    for old, size in ((0, 3), (3, 3), (3, 260), (260, 300)):
        line = witness.add(old, path(old, size), note(size))
        (found,) = cosignatures(note(size) + line, [witness_verifier(book.vkey)])
        assert found.witness == "w.example/one"
        assert witness.newest(ORIGIN) == note(size) + line


def test_one_that_believes_another_size_is_told_the_right_one(served: tuple[Witness, Book, WitnessServer]) -> None:
    witness, _, _ = served
    witness.add(0, [], note(7))
    for old, size in ((0, 9), (5, 9), (9, 9)):
        with pytest.raises(Conflict) as caught:
            witness.add(old, path(old, size), note(size))
        assert caught.value.facts == {"size": 7}


def test_a_log_that_was_rewritten_or_cut_is_never_cosigned(served: tuple[Witness, Book, WitnessServer]) -> None:
    witness, _, _ = served
    kept = witness.add(0, [], note(200))
    other = [leaf_hash(b"other"), *HASHES[1:]]
    with pytest.raises(Denied, match="422"):
        witness.add(200, consistency_proof(other[:300], 200), note(300, hashes=other))
    with pytest.raises(Conflict) as caught:
        witness.add(0, [], note(100))
    assert caught.value.facts == {"size": 200}
    with pytest.raises(Conflict):
        witness.add(200, [], note(200, hashes=other))
    assert witness.newest(ORIGIN) == note(200) + kept


@pytest.mark.parametrize("harm", [b"", b"\xff\xfe", b"cut off", note(3).encode()], ids=["empty", "no text", "cut", "not its own"])
def test_a_witness_whose_memory_is_damaged_cosigns_nothing_and_says_so(
    served: tuple[Witness, Book, WitnessServer], tmp_path: Path, harm: bytes
) -> None:
    witness, _, server = served
    witness.add(0, [], note(200))
    (memory,) = (tmp_path / "w" / "seen").iterdir()
    memory.write_bytes(harm)
    fork = [leaf_hash(b"other"), *HASHES[1:]]
    for old, way in ((0, []), (3, consistency_proof(HASHES[:300], 3))):
        with pytest.raises(Unavailable, match="500"):
            witness.add(old, way, note(300, hashes=HASHES if old else fork))
    with pytest.raises(Unavailable, match="500"):
        witness.newest(ORIGIN)  # and not "it has seen nothing yet"
    assert memory.read_bytes() == harm
    assert b" 413 " in raw(server, b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000))


def test_who_is_not_trusted_is_refused(served: tuple[Witness, Book, WitnessServer]) -> None:
    witness, _, _ = served
    with pytest.raises(Denied, match="403"):
        witness.add(0, [], note(3, key=SigningKey.generate()))
    with pytest.raises(Denied, match="404"):
        witness.add(0, [], note(3).replace(ORIGIN, "falaj/other"))
    with pytest.raises(NotFound):
        witness.newest(ORIGIN)


def test_a_key_that_is_added_to_the_file_counts_from_then_on(served: tuple[Witness, Book, WitnessServer], tmp_path: Path) -> None:
    witness, _, _ = served
    witness.add(0, [], note(3))
    later = SigningKey.generate()
    with pytest.raises(Denied):
        witness.add(3, path(3, 5), note(5, key=later))
    with (tmp_path / "w" / LOGS).open("a") as file:
        file.write(f"{vkey(ORIGIN, later.public_key)}\n")
    assert witness.add(3, path(3, 5), note(5, key=later))


def test_many_at_once_are_answered_one_after_the_other(served: tuple[Witness, Book, WitnessServer]) -> None:
    """Of those that begin at the same size one is cosigned, and nothing is ever taken back."""
    witness, _, _ = served
    witness.add(0, [], note(1))

    def ask(size: int) -> int:
        try:
            witness.add(1, path(1, size), note(size))
        except Conflict:
            return 0
        return size

    with ThreadPoolExecutor(16) as pool:
        cosigned = [size for size in pool.map(ask, range(2, 40)) if size]
    assert len(cosigned) == 1
    assert f"\n{cosigned[0]}\n" in witness.newest(ORIGIN)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MOST_BYTES + 1), 413),
        (b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nold", 400),
        (b"GET /checkpoint/..%2f..%2fwitness.ed25519 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"DELETE /checkpoint/falaj HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_is_answered_and_changes_nothing(
    served: tuple[Witness, Book, WitnessServer], sent: bytes, status: int
) -> None:
    _, book, server = served
    assert raw(server, sent).split(b" ")[1] == b"%d" % status
    assert book.seen(ORIGIN) is None


def test_a_caller_may_ask_many_times_on_one_connection(served: tuple[Witness, Book, WitnessServer]) -> None:
    _, book, server = served
    host, port = str(server.server_address[0]), int(server.server_address[1])
    line = http.client.HTTPConnection(host, port, timeout=20)
    for _ in range(3):
        line.request("GET", "/key")
        answer = line.getresponse()
        assert (answer.status, answer.read().decode()) == (200, book.vkey + "\n")
    line.close()


def test_one_folder_has_one_witness_and_one_name(tmp_path: Path) -> None:
    with open_book(tmp_path / "w", "w.example/one") as book:
        first = book.vkey
        with pytest.raises(Conflict):
            Book(tmp_path / "w")
    with open_book(tmp_path / "w", "w.example/two") as book:
        assert book.vkey == first
    with open_book(tmp_path / "other") as book:
        assert book.name.startswith("witness-")
    for file in (tmp_path / "w").rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 or file.name == "lock"


def test_a_line_that_is_no_key_stops_the_start(tmp_path: Path) -> None:
    with open_book(tmp_path) as book, pytest.raises(InvalidInput):
        book.trust(["nonsense"])
    (tmp_path / LOGS).write_text("nonsense\n")
    with pytest.raises(InvalidInput):
        Book(tmp_path)


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    Book(tmp_path).close()
    (tmp_path / "witness.ed25519").chmod(0o644)
    with pytest.raises(InvalidInput, match="chmod 600"):
        Book(tmp_path)


def test_only_this_machine_may_ask(tmp_path: Path) -> None:
    with open_book(tmp_path) as book, pytest.raises(InvalidInput, match="not of this machine"):
        WitnessServer(book, "0.0.0.0", 0)


@pytest.mark.parametrize("url", ["http://witness.example", "ftp://127.0.0.1", "https://a:b@w.example", "nonsense", ""])
def test_an_address_that_is_not_safe_is_refused(url: str, tmp_path: Path) -> None:
    with open_book(tmp_path) as book, pytest.raises(InvalidInput):
        HttpWitness(book.vkey, url)


def test_a_witness_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with open_book(tmp_path) as book, socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(Unavailable):
        HttpWitness(book.vkey, f"http://127.0.0.1:{port}").add(0, [], note(1))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RunningWitness]:
    with running_witness(tmp_path / "w", [VKEY]) as running:
        yield running


@pytest.mark.slow
def test_a_process_that_is_killed_takes_nothing_back(tmp_path: Path) -> None:
    for old, size in ((0, 3), (3, 9)):
        with running_witness(tmp_path / "w", [VKEY], kill=True) as running:
            assert HttpWitness(running.vkey, running.url).add(old, path(old, size), note(size))
            with pytest.raises(Conflict) as caught:
                HttpWitness(running.vkey, running.url).add(0, [], note(2))
            assert caught.value.facts == {"size": size}


@pytest.mark.slow
def test_a_folder_that_is_taken_is_an_error_with_its_reason(process: RunningWitness) -> None:
    argv = [sys.executable, "-m", "falaj.witness", str(process.folder), "--port", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert "A witness runs on" in done.stderr
    assert urlsplit(process.url).hostname == "127.0.0.1"


@pytest.mark.slow
def test_a_witness_needs_of_falaj_only_its_words() -> None:
    code = "import sys, falaj.witness.__main__; print(*sorted(m for m in sys.modules if m.startswith('falaj.')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in said} == {"core", "witness"}
