"""Reads what must not stand on a command line, where every user of the machine could see it: from a file, or standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from falaj.core.errors import Denied, InvalidInput, NotFound
from falaj.operations.operation import Argument, Operation

MOST = 4096
"""Bytes of one value."""


def with_hidden(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, with each hidden argument read. Raises InvalidInput, NotFound, or Denied where others may read the file."""
    found = dict(given)
    for argument in operation.arguments:
        if argument.hidden:
            path = found.pop(f"{argument.name}_file", None)
            text = _from_file(Path(path)) if path else _from_input(argument)
            if text or argument.required:
                found[argument.name] = _whole(argument, text)
    return found


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(MOST + 1)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {path}.", "name the file that holds it, one line.") from exc
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}.", "name the file that holds it, one line.") from exc
    if mode & 0o077:
        raise Denied(f"Others than its owner may use {path}.", f"chmod 600 {path}")
    return _text(data)


def _from_input(argument: Argument) -> str:
    if sys.stdin is None:
        return ""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"{argument.name} (not shown): ") if argument.required else ""
    return _text(sys.stdin.buffer.read(MOST + 1)) if argument.required else ""


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as exc:
        raise InvalidInput("What was read is no UTF-8 text.", "write one line of text.") from exc


def _whole(argument: Argument, text: str) -> str:
    if not text.strip() or len(text.encode()) > MOST or "\n" in text:
        raise InvalidInput(f"{argument.name} must be one line of 1 to {MOST} bytes.", argument.help)
    return text
