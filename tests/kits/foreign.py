"""Servers that stand for places abroad: each listens on an address of its own of 127.0.0.0/8 and keeps every byte that comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self


class Foreign:
    """`came`: how many connections; `bytes`: all that was sent. `answers`: what each request is answered with."""

    def __init__(self, address: str, answers: bytes) -> None:
        self.address, self.answers = address, answers
        self.came, self.bytes = 0, b""
        self._heard = threading.Condition()
        self._listener = socket.create_server((address, 0))
        self.port = int(self._listener.getsockname()[1])
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        with socket.create_connection((self.address, self.port)):
            pass
        self._thread.join()
        self._listener.close()

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    def url(self, scheme: str = "http", path: str = "/") -> str:
        return f"{scheme}://{self.host}{path}"

    def wait(self) -> bytes:
        """What came, once something has."""
        with self._heard:
            assert self._heard.wait_for(lambda: self.bytes != b"", 20), f"nothing came to {self.host}"
            return self.bytes

    def _run(self) -> None:
        while True:
            link, _ = self._listener.accept()
            with link:
                if self._is_over:
                    return
                link.settimeout(2)
                with self._heard:
                    self.came += 1
                data = self._request(link)
                with self._heard:
                    self.bytes += data
                    self._heard.notify_all()
                if self.answers:
                    link.sendall(self.answers)

    @staticmethod
    def _request(link: socket.socket) -> bytes:
        """A whole HTTP request, or what comes before somebody stops sending."""
        data = b""
        try:
            while part := link.recv(65536):
                data += part
                head, found, body = data.partition(b"\r\n\r\n")
                wanted = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                if found and len(body) >= wanted:
                    break
        except OSError:
            pass
        return data


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def abroad(addresses: Sequence[str], answers: bytes = OK) -> Iterator[list[Foreign]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Foreign(address, answers)) for address in addresses]
