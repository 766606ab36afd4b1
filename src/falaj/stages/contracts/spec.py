"""Dataset: what a user declares about data that comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from falaj.core.errors import InvalidInput
from falaj.core.moments import length
from falaj.core.ref import Ref

if TYPE_CHECKING:
    import polars


def one_of(name: str, given: object, allowed: Sequence[str]) -> None:
    """Raises InvalidInput where the option has none of the words that it may have."""
    if given not in allowed:
        raise InvalidInput(f"{name} is {given!r}, which means nothing.", f"write one of: {', '.join(allowed)}.")


Reading = Callable[[datetime | None, datetime], "polars.DataFrame"]
"""(since, until) → the rows that became known in (since, until]; `since` None asks for everything until then."""


@dataclass(frozen=True, slots=True)
class From:
    """A source by the name of its adapter, `source.<scheme>`, and its options.

    A secret is never an option: it is named by reference, `env:NAME` or `file:PATH`, and resolved when the source is opened.
    """

    scheme: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Derived:
    """A dataset that is made of other datasets: by one SQL query, or by one Python function of polars frames.

    `inputs`: the names of the datasets; each is a table of that name in the query, and an argument of that name of the
    function. `over`: `new` works on the rows that became known since the last load (a step that looks at one row at a
    time); `all` works on every row as known by then (a step that joins or aggregates), and what changed is kept.
    """

    inputs: tuple[str, ...]
    sql: str = ""
    function: Callable[..., polars.DataFrame] | None = None
    over: Literal["new", "all"] = "new"

    def __post_init__(self) -> None:
        if not self.inputs or len(set(self.inputs)) != len(self.inputs):
            raise InvalidInput("A derived dataset needs inputs, each named once.", 'write inputs=("flights",).')
        one_of("over", self.over, ("new", "all"))
        if bool(self.sql.strip()) == (self.function is not None):
            raise InvalidInput("A derived dataset has either `sql` or `function`.", "give one of the two.")


AnySource = Reading | From | Derived


@dataclass(frozen=True, slots=True)
class Dataset:
    """One table that keeps coming. Raises InvalidInput where the name, `every` or `late` cannot be read."""

    name: str
    contract: str
    """Path of the ODCS file, relative to the project's folder."""
    source: AnySource
    time: str
    """The column that says when it happened."""
    known: str
    """The column that says when the row became known: nothing is used before that."""
    every: str = "1d"
    """How often a snapshot is taken."""
    brings: Literal["known", "all"] = "known"
    """`known`: the source hands out what became known in a period. `all`: it always hands out the whole table; falaj
    compares it by the contract's key with what it holds, keeps new and changed rows, and stamps `known` with the load's time,
    whatever the source says there."""
    new_columns: Literal["drop", "allow", "hold", "deny"] = "drop"
    """What becomes of columns that the contract does not name: they are left out and told; taken in as they come; the load
    waits until the contract names them; the load is refused."""
    late: str = ""
    """How long after its known time a row may still come, such as `2d`: each load asks for so much again and takes in what did
    not come before, known from then on. Empty: what comes after the watermark has passed its known time is never read."""

    def __post_init__(self) -> None:
        length(self.every)
        one_of("brings", self.brings, ("known", "all"))
        one_of("new_columns", self.new_columns, ("drop", "allow", "hold", "deny"))
        _ = self.ref
        if self.late:
            length(self.late)
            if self.brings == "all" or isinstance(self.source, Derived):
                raise InvalidInput(
                    f"The dataset {self.name!r} cannot have rows that come late: its source is read as a whole, or is in falaj.",
                    "leave out `late`.",
                )

    @property
    def ref(self) -> Ref:
        return Ref("dataset", self.name)

    @property
    def brings_all(self) -> bool:
        """Whether its source always hands out everything, so that what is held has to be compared with it."""
        return self.brings == "all" or (isinstance(self.source, Derived) and self.source.over == "all")
