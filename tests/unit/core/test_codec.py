from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import canonical, decode, digest, digest_of, encode
from falaj.core.decision import Check, Decision
from falaj.core.errors import InvalidInput
from falaj.core.event import Change, Event
from falaj.core.leaf import event_of, leaf_of
from falaj.core.ref import Ref
from falaj.core.run import Run

AT = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)

# RFC 8785, appendix B.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_in_appendix_b_of_rfc_8785(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == text.encode()


def test_the_sample_of_rfc_8785_gives_its_bytes() -> None:
    sample = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    wanted = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(sample) == wanted.encode()


def test_keys_are_sorted_by_utf_16_code_units() -> None:
    given = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "😂": 5, "\u0080": 6, "ö": 7}
    assert list(json.loads(canonical(given))) == ["\r", "1", "\u0080", "ö", "€", "😂", "\ufb33"]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53 + 1,
        -(2**53) - 1,
        2**60,
        10**400,
        "\ud800",
        {"\ud800": 1},
        b"x",
        {1},
        object(),
        AT,
        {1: 1, "1": 1},
    ],
)
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        canonical([value])


def test_a_bottomless_value_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="deep"):
        canonical(deep)


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_canonical_bytes_mean_the_same_value_and_are_stable(value: Any) -> None:
    written = canonical(value)
    # A double beyond 2**53 is written in digits that only a double reads back.
    assert json.loads(written, parse_int=lambda text: int(text) if abs(int(text)) <= 2**53 else float(text)) == value
    assert canonical(json.loads(written)) == written


def plainly(value: Any) -> str:
    """RFC 8785 as it reads, without a thought to speed."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{plainly(key)}:{plainly(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(plainly(item) for item in value) + "]"
    if isinstance(value, float):
        return canonical(value).decode()  # held to appendix B above
    return json.dumps(value, ensure_ascii=False)


@given(values)
def test_canonical_bytes_are_those_that_the_standard_asks_for(value: Any) -> None:
    assert canonical(value) == plainly(value).encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_comes_back_to_the_last_bit(value: float) -> None:
    assert float(canonical(value)) == value


@given(st.dictionaries(texts, st.integers(0, 9), min_size=1))
def test_the_order_of_keys_changes_nothing(value: dict[str, int]) -> None:
    assert digest_of(value) == digest_of(dict(reversed(value.items())))


def test_a_digest_is_named_sha256() -> None:
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


names = st.from_regex(r"[a-z0-9][a-z0-9_\-]{0,10}", fullmatch=True)
refs = st.builds(Ref, names, names, st.none() | names)
moments = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=4))])).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
moments = moments.filter(lambda at: 2 <= at.year <= 9998)
actors = st.builds(Actor, texts, texts, st.lists(texts, max_size=2).map(tuple), texts)
changes = st.builds(Change, texts, texts, st.none() | st.dictionaries(texts, st.integers(0, 9), max_size=2))
words = st.one_of(
    refs.map(lambda ref: (Ref, ref)),
    actors.map(lambda actor: (Actor, actor)),
    st.builds(
        Asset,
        refs,
        texts,
        texts,
        texts,
        st.just({}),
        st.lists(refs, max_size=2).map(tuple),
        st.none() | texts,
        st.none() | moments,
    ).map(lambda asset: (Asset, asset)),
    st.builds(Run, texts, texts, outputs=st.lists(refs, max_size=2).map(tuple), started_at=st.none() | moments).map(
        lambda run: (Run, run)
    ),
    st.builds(
        Decision,
        refs,
        texts,
        st.sampled_from(["allow", "deny", "hold"]),
        st.lists(st.builds(Check, texts, texts, texts, st.none() | st.booleans()), max_size=2).map(tuple),
        st.none() | actors,
        st.none() | moments,
    ).map(lambda decision: (Decision, decision)),
    st.builds(
        Event,
        texts,
        refs,
        actors,
        moments,
        st.just({"n": 1}),
        st.lists(changes, max_size=2).map(tuple),
        texts,
        st.integers(0, 99),
    ).map(lambda event: (Event, event)),
)


@given(words)
def test_every_word_comes_back_from_its_canonical_bytes(case: tuple[type, Any]) -> None:
    kind, word = case
    assert decode(kind, json.loads(canonical(encode(word)))) == word


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Actor, []),
        (Actor, None),
        (Actor, {}),
        (Actor, {"name": "a", "shoe": 44}),
        (Actor, {"name": "a", "roles": "operator"}),
        (Actor, {"name": "a", "roles": None}),
        (Ref, 7),
        (Ref, "nothing"),
        (Decision, {"subject": "a/b", "rule": "r", "verdict": "allow", "at": "noon"}),
        (Decision, {"subject": "a/b", "rule": "r", "verdict": "allow", "checks": [1]}),
    ],
)
def test_a_body_of_another_form_is_refused(kind: type, body: Any) -> None:
    with pytest.raises(InvalidInput):
        decode(kind, body)


def test_words_inside_words_become_plain_values() -> None:
    @dataclass(frozen=True)
    class Word:
        ref: Ref
        at: datetime
        more: tuple[Any, ...]

    word = Word(Ref("model", "delay", "7"), AT, (1, [Ref("a", "b")], {"k": None}))
    assert encode(word) == {"ref": "model/delay@7", "at": "2013-05-01T09:30:00.000Z", "more": [1, ["a/b"], {"k": None}]}


def test_two_keys_that_are_written_alike_do_not_swallow_each_other() -> None:
    with pytest.raises(InvalidInput, match="alike"):
        encode({1: "a", "1": "b"})


def test_a_leaf_is_read_back_as_its_event() -> None:
    event = Event("model.promote", Ref("model", "delay", "7"), Actor("amal"), AT, {"n": 1e20}, (Change("a", "b", None),), seq=3)
    assert event_of(leaf_of(event)) == event


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"null",
        b"NaN",
        b'{"verb": 1}',
        b"[" * 100_000,
        leaf_of(Event("a", Ref("a", "b"), Actor("c"), AT)) + b" ",
    ],
)
def test_bytes_that_hold_no_event_are_refused(leaf: bytes) -> None:
    with pytest.raises(InvalidInput):
        event_of(leaf)
