"""The endpoint's own process with a prediction log that keeps nothing, for the benchmark to see what the log costs.

falaj has no such mode: what cannot be logged is not answered.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from falaj import serve
from falaj.inference import log


def _nothing(self: log.PredictionLog, lines: Sequence[bytes], ats: Sequence[str], now: float) -> None:
    """In place of the append: the record was made by then, and goes nowhere."""


if __name__ == "__main__":
    log.PredictionLog.append = _nothing  # type: ignore[assignment,method-assign]
    sys.exit(serve.main())
