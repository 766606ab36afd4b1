"""A prediction whose request or unit the log was not to hold: a trace says masked, and never that anything differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from falaj.core.moments import iso
from tests.unit.governance.test_trace import AT, HOUR, World, build


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = build(tmp_path)
    yield made
    made.ledger.close()


def traced(world: World, masked: Mapping[str, Any], *more: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """Check → (passed, what was seen), and the verdict."""
    (world.segments / "000000.seal").unlink()
    first = world.predict(0)
    world.log([first | {"masked": masked} | changed, *more], sealed=False)
    found = world.trace()
    checks = {f"{hop.title}: {check.name}": (check.passed, check.seen) for hop in found.hops for check in hop.checks}
    facts = {name: value for hop in found.hops for name, value in hop.facts.items()}
    return {"checks": checks, "facts": facts}


def test_a_masked_feature_is_no_difference(world: World) -> None:
    values = world.predict(0)["features"]
    name = next(iter(world.trace().hops[4].facts["features"]))
    found = traced(world, {"request": [], "features": [name]}, features=[None, *values[1:]])
    assert found["checks"]["snapshots and features: features"] == (True, f"{len(values) - 1} of {len(values)} equal, 1 masked")


def test_a_masked_request_cannot_be_recomputed_and_is_not_called_wrong(world: World) -> None:
    request = world.predict(0)["request"]
    field = next(name for name in request if name not in ("at", "id"))
    found = traced(world, {"request": ["id", field], "features": []}, request={**request, "id": "h:0", field: "h:1"}, unit="h:0")
    assert found["checks"]["snapshots and features: features"] == (
        None,
        f"masked: the log does not hold {', '.join(sorted(['id', field]))}",
    )
    assert found["checks"]["source rows and contract: row"] == (None, "masked: the log does not hold id")


def test_a_label_of_the_unit_is_shown_and_a_withdrawn_one_said(world: World) -> None:
    unit = world.predict(0)["unit"]
    label = {"kind": "label", "unit": unit, "at": iso(AT + HOUR), "wrote": iso(AT + HOUR), "label": 1}
    facts = traced(world, {}, label)["facts"]
    assert (facts["label"], facts["label_of"], facts["label_known_at"]) == (1, "its unit", iso(AT + HOUR))
    world.log([world.predict(0), label, {**label, "at": iso(AT + 2 * HOUR), "label": None}], sealed=False)
    assert world.trace().hops[0].facts["label"] == "withdrawn"
