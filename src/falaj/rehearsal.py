"""Wiring of a drill: a throwaway copy of an endpoint, a caller that never stops asking it, and the time until it is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from falaj.core.errors import FalajError, Unavailable
from falaj.core.moments import iso
from falaj.ports.host import Host, Wanted
from falaj.stages.rollouts.kills import Measured

COPY = "-drill"
"""What is added to an endpoint's name; callers of the endpoint do not know the copy, and its key is thrown away."""
BEFORE, AFTER = 20, 20
"""Answers that are waited for before the copy is killed, and refusals afterwards."""
_PATIENCE_S = 10.0


def wall() -> datetime:
    return datetime.now(UTC)


@dataclass
class Caller:
    """Asks one thing after the other over one connection, and remembers when it was answered and when refused."""

    url: str
    key: str
    name: str
    context: ssl.SSLContext | None
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    """Moments of the monotonic clock at which an answer had come."""
    _over: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        rows = [self._input()]
        with closing(self._connect()) as line:
            while not self._over.is_set():
                # Under the replay clock a call says when it happens; the wall clock takes it where it is now.
                body = json.dumps({"inputs": rows, "parameters": {"at": iso(wall())}}).encode()
                status = self._say(line, "POST", "/infer", body)[0]
                (self.answered if status == 200 else self.refused).append(time.monotonic())

    def end(self) -> None:
        self._over.set()

    def wait(self, seen: list[float], count: int) -> bool:
        """Whether there were so many more within a few seconds."""
        wanted, until = len(seen) + count, time.monotonic() + _PATIENCE_S
        while len(seen) < wanted and time.monotonic() < until:
            time.sleep(0.005)
        return len(seen) >= wanted

    def _input(self) -> Mapping[str, Any]:
        """One row of zeros, in the words of the model itself."""
        with closing(self._connect()) as line:
            status, told = self._say(line, "GET", "", b"")
        if status != 200:
            raise Unavailable(f"The copy does not say what it takes (HTTP {status}).")
        first = told["inputs"][0]
        width = int(first["shape"][-1])
        return {"name": first["name"], "datatype": first["datatype"], "shape": [1, width], "data": [0.0] * width}

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host, port = str(parts.hostname), parts.port
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=_PATIENCE_S, context=self.context)
        return http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)

    def _say(self, line: http.client.HTTPConnection, method: str, rest: str, body: bytes) -> tuple[int, Any]:
        line.request(method, f"/v2/models/{self.name}{rest}", body or None, {"Authorization": f"Bearer {self.key}"})
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`hashed(key)`: how hosts know a key. `trust(endpoint)`: what a caller of an encrypted endpoint trusts."""

    host: Host
    hashed: Callable[[str], str]
    trust: Callable[[str], ssl.SSLContext | None]

    def __call__(self, wanted: Wanted) -> Measured:
        """Serves the copy, kills it under calls, and stops it. Never raises for what the copy does: that is what is measured."""
        key = f"drill-{secrets.token_urlsafe(24)}"
        keys = {self.hashed(key): {"id": "drill", "name": "drill", "kind": "service", "roles": ["caller"]}}
        copy = replace(wanted, endpoint=wanted.endpoint + COPY, stream={}, killed={})
        try:
            self.host.serve(copy, keys)
            with self._calling(copy.endpoint, key) as caller:
                return self._measure(copy, keys, caller)
        except FalajError as exc:
            return Measured(None, 0, problem=f"the copy could not be drilled: {exc.message[:300]}")
        finally:
            with contextlib.suppress(FalajError):
                self.host.stop(copy.endpoint)

    def _measure(self, copy: Wanted, keys: Mapping[str, Mapping[str, Any]], caller: Caller) -> Measured:
        caller.wait(caller.answered, BEFORE)
        before, begun = len(caller.answered), time.monotonic()
        killed = {"by": "drill", "at": iso(wall()), "reason": "a drill"}
        problem, confirmed = "", None
        try:
            self.host.serve(replace(copy, revision=copy.revision + 1, killed=killed), keys)
            confirmed = _ms(time.monotonic() - begun)
        except FalajError as exc:
            problem = exc.message[:300]
        refused = len(caller.refused)
        caller.wait(caller.refused, AFTER)
        last = max((at for at in caller.answered if at > begun), default=begun)
        return Measured(confirmed, _ms(last - begun), len(caller.refused) - refused, before, problem)

    @contextmanager
    def _calling(self, endpoint: str, key: str) -> Iterator[Caller]:
        url = self.host.look(endpoint).url
        if not url.startswith("http"):
            raise Unavailable(f"There is no server to ask at {url}.", "a drill needs a host that starts servers.")
        caller = Caller(url, key, endpoint, self.trust(endpoint) if url.startswith("https") else None)

        def ask() -> None:
            # The server is what is tried out: whatever it does, the drill says how many calls were answered and refused.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, IndexError, FalajError):
                caller.ask()

        thread = threading.Thread(target=ask, name="drill", daemon=True)
        thread.start()
        try:
            yield caller
        finally:
            caller.end()
            thread.join(_PATIENCE_S)


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 0)
