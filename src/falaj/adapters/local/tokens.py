"""Signs the project's own short-lived tokens, and publishes the key that they are checked with."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from falaj.adapters.local.signing import SigningKey, write_over


def mint(claims: Mapping[str, Any], key: SigningKey) -> str:
    """A compact JWT, signed with EdDSA (RFC 7515, RFC 8037)."""
    header = {"alg": "EdDSA", "kid": kid_of(key.public_key), "typ": "JWT"}
    signed = ".".join(_part(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{_part(key.sign(signed.encode()))}"


def jwk_of(public_key: bytes) -> dict[str, str]:
    """A raw Ed25519 public key as RFC 8037 writes it."""
    return {"kty": "OKP", "crv": "Ed25519", "x": _part(public_key)}


def kid_of(public_key: bytes) -> str:
    """The key's thumbprint (RFC 7638): nobody has to hand out names."""
    return _part(hashlib.sha256(json.dumps(jwk_of(public_key), sort_keys=True, separators=(",", ":")).encode()).digest())


def key_named(text: str) -> str:
    """The key that a token's header names, before anybody believes it; empty where that cannot be read."""
    head = text.partition(".")[0]
    try:
        body = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return ""
    kid = body.get("kid") if isinstance(body, dict) else None
    return kid if isinstance(kid, str) else ""


def publish(path: Path, key: SigningKey) -> Path:
    """Writes the key set (RFC 7517) that checks what `key` signs, unless it is there already; returns its path."""
    body = {"keys": [{**jwk_of(key.public_key), "kid": kid_of(key.public_key), "use": "sig", "alg": "EdDSA"}]}
    data = json.dumps(body, sort_keys=True).encode()
    if path.is_file() and path.read_bytes() == data:
        return path
    write_over(path, data)
    return path


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
