"""`falaj contract infer`: a first contract from a data file or a dataset, shown or written into a new file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.core.errors import Conflict, InvalidInput, MissingDependency, NotFound, Unavailable

if TYPE_CHECKING:
    import polars

    from falaj.cli.local import Place

MOST_ROWS = 1_000_000
"""More would not tell more, and have to fit into memory."""


def infer_contract(place: Place) -> Any:
    """Raises InvalidInput for what is no table or lies outside the project, Conflict where the file to write is there already."""
    given = place.given
    what, to = str(given["what"]), given.get("to")
    target = _target(place.project, str(to)) if to else None
    try:
        from falaj.stages.contracts.infer import infer
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("Inferring a contract", str(exc.name), "data") from exc
    frame, name, times = _table(place, what)
    times |= {part: str(given[part]) for part in ("time", "known") if given.get(part)}
    found = infer(frame, str(given.get("name") or name), **times, owner=str(given.get("owner") or ""))
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
        "rows": frame.height,
        "columns": columns,
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


def _table(place: Place, what: str) -> tuple[polars.DataFrame, str, dict[str, str]]:
    """The rows, the dataset's name, and which of its columns are `time` and `known` where a declaration says so."""
    from falaj.stages.contracts.files import inside

    if Path(what).suffix.lower() in READERS:
        path = inside(place.project, what)
        if not path.is_file():
            raise NotFound(f"There is no file {what!r} in the project.", "write its path from the project's folder.")
        return _read(path), path.name.split(".")[0].lower(), {}
    if "/" in what or "." in what:
        raise InvalidInput(f"{what!r} is no file that can be read.", f"a table ends in {', '.join(READERS)}.")
    return _asked(place, what)


def _asked(place: Place, name: str) -> tuple[polars.DataFrame, str, dict[str, str]]:
    from falaj.app import open_app
    from falaj.cli.key import who
    from falaj.core.ref import Ref
    from falaj.stages.contracts.trial import rows_of

    with open_app(place.project, dict(place.settings)) as app:
        declared = app.project.one("datasets", name)
        app.kernel.ask(who(app), "dataset.read", Ref("dataset", name))
        frame = rows_of(app.contracts, declared, None, app.kernel.now()).head(MOST_ROWS)
    return frame, name, {"time": declared.time, "known": declared.known}


def _read(path: Path) -> polars.DataFrame:
    import polars as pl

    try:
        return READERS[path.suffix.lower()](path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as exc:
        why = (str(exc).splitlines() or [type(exc).__name__])[0][:200]
        raise InvalidInput(f"{path.name} cannot be read as a table: {why}.", "mend the file, or name another.") from exc


def _csv(path: Path) -> polars.DataFrame:
    import polars as pl

    return pl.read_csv(path, n_rows=MOST_ROWS, try_parse_dates=True, infer_schema_length=10_000)


def _parquet(path: Path) -> polars.DataFrame:
    import polars as pl

    return pl.read_parquet(path, n_rows=MOST_ROWS)


def _lines(path: Path) -> polars.DataFrame:
    import polars as pl

    return pl.read_ndjson(path, n_rows=MOST_ROWS, infer_schema_length=10_000)


READERS: Mapping[str, Callable[[Path], polars.DataFrame]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _lines,
    ".ndjson": _lines,
}
