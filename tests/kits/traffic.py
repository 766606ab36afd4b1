"""Callers of an endpoint who never stop asking, and remember what they were told and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.kits.endpoint import REQUEST, Installation


@dataclass(frozen=True, slots=True)
class Told:
    """One answer. Times are seconds of the monotonic clock; `status` 0 is a connection that broke."""

    asked: float
    answered: float
    status: int
    unit: str
    arm: str
    version: str


@dataclass
class Traffic:
    told: list[Told] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def since(self, moment: float) -> list[Told]:
        """Whatever was asked from then on."""
        return [one for one in list(self.told) if one.asked >= moment]

    def wait_for(self, count: int, moment: float, seconds: float = 20.0) -> list[Told]:
        """So many answers to what was asked from then on."""
        until = time.monotonic() + seconds
        while len(found := self.since(moment)) < count:
            assert time.monotonic() < until, f"{len(found)} answers within {seconds} s"
            time.sleep(0.01)
        return found

    @property
    def failed(self) -> list[Told]:
        return [one for one in list(self.told) if one.status != 200]

    def settled(self, moment: float, version: str) -> float:
        """Seconds from the moment to the last answer that came from another version; 0 where there was none."""
        late = [one.answered for one in list(self.told) if one.answered >= moment and one.version != version]
        return max(late) - moment if late else 0.0

    def _ask(self, client: httpx.Client, caller: int) -> None:
        count = 0
        while not self._over.is_set():
            unit, count = f"f-{caller}-{count % 200}", count + 1
            asked = time.monotonic()
            try:
                answer = client.post("/v1/models/delay:predict", json={**REQUEST, "flight_id": unit})
                body: Any = answer.json()
                status = answer.status_code
            except (httpx.HTTPError, ValueError):
                status, body = 0, {}
            model = str(body.get("model", ""))
            told = Told(asked, time.monotonic(), status, unit, str(body.get("arm", "")), model.rpartition("@")[2])
            self.told.append(told)


@contextmanager
def traffic(place: Installation, key: str, callers: int = 4) -> Iterator[Traffic]:
    """Callers with a connection each, until the block ends."""
    found = Traffic()
    clients = [place.client(key) for _ in range(callers)]
    threads = [threading.Thread(target=found._ask, args=(client, n)) for n, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found._over.set()
        for thread, client in zip(threads, clients, strict=True):
            thread.join()
            client.close()
