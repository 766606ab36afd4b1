"""Which records of holds, erasures, removals and transfers concern a version, and which do not."""

from __future__ import annotations

from typing import Any

import pytest

from falaj.core.ref import Ref
from falaj.stages.governance.evidence.legal import LEGAL, is_about

ABOUT = Ref("model", "delay", "2"), ("dataset/trips@3", "dataset/zones@1")
ERASURE: dict[str, Any] = {"models": [], "refs": []}


@pytest.mark.parametrize(
    ("kind", "key", "body", "wanted"),
    [
        ("hold", "c", {"scope": "all"}, True),
        ("hold", "c", {"scope": "dataset/trips"}, True),
        ("hold", "c", {"scope": "dataset/trips@1"}, True),
        ("hold", "c", {"scope": "dataset/trip"}, False),
        ("hold", "c", {"scope": "model/delay"}, True),
        ("hold", "c", {"scope": "subject/" + "a" * 64}, False),
        ("erasure", "r", {**ERASURE, "models": ["model/delay@2"]}, True),
        ("erasure", "r", {**ERASURE, "models": ["model/delay@1"]}, False),
        ("erasure", "r", {**ERASURE, "refs": ["dataset/zones"]}, True),
        ("erasure", "r", {**ERASURE, "refs": ["dataset/other", "view/zones"]}, False),
        ("expired", "dataset/trips@3", {}, True),
        ("expired", "dataset/trips@2", {}, False),
        ("expired", "model/delay@2", {}, True),
        ("transfer", "t", {"datasets": ["trips"]}, True),
        ("transfer", "t", {"datasets": ["dataset/trips"]}, True),
        ("transfer", "t", {"datasets": ["visits"]}, False),
        ("affected", "delay@2", {}, True),
        ("affected", "delay@1", {}, False),
        ("standing", "delay@2", {}, True),
        ("standing", "delay@20", {}, False),
        ("consent", "delay@2", {}, False),
    ],
)
def test_a_record_concerns_the_version_or_the_data_behind_it_or_not(kind: str, key: str, body: Any, wanted: bool) -> None:
    assert is_about(kind, key, body, ABOUT) is wanted


def test_every_kind_that_is_listed_can_concern_a_version() -> None:
    whole = {"scope": "all", "models": ["model/delay@2"], "refs": [], "datasets": ["trips"]}
    keys = {"expired": "model/delay@2"}
    assert all(is_about(kind, keys.get(kind, "delay@2"), whole, ABOUT) for kind in LEGAL)
