"""The one JSON form of the words: canonical bytes (RFC 8785), digests, and words to and from plain dictionaries."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any, TypeVar, cast

from falaj.core.errors import InvalidInput
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref

T = TypeVar("T")

_PLAIN = frozenset({str, int, float, bool, type(None)})
_EXACT = 2**53
"""Up to here a double carries every integer."""
_WORDS = {None: "null", True: "true", False: "false"}


def canonical(value: Any) -> bytes:
    """RFC 8785 (JCS) bytes of a JSON value: the same value always gives the same bytes.

    Raises InvalidInput for a NaN, an infinity, an integer that a double cannot carry, a key that is written twice, or a type
    that JSON does not have.
    """
    return utf8(canonical_text(value))


def canonical_text(value: Any) -> str:
    """The text whose UTF-8 bytes `canonical` gives, to be made part of a longer one. Raises InvalidInput as `canonical`."""
    try:
        return _write(value)
    except RecursionError as exc:
        raise InvalidInput("The value is nested too deeply.") from exc


def utf8(text: str) -> bytes:
    """The bytes of a text that is JSON. Raises InvalidInput where it holds half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput("A text holds half of a surrogate pair, which JSON cannot carry.") from exc


def digest(data: bytes) -> str:
    """`sha256:` and the hexadecimal SHA-256 of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """The digest of a JSON value's canonical bytes."""
    return digest(canonical(value))


def encode(word: Any) -> Any:
    """A word, or anything made of words, as plain JSON values."""
    kind: Any = type(word)
    if kind in _PLAIN:
        return word
    if kind is dict:
        return _encode_mapping(word)
    if kind is list or isinstance(word, (list, tuple)):
        return [item if type(item) in _PLAIN else encode(item) for item in word]
    if isinstance(word, Ref):
        return str(word)
    if isinstance(word, datetime):
        return iso(word)
    names = _names(kind)
    if names:
        return {name: encode(getattr(word, name)) for name in names}
    return _encode_mapping(word) if isinstance(word, Mapping) else word


def _encode_mapping(word: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(key): value if type(value) in _PLAIN else encode(value) for key, value in word.items()}
    if len(plain) != len(word):
        raise InvalidInput("An object has two keys that are written alike.", "use texts as keys.")
    return plain


def decode(kind: type[T], body: Any) -> T:
    """The word of that kind that `encode` wrote. Raises InvalidInput where a field is missing or unknown."""
    wanted: Any = kind
    return cast(T, _reader(wanted)(body))


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What reads a value of that annotation. Looking at an annotation costs more than all the rest, so it is done once."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _reader(next(arg for arg in typing.get_args(kind) if arg is not type(None)))
        return lambda body: None if body is None else inner(body)
    if kind is Ref:
        return Ref.parse
    if kind is datetime:
        return moment
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return functools.partial(_read_word, kind)
    if origin is tuple:
        return functools.partial(_read_tuple, _reader(typing.get_args(kind)[0]))
    return _as_it_is


def _as_it_is(body: Any) -> Any:
    return body


def _read_tuple(inner: Callable[[Any], Any], body: Any) -> tuple[Any, ...]:
    if not isinstance(body, (list, tuple)):
        raise InvalidInput(f"A list was expected, got {type(body).__name__}.")
    return tuple(body) if inner is _as_it_is else tuple([inner(item) for item in body])


def _read_word(kind: type, body: Any) -> Any:
    if not isinstance(body, Mapping):
        raise InvalidInput(f"A {kind.__name__} must be an object, got {type(body).__name__}.")
    readers = _field_readers(kind)
    try:
        return kind(**{name: readers[name](value) for name, value in body.items()})
    except KeyError as exc:
        unknown = set(body) - set(readers)
        if not unknown:
            raise
        raise InvalidInput(f"A {kind.__name__} has no field {sorted(unknown)[0]!r}.") from exc
    except TypeError as exc:
        raise InvalidInput(f"A {kind.__name__} could not be read: {exc}.") from exc


@functools.cache
def _field_readers(kind: type) -> Mapping[str, Callable[[Any], Any]]:
    return {name: _reader(hint) for name, hint in typing.get_type_hints(kind).items()}


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a word of that kind; none where it is no word."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def _write(value: Any) -> str:
    """By exact type first: nearly every value is of one of these, and asking `isinstance` in turn takes twice as long."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is dict:
        return _write_object(value)
    if kind is int:
        return str(value) if -_EXACT <= value <= _EXACT else _large(value)
    if kind is list or kind is tuple:
        return "[" + ",".join([_write(item) for item in value]) + "]"
    if value is None or value is True or value is False:
        return _WORDS[value]
    return _write_other(value)


def _write_object(value: Mapping[Any, Any]) -> str:
    try:
        keys = sorted(value)
        joined = "".join(keys)
    except TypeError:  # some key is no text
        joined = "\U0010ffff"
    if not joined.isascii():
        # By UTF-16 code units, as RFC 8785 section 3.2.3 asks; among ASCII texts that is the order of `sorted`.
        keys = sorted(value, key=lambda key: str(key).encode("utf-16-be", "surrogatepass"))
        if len(set(map(str, keys))) != len(keys):
            raise InvalidInput("An object has two keys that are written alike.", "use texts as keys.")
    return "{" + ",".join([f"{encode_basestring(str(key))}:{_write(value[key])}" for key in keys]) + "}"


def _write_other(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= _EXACT else _large(value)
    if isinstance(value, Mapping):
        return _write_object(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_write, value)) + "]"
    raise InvalidInput(f"JSON has no {type(value).__name__}.", "encode() turns words into plain values first.")


def _large(value: int) -> str:
    """An integer beyond 2**53, if it is one that a double writes: `json.loads` gives such a double back as an integer."""
    text = str(value) if value.bit_length() <= 1024 else ""
    if not text or len(text.lstrip("-")) > 21 or _number(float(value)) != text:
        raise InvalidInput("An integer beyond 2**53 is none that JSON carries exactly.", "write it as a text.")
    return text


def _number(value: float) -> str:
    """ECMAScript's Number::toString, as RFC 8785 section 3.2.2.3 asks."""
    if not math.isfinite(value):
        raise InvalidInput(f"JSON cannot carry {value}.", "use null where there is no number.")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    head = digits[0] + ("." + digits[1:] if count > 1 else "")
    return f"{sign}{head}e{'+' if power >= 0 else '-'}{abs(power)}"
