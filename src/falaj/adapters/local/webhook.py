"""Notifications posted to a web address, signed, so that the receiver knows whom they are from."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import IO, Any
from urllib.parse import urlsplit

from falaj.core.errors import InvalidInput, Unavailable

SIGNATURE = "X-Falaj-Signature"
ANSWER_BYTES = 4096


class WebhookNotify:
    """Posts JSON. With a secret, `X-Falaj-Signature: t=<seconds>,v1=<hex>` is HMAC-SHA256 of `<seconds>.<body>`.

    No redirect is followed, nothing of the answer but its status is used, and http is for loopback addresses only.
    """

    def __init__(
        self, url: str, secret: bytes | None = None, *, timeout: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises InvalidInput for an address that must not be used."""
        self._url, self._where, self._opener = address(url, "webhook")
        self._secret, self._timeout, self._clock = secret, timeout, clock

    def send(self, message: Mapping[str, Any]) -> None:
        """Delivers on any 2xx. Raises Unavailable otherwise; the message names neither the path nor the answer."""
        body = json.dumps(message, sort_keys=True, default=str).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "falaj", "X-Falaj-Id": _plain(message.get("id", ""))}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, body, int(self._clock()))
        try:
            status = post(self._opener, self._url, body, headers=headers, timeout=self._timeout)
        except UNANSWERED as exc:
            raise Unavailable(f"{self._where} did not take the message ({type(exc).__name__}).", "it is sent again.") from None
        if not 200 <= status < 300:
            raise Unavailable(f"{self._where} answered {status}.", "it is sent again.")


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """The value of the header; a receiver makes it again from the body's bytes and refuses old seconds."""
    mac = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={mac}"


def address(url: str, what: str) -> tuple[str, str, urllib.request.OpenerDirector]:
    """The address, how errors name it, and what opens it: no redirect is followed. Raises InvalidInput for an unfit one."""
    checked, where = _checked(url, what)
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if _is_loopback(urlsplit(url).hostname or ""):
        # A proxy would make the loopback address somebody else's.
        handlers.append(urllib.request.ProxyHandler({}))
    return checked, where, urllib.request.build_opener(*handlers)


UNANSWERED = (OSError, http.client.HTTPException, ValueError)
"""What `post` may raise where nobody answers."""


def post(opener: urllib.request.OpenerDirector, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float) -> int:
    """The status of the answer, of which nothing else counts. `url` and `opener` as `address` gave them."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310  # checked by address
    try:
        with opener.open(request, timeout=timeout) as answer:
            answer.read(ANSWER_BYTES)
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917  # as the standard library has it
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> None:
        """A redirect would carry a signed message to an address that nobody checked."""


def _checked(url: str, what: str) -> tuple[str, str]:
    """The address, and how errors name it: without its path, which often holds a token."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise InvalidInput(f"The {what}'s address cannot be read.", "write it as https://host/path.") from exc
    where = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise InvalidInput(
            f"The {what}'s address must be https://host/path, without a password.", "a secret goes into the settings."
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidInput(f"{where} is not encrypted.", "use https; http is for 127.0.0.1 only.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise InvalidInput(f"The {what}'s address has a space or a control character.")
    return url, where


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain(value: Any) -> str:
    return "".join(letter for letter in str(value) if 32 < ord(letter) < 127)[:200]
