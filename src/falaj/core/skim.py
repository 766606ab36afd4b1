"""Skim: what a leaf says that it is filed under, read as strictly as the whole event and several times as fast.

An audit asks this of every leaf. The usual leaf is read in place: its eight fields come in their canonical order, the values
between them are scanned by the standard library's own scanner, and each has to be written back as exactly the text that was
there. Whatever is unusual (a number that JSON writes in two ways, an escape, a key beyond U+DFFF, another order) is read the
long way, by `event_of`, which also says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from falaj.core.codec import canonical, encode
from falaj.core.errors import InvalidInput
from falaj.core.leaf import Entry, event_of
from falaj.core.moments import iso

try:  # the standard library's own, in C
    from json.encoder import c_make_encoder  # type: ignore[attr-defined]
    from json.scanner import c_make_scanner  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover  # another Python than CPython
    c_make_encoder = c_make_scanner = None

_ACTORS: set[str] = set()
"""How leaves begin whose actors were read the long way once. There are as many actors as people and programs."""
_MOST_ACTORS = 4096
_HIGH = re.compile("[\ue000-\U0010ffff]")
"""Keys with these are sorted otherwise by UTF-16 code units than by code points (RFC 8785, section 3.2.3)."""
_TEXT = r'([^"\\\x00-\x1f]*)'
"""What stands between quotation marks as it is."""
_AT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
_NAME = r"[a-z0-9][a-z0-9_.\-]{0,79}"
_REF = rf"{_NAME}/{_NAME}(?:@[A-Za-z0-9][A-Za-z0-9_.\-]{{0,79}})?"
"""As `Ref` has it, without `..`, which is looked for apart."""
_HEAD = re.compile(rf'\{{"actor":(\{{[^{{}}]*\}}),"at":"({_AT})","changes":\[')
_CHANGE = re.compile(rf',"key":"{_TEXT}","kind":"{_TEXT}"\}}(,\{{"body":|\],"facts":)')
_TAIL = re.compile(rf',"seq":(0|[1-9][0-9]{{0,14}}),"subject":"({_REF})","trace":"{_TEXT}","verb":"{_TEXT}"\}}')
_PLAIN = re.compile(
    rf',"at":"({_AT})","changes":\[\{{"body":(\{{[^}}]*\}}),"key":"{_TEXT}","kind":"{_TEXT}"\}}\],"facts":(\{{[^}}]*\}}){_TAIL.pattern}'
)
"""The commonest leaf behind its actor, in one look: one change; neither its body nor the facts have a body in them."""
_LONGEST_INTEGER = 15
"""Digits of an integer that is below 2**53 whatever they are."""
_NOT_YET = InvalidInput("This leaf was not read.")
_entry: Callable[[Sequence[Any]], Entry] = Entry._make
"""As the constructor, for a third of the time."""


class _Unusual(Exception):
    """No error: it sends the leaf the long way."""


def entry_of(leaf: bytes) -> Entry:
    """What the leaf says of itself. Raises InvalidInput where `event_of` does."""
    (found,) = entries_of((leaf,))
    if isinstance(found, InvalidInput):
        raise found
    return found


def entries_of(leaves: Sequence[bytes]) -> list[Entry | InvalidInput]:
    """As `entry_of` of each, with the error where it would raise it. Some dozens at once are read in a fifth less time.

    The bodies and facts of plain leaves are scanned and written again in one piece. That is as strict as one by one: each has an
    even number of quotation marks, no escape, and no braces but at its ends, so that it ends where it ends.
    """
    found: list[Entry | InvalidInput] = []
    others, late, pieces = list[int](), list[tuple[int, int]](), list[str]()
    for place, leaf in enumerate(leaves):
        plain = _plain(leaf)
        if plain is None:
            others.append(place)
            found.append(_NOT_YET)
            continue
        at, body, key, kind, facts, seq, subject, _trace, verb = plain
        if "took_ms" in facts:
            late.append((place, len(pieces) + 1))
        pieces.append(body)
        pieces.append(facts)
        found.append(_entry((int(seq), verb, subject, at, [(kind, key, body.encode())], 0)))
    values = _read_again(f"[{','.join(pieces)}]")
    if values is None:
        others = list(range(len(leaves)))
    else:
        for place, piece in late:
            found[place] = found[place]._replace(took_ms=took_ms(values[piece]))  # type: ignore[union-attr]
    for place in others:
        found[place] = _alone(leaves[place])
    return found


def _plain(leaf: bytes) -> tuple[str, ...] | None:
    """Time, body, key, kind, facts, number, subject, trace and verb of a plain leaf; body and facts are still to be read."""
    try:
        text = leaf.decode("ascii")
    except ValueError:
        return None
    behind = text.find("}") + 1
    if text[:behind] not in _ACTORS or "\\" in text:
        return None
    plain = _PLAIN.fullmatch(text, behind)
    if plain is None:
        return None
    parts = plain.groups()
    at, body, _key, _kind, facts, _seq, subject, _trace, _verb = parts
    if body.find("{", 1) > 0 or facts.find("{", 1) > 0 or body.count('"') & 1 or facts.count('"') & 1 or ".." in subject:
        return None
    try:
        datetime.fromisoformat(at)
    except ValueError:
        return None
    return parts


def _read_again(text: str) -> list[Any] | None:
    """The list that the text is; None where it is none or would not be written like that."""
    try:
        values, end = _scan(text, 0)
        return values if end == len(text) and "".join(_rewrite(values, 0)) == text else None
    except (_Unusual, ValueError, StopIteration, RecursionError):
        return None


def _alone(leaf: bytes) -> Entry | InvalidInput:
    try:
        return _skim(leaf.decode())
    except (_Unusual, ValueError, StopIteration, RecursionError):
        pass
    try:
        return _long_way(leaf)
    except InvalidInput as exc:
        return exc


def _long_way(leaf: bytes) -> Entry:
    event = event_of(leaf)
    changes = [(c.kind, c.key, None if c.body is None else canonical(encode(c.body))) for c in event.changes]
    if len(_ACTORS) < _MOST_ACTORS:
        _ACTORS.add('{"actor":' + canonical(encode(event.actor)).decode())
    return Entry(event.seq, event.verb, str(event.subject), iso(event.at), changes, took_ms(event.facts))


def took_ms(facts: Any) -> int:
    """How long after its time the event came into the ledger, where its facts say so."""
    told = facts.get("took_ms") if isinstance(facts, dict) else None
    return told if type(told) is int else 0


def _skim(text: str) -> Entry:
    """Each value has to be written again as exactly the text that it was read from, or it is not as RFC 8785 asks."""
    head = _HEAD.match(text)
    if head is None or text[: head.end(1)] not in _ACTORS or (not text.isascii() and _HIGH.search(text)):
        raise _Unusual
    datetime.fromisoformat(head[2])
    changes: list[tuple[str, str, bytes | None]] = []
    place = head.end()
    is_change = text.startswith('{"body":', place)
    if not is_change and not text.startswith('],"facts":', place):
        raise _Unusual
    place += 8 if is_change else 10
    while is_change:
        body, end = _scan(text, place)
        written = text[place:end]
        if "".join(_rewrite(body, 0)) != written:
            raise _Unusual
        named = _CHANGE.match(text, end)
        if named is None:
            raise _Unusual
        changes.append((named[2], named[1], None if body is None else written.encode()))
        place = named.end()
        is_change = named[3] != '],"facts":'
    facts, end = _scan(text, place)
    if "".join(_rewrite(facts, 0)) != text[place:end]:
        raise _Unusual
    tail = _TAIL.fullmatch(text, end)
    if tail is None or ".." in tail[2]:
        raise _Unusual
    return Entry(int(tail[1]), tail[4], tail[2], head[2], changes, took_ms(facts) if '"took_ms":' in text else 0)


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise _Unusual
    return int(text)


def _float(text: str) -> float:
    """Python writes a double as ECMAScript does, but for exponents and whole numbers."""
    if "e" in text or "E" in text or text.endswith(".0"):
        raise _Unusual
    return float(text)


def _constant(text: str) -> float:
    raise _Unusual


class _Scanner:
    """What the scanner asks for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = staticmethod(_float)
    parse_int = staticmethod(_integer)
    parse_constant = staticmethod(_constant)


def _refuse(value: Any) -> Any:
    raise _Unusual


def _none(text: str, place: int) -> Any:  # pragma: no cover  # another Python than CPython
    raise _Unusual


_scan: Callable[[str, int], tuple[Any, int]] = c_make_scanner(_Scanner()) if c_make_scanner and c_make_encoder else _none
_rewrite: Callable[[Any, int], Any] = (
    c_make_encoder(None, _refuse, encode_basestring, None, ":", ",", True, False, False) if c_make_encoder else _none
)
