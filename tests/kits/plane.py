"""A real control plane in a process of its own, with an empty project, and a client that says what came over the wire."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay", "api_port": "0"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Plane:
    """`falaj init` and `falaj up` on a folder. `environment`: what the two find in theirs beside the machine's own."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, umask: int = 0o022, **settings: str) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        folder.mkdir(exist_ok=True)
        (folder / "project.py").write_text('"""Declares nothing."""\n')
        given = [word for name, value in {**SETTINGS, **settings}.items() for word in ("--set", f"{name}={value}")]
        own = {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")} | dict(environment or {})
        argv = [sys.executable, "-m", "falaj"]
        words = ["--project", str(folder), *given]
        subprocess.run([*argv, "init", *words], check=True, capture_output=True, env=own, umask=umask)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*argv, "up", *words], stdout=log, stderr=log, env=own, umask=umask)
        self.key = (folder / ".falaj" / "keys" / "operator.key").read_text().strip()
        self.address = urlsplit(self._url())

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        peer: str = "127.0.0.1",
    ) -> Answer:
        """`target` goes out as it is, from the address `peer` of this machine.

        A `key` of "" sends none, None the operator's. `headers` replace what would be sent.
        """
        connection = http.client.HTTPConnection(
            str(self.address.hostname), self.address.port or 80, timeout=20, source_address=(peer, 0)
        )
        given = {name.lower(): value for name, value in (headers or {}).items()}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        own = {"host": self.address.netloc, "authorization": f"Bearer {self.key if key is None else key}"}
        if key == "":
            del own["authorization"]
        if data is not None:
            own["content-length"] = str(len(data))
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (own | given).items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _url(self) -> str:
        place = self.folder / ".falaj" / "api.json"
        until = time.monotonic() + 30
        while not place.is_file():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)
        return str(json.loads(place.read_text())["url"])
