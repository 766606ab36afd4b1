"""The endpoint's own process with a prediction log that keeps nothing, for the benchmark to see what the log costs.

falaj has no such mode: what cannot be logged is not answered. Ids are still made, lines are not, and nothing is written.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from falaj import serve
from falaj.inference import log, predict, singles, supervise

_ROWS = itertools.count()


def _nothing(self: log.PredictionLog, make: log.Make) -> None:
    """In place of the append."""
    make(0, next(_ROWS))


def _no_line(*_: Any, **__: Any) -> bytes:
    return b""


def _no_lines(run: Any, *_: Any) -> list[bytes]:
    return [b""] * len(run.calls)


if __name__ == "__main__":
    log.PredictionLog.append = _nothing  # type: ignore[method-assign]
    predict.tensor_line = _no_line
    singles._lines = _no_lines
    supervise.PROGRAM = "benchmarks.endpoints.unlogged"  # the workers too
    sys.exit(serve.main())
