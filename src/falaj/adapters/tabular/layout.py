"""Layout: how files of rows are to be read; the same options for a folder and for a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from falaj.adapters.tabular.columns import Declared, declare
from falaj.adapters.tabular.text import ENCODINGS
from falaj.core.errors import InvalidInput

ENDINGS: Mapping[str, str] = {
    ".csv": "csv", ".csv.gz": "csv", ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl", ".ndjson.gz": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
FORMATS = ("csv", "jsonl", "parquet")
MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class File:
    """One file, wherever it lies. `modified`: when it came to lie there as it is, in ms since 1970 in UTC; `border` translates
    what opening and reading raise."""

    name: str
    modified: int
    open: Callable[[], AbstractContextManager[Iterator[bytes]]]
    seekable: Callable[[], AbstractContextManager[Any]]
    border: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Layout:
    format: str = ""
    known: str = ""
    arrived: str = ""
    columns: tuple[str, ...] = ()
    declared: Declared = field(default_factory=Declared)
    nulls: tuple[str, ...] = ("",)
    separator: str = ","
    encoding: str = "utf-8"
    header: bool | tuple[str, ...] = True

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"bounded", "known"} if self.known or self.arrived else {"bounded"})

    def format_of(self, name: str) -> str:
        """Raises InvalidInput where the file's ending says nothing and no option does."""
        if self.format:
            return self.format
        lower = name.lower()
        for ending, format_ in ENDINGS.items():
            if lower.endswith(ending):
                return format_
        raise InvalidInput(f"The format of {name} is not known.", f"set format to one of {', '.join(FORMATS)}.")

    def is_read(self, name: str) -> bool:
        """Whether a file of a folder is one of the rows' files; drafts and marks of other tools are not."""
        last = name.rpartition("/")[2].lower()
        if last.startswith((".", "_")):
            return False
        return self.format != "" or any(last.endswith(ending) for ending in ENDINGS)


def layout(options: Mapping[str, Any]) -> Layout:
    """Raises InvalidInput for an option that does not exist or has a value that it cannot have."""
    allowed = ("format", "known", "arrived", "columns", "types", "times", "nulls", "separator", "encoding", "header")
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise InvalidInput(f"A source of files has no option {unknown[0]!r}.", f"there is: {', '.join(allowed)}.")
    given = {key: value for key, value in options.items() if key not in ("types", "times")}
    for name in ("columns", "nulls"):
        if name in given:
            given[name] = texts(name, given[name])
    if not isinstance(given.get("header", True), bool):
        given["header"] = texts("header", given["header"])
    made = Layout(declared=declare(options.get("types"), options.get("times")), **given)
    if made.format and made.format not in FORMATS:
        raise InvalidInput(f"There is no format {made.format!r}.", f"there is: {', '.join(FORMATS)}.")
    if made.header is False:
        raise InvalidInput("A file without a header needs its columns' names.", 'write header=("id", "at").')
    if made.encoding not in ENCODINGS:
        raise InvalidInput(f"The encoding {made.encoding!r} is not read.", f"there is: {', '.join(ENCODINGS)}.")
    if len(made.separator) != 1 or not made.separator.isascii() or made.separator in '"\n\r\0':
        raise InvalidInput(f"{made.separator!r} cannot separate columns.", 'write one character, such as ";" or "\\t".')
    if made.known and made.arrived:
        raise InvalidInput("`known` and `arrived` both say when a row became known.", "give one of the two.")
    return made


def texts(name: str, given: Any) -> tuple[str, ...]:
    """Raises InvalidInput where an option is no sequence of texts."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
        raise InvalidInput(f"The option {name!r} is no list of texts.", f'write {name}=("one", "two").')
    return tuple(given)
