"""gRPC's own HTTP/2 server and its queue of events, driven by hand: the one module that knows grpcio's inside.

`grpc.server` and `grpc.aio` stand on the same queue, but wake a thread or a coroutine for every step of every call; one loop
that takes whatever is there costs a sixth of that (docs/decisions/0016). `grpc._cython` is not promised to stay as it is, so
nothing else may name it, and what is used of it here is what `grpc.server` itself uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
from grpc._cython import cygrpc

from falaj.core.errors import Conflict
from falaj.inference.settings import ServerSettings

Took = Callable[[Any], None]
"""What is called with the event when it has happened."""
_NO_FLAGS = 0
_ACCEPTED_AHEAD = 8
"""Calls that the core may hand over before the loop comes round."""
_LEAST_PING_S = 10
"""Clients that ping more often than that, or three times without a call, are sent away."""


class Port:
    """Listens on one address. Belongs to the thread that polls it, but for `answer`, `refuse` and `shut`."""

    def __init__(self, settings: ServerSettings, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        """Raises Conflict where the port is taken by a program that does not share it."""
        self.is_secure = credentials is not None
        self.timeout_s = settings.timeout_ms / 1000
        """How long a caller waits who gives no deadline; 0: for ever."""
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(_options(settings), False)
        self._server.register_completion_queue(self._queue)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{port}".encode()
        try:
            given = (address,) if credentials is None else (address, credentials._credentials)
            self.port = int(self._server.add_http2_port(*given))
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise Conflict(f"{host}:{port} is taken by another program.", "set grpc_port to a free port, or to 0.")
        self.address = f"{host}:{self.port}"

    def start(self, accepted: Took) -> None:
        """From now on calls are taken; each comes to `accepted` as an event, after which `accept` asks for the next one."""
        self._accepted = accepted
        self._server.start()
        for _ in range(_ACCEPTED_AHEAD):
            self.accept()

    def accept(self) -> None:
        self._server.request_call(self._queue, self._queue, self._accepted)

    def poll(self, seconds: float) -> Any:
        """The next event, None if there is none in that time. Its `tag` is what is to be called with it."""
        event = self._queue.poll(time.time() + seconds if seconds else 0.0)
        return None if event.completion_type == cygrpc.CompletionType.queue_timeout else event

    def receive(self, call: Any, took: Took) -> None:
        """The next message of a call, for `message_of`."""
        call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), took)

    def open(self, call: Any, closed: Took) -> None:
        """Begins a call with many answers; `closed` happens when it is over on either side, for `was_cancelled`."""
        call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), closed)
        call.start_server_batch((cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),), ignore)

    def send(self, call: Any, message: bytes, took: Took) -> None:
        """One of many answers; the next one may follow when this one was taken."""
        call.start_server_batch((cygrpc.SendMessageOperation(message, _NO_FLAGS),), took)

    def answer(self, call: Any, message: bytes, took: Took) -> None:
        """The only answer of a call, with which it ends."""
        call.start_server_batch(
            (
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                cygrpc.SendMessageOperation(message, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(None, 0, b"", _NO_FLAGS),
                cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
            ),
            took,
        )

    def refuse(self, call: Any, status: tuple[int, bytes, Any], took: Took) -> None:
        """Ends a call that was not answered. `status`: its code, text and trailing metadata."""
        code, text, metadata = status
        call.start_server_batch(
            (
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(metadata, code, text, _NO_FLAGS),
                cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
            ),
            took,
        )

    def finish(self, call: Any, status: tuple[int, bytes, Any], took: Took) -> None:
        """Ends a call that was opened."""
        code, text, metadata = status
        call.start_server_batch((cygrpc.SendStatusFromServerOperation(metadata, code, text, _NO_FLAGS),), took)

    def shut(self, took: Took) -> None:
        """Takes no new calls; happens when the last one is over."""
        self._server.shutdown(self._queue, took)

    def cancel(self) -> None:
        """Ends the calls that are still open."""
        self._server.cancel_all_calls()

    def close(self) -> None:
        """After `shut` has happened."""
        self._server.destroy()
        self._queue.shutdown()
        while self._queue.poll(None).completion_type != cygrpc.CompletionType.queue_shutdown:
            pass


def ignore(_event: Any) -> None:
    """For what need not be known."""


def message_of(event: Any) -> bytes | None:
    """The message that came; None where the caller sends no more, went away, or sent one that is too large."""
    found: bytes | None = event.batch_operations[0].message() if event.success else None
    return found


def was_cancelled(event: Any) -> bool:
    return bool(event.batch_operations[0].cancelled())


def certificate_of(call: Any) -> bytes | None:
    """The client's certificate (PEM), as it was checked when the connection was made; None where it showed none."""
    context = cygrpc.auth_context(call) or {}
    found = context.get(b"x509_pem_cert") or context.get("x509_pem_cert")
    return bytes(found[0]) if found else None


def _options(settings: ServerSettings) -> list[tuple[bytes, int]]:
    """The core's own limits; whatever goes beyond them never gets to falaj's code."""
    wanted = {
        "grpc.so_reuseport": 1,  # the supervisor holds the port, and a worker that is started again takes it up at once
        "grpc.max_receive_message_length": settings.max_body_bytes,
        "grpc.max_metadata_size": settings.max_header_bytes,
        "grpc.absolute_max_metadata_size": settings.max_header_bytes,
        "grpc.max_concurrent_streams": settings.max_waiting,
        "grpc.max_allowed_incoming_connections": settings.max_connections,
        "grpc.server.max_pending_requests": settings.max_waiting,
        "grpc.server.max_pending_requests_hard_limit": 2 * settings.max_waiting,
        "grpc.server_handshake_timeout_ms": int(settings.request_timeout_s * 1000),
        "grpc.http2.min_ping_interval_without_data_ms": _LEAST_PING_S * 1000,
        "grpc.http2.min_recv_ping_interval_without_data_ms": _LEAST_PING_S * 1000,
        "grpc.http2.max_ping_strikes": 3,
        # A connection whose other end went away without a word is noticed, and not kept for good.
        "grpc.keepalive_time_ms": settings.keep_alive_s * 1000,
        "grpc.keepalive_timeout_ms": 20_000,
        # A few compressed bytes may be a message of any size, and the limit is looked at too late.
        "grpc.compression_enabled_algorithms_bitset": 1,
    }
    return [(name.encode(), value) for name, value in wanted.items()]
