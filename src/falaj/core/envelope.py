"""Envelope: bytes with a signature over them and over their type, in the DSSE v1 form.

The signature itself is made and checked by whoever holds the keys: functions that do it come in as arguments.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from falaj.core.errors import Conflict, Denied, InvalidInput

_LIMIT_SIGNATURES = 16


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE v1: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def write_envelope(payload: bytes, payload_type: str, key_id: str, sign: Callable[[bytes], bytes]) -> dict[str, Any]:
    """The payload in an envelope with one signature. `key_id` is a hint only; it is not signed."""
    signature = {"keyid": key_id, "sig": base64.b64encode(sign(pae(payload_type, payload))).decode()}
    return {"payload": base64.b64encode(payload).decode(), "payloadType": payload_type, "signatures": [signature]}


def open_envelope(envelope: Mapping[str, Any], payload_type: str, verify: Callable[[bytes, bytes], bool]) -> bytes:
    """The payload, once `verify(signature, message)` was true for one of the signatures.

    Raises Denied where no signature is good, Conflict where it holds another type than was asked for, InvalidInput where it
    is no envelope.
    """
    if not isinstance(envelope, Mapping):
        raise InvalidInput("The envelope is not an object.")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, (list, tuple)) or not 0 < len(signatures) <= _LIMIT_SIGNATURES:
        raise InvalidInput(f"An envelope has one to {_LIMIT_SIGNATURES} signatures.")
    if not payload_type or envelope.get("payloadType") != payload_type:
        raise Conflict(f"The envelope holds {envelope.get('payloadType')!r}, wanted was {payload_type!r}.")
    payload = _unb64(envelope.get("payload"))
    message = pae(payload_type, payload)
    for signature in signatures:
        if not isinstance(signature, Mapping):
            raise InvalidInput("A signature of the envelope is not an object.")
        if verify(_unb64(signature.get("sig")), message):
            return payload
    raise Denied("The envelope is not signed by a key that is trusted here.", "sign it again, or trust the key that signed it.")


def _unb64(text: Any) -> bytes:
    """Standard or URL-safe base64: DSSE asks verifiers to take both."""
    if not isinstance(text, str):
        raise InvalidInput("A part of the envelope is missing, or not a text.")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput("A part of the envelope is not base64.") from exc
