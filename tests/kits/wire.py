"""The far end of a connection without a socket: what was written to it, and whether it was closed."""

from __future__ import annotations


class Wire:
    """As an asyncio transport, of which the edge uses no more."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def is_reading(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> None:
        return None
