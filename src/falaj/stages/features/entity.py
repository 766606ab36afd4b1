"""Entity: what features are about, declared once and named by every view of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from falaj.core.errors import InvalidInput

KINDS = ("string", "integer")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")


class Entity(str):
    """The column that holds an entity's key, and what is said about it. It is that column's name, with more to it.

    `key`: the column, where that is not named like the entity. `keys`: several columns that make one key together, in
    order; views then have a column of the entity's name, with texts such as `JFK|UA` (falaj.core.entity). `kind`: what
    a single key column holds, `string` or `integer`, and another is refused; several may be of either. Raises InvalidInput.
    """

    __slots__ = ("description", "keys", "kind", "name", "owner")
    name: str
    keys: tuple[str, ...]
    kind: str
    description: str
    owner: str

    def __new__(
        cls, name: str, key: str = "", *, keys: Sequence[str] = (), kind: str = "string", description: str = "", owner: str = ""
    ) -> Self:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"The entity name {name!r} is not allowed.", "use lower-case letters, digits and '_', a letter first."
            )
        if kind not in KINDS:
            raise InvalidInput(f"The entity {name!r} has the unknown kind {kind!r}.", f"there is: {', '.join(KINDS)}.")
        if isinstance(keys, str) or (key and keys):
            raise InvalidInput(
                f"The entity {name!r} has either one `key` or several `keys`.", f"write keys=({key or keys!r}, …)."
            )
        columns = tuple(keys) or (key or name,)
        if len(set(columns)) != len(columns) or not all(columns):
            raise InvalidInput(f"The entity {name!r} names a key column twice, or none.", f"it has: {', '.join(columns)}.")
        if len(columns) > 1 and name in columns:
            raise InvalidInput(f"The entity {name!r} is named like one of its key columns.", "give it a name of its own.")
        made = super().__new__(cls, columns[0] if len(columns) == 1 else name)
        made.name, made.keys, made.kind, made.description, made.owner = name, columns, kind, description, owner
        return made

    def __repr__(self) -> str:
        return f"Entity({self.name!r}, keys={self.keys!r}, kind={self.kind!r})"


def key_columns(entity: str) -> tuple[str, ...]:
    """The columns of a dataset that make the entity's key, in order."""
    return entity.keys if isinstance(entity, Entity) else (entity,)


def kind_of(entity: str) -> str | None:
    """What the key column must hold; None for a column that was only named, and for several."""
    return entity.kind if isinstance(entity, Entity) and len(entity.keys) == 1 else None
