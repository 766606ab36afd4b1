"""Any online store, so that features of people lie in it under tokens and sealed, and are gone with their person's key."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence

from falaj.core.entity import split_key
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.stored import LONGEST_TEXT, packed, time_of, unpack
from falaj.ports.online import LONGEST_MARK, Online, Row, Stored
from falaj.ports.vault import Vault

Place = tuple[int, int]
"""Which part of an entity's key names the person, of how many: (0, 1) where the entity is the person."""
_MARK = "sealed 1 "
"""Before the mark of a view whose rows are sealed: so it shows where a view was filled before it was about people."""
_GONE = ""
_PIECE = LONGEST_TEXT // 4 * 4


class SealedOnline:
    """capabilities: those of `inner`. Every other view goes through as it is.

    A row's key is its person's token (with a token of the whole entity behind it where that has several parts), its value the
    sealed row. Its time stays in clear: newer rows replace older ones by it. Rows of erased people are not put.
    """

    def __init__(
        self,
        inner: Online,
        whose: Callable[[str], Place | None],
        vaults: Callable[[], Vault],
        *,
        without: Callable[[str], bool] | None = None,
    ) -> None:
        """`whose(view)`: where the view's entity names a person; None where it does not, and of a view that nobody knows.
        `without(token)`: whose rows are read as if there were none."""
        self.inner = inner
        self.whose = whose
        self.vaults = vaults
        self.without = without
        self.capabilities: frozenset[str] = inner.capabilities

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        place = self.whose(view)
        if place is None:
            return self.inner.put(view, rows, mark)
        if mark is not None and len(mark) > LONGEST_MARK - len(_MARK):
            raise InvalidInput(f"A mark of {len(mark):,} characters is too long.", f"{LONGEST_MARK - len(_MARK):,} are the most.")
        before = self.inner.mark(view)
        if before is not None and not before.startswith(_MARK):
            self.inner.clear(view)  # filled before its dataset named a subject: everything in it lies in clear
        vault, whole = self.vaults(), {entity: packed(row) for entity, row in rows.items()}
        tokens = {entity: _token(vault, entity, place) for entity in whole}
        gone = vault.erased()
        kept = [entity for entity in whole if tokens[entity] not in gone]
        texts = vault.seal([tokens[entity] for entity in kept], [whole[entity] for entity in kept], _about(view))
        sealed = {
            _key(vault, entity, tokens[entity], place): Stored(time_of(whole[entity]), _texts(text))
            for entity, text in zip(kept, texts, strict=True)
        }
        return self.inner.put(view, sealed, None if mark is None else _MARK + mark)

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        places = {view: place for view in {view for view, _ in keys} if (place := self.whose(view)) is not None}
        if not places:
            return self.inner.get(keys)
        vault = self.vaults()
        tokens = [_token(vault, entity, places[view]) if view in places else "" for view, entity in keys]
        asked = [
            (view, _key(vault, entity, token, places[view]) if token else entity)
            for (view, entity), token in zip(keys, tokens, strict=True)
        ]
        found = self.inner.get(asked)
        for at, ((view, _), token) in enumerate(zip(keys, tokens, strict=True)):
            row = found[at]
            if token and row is not None:
                is_out = self.without is not None and self.without(token)
                found[at] = None if is_out else _opened(vault, token, row, _about(view))
        return found

    def freshness(self, view: str) -> int | None:
        return self.inner.freshness(view)

    def mark(self, view: str) -> str | None:
        """None too where the view was filled before it was about people, or while it was: it is filled anew."""
        found = self.inner.mark(view)
        if found is None or found.startswith(_MARK) != (self.whose(view) is not None):
            return None
        return found.removeprefix(_MARK)

    def count(self, view: str) -> int:
        return self.inner.count(view)

    def clear(self, view: str) -> None:
        self.inner.clear(view)

    def close(self) -> None:
        self.inner.close()

    def held(self, view: str, entity: str) -> tuple[Stored | None, bool]:
        """The row as it lies in the store, if there is one, and whether that is in clear, under the entity itself."""
        place = self.whose(view)
        if place is not None:
            vault = self.vaults()
            row = self.inner.get([(view, _key(vault, entity, _token(vault, entity, place), place))])[0]
            if row is not None:
                return (None if row.values == (_GONE,) else row), False
        return self.inner.get([(view, entity)])[0], True

    def remove(self, view: str, entities: Iterable[str]) -> int:
        """Takes the sealed rows' content away; what stays is a token and a time. How many rows that were."""
        place, vault = self.whose(view), self.vaults()
        if place is None:
            return 0
        keys = [_key(vault, entity, _token(vault, entity, place), place) for entity in entities]
        there = {
            key: Stored(row.at_ms, (_GONE,))
            for key, row in zip(keys, self.inner.get([(view, key) for key in keys]), strict=True)
            if row is not None and row.values != (_GONE,)
        }
        return self.inner.put(view, there) if there else 0


def _about(view: str) -> bytes:
    return b"online|" + view.encode("utf-8", "surrogatepass")


def _token(vault: Vault, entity: str, place: Place) -> str:
    at, parts = place
    if parts == 1:
        return vault.token(entity)
    found = split_key(entity)
    return vault.token(found[at] if len(found) == parts else entity)


def _key(vault: Vault, entity: str, token: str, place: Place) -> str:
    return token if place[1] == 1 else f"{token}{vault.token(entity)}"


def _texts(sealed: bytes) -> tuple[str, ...]:
    """As the values of a row: a text has a length that a store bounds, hence several of them."""
    text = b64encode(sealed).decode()
    return tuple(text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _opened(vault: Vault, token: str, row: Stored, about: bytes) -> Stored | None:
    if row.values == (_GONE,):
        return None
    try:
        sealed = b64decode("".join(row.values), validate=True)  # type: ignore[arg-type]  # what is no text raises
    except (ValueError, TypeError) as exc:
        hint = "clear the view; it fills again."
        raise Conflict("The online store holds a row that is not sealed as it should be.", hint) from exc
    (plain,) = vault.open([token], [sealed], about)
    return None if plain is None else unpack(plain)
