"""Notifications posted to a web address, signed, so that the receiver knows whom they are from."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from falaj.adapters.local.egress import UNANSWERED, Reach, address, only_here, send
from falaj.core.errors import Unavailable

SIGNATURE = "X-Falaj-Signature"


class WebhookNotify:
    """Posts JSON. With a secret, `X-Falaj-Signature: t=<seconds>,v1=<hex>` is HMAC-SHA256 of `<seconds>.<body>`.

    No redirect is followed, nothing of the answer but its status is used, and http is for loopback addresses only.
    """

    def __init__(
        self, url: str, secret: bytes | None = None, *, timeout: float = 5.0, clock: Callable[[], float] = time.time,
        reach: Reach = only_here,
    ) -> None:  # fmt: skip
        """`reach` is shown every address before it is connected to. Raises InvalidInput for an address not to be used."""
        self._url, self._where, self._opener = address(url, "webhook", reach)
        self._secret, self._timeout, self._clock = secret, timeout, clock

    def send(self, message: Mapping[str, Any]) -> None:
        """Delivers on any 2xx. Raises Denied where nothing may go there, Unavailable otherwise; the message names neither the
        path nor the answer."""
        body = json.dumps(message, sort_keys=True, default=str).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "falaj", "X-Falaj-Id": _plain(message.get("id", ""))}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, body, int(self._clock()))
        try:
            status = send(self._opener, self._url, body, headers=headers, timeout=self._timeout)
        except UNANSWERED as exc:
            raise Unavailable(f"{self._where} did not take the message ({type(exc).__name__}).", "it is sent again.") from None
        if not 200 <= status < 300:
            raise Unavailable(f"{self._where} answered {status}.", "it is sent again.")


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """The value of the header; a receiver makes it again from the body's bytes and refuses old seconds."""
    mac = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={mac}"


def _plain(value: Any) -> str:
    return "".join(letter for letter in str(value) if 32 < ord(letter) < 127)[:200]
