"""Runs the HTTP API on an address of its own, and tells in a file where that is."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from falaj.api.guards import LOOPBACK
from falaj.api.routes import build_api
from falaj.core.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.inference.tls import Files


def serve_api(app: App, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT. Raises Conflict where the port is taken, InvalidInput for a host of another machine."""
    files = app.access.lock()
    with listen(host, port) as listening:
        bound = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if files else 'http'}://{shown}:{bound}"
        api = build_api(app, hosts={*LOOPBACK, shown.lower()}, known=_verbs(app))
        # No proxy's word is taken for where a request comes from: failed attempts are counted by that.
        config = uvicorn.Config(
            api, log_level="warning", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=10,
            proxy_headers=False,
        )  # fmt: skip
        server = _server(app, config, files)
        place = app.settings.state_folder / "api.json"
        _write(place, {"url": url, "pid": os.getpid()})
        print(f"falaj listens on {url}", flush=True)  # noqa: T201  # the one line that whoever started it waits for
        try:
            server.run(sockets=[listening])
        finally:
            place.unlink(missing_ok=True)


def _server(app: App, config: uvicorn.Config, files: Files | None) -> uvicorn.Server:
    if files is None:
        return uvicorn.Server(config)
    from falaj.api.doors import TlsServer
    from falaj.inference.tls import Certificates

    return TlsServer(config, Certificates(files), str(app.settings.api_tls_names), app.access.lock)


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)  # before anybody is told the address: whoever comes first waits a moment and is not refused
    except OSError as exc:
        listening.close()
        if exc.errno == errno.EADDRINUSE:
            raise Conflict(
                f"The port {port} of {host} is taken.",
                "stop what listens there, or set api_port to another one (0 picks a free one).",
            ) from exc
        raise InvalidInput(
            f"falaj cannot listen on {host}:{port}: {exc.strerror}.", "set api_host to an address of this machine."
        ) from exc
    return listening


def _verbs(app: App) -> frozenset[str] | None:
    """The verbs that the policy knows, where it can say so."""
    return getattr(app.kernel.policy, "verbs", None)


def _write(path: Path, body: dict[str, object]) -> None:
    """Whole or not at all: whoever waits for the file never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(body), "utf-8")
    new.replace(path)
