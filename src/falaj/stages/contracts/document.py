"""Reading a contract's YAML without trusting it: size, depth, aliases and double keys are refused; each value knows its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from falaj.core.errors import InvalidInput

LARGEST = 1 << 20
DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Spot:
    """A value and its path in the file, so that each complaint can say where, what was seen and what is wanted."""

    value: Any
    path: str
    file: str

    def fail(self, wanted: str, hint: str = "") -> InvalidInput:
        seen = repr(self.value)
        seen = seen if len(seen) <= 80 else seen[:77] + "..."
        return InvalidInput(f"{self.file}: {self.path or 'the document'} must be {wanted}, got {seen}.", hint, path=self.path)

    def get(self, key: str) -> Spot:
        """The value under `key`, or None at its place. The value must be an object."""
        return Spot(self.mapping().get(key), f"{self.path}.{key}" if self.path else key, self.file)

    def mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            raise self.fail("an object")
        return self.value

    def items(self) -> Iterator[Spot]:
        """The entries of a list; an absent list has none."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.fail("a list")
        for index, value in enumerate(self.value):
            yield Spot(value, f"{self.path}[{index}]", self.file)

    def only(self, allowed: frozenset[str], hint: str) -> None:
        """Refuses keys that would silently do nothing."""
        for key in self.mapping():
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.7)
                raise InvalidInput(
                    f"{self.file}: {self.path or 'the document'} has {key[:80]!r}, which falaj does not enforce.",
                    f"did you mean {near[0]!r}? Else {hint}" if near else hint,
                    path=self.path,
                )

    def text(self, default: str | None = None, *, longest: int = 500) -> str:
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str) or not self.value.strip() or len(self.value) > longest:
            raise self.fail(f"a text of 1 to {longest} characters")
        return self.value

    def flag(self, default: bool = False) -> bool:
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.fail("true or false")
        return self.value

    def number(self) -> int | float:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not abs(self.value) <= 2**53:
            raise self.fail("a number within 2**53")
        return self.value

    def one_of(self, allowed: tuple[str, ...], default: str | None = None) -> str:
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str) or self.value not in allowed:
            raise self.fail("one of " + ", ".join(allowed))
        return self.value


def parse(data: bytes, file: str, loader: Any = None) -> Spot:
    """The document in these bytes. Raises InvalidInput for whatever is not one plain YAML document."""
    if len(data) > LARGEST:
        raise InvalidInput(f"{file} is {len(data)} bytes long; a contract has at most {LARGEST}.", "is it the right file?")
    try:
        text = data.decode("utf-8")
        _survey(text, file)
        return Spot(yaml.load(text, Loader=loader or _Loader), "", file)  # noqa: S506  # a SafeLoader
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"{file} is not UTF-8 text (byte {exc.start}).", "save it as UTF-8.") from exc
    except yaml.MarkedYAMLError as exc:
        raise InvalidInput(
            f"{file}{_line(exc.problem_mark)} is not YAML: {exc.problem or exc.context}.", "mend the file."
        ) from exc
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, KeyError, RecursionError) as exc:
        raise InvalidInput(f"{file} cannot be read as YAML: {type(exc).__name__}: {str(exc)[:200]}.", "mend the file.") from exc


def _survey(text: str, file: str) -> None:
    """Depth and aliases, judged from the events alone: building the values first is what a hostile file waits for."""
    depth = 0
    for event in yaml.parse(text, Loader=_FASTEST):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput(
                f"{file}{_line(event.start_mark)} uses an alias.", "write the value out: a contract is read by people."
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InvalidInput(
                f"{file}{_line(event.start_mark)} is nested deeper than {DEEPEST} levels.", "is it the right file?"
            )


def _line(mark: Any) -> str:
    return f", line {mark.line + 1}" if mark is not None else ""


_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: five times as fast, which bounds what the largest file can cost."""


class _Loader(_FASTEST):  # type: ignore[misc]
    """YAML lets the last of two equal keys win; in a contract that would switch a rule off unseen."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _value in node.value if isinstance(node, yaml.MappingNode) else ():
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


class _Plain(_Loader):
    """Without YAML's times, which JSON does not have: a schema sees `2013-05-01` as the text that it is."""


_Plain.yaml_implicit_resolvers = {
    letter: [(tag, found) for tag, found in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def plain(data: bytes, file: str) -> Any:
    """The document as JSON would hold it, for a JSON schema. Raises InvalidInput like `parse`."""
    return parse(data, file, _Plain).value
