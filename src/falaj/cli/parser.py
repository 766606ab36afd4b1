"""Reads the command line: options that every command knows, then two words, then what those two words take."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from falaj.cli.local import LOCAL, Local
from falaj.core.errors import InvalidInput, NotFound
from falaj.operations import OPERATIONS, SHORT
from falaj.operations.operation import Argument, Operation

Command: TypeAlias = Operation | Local
COMMANDS: tuple[Command, ...] = (*LOCAL, *OPERATIONS)


@dataclass(frozen=True, slots=True)
class Line:
    """A command line, understood. `command` is None where help was asked for, or is needed; then `help` holds it."""

    command: Command | None
    subject: str | None = None
    given: Mapping[str, Any] | None = None
    project: str = "."
    settings: Mapping[str, str] | None = None
    json: bool = False
    dry_run: bool = False
    debug: bool = False
    help: str = ""
    code: int = 0
    """The exit code, where there is no command: 2 where a verb is missing."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message[0].upper()}{message[1:]}.", f"{self.prog} --help")


def read(argv: Sequence[str]) -> Line:
    """Raises NotFound with the nearest names for unknown words, InvalidInput for options that do not fit."""
    common, words = _common(argv)
    if common.version:
        from falaj import __version__

        return Line(None, help=f"falaj {__version__}\n")
    if not words or common.help:
        return Line(None, help=_overview() if not words else _help(words))
    if (asked := _noun_alone(words)) and not (common.json and asked.code):
        return asked
    command, rest = _find(words)
    parser = _parser_of(command)
    if "-h" in rest or "--help" in rest:
        return Line(None, help=parser.format_help())
    found = vars(parser.parse_args(_without_common(rest, common)))
    subject = found.pop("subject", None)
    return Line(
        command,
        subject,
        {name: value for name, value in found.items() if value is not None},
        common.project,
        dict(_pair(text) for text in common.set),
        common.json,
        common.dry_run,
        common.debug,
    )


def _common(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options that every command knows, wherever they stand, and the words from the first one on."""
    parser = _Parser("falaj", add_help=False, allow_abbrev=False)
    _add_common(parser)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    at = next((i for i, word in enumerate(argv) if _is_word(argv, i)), len(argv))
    before = parser.parse_args(argv[:at])
    behind, _ = _behind().parse_known_args(argv[at:], argparse.Namespace(**vars(before)))
    return behind, list(argv[at:])


def _behind() -> _Parser:
    parser = _Parser("falaj", add_help=False, allow_abbrev=False)
    _add_common(parser, argparse.SUPPRESS)
    return parser


def _is_word(argv: Sequence[str], index: int) -> bool:
    return not argv[index].startswith("-") and (index == 0 or argv[index - 1] not in ("--project", "--set"))


def _add_common(parser: argparse.ArgumentParser, default: Any = None) -> None:
    import os

    suppress = default is argparse.SUPPRESS
    where = os.environ.get("FALAJ_PROJECT", ".")
    parser.add_argument(
        "--project", metavar="DIR", default=default if suppress else where, help="the project's folder (here, or FALAJ_PROJECT)"
    )
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=default if suppress else [], help="a setting for this one call"
    )
    for name, meaning in (
        ("--json", "answer in JSON, errors too"),
        ("--dry-run", "say what policy answers and what would be recorded, and do nothing"),
        ("--debug", "show where an unexpected error came from"),
    ):
        parser.add_argument(name, action="store_true", default=default if suppress else False, help=meaning)


def _without_common(rest: Sequence[str], _common: argparse.Namespace) -> list[str]:
    return _behind().parse_known_args(rest)[1]


def _find(words: Sequence[str]) -> tuple[Command, Sequence[str]]:
    noun, *rest = SHORT.get(words[0], (words[0],)) + tuple(words[1:])
    alone = next((local for local in LOCAL if local.words == (noun,)), None)
    if alone is not None:
        return alone, rest
    verbs = _verbs(noun)
    if not verbs:
        raise NotFound.named("command", noun, _nouns())
    if not rest or rest[0].startswith("-"):
        raise InvalidInput(f"falaj {noun} needs a second word.", f"there is: {', '.join(verbs)}.")
    if rest[0] not in verbs:
        near = NotFound.named("command", rest[0], verbs)
        raise NotFound(f"There is no command 'falaj {noun} {rest[0]}'.", near.hint)
    return verbs[rest[0]], rest[1:]


def _nouns() -> list[str]:
    return [*{words_of(command)[0] for command in COMMANDS}, *SHORT]


def _verbs(noun: str) -> dict[str, Command]:
    return {words_of(command)[1]: command for command in COMMANDS if words_of(command)[0] == noun and len(words_of(command)) > 1}


def words_of(command: Command) -> tuple[str, ...]:
    return command.words if isinstance(command, Local) else (command.noun, command.verb)


def _parser_of(command: Command) -> _Parser:
    parser = _Parser(f"falaj {' '.join(words_of(command))}", description=command.help, allow_abbrev=False)
    if isinstance(command, Operation) and command.subject is not None:
        version = {"none": "", "optional": "[@version]", "needed": "@version"}[command.subject.version]
        parser.add_argument("subject", metavar=command.subject.kind + version, help=command.subject.help)
    for argument in command.arguments:
        _add(parser, argument, argument.placed or isinstance(command, Local))
    common = parser.add_argument_group("every command knows")
    _add_common(common, argparse.SUPPRESS)  # type: ignore[arg-type]  # a group takes arguments just as a parser does
    return parser


def _add(parser: _Parser, argument: Argument, placed: bool) -> None:
    options: dict[str, Any] = {"help": argument.help, "dest": argument.name}
    if argument.hidden:
        text = f"{argument.help}; read from this file, readable by you alone (default: from standard input)"
        parser.add_argument(f"--{argument.name.replace('_', '-')}-file", metavar="FILE", dest=f"{argument.name}_file", help=text)
        return
    if argument.kind == "flag":
        parser.add_argument(f"--{argument.name.replace('_', '-')}", action="store_true", default=None, **options)
    elif placed and argument.required:
        del options["dest"]
        parser.add_argument(argument.name, metavar=argument.name, **options)
    else:
        options |= {"metavar": argument.kind.upper(), "required": argument.required}
        options |= {"metavar": "|".join(argument.one_of)} if argument.one_of else {}
        parser.add_argument(f"--{argument.name.replace('_', '-')}", **options)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--set takes name=value, got {text!r}.", "falaj config show lists every setting.")
    return name.strip(), value.strip()


def _noun_alone(words: Sequence[str]) -> Line | None:
    """A noun without its verb: what can be done with it, as help or as what is missing. None for anything else."""
    noun, *rest = SHORT.get(words[0], (words[0],)) + tuple(words[1:])
    if not _verbs(noun) or any(local.words == (noun,) for local in LOCAL) or (rest and not rest[0].startswith("-")):
        return None
    return Line(None, help=_verbs_of(noun), code=0 if {"-h", "--help"} & set(rest) else 2)


def _verbs_of(noun: str) -> str:
    """Each verb of a noun with its help in full."""
    lines = [f"usage: falaj [options] {noun} <verb> [subject] [--argument value …]", ""]
    for verb, command in _verbs(noun).items():
        what = command.subject.kind if isinstance(command, Operation) and command.subject else ""
        lines.append(f"  {verb:<12}{what:<12}{command.help}")
    return "\n".join([*lines, "", f"falaj {noun} <verb> --help says what a verb takes.", ""])


def _help(words: Sequence[str]) -> str:
    if (alone := _noun_alone(words)) is not None:
        return alone.help
    command, _ = _find(words)
    return _parser_of(command).format_help()


def _overview(noun: str = "") -> str:
    shown = [command for command in COMMANDS if not noun or words_of(command)[0] == noun]
    shown = [command for command in shown if not (isinstance(command, Local) and command.hidden)]
    lines = ["usage: falaj [options] <noun> <verb> [subject] [--argument value …]", ""]
    last = ""
    for command in shown:
        words = words_of(command)
        if last and words[0] != last and len(words) > 1:
            lines.append("")
        last = words[0]
        what = command.subject.kind if isinstance(command, Operation) and command.subject else ""
        lines.append(f"  {' '.join(words):<22}{what:<12}{command.help.split('.')[0]}")
    parser = _Parser("falaj", add_help=False, usage=argparse.SUPPRESS)
    _add_common(parser.add_argument_group("options"))  # type: ignore[arg-type]  # as above
    lines += ["", "in short: " + " · ".join(f"falaj {word} = {' '.join(full)}" for word, full in SHORT.items()), ""]
    return (
        "\n".join(lines)
        + parser.format_help()
        + "\n\nexit: 0 done or allowed · 1 denied by a rule · 9 on hold · 2–8 and 70 an error (falaj.core.errors)\n"
    )
