"""Sockets that outlive a process: bound by the supervisor, inherited by workers, and lent back to the next supervisor."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from falaj.core.errors import Conflict, Unavailable

BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Conflict where the port is taken, Unavailable where the address is not this machine's."""
    listener = _bound(host, port, "serve_port", shared=False)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def reserve(host: str, port: int, *, alone: bool) -> socket.socket:
    """Holds a port that a worker binds by itself with SO_REUSEPORT, without ever taking a connection.

    `alone`: nobody of ours is on it yet, so whoever is, is a stranger. Raises as `listen`.
    """
    if alone:  # a program that shares its ports too would not be noticed otherwise
        probe = _bound(host, port, "serve_grpc_port", shared=False)
        port = int(probe.getsockname()[1])
        probe.close()
    return _bound(host, port, "serve_grpc_port", shared=True)


def lend(folder: Path, slot: str) -> socket.socket:
    """Where a worker's listening sockets can be asked for: `workers/<slot>.sock`, for the owner alone. Non-blocking."""
    lender = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short(folder) as place:
        (folder / f"{slot}.sock").unlink(missing_ok=True)
        lender.bind(f"{place}/{slot}.sock")
    lender.listen(8)
    lender.setblocking(False)
    return lender


def hand_out(lender: socket.socket, listeners: Sequence[int]) -> None:
    """Answers one who asks; never waits."""
    with contextlib.suppress(OSError):
        caller, _ = lender.accept()
        with caller:
            caller.setblocking(False)
            socket.send_fds(caller, [b"1"], list(listeners))


def borrow(folder: Path, slot: str, address: tuple[str, int], timeout_s: float = 1.0) -> socket.socket | None:
    """The listening socket of a living worker, if it listens at `address`; None where none is to be had."""
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.settimeout(timeout_s)
    fds: list[int] = []
    try:
        with caller, _short(folder) as place:
            caller.connect(f"{place}/{slot}.sock")
            _, fds, _, _ = socket.recv_fds(caller, 1, 8)
    except OSError:
        return None
    found: socket.socket | None = None
    for fd in fds:
        given = socket.socket(fileno=fd)
        if found is None and given.getsockname()[:2] == address:
            found = given
        else:
            given.close()
    return found


class Sockets:
    """What one endpoint listens on."""

    def __init__(self, workers: Path) -> None:
        """`workers`: the folder in which workers lend their sockets."""
        self._workers = workers
        self._http: socket.socket | None = None
        self._grpc: socket.socket | None = None

    def open(self, host: str, port: int, slots: Iterable[str]) -> None:
        """Listens for REST there, unless it does already; first by what one of the `slots` lends. Raises as `listen`."""
        if self._http is not None and (not port or self._http.getsockname()[:2] == (host, port)):
            return
        lent = (borrow(self._workers, slot, (host, port)) for slot in slots)
        found = next((one for one in lent if one is not None), None) or listen(host, port)
        self._http, before = found, self._http
        if before is not None:
            before.close()

    def hold(self, host: str, port: int, *, alone: bool) -> None:
        """Keeps the number of gRPC's port, unless it does already. `alone`: see `reserve`, as which it raises."""
        if self._grpc is not None and (not port or self._grpc.getsockname()[:2] == (host, port)):
            return
        self._grpc, before = reserve(host, port, alone=alone), self._grpc
        if before is not None:
            before.close()

    def let_go(self) -> None:
        """Of gRPC's port."""
        if self._grpc is not None:
            self._grpc.close()
            self._grpc = None

    @property
    def listeners(self) -> list[int]:
        return [self._http.fileno()] if self._http is not None else []

    @property
    def port(self) -> int:
        return int(self._http.getsockname()[1]) if self._http is not None else 0

    @property
    def grpc_port(self) -> int:
        return int(self._grpc.getsockname()[1]) if self._grpc is not None else 0

    def close(self) -> None:
        self.let_go()
        if self._http is not None:
            self._http.close()
            self._http = None


def _bound(host: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
        if not shared:
            bound.listen(1)  # where addresses are reused, only listening shows that another program listens
    except OSError as exc:
        bound.close()
        where = f"{host}:{port}"
        if exc.errno == errno.EADDRINUSE:
            raise Conflict(f"{where} is taken by another program.", f"set {setting} to a free port, or to 0.") from exc
        raise Unavailable(
            f"Nothing can listen on {where}: {exc.strerror}.", "set serve_host to an address of this machine."
        ) from exc
    return bound


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A name of the folder that fits the hundred bytes a Unix socket's address may have."""
    if len(str(folder)) < 80 or not Path("/proc/self/fd").exists():
        yield str(folder)
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
