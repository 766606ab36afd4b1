"""Pack: one regulator's demands, read from `pack.toml` and `policies.cedar` in a folder of its own."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from falaj.core.errors import InvalidInput, NotFound

FOLDER = Path(__file__).parent
LARGEST = 1 << 20
Status = Literal["enacted", "guidance", "assumed", "pending", "unverified"]
Kind = Literal["floor", "ceiling", "allowed", "demanded", "exact"]
"""How two packs agree: the larger of two floors, the smaller of two ceilings, what both allow, what either demands, the same."""
_ID = re.compile(r"[a-z][a-z0-9\-]{0,39}")
_PATH = re.compile(r"[a-z][a-z0-9_\-]*(\.[a-z0-9][a-z0-9_\-]*){0,7}")
_SPAN = re.compile(r"(\d{1,6})(s|m|h|d|mo|y)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "mo": 30 * 86_400, "y": 365 * 86_400}
FOREVER = "forever"


@dataclass(frozen=True, slots=True)
class Value:
    """One figure or list of a pack, with where it comes from. Spans are texts: 72h, 90d, 6mo, 25y, forever."""

    path: str
    value: Any
    kind: Kind
    status: Status
    pack: str
    instrument: str = ""
    article: str = ""
    note: str = ""

    @property
    def size(self) -> float:
        """A number, or the seconds of a span, to compare by; a month counts 30 days, a year 365."""
        return size_of(self.value)


@dataclass(frozen=True, slots=True)
class Pack:
    id: str
    version: str
    title: str
    status: Status
    counsel_signoff: str | None
    """Who confirmed it as counsel, and when; None means that nobody has, and every face says so."""
    entries: tuple[Value, ...]
    policies: str
    """Cedar policies, as text."""

    def values(self, path: str = "") -> tuple[Value, ...]:
        """Everything at the path or beneath it, in the pack's order; without a path, all."""
        return tuple(one for one in self.entries if not path or one.path == path or one.path.startswith(path + "."))

    def value(self, path: str) -> Value:
        """Raises NotFound with the nearest paths."""
        found = next((one for one in self.entries if one.path == path), None)
        if found is None:
            raise NotFound.named(f"value of {self.id}", path, [one.path for one in self.entries])
        return found


def known() -> list[str]:
    """The ids of the packs that falaj brings."""
    return sorted(path.parent.name for path in FOLDER.glob("*/pack.toml"))


def load(ids: str | Iterable[str]) -> tuple[Pack, ...]:
    """The packs of these ids, or of a text that names them with commas. Raises NotFound for an unknown one."""
    names = [part.strip() for part in ids.split(",")] if isinstance(ids, str) else list(ids)
    found = []
    for name in dict.fromkeys(filter(None, names)):
        if name not in known():
            raise NotFound.named("pack", name, known())
        folder = FOLDER / name
        found.append(read_pack((folder / "pack.toml").read_text("utf-8"), (folder / "policies.cedar").read_text("utf-8"), name))
    return tuple(found)


def read_pack(text: str, policies: str = "", name: str = "pack") -> Pack:
    """The pack that a `pack.toml` describes. Raises InvalidInput, with what and where, for one that does not."""
    if len(text) > LARGEST:
        raise InvalidInput(f"{name}: a pack is shorter than {LARGEST} characters.")
    try:
        body = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        raise InvalidInput(f"{name} is no TOML: {str(exc)[:200]}.", "mend the file.") from exc
    head = _table(body.pop("pack", None), f"{name}: [pack]")
    entries = body.pop("value", [])
    if body:
        raise InvalidInput(
            f"{name} has a table {sorted(body)[0][:40]!r}, which means nothing.", "there are [pack] and [[value]]."
        )
    if not isinstance(entries, list):
        raise InvalidInput(f"{name}: `value` is not a list.", "write [[value]] before each.")
    about = _fields(head, f"{name}: [pack]", ("id", "version", "title", "status"), ("counsel_signoff",))
    if not _ID.fullmatch(about["id"]):
        raise InvalidInput(f"{name}: {about['id'][:60]!r} is no id of a pack.", "write it as ae-baseline.")
    _one_of(about["status"], get_args(Status), f"{name}: status")
    values = tuple(_value(entry, f"{name}: value {count}", about["id"]) for count, entry in enumerate(entries, 1))
    paths = [one.path for one in values]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise InvalidInput(f"{name}: {twice} stands twice.", "leave one of them out.")
    return Pack(
        about["id"], about["version"], about["title"], about["status"], about.get("counsel_signoff") or None,  # type: ignore[arg-type]  # checked above
        values, policies,
    )  # fmt: skip


def size_of(value: Any) -> float:
    """Raises InvalidInput for what is neither a number nor a span."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if value == FOREVER:
        return float("inf")
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput(
            f"{str(value)[:60]!r} is neither a number nor a span.", "write it as 5s, 72h, 90d, 6mo, 25y or forever."
        )
    return float(int(found[1]) * _SECONDS[found[2]])


def _value(entry: Any, place: str, pack: str) -> Value:
    given = dict(_table(entry, place))
    if "value" not in given:
        raise InvalidInput(f"{place}: `value` is missing.")
    value = given.pop("value")
    texts = _fields(given, place, ("path", "kind", "status"), ("instrument", "article", "note"))
    place = f"{place} ({texts['path'][:80]})"
    if not _PATH.fullmatch(texts["path"]):
        raise InvalidInput(f"{place}: this is no path.", "write it as retention.audit_log.floor.")
    kind = _one_of(texts["kind"], get_args(Kind), f"{place}: kind")
    status = _one_of(texts["status"], get_args(Status), f"{place}: status")
    if status == "enacted" and not (texts.get("instrument") and texts.get("article")):
        raise InvalidInput(f"{place}: what is enacted has an instrument and an article.", "name them, or call it assumed.")
    if kind in ("floor", "ceiling"):
        size_of(value)
    elif kind in ("allowed", "demanded"):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InvalidInput(f"{place}: a list of texts was expected, got {str(value)[:60]!r}.")
        value = tuple(value)
    elif not isinstance(value, (str, bool, int)):
        raise InvalidInput(f"{place}: a text, a number or true or false was expected, got {str(value)[:60]!r}.")
    return Value(value=value, pack=pack, **texts)  # type: ignore[arg-type]  # kind and status were checked


def _fields(given: Mapping[str, Any], place: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, str]:
    if unknown := sorted(set(given) - {*needed, *optional}):
        raise NotFound.named(f"field of {place}", unknown[0][:60], (*needed, *optional))
    if missing := [name for name in needed if name not in given]:
        raise InvalidInput(f"{place}: `{missing[0]}` is missing.")
    wrong = [name for name, value in given.items() if not isinstance(value, str) or (name in needed and not value)]
    if wrong:
        raise InvalidInput(f"{place}: `{wrong[0]}` is no text, or an empty one.")
    return dict(given)


def _table(given: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{place} is missing, or no table.", "docs/guides/policy.md shows a pack.")
    return given


def _one_of(given: str, allowed: tuple[str, ...], place: str) -> str:
    if given not in allowed:
        raise InvalidInput(f"{place} is {given[:40]!r}.", f"there is: {', '.join(allowed)}.")
    return given
