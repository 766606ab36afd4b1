"""A real OpenID provider for tests (npm oidc-provider, certified), in which everybody is who they say they are.

Its packages come from the lock in tests/kits/oidc, into a folder that is not kept. Where Node is missing its tests are skipped.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwk, jws

from tests.kits.servers import _missing, _program

FOLDER = Path(__file__).with_name("oidc")
AUDIENCE = "urn:falaj:api"
GROUPS: Mapping[str, list[str]] = {
    "noura": ["risk", "everybody"],
    "omar": ["risk"],
    "lina": ["science"],
    "sami": ["operations"],
    "batch": ["callers"],
}
ROLES = "risk=approver science=data_scientist operations=operator callers=caller"
PUBLIC = {
    "client_id": "falaj",
    "token_endpoint_auth_method": "none",
    "application_type": "native",
    "redirect_uris": ["http://127.0.0.1/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
}
SECRET = "s3cret of/the+client"
CONFIDENTIAL = {
    **PUBLIC,
    "client_id": "falaj-secret",
    "token_endpoint_auth_method": "client_secret_basic",
    "client_secret": SECRET,
}
BATCH = {
    "client_id": "batch",
    "client_secret": "the batch's own",
    "redirect_uris": [],
    "grant_types": ["client_credentials"],
    "response_types": [],
}


@dataclass
class Op:
    issuer: str
    keys: Mapping[str, Any] = field(repr=False)
    """Its private keys, by their `kid`: a test can sign what the provider never would."""
    process: subprocess.Popen[str] = field(repr=False)

    def settings(self, **others: Any) -> dict[str, Any]:
        """What a project says of it."""
        named = {"issuer": self.issuer, "client": "falaj", "audience": AUDIENCE, "roles": ROLES, "scope": "openid profile"}
        return {f"oidc_{name}": value for name, value in {**named, **others}.items()}

    def browse(self, address: str, name: str) -> dict[str, str]:
        """What a browser would bring to the redirect, after somebody logged in under that name; nobody follows it there."""
        with httpx.Client(trust_env=False) as browser:
            answer = browser.get(address)
            for _ in range(10):
                there = str(httpx.URL(address).join(answer.headers["location"]))
                if "/callback" in there:
                    return dict(httpx.URL(there).params)
                answer = browser.get(f"{there}?as={name}" if "/interaction/" in there else there)
        raise AssertionError(answer.text)

    def of_program(self) -> str:
        """The access token of the client `batch`, which logs nobody in."""
        form = {"grant_type": "client_credentials", "resource": AUDIENCE}
        found = httpx.post(f"{self.issuer}/token", data=form, auth=("batch", BATCH["client_secret"]), trust_env=False)
        return str(found.json()["access_token"])

    def claims(self, **others: Any) -> dict[str, Any]:
        """Those of a good access token; None leaves one out."""
        now = int(time.time())
        found = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "noura", "client_id": "falaj", "jti": os.urandom(8).hex(),
            "iat": now, "exp": now + 300, "groups": ["risk"], **others,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def signed(self, claims: Mapping[str, Any] | bytes, by: str = "rsa-1", **head: Any) -> str:
        """A token of these claims, really signed by the provider's own key."""
        header = {"alg": self.keys[by]["alg"], "typ": "at+jwt", "kid": by, **head}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        header = {name: value for name, value in header.items() if value is not None}
        signed = f"{part(json.dumps(header).encode())}.{part(payload)}"
        model = jws.JWSRegistry.algorithms[str(header["alg"])]
        return f"{signed}.{part(model.sign(signed.encode(), jwk.import_key(dict(self.keys[by]))))}"

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """It hangs: connections are taken and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def private_keys() -> dict[str, Any]:
    """Fresh ones: RSA, P-256 and Ed25519."""
    made = (("rsa-1", "RS256", jwk.generate_key("RSA", 2048)), ("ec-1", "ES256", jwk.generate_key("EC", "P-256")))
    made += (("ed-1", "EdDSA", jwk.generate_key("OKP", "Ed25519")),)  # type: ignore[assignment]
    return {kid: {**key.as_dict(private=True), "kid": kid, "use": "sig", "alg": alg} for kid, alg, key in made}


@contextlib.contextmanager
def oidc_provider(
    *, ttl: int = 300, keys: Mapping[str, Any] | None = None, port: int = 0, groups: Mapping[str, Any] = GROUPS
) -> Iterator[Op]:
    """A provider on a free port. `ttl`: of access tokens, in seconds."""
    program = _program("oidc", "node", "nodejs npm")
    _installed()
    keys = keys if keys is not None else private_keys()
    asked = {
        "port": port, "ttl": ttl, "audience": AUDIENCE, "groups": groups, "clients": [PUBLIC, CONFIDENTIAL, BATCH],
        "jwks": {"keys": list(keys.values())},
    }  # fmt: skip
    process = subprocess.Popen(
        [program, "op.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        issuer = process.stdout.readline().strip()
        assert issuer.startswith("http://127.0.0.1:"), "the provider did not start"
        yield Op(issuer, keys, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _installed() -> None:
    """Its packages, from the lock; one process at a time."""
    if (FOLDER / "node_modules" / "oidc-provider").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        _missing("oidc", "nodejs npm")
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
            command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                _missing("oidc", "nodejs npm", f"npm ci --prefix {FOLDER} ({done.stderr[-200:]})")
