"""Failed attempts to come in, counted for each peer in bounded memory: whoever guesses has to wait."""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from falaj.core.errors import Unavailable

BURST = 10
"""So many may fail at once."""
EVERY_S = 6.0
"""From then on one each so many seconds."""
PEERS = 4096
"""Peers that are remembered; the one that was quiet longest is forgotten first."""
GOOD = 1024
"""Credentials that were good lately: they need not wait for what others do behind the same address."""


class TooManyAttempts(Unavailable):
    """The peer has shown wrong credentials too often."""

    http_status = 429


@dataclass(slots=True)
class Attempts:
    """Token bucket per peer. A credential that was good lately is looked at in any case, and always in full."""

    now: Callable[[], float]
    """Seconds of a clock that never goes back."""
    salt: bytes = field(repr=False)
    _peers: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    """Peer → attempts left, and when that was so."""
    _good: OrderedDict[bytes, None] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, peer: str, credential: str) -> None:
        """Raises TooManyAttempts where the peer has to wait first; the credential is not looked at then."""
        with self._lock:
            if self._left(peer) >= 1 or self._mark(credential) in self._good:
                return
        raise TooManyAttempts("Too many wrong credentials came from this address.", f"wait {EVERY_S:.0f} s, and send a good one.")

    def failed(self, peer: str, credential: str) -> None:
        """It was wrong. What was good once and is not any more has to wait like any other from now on."""
        with self._lock:
            left = self._left(peer)
            self._peers[peer_of(peer)] = (max(left - 1, 0.0), self.now())
            self._peers.move_to_end(peer_of(peer))
            while len(self._peers) > PEERS:
                self._peers.popitem(last=False)
            self._good.pop(self._mark(credential), None)

    def succeeded(self, credential: str) -> None:
        with self._lock:
            mark = self._mark(credential)
            self._good[mark] = None
            self._good.move_to_end(mark)
            while len(self._good) > GOOD:
                self._good.popitem(last=False)

    def _left(self, peer: str) -> float:
        left, at = self._peers.get(peer_of(peer), (float(BURST), self.now()))
        return min(left + (self.now() - at) / EVERY_S, float(BURST))

    def _mark(self, credential: str) -> bytes:
        """Not the credential itself: nothing that is remembered opens a door."""
        return hashlib.blake2b(credential.encode("utf-8", "replace"), key=self.salt, digest_size=16).digest()


def peer_of(address: str) -> str:
    """An IPv6 caller has a whole /64 to come from, which is one peer."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:200]
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped) if found.ipv4_mapped else str(ipaddress.ip_network((found, 64), strict=False))
