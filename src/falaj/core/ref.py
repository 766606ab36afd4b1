"""Ref: the name of anything, the same in code, CLI, URL, log and database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from falaj.core.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,79}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,79}")


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """`kind/name@version`, for example `model/delay@7`. Raises InvalidInput where a part has a character that is not allowed."""

    kind: str
    name: str
    version: str | None = None

    def __post_init__(self) -> None:
        for part, text, rule in (
            ("kind", self.kind, _NAME),
            ("name", self.name, _NAME),
            ("version", self.version, _VERSION),
        ):
            if part == "version" and text is None:
                continue
            if not isinstance(text, str) or not rule.fullmatch(text) or ".." in text:
                raise InvalidInput(
                    f"The {part} {text!r} of a reference is not allowed.",
                    "use lower-case letters, digits, '_', '-' and '.', as in model/delay@7.",
                )

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Reads `kind/name` or `kind/name@version`."""
        kind, slash, rest = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not slash:
            raise InvalidInput(f"{text!r} is not a reference.", "write kind/name or kind/name@version, as in model/delay@7.")
        name, at, version = rest.partition("@")
        return cls(kind, name, version if at else None)

    def at(self, version: str | int) -> Ref:
        return Ref(self.kind, self.name, str(version))

    @property
    def bare(self) -> Ref:
        """The same name without its version."""
        return Ref(self.kind, self.name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" + (f"@{self.version}" if self.version is not None else "")
