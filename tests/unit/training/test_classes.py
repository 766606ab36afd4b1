"""The classification of what a model reads comes from the contracts, through views and windows; what is unknown is left out."""

from __future__ import annotations

from collections.abc import Mapping

from falaj.core.errors import NotFound
from falaj.core.recipe import Column as Input
from falaj.core.recipe import Recipe
from falaj.stages.contracts.contract import Column, Contract
from falaj.stages.features.spec import View, WindowView
from falaj.stages.features.views import Aggregate
from falaj.stages.training.classes import classes_of

CONTRACTS: Mapping[str, Contract] = {
    "flights": Contract(
        "flights", "1", "ops", (Column("carrier", "string"), Column("passenger_id", "string", classification="restricted")),
        labels={"classification": "internal"},
    ),
    "visits": Contract("visits", "1", "ops", (Column("fee", "number", classification="confidential"),)),
}  # fmt: skip
VIEWS = {
    "last": View("last", "visits", "passenger_id", ("fee",), time="when"),
    "habits": WindowView(
        "habits", "visits", "passenger_id", "when", ("7d",), "1d", (Aggregate("paid", "sum", "fee"), Aggregate("n", "count"))
    ),
    "lost": View("lost", "nowhere", "passenger_id", ("thing",), time="when"),
}
RECIPE = Recipe(
    (
        Input("fee", "view", "last.fee"),
        Input("paid", "view", "habits.paid_7d"),
        Input("n", "view", "habits.n_7d"),
        Input("thing", "view", "lost.thing"),
        Input("carrier", "category", "carrier", {"values": ["AA"]}),
    ),
    {"last": "passenger_id", "habits": "passenger_id", "lost": "passenger_id"},
    {},
)


def contract_of(name: str) -> Contract:
    if name not in CONTRACTS:
        raise NotFound.named("dataset", name, CONTRACTS)
    return CONTRACTS[name]


def test_a_column_has_its_own_classification_or_its_datasets() -> None:
    assert classes_of(RECIPE, "flights", VIEWS, contract_of)["request"] == {"carrier": "internal", "passenger_id": "restricted"}


def test_a_feature_has_that_of_the_column_it_is_made_of() -> None:
    found = classes_of(RECIPE, "flights", VIEWS, contract_of)["views"]
    assert found == {"last.fee": "confidential", "habits.paid_7d": "confidential", "habits.n_7d": ""}


def test_without_a_spine_that_is_known_nothing_is_said_of_the_request() -> None:
    assert classes_of(RECIPE, "", VIEWS, contract_of)["request"] == {}
