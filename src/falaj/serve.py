"""An endpoint as processes: `python -m falaj.serve <serving folder>` supervises, `… --worker <slot>` answers."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from falaj.core.errors import FalajError
from falaj.inference.report import complain
from falaj.inference.settings import ServerSettings

WORKERS: Mapping[str, str] = {
    # kind: the function that is one, given its folder, its slot and the sockets it inherits
    "http": "falaj.endpoint_http:serve",
    "grpc": "falaj.endpoint_grpc:serve",
    "stream": "falaj.streaming:serve",
}


def kinds(settings: ServerSettings) -> dict[str, int]:
    """How many workers of which kind an endpoint with these settings has."""
    found = {"http": settings.workers or os.cpu_count() or 1}
    if settings.grpc == "on" or (settings.grpc == "auto" and _is_installed("grpc")):
        found["grpc"] = 1
    if settings.stream_source:
        found["stream"] = 1
    return {kind: count for kind, count in found.items() if kind in WORKERS}


@functools.cache
def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    os.umask(0o077)
    try:
        match given:
            case [folder]:
                # The supervisor stays light: what the workers need is not imported here.
                from falaj.inference.supervise import Supervisor

                Supervisor(Path(folder).absolute(), kinds, complain).run()
            case [folder, "--worker", slot, *fds] if slot.rpartition("-")[0] in WORKERS:
                gc.disable()  # until what stays for good is there: `falaj.endpoint.worker` turns it on again
                module, _, name = WORKERS[slot.rpartition("-")[0]].partition(":")
                work = getattr(importlib.import_module(module), name)
                work(Path(folder).absolute(), slot, [int(fd) for fd in fds])
            case _:
                print("usage: python -m falaj.serve <serving folder>", file=sys.stderr)  # noqa: T201
                return 2
    except FalajError as exc:
        complain(exc)
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
