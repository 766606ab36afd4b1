"""Reads a file of Cedar policies one by one, so that each has its own stable id and what is wrong has its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.errors import InvalidInput

LARGEST = 1 << 20
"""Bytes of one file of policies."""
MOST = 2_000
"""Policies of one file."""
DEEPEST = 64
"""Brackets within brackets."""
MOST_SIGNS = 200
"""Operators of one policy. cedarpy 4.12 ends the whole process, without a word, at a chain of some thousands of them."""
ID = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,79}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy as Cedar's own JSON form. `place`: file and line where it begins."""

    id: str
    effect: str
    place: str
    text: str
    body: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """What its @reason says; empty where it has none."""
        return self.note("reason")

    def note(self, name: str) -> str:
        """An annotation's text; empty where it has none of that name."""
        return str((self.body.get("annotations") or {}).get(name) or "")

    @property
    def reads(self) -> frozenset[str]:
        """Which attributes it reads or asks for, as in `resource.zone`."""
        return frozenset(_attributes(self.body))


def statements(text: str, name: str) -> list[Statement]:
    """Every policy of a file. Raises InvalidInput with file and line for what is none, has no @id, or uses one twice."""
    import cedarpy

    if len(text.encode("utf-8", "replace")) > LARGEST:
        raise InvalidInput(f"{name} is longer than {LARGEST} bytes.", "split it into several files.")
    found: dict[str, Statement] = {}
    for line, part in _parts(text, name):
        place = f"{name}:{line}"
        try:
            parsed = json.loads(cedarpy.policies_to_json_str(part))
        except ValueError as exc:
            raise InvalidInput(
                f"{place}: this is no Cedar policy: {_first(exc)}.", "https://docs.cedarpolicy.com/policies"
            ) from exc
        one = _statement(parsed, place, part)
        if one.id in found:
            raise InvalidInput(f"{place}: the id {one.id!r} stands in {found[one.id].place} already.", "give each its own @id.")
        found[one.id] = one
        if len(found) > MOST:
            raise InvalidInput(f"{name} holds more than {MOST} policies.", "split it into several files.")
    return list(found.values())


def _statement(parsed: Mapping[str, Any], place: str, text: str) -> Statement:
    if parsed.get("templates") or parsed.get("templateLinks"):
        raise InvalidInput(f"{place}: this is a template, which decides nothing.", "write the principal and the resource out.")
    bodies = list(parsed["staticPolicies"].values())
    if len(bodies) != 1:
        raise InvalidInput(f"{place}: there are {len(bodies)} policies where one was expected.", "end each with a semicolon.")
    body = bodies[0]
    name = (body.get("annotations") or {}).get("id")
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise InvalidInput(
            f"{place}: the policy has no @id, or one of other characters than letters, digits, '.', '-', '_' and '/'.",
            '@id("approvers-may-read") before it; that id stands in every decision.',
        )
    return Statement(name, str(body["effect"]), place, text, body)


def _parts(text: str, name: str) -> Iterator[tuple[int, str]]:
    """(line where it begins, text) of what stands between semicolons, comments and strings respected."""
    start = depth = signs = 0
    for at, sign in _tokens(text, name):
        depth += (sign in "([{") - (sign in ")]}")
        signs += sign not in "(){}];"
        if depth > DEEPEST or signs > MOST_SIGNS:
            much = f"{DEEPEST} brackets within brackets" if depth > DEEPEST else f"{MOST_SIGNS} operators"
            raise InvalidInput(f"{name}:{_line(text, at)}: more than {much} in one policy.", "make several policies of it.")
        if sign == ";":
            yield _line(text, _begin(text, start)), text[start : at + 1]
            start, depth, signs = at + 1, 0, 0
    if _bare(text[start:]):
        line = _line(text, _begin(text, start))
        raise InvalidInput(f"{name}:{line}: this policy does not end.", "end each policy with a semicolon.")


_TOKEN = re.compile(r"//[^\n]*|\"(?:[^\"\\]|\\.)*\"|&&|\|\||\b(?:has|if|in|is|like)\b|[()\[\]{};\".+*<>=!-]", re.DOTALL)


def _tokens(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Brackets, operators and semicolons with their places, those in strings and comments left out."""
    for found in _TOKEN.finditer(text):
        if found[0] == '"':
            raise InvalidInput(f"{name}:{_line(text, found.start())}: this text does not end.", 'end it with ".')
        if found[0][0] not in '/"':
            yield found.start(), found[0]


def _attributes(body: Any) -> Iterator[str]:
    """`a.b` and `a has b` in Cedar's JSON: {".": {"left": {"Var": "a"}, "attr": "b"}}."""
    for key, inner in body.items() if isinstance(body, Mapping) else ():
        if (
            key in (".", "has")
            and isinstance(inner, Mapping)
            and isinstance(left := inner.get("left"), Mapping)
            and "Var" in left
        ):
            yield f"{left['Var']}.{inner.get('attr')}"
        yield from _attributes(inner)
    if isinstance(body, list):
        for item in body:
            yield from _attributes(item)


def _bare(text: str) -> str:
    """Without comments and space."""
    return re.sub(r"//[^\n]*", "", text).strip()


def _begin(text: str, start: int) -> int:
    """Where the first word after `start` stands that is no comment."""
    found = re.compile(r"(?:\s+|//[^\n]*)*").match(text, start)
    return found.end() if found else start


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
