"""Complaints: what the published schema says against a contract, in words that help, and what it lets pass unread."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from falaj.core.wording import a
from falaj.stages.contracts.finding import Finding
from falaj.stages.contracts.odcs import OPTIONS

STANDARD = "the standard's schema asks for it: bitol-io.github.io/open-data-contract-standard"
QUOTES = "a comma ends a text within braces: put the text in quotes, as in {purpose: 'Every trip, by day.'}."
DESCRIPTION = ("purpose", "limitations", "usage", "authoritativeDefinitions", "customProperties")
"""What the standard has in a description; its schema lets anything else pass."""

_NAME = re.compile(r"[A-Za-z_$][\w$.\-]*")
_KEY = re.compile(r"'((?:[^'\\]|\\.)+)'")


def place_of(path: Any) -> str:
    """`schema[0].properties[3].logicalType`: the way that falaj's own complaints name it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def said(error: Any) -> str:
    """jsonschema's own sentence, without the value where it would fill the screen."""
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        return (
            str(error.message).split(" (", 1)[1].rstrip(")")[:200] if " (" in error.message else "has a key that is not allowed"
        )
    return str(error.message) if len(error.message) <= 200 else f"{error.message[:120]} … must keep {error.validator}"


def hint_of(error: Any, document: Any) -> str:
    """What to do about it: the nearest word that is known, or where the word belongs."""
    if error.validator == "enum":
        return _nearest([str(error.instance)], [str(value) for value in error.validator_value]) or STANDARD
    if error.validator not in ("additionalProperties", "unevaluatedProperties") or not isinstance(error.instance, dict):
        return STANDARD
    known = [str(name) for name in error.schema.get("properties", {})]
    keys = [key for key in map(str, error.instance) if key not in known]
    if error.validator == "unevaluatedProperties":  # the schema that failed does not know them all
        keys = [key for key in _KEY.findall(said(error)) if key in error.instance]
    if any(_is_text(key) and error.instance[key] is None for key in keys):
        return QUOTES
    path = list(error.absolute_path)
    if path[-1:] == ["logicalTypeOptions"]:
        return belonging(keys, _kind_at(document, path[:-1])) or _nearest(keys, known) or STANDARD
    return _nearest(keys, known) or STANDARD


def belonging(options: list[str], kind: str) -> str:
    """Of options that a column of this kind does not have: which kinds have them. Empty where none has."""
    homes = [[other for other, has in OPTIONS.items() if option in has] for option in options]
    shared = [other for other in OPTIONS if homes and all(other in home for home in homes)]
    if not shared or kind in shared:
        return ""
    verb = "belong" if len(options) > 1 else "belongs"
    own = a(kind) if kind else "without a type"
    return f"{' and '.join(options)} {verb} to columns of type {', '.join(shared)}; this one is {own}."


def unread(document: Mapping[str, Any]) -> Iterator[Finding]:
    """What the published schema lets pass though nobody reads it: half sentences, and keys that a description does not have."""
    description = document.get("description")
    if isinstance(description, dict):
        for key, value in description.items():
            if key not in DESCRIPTION:
                hint = QUOTES if value is None else _nearest([str(key)], DESCRIPTION) or f"there is: {', '.join(DESCRIPTION)}."
                yield Finding("description", "warning", f"{str(key)[:80]!r} is no part of a description", hint)
    for path, key in _empty(document, ()):
        if path != ("description",):
            yield Finding(place_of(path), "warning", f"{key[:80]!r} looks like the rest of a sentence", QUOTES)


def _empty(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Keys without a value that are no names. The reader of documents bounds how deep this goes."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if isinstance(value, dict) and part is None and _is_text(str(key)):
            yield path, str(key)
        yield from _empty(part, (*path, key))


def _is_text(key: str) -> bool:
    return _NAME.fullmatch(key) is None


def _kind_at(document: Any, path: list[Any]) -> str:
    for part in path:
        document = document[part]
    kind = document.get("logicalType") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else ""


def _nearest(keys: list[str], known: Any) -> str:
    close = [near for key in keys for near in difflib.get_close_matches(key, known, n=1, cutoff=0.6)]
    return "did you mean " + " and ".join(repr(name) for name in dict.fromkeys(close)) + "?" if close else ""
