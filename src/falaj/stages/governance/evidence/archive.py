"""The archive itself: named files, a manifest of their digests, a signature over that, and always the same bytes."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from falaj.core.codec import canonical, digest
from falaj.core.errors import InvalidInput

PAYLOAD_TYPE = "application/vnd.falaj.evidence+json"
MANIFEST, SIGNED = "manifest.json", "manifest.dsse.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can carry: when an archive was made is in its manifest."""
Sign = Callable[[bytes, str], Mapping[str, Any]]


def pretty(body: Any) -> bytes:
    """JSON for people: sorted and indented, the same bytes for the same value."""
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def sealed(files: Mapping[str, bytes], about: Mapping[str, Any], sign: Sign) -> dict[str, bytes]:
    """The files with their manifest and its signature. `about` goes into the manifest."""
    for name in files:
        parts = name.split("/")
        if name in (MANIFEST, SIGNED) or not all(part and part not in (".", "..") for part in parts) or "\\" in name:
            raise InvalidInput(f"{name!r} is no name of a file in an archive.")
    listed = {name: {"sha256": digest(data).removeprefix("sha256:"), "bytes": len(data)} for name, data in files.items()}
    manifest = canonical({**about, "files": listed})
    return {**files, MANIFEST: manifest, SIGNED: pretty(sign(manifest, PAYLOAD_TYPE))}


def packed(files: Mapping[str, bytes]) -> bytes:
    """One zip file. Not compressed: so the bytes follow from the files alone, whichever zlib is installed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
