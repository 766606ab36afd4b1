"""What the packs in force ask of models and of the kill switch, and what holds where they are silent or at odds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.packs import load, read_pack
from falaj.packs.pack import Pack
from falaj.stages.registry.demands import BUILT_IN, WINDOWS, demands_of

DAY = timedelta(days=1)


def pack(name: str, *values: str) -> Pack:
    head = f'[pack]\nid = "{name}"\nversion = "1"\ntitle = "x"\nstatus = "assumed"\n'
    return read_pack(head + "".join(f"[[value]]\n{value}\n" for value in values), name=name)


def value(path: str, said: str, kind: str = "ceiling", status: str = "assumed", **more: str) -> str:
    lines = [f'path = "{path}"', f'kind = "{kind}"', f"value = {said}", f'status = "{status}"']
    return "\n".join([*lines, *(f'{name} = "{text}"' for name, text in more.items())])


def test_without_packs_falajs_own_figures_hold_and_are_assumed() -> None:
    found = demands_of(())
    assert {window.status for kinds in found.windows.values() for window in kinds.values()} == {"assumed"}
    assert (found.slo.status, found.drill.status) == ("assumed", "assumed")
    assert {tier: {kind: w.span for kind, w in kinds.items()} for tier, kinds in found.windows.items()} == {
        tier: {kind: w.span for kind, w in kinds.items()} for tier, kinds in WINDOWS.items()
    }
    assert (found.slo.span, found.drill.span) == (BUILT_IN.slo.span, BUILT_IN.drill.span)


def test_the_packs_that_ship_are_read_with_their_status_and_instrument() -> None:
    found = demands_of(load("ae-baseline,cbuae-bank"))
    assert found.windows["tier1"]["validation"].span == 360 * DAY, "a month counts 30 days"
    bias = found.windows["tier2"]["bias"]
    assert (bias.span, bias.status, bias.blocks) == (365 * DAY, "assumed", True), "as sure as the least sure of the two"
    assert found.drill.span == 31 * DAY
    assert "pack ae-baseline" in found.drill.told
    alone = demands_of(load("cbuae-bank")).windows["tier2"]["bias"]
    assert (alone.status, alone.instrument) == ("guidance", "CBUAE Guidance Note on AI and ML (2026) 3(c)")


def test_the_strictest_of_two_packs_holds() -> None:
    one = pack("one", value("kill_switch.slo.ceiling", '"9s"'), value("kill_switch.drill.ceiling", '"7d"'))
    two = pack("two", value("kill_switch.slo.ceiling", '"2s"', status="unverified", instrument="Rule 7"))
    found = demands_of((one, two))
    assert (found.slo.span, found.slo.status, found.slo.instrument) == (timedelta(seconds=2), "unverified", "Rule 7")
    assert found.drill.span == 7 * DAY
    assert found.conflicts == ()


def test_what_cannot_both_be_kept_is_a_conflict_and_falajs_own_figure_holds() -> None:
    one = pack("one", value("kill_switch.drill.ceiling", '"7d"'))
    two = pack("two", value("kill_switch.drill.ceiling", '"90d"', kind="floor"))
    found = demands_of((one, two))
    assert (found.drill.span, found.drill.status) == (31 * DAY, "assumed")
    assert [conflict.path for conflict in found.conflicts] == ["kill_switch.drill.ceiling"]


@pytest.mark.parametrize("said", ['"forever"', "12", '"0s"', '"900000y"'])
def test_a_ceiling_that_bounds_nothing_is_as_good_as_none(said: str) -> None:
    found = demands_of((pack("one", value("model_gates.bias_test.ceiling", said)),))
    assert (found.windows["tier1"]["bias"].span, found.windows["tier1"]["bias"].status) == (365 * DAY, "assumed")


@given(st.lists(st.integers(1, 400), min_size=1, max_size=4))
def test_more_packs_never_make_it_looser(days: list[int]) -> None:
    packs = [pack(f"p{n}", value("model_gates.tier1.validation.ceiling", f'"{one}d"')) for n, one in enumerate(days)]
    spans = [demands_of(packs[:count]).windows["tier1"]["validation"].span for count in range(1, len(packs) + 1)]
    assert spans == sorted(spans, reverse=True)
