"""`falaj contract infer`: a first contract from a data file or a dataset, shown or written into a new file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.core.errors import Conflict, InvalidInput, MissingDependency, NotFound, Unavailable

if TYPE_CHECKING:
    from falaj.cli.local import Place
    from falaj.cli.table import Table


def infer_contract(place: Place) -> Any:
    """Raises InvalidInput for what is no table or lies outside the project, Conflict where the file to write is there already."""
    given = place.given
    what, to = str(given["what"]), given.get("to")
    target = _target(place.project, str(to)) if to else None
    try:
        from falaj.cli.table import ENDINGS, unlike
        from falaj.stages.contracts.infer import infer
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("Inferring a contract", str(exc.name), "data") from exc
    table, name, times = _table(place, what)
    times |= {part: str(given[part]) for part in ("time", "known") if given.get(part)}
    for wrong in (unlike(table, what, column) for column in times.values()):
        if wrong is not None:
            raise wrong
    found = infer(table.frame, str(given.get("name") or name), **times, owner=str(given.get("owner") or ""))
    source = table.call(what, times.get("known", "")) if Path(what).suffix.lower() in ENDINGS else ""
    if source:
        about = (*found.notes.get("", ()), f"The source that reads the file like this: {source}")
        found = replace(found, notes={**found.notes, "": about})
    written = found.written
    if target is None:
        return written.decode()
    columns = len(found.contract.columns)
    if place.dry_run:
        return {"dry_run": True, "would_write": to, "columns": columns}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(written)
    except FileExistsError as exc:
        raise _there(str(to)) from exc
    except OSError as exc:
        raise Unavailable(f"{to} cannot be written: {exc.strerror}.", "look at its folder's permissions and space.") from exc
    return {
        "contract": to,
        "name": found.contract.name,
        "rows": table.frame.height,
        "columns": columns,
        **({"source": source} if source else {}),
        "next": f"falaj contract lint {to}",
    }


def _target(folder: Path, to: str) -> Path:
    from falaj.stages.contracts.files import ENDINGS, inside

    path = inside(folder, to)
    if not path.name.endswith(ENDINGS):
        raise InvalidInput(f"{to!r} is no name of a contract file.", f"let it end in {ENDINGS[0]}.")
    if path.exists():
        raise _there(to)
    return path


def _there(to: str) -> Conflict:
    return Conflict(f"{to} is there already.", "name a new file with --to, then falaj contract diff tells the two apart.")


def _table(place: Place, what: str) -> tuple[Table, str, dict[str, str]]:
    """The rows, the dataset's name, and which of its columns are `time` and `known` where a declaration says so."""
    from falaj.cli.table import ENDINGS, read_table
    from falaj.stages.contracts.files import inside

    encoding = str(place.given.get("encoding") or "")
    if Path(what).suffix.lower() in ENDINGS:
        path = inside(place.project, what)
        if not path.is_file():
            raise NotFound(f"There is no file {what!r} in the project.", "write its path from the project's folder.")
        return read_table(path, what, encoding), path.name.split(".")[0].lower(), {}
    if "/" in what or "." in what:
        raise InvalidInput(f"{what!r} is no file that can be read.", f"a table ends in {', '.join(ENDINGS)}.")
    if encoding:
        raise InvalidInput("A dataset's own source says its encoding.", "leave --encoding out.")
    return _asked(place, what)


def _asked(place: Place, name: str) -> tuple[Table, str, dict[str, str]]:
    from falaj.app import open_app
    from falaj.cli.key import who
    from falaj.cli.table import MOST_ROWS, Table
    from falaj.core.ref import Ref
    from falaj.stages.contracts.trial import rows_of

    with open_app(place.project, dict(place.settings)) as app:
        declared = app.project.one("datasets", name)
        app.kernel.ask(who(app), "dataset.read", Ref("dataset", name))
        frame = rows_of(app.contracts, declared, None, app.kernel.now()).head(MOST_ROWS)
    return Table(frame), name, {"time": declared.time, "known": declared.known}
