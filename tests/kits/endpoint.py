"""A tiny signed model, a recipe, keys and a state folder: everything that a real inference server needs."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.local.host import ProcessHost
from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.local.signing import open_key, sign_envelope
from falaj.core.codec import canonical, encode
from falaj.core.moments import millis
from falaj.core.recipe import Column, Recipe
from falaj.inference.auth import hmac_of
from falaj.inference.models import MANIFEST_TYPE
from falaj.ports.host import Arm, Wanted
from falaj.ports.online import Stored

RECIPE = Recipe(
    (
        Column("distance", "number", "distance"),
        Column("carrier", "category", "carrier", {"values": ["AA", "UA"]}),
        Column("temp", "view", "weather_now.temp"),
        Column("hour", "hour", "at", {"zone": "America/New_York"}),
    ),
    {"weather_now": "origin"},
    {"weather_now": 3 * 3600 * 1000},
)
PLACES = {"weather_now": ["temp"]}
AT = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
REQUEST = {"flight_id": "f-1", "carrier": "UA", "origin": "EWR", "distance": 700.0, "at": "2013-05-01T09:30:00Z"}


def tiny_onnx(weight: float = 0.001, width: int = 4) -> bytes:
    """A logistic model on `width` columns in which a missing value counts as zero; `weight` makes versions differ."""
    weights = np.full((width, 1), weight, dtype=np.float32)
    nodes = [
        helper.make_node("IsNaN", ["X"], ["gone"]),
        helper.make_node("Where", ["gone", "zero", "X"], ["filled"]),
        helper.make_node("MatMul", ["filled", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(weights, "w"),
        *(numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0), ("one", 1))),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


@dataclass
class Installation:
    """A state folder with keys, blobs and one endpoint's host. Close it."""

    state: Path
    options: dict[str, Any] = field(default_factory=lambda: {"clock": "replay"})

    def __post_init__(self) -> None:
        self.blobs = FileBlobs(self.state / "blobs")
        self.signer = open_key(self.state / "keys" / "model.ed25519")
        pepper = self.state / "keys" / "pepper"
        if not pepper.exists():
            pepper.write_bytes(secrets.token_bytes(32))
        self.pepper = pepper.read_bytes()
        self.host = ProcessHost(self.state / "serving", self.state, options=self.options)
        self.keys: dict[str, dict[str, Any]] = {}
        self.revision = 0

    def arm(self, version: int = 1, role: str = "champion", share: float = 1.0, **changes: Any) -> Arm:
        """A signed version. `changes` go into its manifest."""
        digest = self.blobs.put(tiny_onnx(0.001 * version))
        name = f"model/delay@{version}"
        manifest = {"model": name, "digest": digest, "recipe": encode(RECIPE), "places": PLACES, **changes}
        envelope = sign_envelope(canonical(manifest), MANIFEST_TYPE, self.signer)
        return Arm(role, name, digest, share, "release/delay@1", envelope)

    def wanted(self, *arms: Arm, unit: str = "flight_id") -> Wanted:
        self.revision += 1
        return Wanted("delay", self.revision, arms or (self.arm(),), "salt", 0.5, unit)

    def key(self, name: str, *roles: str) -> str:
        text = f"fk-{name}-{secrets.token_hex(8)}"
        self.keys[hmac_of(self.pepper, text.encode())] = {"id": name, "name": name, "kind": "service", "roles": list(roles)}
        return text

    def store(self, origin: str = "EWR", temp: float = 50.0, at: datetime = AT) -> None:
        online = LmdbOnline(self.state / "online.lmdb")
        online.put("weather_now", {origin: Stored(millis(at), (temp,))})
        online.close()

    @property
    def folder(self) -> Path:
        return self.state / "serving" / "delay"

    def workers(self) -> dict[str, int]:
        """Slot → process number of each worker that has reported."""
        found = {}
        for path in (self.folder / "workers").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[path.stem] = int(json.loads(path.read_bytes())["pid"])
        return found

    @property
    def url(self) -> str:
        return str(json.loads((self.folder / "server.json").read_text())["url"])

    def client(self, key: str, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}", **headers}, timeout=10, trust_env=False)

    def close(self) -> None:
        if (self.folder / "settings.json").exists():
            self.host.stop("delay")
        self.host.close()
