"""What is asked of the provider over HTTP: bounded in size and time, with certificates checked, and no redirect is followed."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from falaj.adapters.oidc.pinned import refuse_open
from falaj.core.errors import Unavailable
from falaj.core.strict import strict_json

_HINT = "the provider may be away; `falaj doctor` asks it."


@dataclass(frozen=True, slots=True)
class Fetch:
    """One question at a time, over a connection of its own: logins are rare."""

    within_s: float = 10.0
    """For a whole answer, however slowly it drips."""
    most: int = 1 << 18
    """Bytes of an answer."""

    def get(self, url: str) -> Mapping[str, Any]:
        """The JSON object there. Raises Unavailable for anything else, InvalidInput for an address that is not to be asked."""
        status, body = self._ask("GET", url, {}, b"")
        if status != 200:
            raise Unavailable(f"The provider answered {status} at {url}.", _HINT)
        return body

    def post(self, url: str, headers: Mapping[str, str], form: str) -> tuple[int, Mapping[str, Any]]:
        """The status and the JSON object, also of a refusal."""
        return self._ask("POST", url, headers, form.encode())

    def _ask(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> tuple[int, Mapping[str, Any]]:
        refuse_open("The provider's address", url)
        ends = time.monotonic() + self.within_s
        given = {"accept": "application/json", **headers}
        try:
            # Nothing of the environment but OpenSSL's own trust: a proxy there would see codes and tokens.
            with httpx.Client(
                verify=ssl.create_default_context(), follow_redirects=False, trust_env=False, timeout=self.within_s / 3
            ) as client:
                # A head that drips resets the timeout with each byte; closing the connection ends it all the same.
                closing = threading.Timer(self.within_s, client.close)
                closing.daemon = True
                closing.start()
                try:
                    with client.stream(method, url, headers=given, content=content or None) as answer:
                        return answer.status_code, self._object(answer, ends, url)
                finally:
                    closing.cancel()
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, RuntimeError) as exc:
            raise Unavailable(f"The provider does not answer at {url} ({type(exc).__name__}).", _HINT) from exc

    def _object(self, answer: httpx.Response, ends: float, url: str) -> Mapping[str, Any]:
        parts, size = [], 0
        for part in answer.iter_bytes(65_536):
            parts.append(part)
            size += len(part)
            if size > self.most or time.monotonic() > ends:
                raise Unavailable(f"The provider's answer at {url} is too large or too slow.", _HINT)
        if not parts:
            return {}
        try:
            body = strict_json(b"".join(parts))
        except (ValueError, RecursionError) as exc:
            raise Unavailable(f"The provider's answer {answer.status_code} at {url} is no JSON.", _HINT) from exc
        if not isinstance(body, dict):
            raise Unavailable(f"The provider's answer at {url} is no object.", _HINT)
        return body
