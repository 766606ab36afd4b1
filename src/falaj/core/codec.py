"""The one JSON form of the words: canonical bytes (RFC 8785), digests, and words to and from plain dictionaries."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any, TypeVar, cast

from falaj.core.errors import InvalidInput
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref

T = TypeVar("T")


def canonical(value: Any) -> bytes:
    """RFC 8785 (JCS) bytes of a JSON value: the same value always gives the same bytes.

    Raises InvalidInput for a NaN, an infinity, an integer that a double cannot carry, a key that is written twice, or a type
    that JSON does not have.
    """
    try:
        return _write(value).encode()
    except RecursionError as exc:
        raise InvalidInput("The value is nested too deeply.") from exc
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
    if isinstance(word, Ref):
        return str(word)
    if isinstance(word, datetime):
        return iso(word)
    if dataclasses.is_dataclass(word) and not isinstance(word, type):
        return {f.name: encode(getattr(word, f.name)) for f in dataclasses.fields(word)}
    if isinstance(word, Mapping):
        plain = {str(key): encode(value) for key, value in word.items()}
        if len(plain) != len(word):
            raise InvalidInput("An object has two keys that are written alike.", "use texts as keys.")
        return plain
    if isinstance(word, (list, tuple)):
        return [encode(item) for item in word]
    return word


def decode(kind: type[T], body: Any) -> T:
    """The word of that kind that `encode` wrote. Raises InvalidInput where a field is missing or unknown."""
    return cast(T, _read(kind, body))


def _read(kind: Any, body: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if body is None:
            return None
        return _read(next(arg for arg in typing.get_args(kind) if arg is not type(None)), body)
    if kind is Ref:
        return Ref.parse(body)
    if kind is datetime:
        return moment(body)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_word(kind, body)
    if origin is tuple:
        if not isinstance(body, (list, tuple)):
            raise InvalidInput(f"A list was expected, got {type(body).__name__}.")
        inner = typing.get_args(kind)[0]
        return tuple(_read(inner, item) for item in body)
    return body


def _read_word(kind: type, body: Any) -> Any:
    if not isinstance(body, Mapping):
        raise InvalidInput(f"A {kind.__name__} must be an object, got {type(body).__name__}.")
    hints = _hints(kind)
    unknown = set(body) - set(hints)
    if unknown:
        raise InvalidInput(f"A {kind.__name__} has no field {sorted(unknown)[0]!r}.")
    try:
        return kind(**{name: _read(hints[name], value) for name, value in body.items()})
    except TypeError as exc:
        raise InvalidInput(f"A {kind.__name__} could not be read: {exc}.") from exc


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    """Evaluating the annotations costs more than all the rest of reading a word."""
    return typing.get_type_hints(kind)


def _write(value: Any) -> str:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= 2**53 else _large(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: str(key).encode("utf-16-be", "surrogatepass"))
        if len(set(map(str, keys))) != len(keys):
            raise InvalidInput("An object has two keys that are written alike.", "use texts as keys.")
        return "{" + ",".join(f"{_write(str(key))}:{_write(value[key])}" for key in keys) + "}"
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
