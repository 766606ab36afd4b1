"""What an endpoint's log may not hold is declared with the endpoint, and holds from the next release on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from falaj.core.errors import InvalidInput
from falaj.stages.rollouts.spec import Endpoint
from tests.unit.rollouts.test_service import ANNA, ENDPOINT, GOOD, NEW, Place


def test_a_mask_is_written_as_classes_or_by_name() -> None:
    assert Endpoint("delay", "delay", mask=("restricted", "PII")).masked == {"class:restricted": "hash", "class:PII": "hash"}
    assert Endpoint("delay", "delay", mask={"class:secret": "drop", "name": "hash"}).masked["name"] == "hash"
    assert Endpoint("delay", "delay").masked == {}


@pytest.mark.parametrize("mask", ["restricted", {"name": "burn"}, ("",), {"class:secret": "keep"}])
def test_a_mask_that_means_nothing_is_refused_where_it_is_declared(mask: Any) -> None:
    with pytest.raises(InvalidInput):
        Endpoint("delay", "delay", mask=mask)


def test_it_reaches_the_servers_with_the_next_release() -> None:
    place = Place()
    place.rollouts.deploy(ANNA, ENDPOINT, model=GOOD, reason="the first")
    assert place.host.wanted["delay"].mask == {}
    declared: Any = place.rollouts.place.declared
    declared["delay"] = replace(declared["delay"], mask=("restricted",))
    place.rollouts.start(ANNA, ENDPOINT, challenger=NEW)
    assert place.host.wanted["delay"].mask == {"class:restricted": "hash"}
