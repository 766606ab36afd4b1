"""One revision, worked out once: the arm of every call, and who may ask for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from falaj.adapters.local.signing import checker
from falaj.core.actor import Actor
from falaj.core.errors import Denied, InvalidInput, NotFound
from falaj.inference.calls import Caller
from falaj.inference.held import Held, held_of
from falaj.inference.models import Models
from falaj.ports.host import Arm
from tests.kits.endpoint import Installation

OPS, APP = Actor("ops", "service", ("operator",)), Actor("app", "service", ("caller",))


def held(folder: Path, *arms: tuple[int, str, float]) -> Held:
    place = Installation(folder)
    made: list[Arm] = [place.arm(version, role, share) for version, role, share in arms]
    return held_of(Models(place.blobs, checker(place.signer.public_key)).open(place.wanted(*made)))


def caller(actor: Actor = APP, arm: str = "") -> Caller:
    return Caller(actor, "", arm, 0.0)


def test_a_call_gets_its_units_arm_and_no_side_arm(tmp_path: Path) -> None:
    found = held(tmp_path, (1, "champion", 0.5), (2, "variant-b", 0.5), (3, "standby", 0.0), (4, "shadow", 1.0))
    seen = {found.arm(f"u{n}", caller(), None)[0].role for n in range(200)}
    assert seen == {"champion", "variant-b"}
    assert found.shadow is not None
    assert found.shadow.version == "4"


def test_a_version_in_the_path_is_forced_unless_it_is_the_units_own(tmp_path: Path) -> None:
    found = held(tmp_path, (1, "champion", 1.0), (2, "standby", 0.0))
    assert found.arm("u", caller(), "1") == (found.serving.arms[0], False)
    assert found.arm("u", caller(OPS), "2") == (found.serving.arms[1], True)
    with pytest.raises(Denied):
        found.arm("u", caller(), "2")
    with pytest.raises(NotFound, match="9"):
        found.arm("u", caller(OPS), "9")


def test_an_arm_that_is_asked_for_is_forced_also_where_the_unit_has_it_anyway(tmp_path: Path) -> None:
    found = held(tmp_path, (1, "champion", 1.0))
    assert found.arm("u", caller(OPS, "champion"), None) == (found.serving.arms[0], True)


def test_arms_without_a_champion_are_not_held(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="champions"):
        held(tmp_path, (1, "challenger", 1.0))
