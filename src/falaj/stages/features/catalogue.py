"""The catalogue: every entity, view and feature with what is said and known about it, and a search through it."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from falaj.core.moments import from_millis, length, short
from falaj.core.recipe import Recipe
from falaj.stages.features.entity import Entity, key_columns
from falaj.stages.features.views import Aggregate, AnyView, WindowView

_WORD = re.compile(r"\d+[a-z]*|[a-z]+")
_LENGTH = re.compile(r"(\d+)(s|m|min|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_OPS = {
    "mean": "mean of {}",
    "sum": "sum of {}",
    "share": "share of events with {}",
    "min": "smallest {}",
    "max": "greatest {}",
    "std": "standard deviation of {}",
    "last": "last {}",
    "distinct": "number of different {}",
}
WEIGHTS = {"name": 4.0, "view": 1.0, "description": 1.5, "tags": 2.0, "about": 1.0}
"""How much a word counts by where it stands."""
_K1, _B = 1.2, 0.75
"""The usual constants of BM25 (Robertson and Zaragoza, 2009)."""
_NEAR = 0.75
"""How alike two words must be, by difflib, to be taken for one with a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One feature, or a view or entity as a whole (`feature` or `view` empty)."""

    kind: str
    """entity, view or feature."""
    name: str
    """`view.feature`, or the name of the view or entity."""
    description: str
    owner: str
    tags: tuple[str, ...] = ()
    version: int | None = None
    type: str = ""
    entity: str = ""
    dataset: str = ""
    columns: tuple[str, ...] = ()
    """What it is made of: the dataset's columns."""
    ttl: str = ""
    newest: datetime | None = None
    """The time of the newest row in the online store."""
    models: tuple[str, ...] = ()
    """The models whose recipes read it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the declarations."""

    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """dataset → column → its logical type in the contract."""
    newest: Mapping[str, int | None] = field(default_factory=dict)
    """view → the newest time in the online store, in milliseconds."""
    models: Sequence[tuple[str, Recipe]] = ()


def entries(views: Iterable[AnyView], known: Known) -> list[Entry]:
    """Entities, views and features, each sorted by name."""
    declared = sorted(views, key=lambda view: view.name)
    used = _uses(known.models)
    features = [_feature(view, name, known, used) for view in declared for name in view.places]
    return [*_entities(declared), *(_view(view, known, used) for view in declared), *features]


def search(entries: Sequence[Entry], words: str, most: int = 20) -> list[tuple[float, Entry]]:
    """The entries that fit the words best, with their scores: BM25 over names, descriptions, tags and the rest.

    A word with a slip of the pen, or the beginning of one, counts for less. An entry that has none of the words is left
    out; equal ones stay in their order.
    """
    documents = [_words_of(entry) for entry in entries]
    asked = [word for word in dict.fromkeys(_tokens(words)) if word not in _EMPTY] or list(dict.fromkeys(_tokens(words)))
    vocabulary = {word for document in documents for word in document}
    near = {word: _alike(word, vocabulary) for word in asked}
    mean = sum(sum(document.values()) for document in documents) / max(len(documents), 1)
    scored = []
    for entry, document in zip(entries, documents, strict=True):
        size = sum(document.values())
        score = 0.0
        for forms in near.values():
            weight = max((likeness * document[word] for word, likeness in forms.items() if word in document), default=0.0)
            having = sum(1 for other in documents if any(word in other for word in forms))
            rarity = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            score += rarity * weight * (_K1 + 1) / (weight + _K1 * (1 - _B + _B * size / mean)) if weight else 0.0
        if score > 0:
            scored.append((round(score, 6), entry))
    return sorted(scored, key=lambda found: -found[0])[:most]


def describe(aggregate: Aggregate, window: str) -> str:
    """A window feature in words: `mean of arr_delay over the last 3 hours`."""
    if aggregate.op == "count":
        what = "number of events" + (f" with {_column(aggregate.column)}" if aggregate.column else "")
        what += f" {aggregate.where[0]} {aggregate.where[1]:g}" if aggregate.where else ""
    else:
        what = _OPS[aggregate.op].format(_column(aggregate.column))
    return f"{what} over the last {_spoken(window)}"


def _entities(views: Sequence[AnyView]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for view in views:
        entity = view.entity
        name = entity.name if isinstance(entity, Entity) else str(entity)
        if name not in found or (isinstance(entity, Entity) and not found[name].description):
            said = (entity.description, entity.owner, entity.kind) if isinstance(entity, Entity) else ("", "", "")
            found[name] = Entry("entity", name, said[0], said[1], type=said[2], columns=key_columns(entity))
    return [found[name] for name in sorted(found)]


def _view(view: AnyView, known: Known, used: Mapping[str, set[str]]) -> Entry:
    models = set().union(*(used.get(f"{view.name}.{name}", set()) for name in view.places))
    what = "window view" if isinstance(view, WindowView) else "view"
    return Entry(
        "view", view.name, view.description, view.owner, view.tags, view.version, what, str(view.entity), view.dataset,
        (view.time,), _ttl(view), _newest(view, known), tuple(sorted(models)),
    )  # fmt: skip


def _feature(view: AnyView, name: str, known: Known, used: Mapping[str, set[str]]) -> Entry:
    columns: tuple[str, ...] = (name,)
    description, kind = _said(view, name), known.types.get(view.dataset, {}).get(name, "")
    if isinstance(view, WindowView):
        aggregate, window = _made_of(view, name)
        columns, kind = (() if aggregate.column is None else (aggregate.column,)), "number"
        description = "; ".join(filter(None, (description, describe(aggregate, window))))
    return Entry(
        "feature", f"{view.name}.{name}", description, view.owner, view.tags, view.version, kind, str(view.entity),
        view.dataset, columns, _ttl(view), _newest(view, known), tuple(sorted(used.get(f"{view.name}.{name}", ()))),
    )  # fmt: skip


def _made_of(view: WindowView, name: str) -> tuple[Aggregate, str]:
    pairs = {f"{aggregate.name}_{window}": (aggregate, window) for window in view.windows for aggregate in view.aggregates}
    return pairs[name]


def _said(view: AnyView, name: str) -> str:
    if name in view.descriptions or not isinstance(view, WindowView):
        return view.descriptions.get(name, "")
    return view.descriptions.get(_made_of(view, name)[0].name, "")


def _uses(models: Iterable[tuple[str, Recipe]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for model, recipe in models:
        for column in recipe.columns:
            for operand in column.operands:
                if operand.kind == "view":
                    found.setdefault(operand.name, set()).add(model)
    return found


def _newest(view: AnyView, known: Known) -> datetime | None:
    at = known.newest.get(view.name)
    return None if at is None else from_millis(at)


def _ttl(view: AnyView) -> str:
    return "" if view.ttl is None else short(length(view.ttl))


def _column(name: str | None) -> str:
    return str(name)


def _spoken(window: str) -> str:
    """`24h` as 24 hours."""
    span = _LENGTH.fullmatch(window)
    if span is None:
        return window
    unit = _UNITS[span[2]]
    return f"{span[1]} {unit[:-1] if span[1] == '1' else unit}"


def _words_of(entry: Entry) -> Counter[str]:
    """The entry's words, each as heavy as where it stands."""
    found: Counter[str] = Counter()
    about = " ".join((entry.kind, entry.type, entry.entity, entry.dataset, entry.owner, *entry.columns))
    view, _, own = entry.name.rpartition(".")
    for place, text in (
        ("name", own),
        ("view", view),
        ("description", entry.description),
        ("tags", " ".join(entry.tags)),
        ("about", about),
    ):
        for word in _tokens(text):
            found[word] += WEIGHTS[place]  # type: ignore[assignment]  # a Counter of weights
    return found


def _tokens(text: str) -> list[str]:
    """Lower-case words without a plural's s; `3h` is also 3 and hour."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        span = _LENGTH.fullmatch(word)
        found += [_singular(word)] if span is None else [word, span[1], _singular(_UNITS[span[2]])]
    return found


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _alike(word: str, vocabulary: set[str]) -> dict[str, float]:
    """The words that may be meant, and how sure that is: itself, what it is the beginning of, what is spelled alike."""
    if word in vocabulary:
        return {word: 1.0}
    found = {other: 0.8 for other in vocabulary if len(word) > 2 and other.startswith(word)}
    if not found and not word.isdigit():
        for other in difflib.get_close_matches(word, sorted(vocabulary), n=3, cutoff=_NEAR):
            found[other] = 0.7 * difflib.SequenceMatcher(None, word, other).ratio()
    return found


_EMPTY = frozenset({"the", "of", "over", "in", "a", "an", "and", "by", "for", "with", "to"})
