"""Packs: what each says, how sure that is, and what holds where several do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.adapters.cedar.policies import BASE, Source, build
from falaj.adapters.cedar.policy import CedarPolicy
from falaj.adapters.local.policy import GROUPS, ROLES
from falaj.core.errors import InvalidInput, NotFound
from falaj.packs import Pack, known, load, read_pack, strictest
from falaj.packs.pack import FOREVER, size_of
from tests.kits.policies import EVERYBODY

IDS = ["adgm", "ae-baseline", "cbuae-bank", "difc", "health-ae"]
HEAD = '[pack]\nid = "x"\nversion = "1"\ntitle = "t"\nstatus = "assumed"\n'


def pack(name: str, *values: tuple[str, str, Any]) -> Pack:
    text = HEAD.replace('id = "x"', f'id = "{name}"')
    for path, kind, value in values:
        shown = (
            repr(list(value))
            if isinstance(value, (list, tuple))
            else str(value).lower()
            if isinstance(value, bool)
            else repr(value)
        )
        text += f'[[value]]\npath = "{path}"\nkind = "{kind}"\nvalue = {shown}\nstatus = "assumed"\n'
    return read_pack(text, "", name)


def test_these_are_the_packs_that_falaj_brings() -> None:
    assert known() == IDS


@pytest.mark.parametrize("name", IDS)
def test_a_pack_says_of_each_value_where_it_stands(name: str) -> None:
    (one,) = load(name)
    assert one.id == name
    assert one.counsel_signoff is None, "nobody's counsel has signed any of them"
    assert one.values()
    for value in one.values():
        assert value.pack == name
        assert value.status != "enacted" or (value.instrument and value.article), value.path


@pytest.mark.parametrize("name", IDS)
def test_the_policies_of_a_pack_fit_the_schema_one_by_one(name: str) -> None:
    """As strictly as a project's own: no attribute that may be missing is read without `has`."""
    (one,) = load(name)
    found = build(EVERYBODY, GROUPS, [Source(name, one.policies, own=True)])
    own = [each for each in found.statements.values() if each.place.startswith(f"{name}:")]
    assert own
    assert {each.effect for each in own} == {"forbid"}, "a pack permits nothing: it is the roles and the project that do"
    assert all(each.reason and each.note("instrument") for each in own)
    build(EVERYBODY, GROUPS, [Source("base", BASE.read_text().replace('@id("R-', '@id("again-'), own=True)])


def test_the_packs_together_have_no_id_twice() -> None:
    packs = load(IDS)
    CedarPolicy(roles=ROLES, groups=GROUPS, sources=[Source(one.id, one.policies) for one in packs])


@pytest.mark.parametrize("name", IDS)
def test_the_zones_and_classes_of_the_policies_are_those_of_the_values(name: str) -> None:
    """Two places that say the same thing, held together here."""
    (one,) = load(name)
    allowed = {zone for value in one.values("residency") if value.path.endswith(".zones") for zone in value.value}
    zones = {"uae-onshore", "difc", "adgm", "dhcc"}
    assert set(re.findall(r'"([a-z\-]+)"', one.policies)) & zones == allowed & zones
    if name == "ae-baseline":
        unknown = re.search(r"\[([^\]]*)\]\.containsAll", one.policies)
        assert unknown
        assert set(re.findall(r'"([a-z\-]+)"', unknown[1])) == set(one.value("classes").value)


def test_packs_are_named_in_a_text_or_a_list_and_an_unknown_one_is_told() -> None:
    assert [one.id for one in load(" ae-baseline, difc ,difc,")] == ["ae-baseline", "difc"]
    assert load("") == load([]) == ()
    with pytest.raises(NotFound, match="'ae-basline'") as caught:
        load("ae-basline")
    assert "ae-baseline" in caught.value.hint
    for wrong in ("../ae-baseline", "ae-baseline/", "/etc"):
        with pytest.raises(NotFound):
            load(wrong)


def test_values_are_found_by_path() -> None:
    (one,) = load("ae-baseline")
    assert one.value("retention.prediction_log.floor").value == "6mo"
    assert {value.path for value in one.values("retention.prediction_log")} == {
        "retention.prediction_log.floor",
        "retention.prediction_log.ceiling",
    }
    assert one.values("retention.prediction") == ()
    with pytest.raises(NotFound) as caught:
        one.value("retention.prediction_log.flor")
    assert "'retention.prediction_log.floor'" in caught.value.hint


# --- the strictest of several ---


def test_the_larger_floor_the_smaller_ceiling_what_all_allow_and_what_any_demands() -> None:
    one = pack(
        "one", ("keep.floor", "floor", "6mo"), ("keep.ceiling", "ceiling", "5y"), ("z", "allowed", ["a", "b"]),
        ("d", "demanded", ["a", "b"]), ("e", "exact", True),
    )  # fmt: skip
    two = pack(
        "two", ("keep.floor", "floor", "1y"), ("keep.ceiling", "ceiling", "30d"), ("z", "allowed", ["b", "c"]),
        ("d", "demanded", ["c", "b"]), ("e", "exact", True),
    )  # fmt: skip
    merged, conflicts = strictest([one, two])
    assert {path: one.value for path, one in merged.items()} == {
        "keep.floor": "1y", "keep.ceiling": "30d", "z": ("b",), "d": ("a", "b", "c"), "e": True,
    }  # fmt: skip
    assert merged["keep.floor"].sources[0].pack == "two"
    (conflict,) = conflicts
    assert (conflict.path, conflict.reason) == ("keep", "keep 1y at least, and 30d at most")
    assert {value.pack for value in conflict.sources} == {"one", "two"}


def test_what_cannot_be_kept_together_is_told_and_not_chosen() -> None:
    one = pack("one", ("z", "allowed", ["a"]), ("e", "exact", 1), ("k", "floor", 1))
    two = pack("two", ("z", "allowed", ["b"]), ("e", "exact", 2), ("k", "ceiling", 1))
    merged, conflicts = strictest([one, two])
    assert (merged["z"].value, merged["e"].value) == ((), None)
    assert "k" not in merged
    assert {one.path: one.reason for one in conflicts} == {
        "z": "nothing is allowed by all (one: a and two: b)",
        "e": "they say 1 and 2",
        "k": "it is ceiling and floor",
    }


def test_the_difc_and_adgm_cannot_both_hold_the_same_personal_data() -> None:
    merged, conflicts = strictest(load("ae-baseline,difc,adgm"))
    assert merged["residency.personal.zones"].value == ()
    assert [one.path for one in conflicts] == ["residency.personal.zones"]
    assert merged["breach.notify.ceiling"].value == "72h"


def test_the_least_certain_value_says_how_certain_the_strictest_is() -> None:
    merged, _ = strictest(load("ae-baseline,health-ae"))
    assert (merged["breach.notify.ceiling"].value, merged["breach.notify.ceiling"].status) == ("24h", "unverified")
    assert merged["retention.audit_log.floor"].value == "25y"


SPANS = st.sampled_from(["5s", "72h", "30d", "6mo", "1y", "25y", FOREVER, 3])
VALUES = st.one_of(
    st.tuples(st.just("r.floor"), st.just("floor"), SPANS),
    st.tuples(st.just("r.ceiling"), st.just("ceiling"), SPANS),
    st.tuples(st.just("z"), st.just("allowed"), st.lists(st.sampled_from("abc"), unique=True)),
    st.tuples(st.just("d"), st.just("demanded"), st.lists(st.sampled_from("abc"), unique=True)),
)
PACKS = st.lists(st.lists(VALUES, unique_by=lambda value: value[0], min_size=1), min_size=1, max_size=4).map(
    lambda many: [pack(f"p{number}", *values) for number, values in enumerate(many)]
)


@settings(deadline=None)
@given(PACKS)
def test_the_strictest_is_at_least_as_strict_as_each_and_the_order_changes_nothing(packs: list[Pack]) -> None:
    merged, conflicts = strictest(packs)
    again, told = strictest(list(reversed(packs)))
    assert {path: _as_set(one.value) for path, one in merged.items()} == {path: _as_set(one.value) for path, one in again.items()}
    assert {one.path for one in conflicts} == {one.path for one in told}
    for value in (value for one in packs for value in one.values()):
        strict = merged[value.path].value
        assert {
            "floor": lambda: size_of(strict) >= value.size,  # noqa: B023  # called at once
            "ceiling": lambda: size_of(strict) <= value.size,  # noqa: B023
            "allowed": lambda: set(strict) <= set(value.value),  # noqa: B023
            "demanded": lambda: set(strict) >= set(value.value),  # noqa: B023
        }[value.kind]()


def _as_set(value: Any) -> Any:
    return frozenset(value) if isinstance(value, tuple) else size_of(value)


# --- what is no pack ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[pack\] is missing"),
        ("[pack", "is no TOML"),
        (HEAD + "[else]\n", "has a table 'else'"),
        (HEAD.replace('id = "x"', 'id = "../x"'), "no id of a pack"),
        (HEAD.replace('"assumed"', '"certain"'), "status is 'certain'"),
        (HEAD.replace('"1"', "1"), "`version` is no text"),
        (HEAD + "value = 3\n", "no field|has no field|There is no field"),
        (HEAD + "[[value]]\n", "`value` is missing"),
        (HEAD + '[[value]]\nvalue = 1\nkind = "floor"\nstatus = "assumed"\n', "`path` is missing"),
        (HEAD + '[[value]]\npath = "A b"\nvalue = 1\nkind = "floor"\nstatus = "assumed"\n', "this is no path"),
        (HEAD + '[[value]]\npath = "a"\nvalue = "long"\nkind = "floor"\nstatus = "assumed"\n', "neither a number nor a span"),
        (HEAD + '[[value]]\npath = "a"\nvalue = "b"\nkind = "allowed"\nstatus = "assumed"\n', "a list of texts"),
        (HEAD + '[[value]]\npath = "a"\nvalue = 1.5\nkind = "exact"\nstatus = "assumed"\n', "was expected"),
        (HEAD + '[[value]]\npath = "a"\nvalue = 1\nkind = "floor"\nstatus = "enacted"\n', "has an instrument and an article"),
        (HEAD + '[[value]]\npath = "a"\nvalue = 1\nkind = "floor"\nstatus = "assumed"\n' * 2, "stands twice"),
    ],
)
def test_what_is_no_pack_is_refused_with_what_and_where(text: str, message: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=message):
        read_pack(text)
