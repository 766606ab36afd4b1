"""Starts the control plane: the HTTP API, and under the wall clock a worker that looks every few seconds."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from falaj.core.errors import Conflict, FalajError

if TYPE_CHECKING:
    from falaj.app import App

log = logging.getLogger("falaj.worker")


def up(project: Path, settings: Mapping[str, str]) -> None:
    """Serves until it is told to stop (SIGTERM, SIGINT). What the endpoints serve goes on without it."""
    from falaj.api.serve import serve_api
    from falaj.app import open_app
    from falaj.upkeep import alive

    # uvicorn stops gracefully and then raises the signal again; by default that would end the process with nothing closed.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    _spare_memory()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with open_app(project, dict(settings)) as app, alone(app.settings.state_folder), alive(app), worker(app):
        _tell_doors(app)
        serve_api(app, str(app.settings.api_host), int(app.settings.api_port))


def _tell_doors(app: App) -> None:
    """What somebody may have to do about certificates, said while there is time. Endpoints serve on in any case."""
    from falaj.core.moments import iso

    try:
        for what, until in app.access.ends().items():
            log.info("the certificate of %s is good until %s", what, iso(until))
    except FalajError as exc:
        log.warning("%s", exc)
    if app.access.is_in_clear:
        log.warning("endpoints listen on %s without encryption: set serve_tls", app.settings.serve_host)


def _spare_memory() -> None:
    """Memory that a burst of work needed goes back to the machine; a control plane is mostly waiting."""
    # Read by polars' allocator when polars is imported.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:500,muzzy_decay_ms:500")
    # Each thread of the server would else keep an arena of its own; -8 is glibc's M_ARENA_MAX, other libraries have no mallopt.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 2)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """One control plane a project: two would do each round twice. The lock goes with the process, however that ends.

    Raises Conflict where another one holds it.
    """
    with (state / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise Conflict(f"A control plane runs on {state} already.", f"its address is in {state / 'api.json'}.") from exc
        yield


@contextmanager
def worker(app: App) -> Iterator[None]:
    """Keeps endpoints alive, and ticks in the background under the wall clock; under replay the caller of `worker:tick` does."""
    done = threading.Event()
    threads = [threading.Thread(target=_supervise, args=(app, done), name="supervisor", daemon=True)]
    if app.settings.clock == "wall":
        threads.append(threading.Thread(target=_loop, args=(app, done), name="worker", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(30)


def _supervise(app: App, done: threading.Event) -> None:
    """An endpoint that an earlier control plane started is looked after from the first second on, before any round."""
    host = app.host
    while not done.wait(1.0):
        try:
            for endpoint in host.supervise():
                log.info("endpoint/%s had died and was started again", endpoint)
        except Exception as exc:
            log.log(logging.WARNING if isinstance(exc, FalajError) else logging.ERROR, "supervising failed", exc_info=exc)


def _loop(app: App, done: threading.Event) -> None:
    """A round that fails is logged and tried again: the next round may find the world mended."""
    while not done.wait(float(app.settings.tick)):
        try:
            seen = app.worker.tick(app.kernel.now())
        except Exception as exc:
            log.log(logging.WARNING if isinstance(exc, FalajError) else logging.ERROR, "the round failed", exc_info=exc)
            continue
        for line in (*seen.news, *seen.problems):
            log.info("%s", line)
