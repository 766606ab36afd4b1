"""Somebody who can write where artifacts lie, or who would like to have written what a gate decided on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from falaj.adapters.local.blobs import FileBlobs
from falaj.core.errors import Conflict, FalajError, InvalidInput, NotFound
from tests.kits.endpoint import Installation, tiny_onnx
from tests.security.classes import attack


@attack("overwritten artifact")
def test_a_blob_that_was_exchanged_is_not_read(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    digest = blobs.put(tiny_onnx(0.001))
    blobs.path(digest).chmod(0o600)
    blobs.path(digest).write_bytes(tiny_onnx(0.002))
    with pytest.raises(Conflict):
        blobs.get(digest)
    with pytest.raises(Conflict):
        FileBlobs(tmp_path / "blobs").path(digest)


@attack("overwritten artifact")
@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "sha256:" + "g" * 64, "../x", "sha256:", "md5:" + "0" * 32, "sha256:" + "A" * 64]
)
def test_a_digest_that_is_none_leads_nowhere(digest: str, tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    for ask in (blobs.get, blobs.path):
        with pytest.raises((InvalidInput, NotFound)):
            ask(digest)


@attack("overwritten artifact")
@pytest.mark.slow
@pytest.mark.parametrize("what", ["bytes", "manifest", "signature"])
def test_an_endpoint_does_not_take_a_model_that_was_exchanged(what: str, tmp_path: Path) -> None:
    place = Installation(tmp_path)
    key = place.key("caller", "caller")
    try:
        place.host.serve(place.wanted(place.arm(1)), place.keys)
        bad = place.arm(2)
        if what == "bytes":
            place.blobs.path(bad.digest).chmod(0o600)
            place.blobs.path(bad.digest).write_bytes(tiny_onnx(0.003))
        elif what == "manifest":
            bad = replace(bad, manifest={**bad.manifest, "payload": place.arm(3).manifest["payload"]})
        else:
            bad = replace(bad, manifest={**bad.manifest, "signatures": []})
        with pytest.raises(FalajError):
            place.host.serve(place.wanted(bad), place.keys)
        with place.client(key) as client:
            served = client.get("/v2/models/delay").json()
        assert "2" not in served.get("versions", ["1"])
    finally:
        place.close()
