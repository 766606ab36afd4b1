"""Commands that only a terminal offers: setting up, starting the control plane, looking after the installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.cli.audit import FOLLOWS, follow, print_verifier
from falaj.core.ref import Ref
from falaj.operations.operation import Argument

if TYPE_CHECKING:
    from falaj.app import App


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command works: the project's folder, settings for this one call, and what was given."""

    project: Path
    settings: Mapping[str, str]
    given: Mapping[str, Any]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Local:
    words: tuple[str, ...]
    help: str
    call: Callable[[Place], Any]
    arguments: tuple[Argument, ...] = ()
    changes: bool = False
    hidden: bool = False


def _init(place: Place) -> Any:
    from falaj.app import init_project

    if place.dry_run:
        return {
            "dry_run": True,
            "would_make": str(place.project / ".falaj"),
            "would_record": [{"verb": "key.create", "subject": "key/operator"}],
        }
    key = init_project(place.project, dict(place.settings))
    return {
        "project": str(place.project),
        "key": key,
        "note": "the first key; it is also kept in the state folder, keys/operator.key",
    }


def _config(place: Place) -> Any:
    from falaj.config import TABLE, load

    values = load(place.project, dict(place.settings)).values
    return [
        {
            "setting": setting.name,
            "value": values[setting.name].value,
            "origin": values[setting.name].origin,
            "help": setting.help,
        }
        for setting in TABLE
    ]


def _up(place: Place) -> Any:
    from falaj.cli.up import up

    return up(place.project, place.settings)


def _step(place: Place) -> Any:
    from falaj.app import open_app
    from falaj.steps import execute

    with open_app(place.project, dict(place.settings)) as app:
        execute(app, place.given["step"], place.given["run"])
    return {"run": place.given["run"], "state": "succeeded"}


def _write_report(place: Place) -> Any:
    """The page is written on this machine, so it is a terminal's command and no route."""
    from falaj.console.report import write_report

    path = Path(place.given.get("to") or "report.html")
    if place.dry_run:
        return {"dry_run": True, "would_write": str(path)}
    with _reading(place) as app:
        return {"report": str(write_report(app, path))}


def _import_features(place: Place) -> Any:
    """It writes a module and contracts on this machine, and takes nothing into the ledger."""
    from falaj.cli.feast import import_features

    return import_features(Path(place.given["repository"]), Path(place.given.get("to") or "features.py"), place.dry_run)


def _draw_lineage(place: Place) -> Any:
    """The picture is written on this machine, so it is a terminal's command and no route."""
    from falaj.console.lineage_picture import write_picture
    from falaj.operations.lineage import ABOUT, lineage_of

    given = place.given
    path = Path(given.get("to") or "lineage.svg")
    if place.dry_run:
        return {"dry_run": True, "would_write": str(path)}
    about = ABOUT.read(given["about"]) if given.get("about") else None
    with _reading(place, "dataset.read", "lineage") as app:
        found = lineage_of(app, about, direction=given.get("direction") or "both", level=given.get("level"))
        return {"picture": str(write_picture(found, path)), "nodes": len(found.nodes), "edges": len(found.edges)}


def _follow(place: Place) -> Any:
    """It lasts as long as its reader, so it is a terminal's command and no route: a program asks `audit watch` again."""
    with _reading(place, what="audit") as app:
        return follow(app, place.given)


def _verifier(place: Place) -> Any:
    return print_verifier()


def _summary(place: Place) -> Any:
    from falaj.console.story import story_of

    with _reading(place) as app:
        return story_of(app)


@contextmanager
def _reading(place: Place, right: str = "audit.read", what: str = "report") -> Iterator[App]:
    """The app, open for somebody who may read it; by default all that the ledger tells."""
    from falaj.app import open_app
    from falaj.cli.key import who

    with open_app(place.project, dict(place.settings)) as app:
        app.kernel.ask(who(app), right, Ref(what, "all"))
        yield app


def _infer(place: Place) -> Any:
    """It reads a data file of this machine and writes one, so it is a terminal's command and no route."""
    from falaj.cli.infer import infer_contract

    return infer_contract(place)


def _login(place: Place) -> Any:
    """It waits for a browser on this machine, so it is a terminal's command and no route."""
    from falaj.app import open_app
    from falaj.cli.login import login

    with open_app(place.project, dict(place.settings)) as app:
        return login(app, place.given)


def _logout(place: Place) -> Any:
    from falaj.app import open_app
    from falaj.cli.login import logout

    if place.dry_run:
        return {"dry_run": True, "would_record": [{"verb": "identity.logout", "subject": "identity/all"}]}
    with open_app(place.project, dict(place.settings)) as app:
        return logout(app)


def _doctor(place: Place) -> Any:
    from falaj.cli.doctor import examine

    return examine(place.project, place.settings)


LOCAL: tuple[Local, ...] = (
    Local(("init",), "Makes the state folder, its keys and the first API key.", _init, changes=True),
    Local(("up",), "Starts the control plane: the HTTP API and the worker.", _up),
    Local(
        ("step",),
        "Executes a run that was started (for runners).",
        _step,
        (Argument("step", "the step", required=True), Argument("run", "the run's id", required=True)),
        hidden=True,
    ),
    Local(
        ("login",),
        "Logs a person in at the company's provider; other commands then speak in their name.",
        _login,
        (
            Argument("within", "for how long to wait (default: 5m)"),
            Argument("no_browser", "show the address and open nothing", "flag"),
            Argument("print", "show the token, and keep it nowhere", "flag"),
        ),
    ),
    Local(("logout",), "Ends the login, here and for every token of it.", _logout, changes=True),
    Local(("config", "show"), "Every setting, its value and where it comes from.", _config),
    Local(("report", "summary"), "What happened, on one screen.", _summary),
    Local(
        ("report", "write"),
        "What happened, as one page for the browser, with nothing loaded from elsewhere.",
        _write_report,
        (Argument("to", "the file (default: report.html)"),),
    ),
    Local(
        ("contract", "infer"),
        "A first contract from a data file of the project, or from a declared dataset's source.",
        _infer,
        (
            Argument(
                "what", "a .csv, .parquet, .jsonl or .ndjson file in the project's folder, or a declared dataset", required=True
            ),
            Argument("name", "the dataset's name (default: the file's)"),
            Argument("time", "the column that says when it happened"),
            Argument("known", "the column that says when the row became known"),
            Argument("owner", "the team that answers for it"),
            Argument("encoding", "of a CSV file (default: utf-8)", one_of=("utf-8", "latin-1", "iso-8859-1", "windows-1252")),
            Argument("to", "the new file to write in the project's folder (default: the contract is shown)"),
        ),
    ),
    Local(
        ("feature", "import"),
        "Writes a Feast repository's entities, views and sources as a module of falaj, without running it.",
        _import_features,
        (
            Argument("repository", "the folder with the feature definitions", required=True),
            Argument("to", "the Python file to write (default: features.py); contracts go beside it"),
        ),
        changes=True,
    ),
    Local(
        ("lineage", "draw"),
        "The lineage as a picture (SVG), or as Mermaid text.",
        _draw_lineage,
        (
            Argument("to", "the file, .svg or .mmd (default: lineage.svg)"),
            Argument("about", "only what stands above and below that, as in column/flights.arr_delay"),
            Argument("direction", "towards the sources, towards the endpoints, or both", one_of=("up", "down", "both")),
            Argument("level", "datasets, or each of their columns", one_of=("dataset", "column")),
        ),
    ),
    Local(
        ("audit", "follow"),
        "Follows the ledger, one line of JSON an event, until a check fails.",
        _follow,
        FOLLOWS,
    ),
    Local(("audit", "verifier"), "Prints verify.py, which checks proofs and bundles without falaj.", _verifier),
    Local(("doctor",), "Looks for what is missing or wrong in this installation.", _doctor),
)
