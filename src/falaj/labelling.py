"""Wiring of labels that come by the file: the project's folder on one side, an endpoint's prediction log on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from falaj.adapters import open_adapter
from falaj.core.codec import decode
from falaj.core.errors import InvalidInput, NotFound, Unavailable
from falaj.core.masking import masking
from falaj.core.moments import iso, length
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.host import Wanted

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.inference.mask import Mask
    from falaj.stages.serving.labels import Labels

COLUMNS = ("id", "unit", "label", "at", "since", "until", "withdrawn")


def labels_of(app: App) -> Labels:
    from falaj.stages.serving.labels import Labels

    return Labels(app.kernel, app.predictions_of, lambda name: LogDoor(app, name), lambda name: spans_of(app, name))


def spans_of(app: App, endpoint: str) -> tuple[timedelta, timedelta]:
    """(cohort, how long after its end labels count), as the endpoint's monitor has it."""
    plan = app.project.one("endpoints", endpoint).rollout
    monitor = next((m for m in app.project.monitors.values() if m.endpoint == endpoint), None)
    maturity = length(plan.maturity)
    return length(plan.cohort), max(maturity, length(monitor.labels_after)) if monitor else maturity


def pieces_of(app: App, file: str, named: Mapping[str, Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The rows of a file of the project's folder, piece by piece. `named`: what its columns are called, as in
    {"unit": "flight_id"}. Raises NotFound, or InvalidInput where it cannot be read or lacks a column."""
    for name in named:
        if name not in COLUMNS:
            raise InvalidInput(f"A label has no {name!r}.", f"there is: {', '.join(COLUMNS)}.")
    called = {name: str(named.get(name, name)) for name in COLUMNS}
    source: Any = open_adapter("source", "files", folder=app.settings.folder, path=file)
    for frame in source.read(None, app.kernel.now()):
        there = {name: column for name, column in called.items() if column in frame.columns}
        missing = [
            called[name] for name in ("label", "at") if name not in there and not (name == "label" and "withdrawn" in there)
        ]
        missing += [f"{called['id']} or {called['unit']}"] if not {"id", "unit"} & there.keys() else []
        if missing:
            raise InvalidInput(
                f"{file} has no column {missing[0]!r}.", '--columns \'{"unit": "flight_id"}\' says how it is called.'
            )
        rows = frame.select(column for column in there.values()).rename({column: name for name, column in there.items()})
        yield [{name: _plain(value) for name, value in row.items()} for row in rows.iter_rows(named=True)]


def mask_of(app: App, endpoint: str) -> Mask:
    """What the endpoint's servers mask at the moment. Raises NotFound where nothing is served."""
    from falaj.inference.mask import Mask, mask_key

    record = app.ledger.get("endpoint", endpoint)
    if record is None:
        app.project.one("endpoints", endpoint)
        raise NotFound(f"Nothing is served on endpoint/{endpoint} yet.", f"falaj endpoint deploy {endpoint}")
    wanted = decode(Wanted, record["wanted"])
    manifests = [app.registry.manifest(Ref.parse(arm.model)) for arm in wanted.arms]
    arms = [(decode(Recipe, body["recipe"]), body.get("classification") or {}) for body in manifests]
    key = mask_key((app.state / "keys" / "pepper").read_bytes())
    return Mask(masking(wanted.mask), key, arms, unit=wanted.unit)


class LogDoor:
    """Reads labels as the endpoint's servers do, and writes them into their log, beside them or while none of them runs."""

    def __init__(self, app: App, endpoint: str) -> None:
        from falaj.inference.log import PredictionLog

        self._mask = mask_of(app, endpoint)
        folder = app.state / "serving" / Ref("endpoint", endpoint).name / "segments"
        if not folder.is_dir():
            raise NotFound(f"endpoint/{endpoint} has no prediction log yet.", "it begins with the endpoint's first server.")
        try:
            self._log = PredictionLog(folder)
        except OSError as exc:
            raise Unavailable(f"{folder} cannot be written: {exc.strerror}.", "check who owns it and the disk's space.") from exc
        self._now = None if app.clock.kind == "replay" else app.kernel.now

    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        from falaj.inference.feedback import read_label

        return read_label(row, self._log.key, self._now() if self._now else None).record(self._mask)

    def write(self, records: Sequence[Mapping[str, Any]], by: str) -> None:
        from falaj.inference.lines import line
        from falaj.inference.server import wall

        wrote = iso(wall())
        self._log.append(lambda _segment, _row: [line({**record, "wrote": wrote, "by": by}) for record in records])
        self._log.sync()

    def close(self) -> None:
        self._log.close()


def _plain(value: Any) -> Any:
    """A time as text; one without a zone stays what it is, and is refused as one."""
    return iso(value) if isinstance(value, datetime) and value.tzinfo is not None else value
