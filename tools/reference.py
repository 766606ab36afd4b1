"""Writes docs/reference from the code: `python -m tools.reference`. A test compares the pages with the code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from falaj.adapters import ADAPTERS
from falaj.adapters.local.policy import ROLES
from falaj.config import TABLE
from falaj.core.errors import FalajError
from falaj.operations import INTERNAL, OPERATIONS, SHORT
from falaj.operations.operation import Operation

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE = "<!-- made by `make reference` from the code; edit the code -->\n\n"


def settings() -> str:
    rows = [(f"`{s.name}`", f"`{s.default!r}`" if s.default != "" else "empty", s.help) for s in TABLE]
    return (
        "# Settings\n\n"
        "A value comes from the default, the project's `falaj.toml`, the environment (`FALAJ_` and the name in capitals) or\n"
        "`--set name=value`; the later one wins. `falaj config show` says which. An unknown name is refused.\n\n"
        + _table(("setting", "default", "meaning"), rows)
    )


def adapters() -> str:
    rows = [
        (f"`{name}`", f"`{where.rpartition(':')[2]}`", f"`falaj[{extra}]`" if extra else "–")
        for name, (where, extra) in sorted(ADAPTERS.items())
    ]
    return (
        "# Adapters\n\n"
        "Named `<port>.<scheme>`. Another package offers its own through the entry point group `falaj.adapters`.\n\n"
        + _table(("adapter", "class", "extra"), rows)
    )


def operations() -> str:
    text = (
        "# Operations\n\n"
        "Each is a command, a route and a right. Arguments are options on the command line, the query of a GET, the JSON object\n"
        "of a POST. Every route but `/health` needs `Authorization: Bearer <key>`. Whatever changes something also takes\n"
        "`--dry-run`, over HTTP `dry_run`: then it says what policy answers and what would be recorded, and does nothing.\n\n"
    )
    for noun in dict.fromkeys(operation.noun for operation in OPERATIONS):
        text += f"## {noun}\n\n"
        text += "".join(_operation(operation) for operation in OPERATIONS if operation.noun == noun)
    text += "## In short\n\n" + _table(("short", "long"), [(f"`falaj {a}`", f"`falaj {' '.join(b)}`") for a, b in SHORT.items()])
    return (
        text
        + "\n## Actions that no face offers\n\n"
        + _table(("action", "why"), [(f"`{a}`", why) for a, why in sorted(INTERNAL.items())])
    )


def roles() -> str:
    verbs = sorted(set().union(*ROLES.values()))
    rows = [(f"`{verb}`", *("×" if verb in granted else "" for granted in ROLES.values())) for verb in verbs]
    return "# Roles\n\nWhat the table does not say is denied.\n\n" + _table(("right", *ROLES), rows)


def errors() -> str:
    rows = [
        (
            f"`{kind.code}`",
            str(kind.exit_code),
            str(kind.http_status),
            "yes" if kind.retryable else "no",
            (kind.__doc__ or "").splitlines()[0],
        )
        for kind in FalajError.__subclasses__()
    ]
    shape = '{"error": {"code": "not_found", "message": "…", "retryable": false, "hint": "…", "facts": {}}}'
    return (
        f"# Errors\n\nOne shape over HTTP and with `--json`:\n\n```json\n{shape}\n```\n\n"
        + _table(("code", "exit", "HTTP", "try again", "meaning"), rows)
        + "\nA rule that refuses is an answer and no error: it comes as a decision with its checks (HTTP 200).\n"
        "The command line then exits with 1 where the verdict is deny and with 9 where it is hold.\n"
    )


def _operation(operation: Operation) -> str:
    subject = f" <{operation.subject.kind}>" if operation.subject else ""
    text = f"### `falaj {operation.noun} {operation.verb}{subject}`\n\n{operation.help}\n\n"
    text += f"`{operation.method} {operation.path}` · asks for {' and '.join(f'`{verb}`' for verb in operation.needs)}\n\n"
    for argument in operation.arguments:
        kind = "|".join(argument.one_of) or argument.kind
        fixed = (
            "required"
            if argument.required
            else f"default `{argument.default}`"
            if argument.default not in (None, {})
            else "optional"
        )
        text += f"- `{argument.name}` ({kind}, {fixed}): {argument.help}\n"
    return text + ("\n" if operation.arguments else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "adapters.md": lambda: MADE + adapters(),
    "errors.md": lambda: MADE + errors(),
    "operations.md": lambda: MADE + operations(),
    "roles.md": lambda: MADE + roles(),
    "settings.md": lambda: MADE + settings(),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), "utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
