"""Entity keys as columns: the rows of a dataset, or the requests of a spine, with each view's key as one text."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import polars as pl

from falaj.core.entity import ESCAPE, SEPARATOR
from falaj.core.errors import InvalidInput
from falaj.core.recipe import Recipe
from falaj.stages.features.data import Contracts
from falaj.stages.features.entity import key_columns, kind_of
from falaj.stages.features.spec import AnyView

Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def with_entity(rows: Table, view: AnyView) -> Table:
    """The rows with the entity's key as text in the column `view.entity`; null where any part of it is.

    Raises InvalidInput where a key column is missing or of a type that no request could match.
    """
    columns, wanted = key_columns(view.entity), kind_of(view.entity)
    schema = rows.collect_schema()
    for name in columns:
        kind = schema.get(name)
        if kind is None:
            raise InvalidInput(f"The view {view.name!r} reads the column {name!r}, which {view.dataset!r} does not have.")
        if wanted == "integer" and not (kind.is_integer() or kind == pl.Null):
            raise InvalidInput(
                f"The key column {name!r} of the view {view.name!r} must hold whole numbers, it holds {kind}.",
                'cast it, or declare the entity with kind="string".',
            )
        if wanted == "string" and kind not in (*_TEXTS, pl.Null):
            raise InvalidInput(
                f"The key column {name!r} of the view {view.name!r} must hold texts, it holds {kind}.",
                'cast it, or declare the entity with kind="integer".',
            )
        if not (kind in (*_TEXTS, pl.Boolean, pl.Null) or kind.is_integer()):
            raise InvalidInput(
                f"The key column {name!r} of the view {view.name!r} holds {kind}, which no request can name exactly.",
                "cast it to a whole number or a text.",
            )
    if len(columns) == 1:
        return rows if schema[columns[0]] == pl.String else rows.with_columns(pl.col(columns[0]).cast(pl.String))
    if view.entity in schema:
        raise InvalidInput(
            f"The dataset {view.dataset!r} has a column {str(view.entity)!r}, as the entity of the view {view.name!r} is named.",
            "give the entity another name.",
        )
    return rows.with_columns(joined(columns).alias(view.entity))


def known_after(contracts: Contracts, view: AnyView, covered: datetime | None, until: datetime) -> pl.Series:
    """The entity of each row that became known after the snapshots, and until then."""
    if covered is not None and covered >= until:
        return pl.Series(view.entity, [], dtype=pl.String)
    return with_entity(contracts.recent(view.dataset, covered, until), view)[view.entity]


def joined(columns: tuple[str, ...]) -> pl.Expr:
    """The key of several columns, as falaj.core.entity.joined_key writes it."""
    return pl.concat_str(
        [
            pl.col(name)
            .cast(pl.String)
            .str.replace_all(ESCAPE, ESCAPE * 2, literal=True)
            .str.replace_all(SEPARATOR, ESCAPE + SEPARATOR, literal=True)
            for name in columns
        ],
        separator=SEPARATOR,
    )


def keyed_spine(recipe: Recipe, spine: pl.DataFrame) -> tuple[Recipe, pl.DataFrame]:
    """The spine with each key of several fields as one column, and the recipe that reads it from there."""
    several = {view: tuple(fields) for view, fields in recipe.views.items() if not isinstance(fields, str)}
    if not several or any(name not in spine.columns for fields in several.values() for name in fields):
        return recipe, spine
    made = spine.with_columns(joined(fields).alias(f"__key_{view}") for view, fields in several.items())
    return replace(recipe, views={**recipe.views, **{view: f"__key_{view}" for view in several}}), made


def key_column(recipe: Recipe, view: str) -> str:
    """The spine's column with the view's key, once `keyed_spine` has made one column of several."""
    entity = recipe.views[view]
    assert isinstance(entity, str)
    return entity
