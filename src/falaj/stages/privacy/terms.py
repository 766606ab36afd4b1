"""Terms: how long each class of things has to be kept and may be kept at most, each with its status and its instrument."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.privacy.periods import Bound, bound

STATUSES = ("enacted", "guidance", "assumed", "pending", "unverified", "tenant")
"""How sure a value is. `enacted`: the instrument says so. `tenant`: the installation's own wish."""
TENANT = "tenant"
MOST_BYTES, MOST_CLASSES = 256 << 10, 500
PACKS = Path(__file__).parent / "packs"
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
    def is_enacted(self) -> bool:
        return self.status == "enacted"


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
    """The terms that come with falaj, pack by pack."""
    return tuple(term for path in sorted(PACKS.glob("*.toml")) for term in read_terms(path))


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
