"""Runs one command line and turns what came out into text, or JSON, and an exit code.

exit  meaning
0     done, or allowed
1     denied by a rule: the answer holds the evidence
9     on hold: a rule could not see enough yet
2–8   an error, by its kind (falaj.core.errors)
70    a bug in falaj
130   interrupted
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.cli import hidden, parser
from falaj.cli.key import who
from falaj.cli.local import Local, Place
from falaj.core.errors import Bug, FalajError

if TYPE_CHECKING:
    from falaj.operations import Operation

EXIT = {"allow": 0, "deny": 1, "hold": 9}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        return _run(parser.read(words))
    except FalajError as exc:
        return _failed(exc, as_json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        if "--debug" in words:
            raise
        return _failed(
            Bug(f"{type(exc).__name__}: {exc}", "the same command with --debug shows where; please report it."), as_json
        )


def _run(line: parser.Line) -> int:
    if line.command is None:
        print(line.help, end="", file=sys.stderr if line.code else sys.stdout)
        return line.code
    _refuse_unbound()
    result = _local(line, line.command) if isinstance(line.command, Local) else _operation(line, line.command)
    if result is not None:
        _print(result, line.json)
    return exit_code(result)


def exit_code(result: Any) -> int:
    """A refusal is an answer, and yet a script has to see it: the verdict's own code."""
    return EXIT.get(getattr(result, "verdict", ""), 0)


def _refuse_unbound() -> None:
    """No command runs while there is one that asks nobody."""
    from falaj.adapters.local.policy import VERBS
    from falaj.stages.doors import Door, refuse_unbound

    refuse_unbound(
        (
            Door(
                "command",
                " ".join(parser.words_of(command)),
                ((command.right,) if command.right else ()) if isinstance(command, Local) else command.needs,
            )
            for command in parser.COMMANDS
        ),
        VERBS,
    )


def _local(line: parser.Line, command: Local) -> Any:
    place = Place(Path(line.project), line.settings or {}, line.given or {}, line.dry_run)
    return command.call(place)


def _operation(line: parser.Line, operation: Operation) -> Any:
    from falaj.app import open_app

    with open_app(Path(line.project), dict(line.settings or {})) as app:
        actor = who(app)
        do = operation.foresee if line.dry_run else operation.do
        return do(app, actor, line.subject, hidden.with_hidden(operation, line.given or {}))


def _print(result: Any, as_json: bool) -> None:
    from falaj.core.codec import encode

    plain = encode(result)
    if as_json:
        print(json.dumps(plain, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, default=str))
        return
    from falaj.cli.show import show

    show(result, plain)


def _failed(error: FalajError, as_json: bool) -> int:
    if as_json:
        print(json.dumps(error.to_dict(), ensure_ascii=False), file=sys.stderr)
        return error.exit_code
    print(f"error[{error.code}]: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"Hint: {error.hint}", file=sys.stderr)
    return error.exit_code
