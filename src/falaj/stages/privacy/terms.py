"""Terms: how long each class of things has to be kept and may be kept at most, each with its status and its instrument."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falaj import packs
from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.privacy.periods import Bound, Period, bound, period

STATUSES = ("enacted", "guidance", "assumed", "pending", "unverified", "tenant")
"""How sure a value is. `enacted`: the instrument says so. `tenant`: the installation's own wish."""
LAW = frozenset({"enacted", "unverified"})
TENANT = "tenant"
MOST_BYTES, MOST_CLASSES = 256 << 10, 500
HOUSE = Path(__file__).with_name("house.toml")
SINCE: Mapping[str, str] = {
    # class of things in the packs: from when its periods run. What stands not here runs from when the thing was made.
    "consent_record": "life_of_processing",
    "consumer_data": "relationship_end",
    "health_record": "last_procedure",
    "training_snapshot": "life_of_model",
}
MEANT: Mapping[str, str] = {"model_version": "model_version_ever_in_production"}
"""Class in the packs → class here: a version that never served is nobody's inventory."""
_NAME = re.compile(r"[a-z][a-z0-9_\-]{0,63}")
_FIELDS = ("floor", "ceil", "from", "status", "instrument", "note")


@dataclass(frozen=True, slots=True)
class Term:
    """What one pack says about one class. `floor`: not deleted before; `ceiling`: deleted or shredded after."""

    name: str
    """The class: `health_record`, `prediction_log` …"""
    pack: str
    floor: Bound | None = None
    ceiling: Bound | None = None
    status: str = "assumed"
    instrument: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.pack}:{self.name}"

    @property
    def is_law(self) -> bool:
        """Whether an instrument in force sets it. What is only not verified yet counts as law: data that was kept too long can
        still be erased, data that was erased too early cannot be brought back."""
        return self.status in LAW


def terms_of(body: Any, origin: str, pack: str = "") -> tuple[Term, ...]:
    """The terms of one pack: its `pack.id` (or `pack`) and its table `retention`, class by class.

    Raises InvalidInput where something is not as it has to be, with the place; NotFound for a word that is not known.
    """
    if not isinstance(body, Mapping):
        raise InvalidInput(f"{origin} holds no table.", "write [pack] and [retention.<class>] tables.")
    about = body.get("pack", {})
    found = about.get("id") if isinstance(about, Mapping) else None
    name = pack or found
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"{origin} does not say which pack it is.", 'write [pack] and id = "my-pack".')
    classes = body.get("retention", {})
    if not isinstance(classes, Mapping) or len(classes) > MOST_CLASSES:
        raise InvalidInput(
            f"`retention` of {origin} is no table of at most {MOST_CLASSES} classes.", "write [retention.<class>]."
        )
    return tuple(_term(str(key), value, name, origin) for key, value in classes.items())


def read_terms(path: Path, pack: str = "") -> tuple[Term, ...]:
    """The terms in a TOML file. Raises NotFound or InvalidInput; a file that is half good is not taken at all."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {path}.", "name the file in the setting `retention_file`, or leave it empty.") from exc
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}.", "check who owns it.") from exc
    return parse_terms(data, str(path), pack)


def parse_terms(data: bytes, origin: str, pack: str = "") -> tuple[Term, ...]:
    """The same, of the bytes of a file."""
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"{origin} is larger than {MOST_BYTES} bytes.", "a table of terms is a page long.")
    try:
        body = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidInput(f"{origin} is no TOML: {str(exc)[:200]}.", "mend the file; nothing of it was taken.") from exc
    return terms_of(body, origin, pack)


def shipped() -> tuple[Term, ...]:
    """What every pack says, whichever are in force for policy, and the house: a class of data brings its law along."""
    values = [value for pack in packs.load(packs.known()) for value in pack.values("retention")]
    return (*terms_from(values), *read_terms(HOUSE))


def terms_from(values: Iterable[packs.Value]) -> tuple[Term, ...]:
    """The values of packs at `retention.<class>.floor`, `.ceiling` and `.purge.ceiling`, which counts from the floor's end."""
    listed = list(values)
    floors = {(value.pack, value.path): bound(value.value) for value in listed if value.kind == "floor"}
    found = []
    for value in listed:
        _, given, *rest = value.path.split(".")
        since, own = SINCE.get(given, "created"), period(value.value)
        floor = floors.get((value.pack, f"retention.{given}.floor"))
        ends: tuple[Bound | None, Bound | None]
        if rest == ["floor"]:
            ends = (Bound(own, since), None)
        elif rest == ["ceiling"]:
            ends = (None, Bound(own, since))
        elif rest == ["purge", "ceiling"] and floor is not None:
            ends = (None, Bound(Period(floor.period.months + own.months, floor.period.days + own.days), since))
        else:
            raise InvalidInput(f"{value.pack}: {value.path} means nothing here.", "there is: floor, ceiling, purge.ceiling.")
        law = f"{value.instrument} {value.article}".strip()
        found.append(Term(MEANT.get(given, given), value.pack, ends[0], ends[1], value.status, law, value.note))
    return tuple(found)


def _term(name: str, body: Any, pack: str, origin: str) -> Term:
    where = f"[retention.{name[:80]}] in {origin}"
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} is no name for a class ({origin}).", "use lower-case letters, digits and '_'.")
    if not isinstance(body, Mapping):
        raise InvalidInput(f"{where} is no table.", 'write floor = "5y", ceil = "7y", status = "assumed".')
    for key, value in body.items():
        if key not in _FIELDS:
            near = NotFound.named("field", str(key), _FIELDS)
            raise NotFound(f"{where} has a field {str(key)[:80]!r}, which means nothing.", near.hint)
        if not isinstance(value, str) or len(value) > 500:
            raise InvalidInput(f"{where}: {key} must be a text of at most 500 letters.", f'as in {key} = "5y".')
    status = body.get("status", TENANT if pack == TENANT else "assumed")
    if status not in STATUSES:
        raise NotFound.named(f"status in {where}", status, STATUSES)
    if status == "enacted" and not body.get("instrument", "").strip():
        raise InvalidInput(f"{where} is enacted, and names no instrument.", 'write instrument = "…", or status = "assumed".')
    since = body.get("from", "created")
    try:
        floor, ceiling = (bound(body[key], since) if key in body else None for key in ("floor", "ceil"))
    except InvalidInput as exc:
        raise InvalidInput(f"{where}: {exc.message}", exc.hint) from exc
    if ceiling is not None and ceiling.period.is_forever:
        raise InvalidInput(f"{where}: a ceiling of `forever` is none.", "leave out `ceil`.")
    return Term(name, pack, floor, ceiling, status, body.get("instrument", ""), body.get("note", ""))
