"""Notifications as lines in the log, for a machine that reaches nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class LogNotify:
    """Writes each message as one line of JSON to the logger `falaj.alerts`."""

    def __init__(self, name: str = "falaj.alerts") -> None:
        self._log = logging.getLogger(name)

    def send(self, message: Mapping[str, Any]) -> None:
        level = _LEVELS.get(str(message.get("severity")), logging.WARNING)
        # JSON escapes line ends: a message cannot forge a second line.
        self._log.log(level, "%s", json.dumps(message, sort_keys=True, default=str))
