"""The gRPC endpoint in this process, on a thread of its own: real models, keys, log and sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from falaj.adapters.local.signing import checker, load_public
from falaj.inference.auth import Keyring
from falaj.inference.grpc.port import Port
from falaj.inference.grpc.server import GrpcServer
from falaj.inference.grpc.service import Service
from falaj.inference.log import PredictionLog, replace_file
from falaj.inference.metrics import Metrics
from falaj.inference.models import Models
from falaj.inference.predict import Predictor
from falaj.inference.settings import ServerSettings
from falaj.ports.host import Arm
from tests.kits.endpoint import Installation


class _NothingStored:
    capabilities: frozenset[str] = frozenset()

    def get(self, keys: Any) -> list[None]:
        return [None] * len(keys)


@dataclass
class GrpcEndpoint:
    place: Installation
    address: str
    predictor: Predictor
    server: GrpcServer
    folder: Path

    def write_keys(self) -> None:
        replace_file(self.folder / "keys.json", orjson.dumps(self.place.keys))

    def records(self) -> list[dict[str, Any]]:
        """Everything in the prediction log."""
        segments = sorted((self.folder / "segments").glob("*.jsonl"))
        return [orjson.loads(line) for segment in segments for line in segment.read_bytes().splitlines()]


@contextmanager
def grpc_endpoint(state: Path, *arms: Arm, credentials: Any = None, **changes: Any) -> Iterator[GrpcEndpoint]:
    """Serves version 1 of the tiny model, or the given arms, until the end. `changes`: other settings."""
    place = Installation(state)
    wanted = place.wanted(*arms)
    folder = state / "serving" / "delay"
    folder.mkdir(parents=True)
    settings = replace(ServerSettings("delay", "", "", "", "", clock="wall"), **changes)
    log = PredictionLog(folder / "segments")
    predictor = Predictor(log, _NothingStored(), Metrics(), settings.clock, lambda: datetime.now(UTC))
    predictor.serving = Models(place.blobs, checker(load_public(state / "keys" / "model.ed25519.pub"))).open(wanted)
    port = Port(settings, 0, credentials)
    server = GrpcServer(settings, Keyring(folder / "keys.json", place.pepper), Service(predictor), port)
    replace_file(folder / "keys.json", orjson.dumps(place.keys))
    server.start()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield GrpcEndpoint(place, port.address, predictor, server, folder)
    finally:
        server.stop()
        thread.join(30)
        log.close()
        place.close()
        assert not thread.is_alive()
