"""A listening socket outlives whoever bound it."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from falaj.core.errors import Conflict, Unavailable
from falaj.inference.listening import Sockets, borrow, hand_out, lend, listen, reserve
from falaj.inference.locks import take

HERE = "127.0.0.1"


def test_a_lent_socket_serves_the_same_queue_after_its_owner_closed_it(tmp_path: Path) -> None:
    listener = listen(HERE, 0)
    address = listener.getsockname()
    with lend(tmp_path, "http-0") as lender, socket.create_connection(address) as waiting:
        found = lent(tmp_path, lender, listener, address)
        listener.close()
        assert found is not None
        with found:
            found.setblocking(True)
            answering, _ = found.accept()
            with answering:
                answering.sendall(b"still here")
            assert waiting.recv(100) == b"still here"


def test_only_a_socket_of_the_address_that_is_wanted_is_taken(tmp_path: Path) -> None:
    with listen(HERE, 0) as listener, lend(tmp_path, "http-0") as lender:
        assert lent(tmp_path, lender, listener, (HERE, 1)) is None


def test_nobody_is_asked_in_vain_for_long(tmp_path: Path) -> None:
    assert borrow(tmp_path, "http-0", (HERE, 1)) is None
    with lend(tmp_path, "http-0"):
        assert borrow(tmp_path, "http-0", (HERE, 1), timeout_s=0.05) is None


def test_a_folder_with_a_long_name_can_lend_too(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with listen(HERE, 0) as listener, lend(folder, "http-0") as lender:
        found = lent(folder, lender, listener, listener.getsockname())
        assert found is not None
        found.close()
    assert (folder / "http-0.sock").stat().st_mode & 0o170000 == 0o140000


def test_a_port_that_another_program_listens_on_is_a_conflict() -> None:
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind((HERE, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(Conflict, match="taken"):
            listen(HERE, port)
        with pytest.raises(Conflict, match="taken"):
            reserve(HERE, port, alone=True)
        reserve(HERE, port, alone=False).close()  # one of ours is on it


def test_an_address_of_another_machine_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        listen("192.0.2.1", 0)


def test_a_reserved_port_takes_no_connection_and_lets_a_worker_of_ours_bind_it() -> None:
    with reserve(HERE, 0, alone=True) as held, socket.socket() as worker:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(held.getsockname())
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(held.getsockname())
        worker.listen()
        socket.create_connection(held.getsockname()).close()


def test_sockets_stay_while_the_address_does(tmp_path: Path) -> None:
    sockets = Sockets(tmp_path)
    with contextlib.closing(sockets):
        sockets.open(HERE, 0, ())
        port, before = sockets.port, sockets.listeners
        sockets.open(HERE, port, ())
        assert sockets.listeners == before
        with listen(HERE, 0) as other:
            free = other.getsockname()[1]
        sockets.open(HERE, free, ())
        assert sockets.port == free
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HERE, port))


def test_a_lock_is_held_by_whoever_inherits_it(tmp_path: Path) -> None:
    lock = take(tmp_path / "slot")
    assert lock is not None
    inherited = os.dup(lock)
    os.close(lock)
    assert take(tmp_path / "slot") is None
    os.close(inherited)
    again = take(tmp_path / "slot")
    assert again is not None
    os.close(again)


def lent(folder: Path, lender: socket.socket, listener: socket.socket, address: tuple[str, int]) -> socket.socket | None:
    """Borrows while a worker's loop would be turning."""
    import threading

    lender.setblocking(True)
    answering = threading.Thread(target=hand_out, args=(lender, [listener.fileno()]))
    answering.start()
    found = borrow(folder, "http-0", address)
    answering.join()
    return found
