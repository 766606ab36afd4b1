from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.ref import Ref
from falaj.stages.privacy.periods import ALWAYS, NEVER, TRIGGERS, Bound, Period
from falaj.stages.privacy.rules import Item, Limits, Waiver, disputes, effective, limits_by, limits_of, rule
from falaj.stages.privacy.terms import STATUSES, Term

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ("visits", "loans")
PERIODS = st.builds(Period, st.integers(0, 400), st.integers(0, 900)) | st.just(Period(is_forever=True))
BOUNDS = st.builds(Bound, PERIODS, st.sampled_from(TRIGGERS[:3]))
CEILINGS = st.builds(Bound, st.builds(Period, st.integers(0, 400), st.integers(0, 900)), st.sampled_from(TRIGGERS[:3]))
TERMS = st.builds(
    Term, st.sampled_from(NAMES), st.sampled_from(["a", "b", "c"]), st.none() | BOUNDS, st.none() | CEILINGS,
    st.sampled_from(STATUSES), st.just("law"),
)  # fmt: skip
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
TRIGGERED = st.dictionaries(st.sampled_from(TRIGGERS[:3]), st.none() | TIMES)
WAIVERS = st.builds(
    Waiver, st.sampled_from(["w1", "w2"]), st.sampled_from(NAMES), st.builds(Period, st.integers(0, 400), st.integers(0, 900)),
    TIMES, TIMES,
)  # fmt: skip


def item(**given_ones: object) -> Item:
    return replace(Item(Ref("dataset", "visits", "1"), frozenset(NAMES), {"created": NOW - timedelta(days=400)}), **given_ones)  # type: ignore[arg-type]


def term(floor: str = "", ceil: str = "", status: str = "enacted", since: str = "created") -> Term:
    from falaj.stages.privacy.periods import bound

    ends = (bound(text, since) if text else None for text in (floor, ceil))
    return Term("visits", "law", *ends, status, "law")


@given(st.lists(TERMS, max_size=6), TRIGGERED, st.randoms())
def test_the_strictest_of_all_does_not_depend_on_the_order(
    terms: list[Term], triggers: dict[str, datetime], chance: object
) -> None:
    mixed = list(terms)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = (limits_of(item(triggers=triggers), found, (), NOW) for found in (terms, mixed))
    assert one == other
    assert limits_of(item(triggers=triggers), [*terms, *mixed], (), NOW) == one


@given(st.lists(TERMS, min_size=3, max_size=3), TRIGGERED)
def test_it_is_commutative_and_associative(terms: list[Term], triggers: dict[str, datetime]) -> None:
    parts = [limits_by(each, triggers) for each in terms]
    wanted = functools.reduce(Limits.__or__, parts)
    for order in itertools.permutations(parts):
        assert (order[0] | order[1]) | order[2] == order[0] | (order[1] | order[2]) == wanted
    assert wanted | wanted == wanted == wanted | Limits()


@given(st.lists(TERMS, max_size=5), TERMS, TRIGGERED)
def test_another_pack_never_makes_anything_laxer(terms: list[Term], more: Term, triggers: dict[str, datetime]) -> None:
    before = limits_of(item(triggers=triggers), terms, (), NOW)
    after = limits_of(item(triggers=triggers), [*terms, more], (), NOW)
    assert after.floor >= before.floor
    assert after.ceiling <= before.ceiling


@given(st.lists(TERMS, max_size=5), TRIGGERED, st.lists(WAIVERS, max_size=3), TIMES)
def test_nothing_goes_before_an_enacted_floor_without_a_waiver_that_counts(
    terms: list[Term], triggers: dict[str, datetime], waivers: list[Waiver], now: datetime
) -> None:
    subject = item(triggers=triggers)
    ruling = rule(subject, limits_of(subject, terms, waivers, now), (), now)
    if not ruling.decision.allowed:
        return
    for each in terms:
        if each.floor is None or each.name not in subject.classes:
            continue
        start = triggers.get(each.floor.since)
        assert start is not None
        counting = [w for w in waivers if w.name == each.name and w.counts(now)]
        own = each.floor.period.after(start, is_floor=True)
        assert own <= now or (counting and not each.floor.period.is_forever)
        assert own <= now or max(w.floor.after(start, is_floor=True) for w in counting) <= now


@given(st.lists(TERMS, max_size=5), TRIGGERED, st.lists(WAIVERS, max_size=3), st.lists(st.just("hold/h"), min_size=1, max_size=2))
def test_a_hold_always_wins(terms: list[Term], triggers: dict[str, datetime], waivers: list[Waiver], holds: list[str]) -> None:
    subject = item(triggers=triggers)
    ruling = rule(subject, limits_of(subject, terms, waivers, NOW), holds, NOW)
    assert not ruling.decision.allowed
    assert ruling.state == "held"


@given(st.lists(TERMS, max_size=5), TRIGGERED)
def test_what_has_no_ceiling_that_has_come_is_never_due(terms: list[Term], triggers: dict[str, datetime]) -> None:
    subject = item(triggers=triggers)
    limits = limits_of(subject, terms, (), NOW)
    assert rule(subject, limits, (), NOW).decision.allowed == (limits.ceiling <= NOW and limits.floor <= NOW)


def test_a_trigger_that_has_not_happened_keeps_for_ever_and_never_falls_due() -> None:
    limits = limits_by(term("5y", "6y", since="relationship_end"), {})
    assert (limits.floor, limits.ceiling) == (NEVER, NEVER)
    assert str(next(iter(limits.floors))) == "waits for relationship_end by law:visits [enacted, law]"
    assert limits.conflicts == ()


def test_no_terms_at_all_keep_nothing_and_remove_nothing() -> None:
    limits = limits_of(item(classes=frozenset({"other"})), [term("5y", "1y")], (), NOW)
    assert (limits.floor, limits.ceiling) == (ALWAYS, NEVER)
    assert rule(item(), limits, (), NOW).state == "kept"


def test_a_ceiling_before_a_floor_is_a_conflict_that_is_told_and_the_floor_wins() -> None:
    subject = item()
    ruling = rule(subject, limits_of(subject, [term("5y"), term(ceil="1y", status="tenant")], (), NOW), (), NOW)
    assert (ruling.decision.verdict, ruling.state) == ("deny", "floor")
    [conflict] = ruling.limits.conflicts
    assert conflict.startswith("must be gone from 2026-04-27 by law:visits [tenant, law], and must be kept until 2030-04-27")
    assert ("info: conflict", None) in [(check.name, check.passed) for check in ruling.decision.checks]
    assert disputes([term("5y"), term(ceil="1y", status="tenant")], NOW)
    assert disputes([term("1y"), term(ceil="5y")], NOW) == ()


@pytest.mark.parametrize(
    ("since", "until", "is_waived"), [(-10, 10, True), (-10, 0, False), (0, 10, True), (1, 10, False), (-10, -1, False)]
)
def test_a_waiver_counts_only_within_its_time(since: int, until: int, is_waived: bool) -> None:
    days = timedelta(days=1)
    waiver = Waiver("w", "visits", Period(12), NOW + since * days, NOW + until * days)
    subject = item()
    ruling = rule(subject, limits_of(subject, [term("5y", "1y")], [waiver], NOW), (), NOW)
    assert ruling.decision.allowed == is_waived


def test_a_waiver_lowers_and_never_raises_and_touches_no_other_class() -> None:
    longer = Waiver("w", "visits", Period(600), ALWAYS, NEVER)
    other = Waiver("w", "loans", Period(), ALWAYS, NEVER)
    for waiver in (longer, other):
        assert limits_of(item(), [term("5y")], [waiver], NOW) == limits_of(item(), [term("5y")], (), NOW)


def test_what_is_kept_for_ever_is_not_waived() -> None:
    waiver = Waiver("w", "visits", Period(), ALWAYS, NEVER)
    assert limits_of(item(), [term("forever")], [waiver], NOW).floor == NEVER


def test_what_something_kept_needs_stays() -> None:
    subject = item(used_by=("model/delay@7",))
    ruling = rule(subject, limits_of(subject, [term(ceil="1y")], (), NOW), (), NOW)
    assert (ruling.decision.verdict, ruling.state) == ("deny", "in use")


def test_the_table_names_the_term_that_counts() -> None:
    rows = effective([term("5y"), replace(term("7y", "9y"), pack="other")], NOW)
    assert [(row["pack"], row["counts"]) for row in rows] == [("law", "no: another is stricter"), ("other", "floor and ceiling")]
