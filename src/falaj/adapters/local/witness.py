"""A witness asked over HTTP, as C2SP tlog-witness has it: `POST <address>/add-checkpoint`."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import quote

from falaj.adapters.local.webhook import UNANSWERED, address
from falaj.core.cosignature import KIND
from falaj.core.errors import Conflict, Denied, NotFound, Unavailable
from falaj.core.note import b64, read_vkey

ANSWER_BYTES = 64 << 10
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\n")


class HttpWitness:
    """No redirect is followed, and http is for loopback addresses only. Raises InvalidInput for an unfit address or key."""

    def __init__(self, vkey: str, url: str, *, timeout: float = 5.0) -> None:
        self.name, _ = read_vkey(vkey, KIND)
        self.vkey = vkey
        self._url, self._where, self._opener = address(url, "witness")
        self._timeout = timeout

    def add(self, old: int, path: Sequence[bytes], note: str) -> str:
        body = f"old {old}\n{''.join(f'{b64(node)}{chr(10)}' for node in path)}\n{note}".encode()
        status, said = self._ask("/add-checkpoint", body)
        if status == http.client.OK:
            return said
        size = _SIZE.fullmatch(said) if status == http.client.CONFLICT else None
        if size is not None:
            raise Conflict(f"The witness {self.name} has seen {size[1]} events of this ledger, not {old}.", "", size=int(size[1]))
        if status in (400, 403, 404, 409, 422):
            raise Denied(f"The witness {self.name} refuses the checkpoint ({status}): {_plain(said)}", "", status=status)
        raise Unavailable(f"The witness {self.name} answered {status}.", "it is asked again.")

    def newest(self, origin: str) -> str:
        status, said = self._ask(f"/checkpoint/{quote(origin, safe='')}", None)
        if status == http.client.NOT_FOUND:
            raise NotFound(
                f"The witness {self.name} has seen no checkpoint of {origin}.", "`falaj audit witness` hands one over."
            )
        if status != http.client.OK:
            raise Unavailable(f"The witness {self.name} answered {status}.", "ask it again.")
        return said

    def _ask(self, path: str, body: bytes | None) -> tuple[int, str]:
        headers = {"Content-Type": "text/plain", "User-Agent": "falaj"}
        target = self._url.rstrip("/") + path
        request = urllib.request.Request(target, data=body, headers=headers)  # noqa: S310  # checked by `address`
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return int(answer.status), answer.read(ANSWER_BYTES).decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read(ANSWER_BYTES).decode("utf-8", "replace")
        except UNANSWERED as exc:
            why = type(exc).__name__
            raise Unavailable(
                f"The witness {self.name} at {self._where} does not answer ({why}).", "it is asked again."
            ) from None


def _plain(said: str) -> str:
    return "".join(letter for letter in said if letter.isprintable())[:200]
