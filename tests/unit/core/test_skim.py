"""What is read in place says the same as the whole event, of every leaf that there can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from falaj.core import skim
from falaj.core.actor import Actor
from falaj.core.codec import canonical, encode
from falaj.core.errors import InvalidInput
from falaj.core.event import Change, Event
from falaj.core.leaf import Entry, event_of, leaf_of, written
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.core.skim import entries_of, entry_of

AT = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", "a", "ق", '"', "\\", "\x00", "\x7f", "\u2028", "\ue000", "\U0001f600", '","at":"', "},", "took_ms"]
)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0, -0.0, 1.0, 1e16, 1e21, 1e-7, 0.1, 10**15, 10**15 - 1, 2**53]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
names = st.from_regex(r"[a-z0-9][a-z0-9_\-]{0,6}", fullmatch=True)
bodies = st.none() | st.dictionaries(texts, values, max_size=3)
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
events = st.builds(
    Event,
    texts | st.just("model.promote"),
    st.builds(Ref, names, names, st.none() | names),
    st.builds(Actor, texts, texts, st.lists(texts, max_size=2).map(tuple), texts),
    moments,
    st.dictionaries(texts, values, max_size=3) | st.builds(lambda ms: {"took_ms": ms}, st.integers(-9, 9)),
    st.lists(st.builds(Change, texts, texts, bodies), max_size=3).map(tuple),
    texts,
    st.integers(0, 2**53),
)


def the_long_way(leaf: bytes) -> Entry | None:
    try:
        event = event_of(leaf)
    except InvalidInput:
        return None
    changes = [(c.kind, c.key, None if c.body is None else canonical(encode(c.body))) for c in event.changes]
    return Entry(event.seq, event.verb, str(event.subject), iso(event.at), changes, skim.took_ms(event.facts))


def in_place(leaf: bytes) -> Entry | None:
    try:
        return entry_of(leaf)
    except InvalidInput:
        return None


@given(events)
def test_a_leaf_is_written_as_the_canonical_bytes_of_its_event(event: Event) -> None:
    leaf, entry = written(event)
    assert leaf == canonical(encode(event)) == leaf_of(event)
    assert entry._replace(took_ms=0) == the_long_way(leaf)._replace(took_ms=0)  # type: ignore[union-attr]


@given(events)
def test_a_leaf_read_in_place_says_what_its_event_says(event: Event) -> None:
    leaf = leaf_of(event)
    wanted = the_long_way(leaf)
    assert wanted is not None
    assert entry_of(leaf) == wanted  # its actor may be unknown
    assert entry_of(leaf) == wanted  # and is known now


@given(events, st.data())
@example(Event("a.b", Ref("a", "b"), Actor("c"), AT, {"took_ms": 5}, (Change("k", "x", {"a": 1}),), seq=3), None)
def test_whatever_is_changed_in_a_leaf_is_read_or_refused_as_the_whole_event_is(event: Event, data: Any) -> None:
    leaf = bytearray(leaf_of(event))
    entry_of(bytes(leaf))
    if data is not None:
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(leaf) - 1))
            leaf[place : place + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(
                [*(b"", b" ", b"0", b"-", b".0", b"e9", b'"', b"\\", b"\\u0041", b"\n", b"\xff", b"NaN", b",", b"{}", b"}"),
                 b'"a":1,', b"\xee\x80\x80"]
            ))  # fmt: skip
    assert in_place(bytes(leaf)) == the_long_way(bytes(leaf))


PLAIN = leaf_of(Event("a.b", Ref("a", "b", "7"), Actor("c"), AT, {"n": 1}, (Change("k", "x", {"a": [1, 0.5, "é"]}),), seq=3))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"n":1', b'"n":1.0'),
        (b'"n":1', b'"n":01'),
        (b'"n":1', b'"n":-0'),
        (b'"n":1', b'"n":1e0'),
        (b'"n":1', b'"n":NaN'),
        (b'"n":1', b'"n":Infinity'),
        (b'"n":1', b'"n":9007199254740993'),
        (b'"n":1', b'"n":1,"n":1'),
        (b'"n":1', b'"n":1,"m":1'),
        (b'"n":1', b'"n": 1'),
        (b'"n":1', b'"\\u006e":1'),
        (b'"n":1', b'"\xf0\x9f\x98\x80":1,"\xef\xac\xb3":2'),
        (b'"n":1', b'"\xef\xac\xb3":1,"\xf0\x9f\x98\x80":2'),
        (b'"n":1', b'"n":"\\ud800"'),
        (b'"n":1', b'"n":"\n"'),
        (b'"n":1', b'"n":' + b"[" * 5000 + b"]" * 5000),
        (b"0.5", b"5e-1"),
        (b"\xc3\xa9", b"\\u00e9"),
        (b"2013-05-01T09", b"2013-02-30T09"),
        (b"T09:30", b"T24:00"),
        (b"T09:30:00.000Z", b"T09:30:00.000z"),
        (b"T09:30:00.000Z", b"T09:30:00Z"),
        (b'"seq":3', b'"seq":-3'),
        (b'"seq":3', b'"seq":03'),
        (b'"seq":3', b'"seq":"3"'),
        (b'"seq":3,', b""),
        (b"a/b@7", b"a/b@"),
        (b"a/b@7", b"a/..@7"),
        (b"a/b@7", b"a/b..c@7"),
        (b'"subject"', b'"subjekt"'),
        (b'"verb":"a.b"}', b'"verb":"a.b"} '),
        (b'"verb":"a.b"}', b'"verb":"a.b","w":1}'),
        (b'"verb":"a.b"}', b'"verb":7}'),
        (b'"changes":[', b'"changes":[],"changes":['),
        (b'"name":"c"', b'"name":"c","shoe":44'),
    ],
)
def test_a_leaf_that_is_not_canonical_or_no_event_is_read_as_the_long_way_reads_it(old: bytes, new: bytes) -> None:
    entry_of(PLAIN)
    assert old in PLAIN
    leaf = PLAIN.replace(old, new, 1)
    assert in_place(leaf) == the_long_way(leaf)


def test_the_usual_leaf_is_read_in_place_once_its_actor_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_of(PLAIN)
    monkeypatch.setattr(skim, "_long_way", lambda leaf: pytest.fail("it was read the long way"))
    assert entry_of(PLAIN) == Entry(3, "a.b", "a/b@7", iso(AT), [("k", "x", b'{"a":[1,0.5,"\xc3\xa9"]}')])
    later = leaf_of(Event("a.b", Ref("a", "b"), Actor("c"), AT + timedelta(days=1), {"took_ms": 7}, seq=4))
    assert entry_of(later).took_ms == 7


def test_no_more_actors_are_remembered_than_there_is_room_for() -> None:
    before = set(skim._ACTORS)
    for n in range(skim._MOST_ACTORS + 10):
        leaf = leaf_of(Event("a.b", Ref("a", "b"), Actor(f"stranger {n}"), AT, seq=0))
        assert entry_of(leaf).verb == "a.b"
    assert len(skim._ACTORS) == skim._MOST_ACTORS
    skim._ACTORS.clear()
    skim._ACTORS.update(before)


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ('{"a":"}', '{"},{"x":1}'),  # only together would they read as two objects
        ('{"a":"}', '{"}'),
        ('{"a":1,"a":1}', "{}"),
        ('{"b":1,"a":1}', "{}"),
        ('{"a": 1}', "{}"),
        ('{"a":{"b":1}', '{"c":1}}'),
        ('{"a":"\n"}', "{}"),
        ("{}", '{"a":{}},"seq":1,"x":{}'),
        ("{}", '{"b":1},{"a":1}'),
    ],
)
def test_body_and_facts_that_are_read_together_are_read_as_strictly_as_apart(body: str, facts: str) -> None:
    head = (
        '{"actor":{"grant":"","kind":"person","name":"a","roles":[],"zone":"local"},"at":"2013-05-01T09:30:00.000Z","changes":['
    )
    tail = ',"seq":1,"subject":"model/a","trace":"","verb":"a.b"}'
    good = f'{head}{{"body":{{"a":1}},"key":"k","kind":"t"}}],"facts":{{"n":1}}{tail}'.encode()
    assert entry_of(good) == the_long_way(good)  # from here on the actor is known
    assert entry_of(good) == the_long_way(good)
    leaf = f'{head}{{"body":{body},"key":"k","kind":"t"}}],"facts":{facts}{tail}'.encode()
    assert the_long_way(leaf) is None
    with pytest.raises(InvalidInput):
        entry_of(leaf)


@pytest.mark.parametrize("body", [{"a": "{"}, {"a": "}"}, {"a": '},"key":"k"'}, {"a": {"b": 1}}, {"a": "\n"}, {"a": "\\"}, {}])
def test_braces_and_escapes_in_a_body_are_read_as_the_long_way_reads_them(body: dict[str, Any]) -> None:
    for name in ("a", "a}", 'a"}', "{"):
        leaf = leaf_of(Event("a.b", Ref("a", "b"), Actor(name), AT, {"n": 1}, (Change("k", "x", body),), seq=3))
        assert [entry_of(leaf), entry_of(leaf)] == [the_long_way(leaf)] * 2


HEAD, TAIL = (
    '{"actor":{"grant":"","kind":"person","name":"a","roles":[],"zone":"local"},"at":"2013-05-01T09:30:00.000Z","changes":[{"body":',
    ',"seq":1,"subject":"model/a","trace":"","verb":"a.b"}',
)


@pytest.mark.parametrize(
    "pieces",
    [
        # What one leaf opens another may close, so that all together would read as a list of as many objects.
        [('{"a":1}', '{"x":[{"y":1}'), ('{"a":1}', '{"z":1}]}'), ('{"a":1}', '{"n":1},{"n":2},{"n":3}')],
        [('{"a":1}', '{"q":"}'), ('{","x":"1}', '{"n":1}'), ('{"a":1}', '{"n":1},{"n":2}')],
        [('{"a":1}', '{"n":1},{"n":2}'), ('{"a":1}', '{"q":"}'), ('{","x":"1}', '{"n":1}')],
        [('{"a":{"b":1}', '{"c":1}}'), ('{"a":1}', '{"n":1}')],
        [('{"a":[1}', '{"c":1]}'), ('{"a":1}', '{"n":1}')],
    ],
)
def test_leaves_that_are_read_together_do_not_lend_each_other_what_they_lack(pieces: list[tuple[str, str]]) -> None:
    leaves = [
        f'{HEAD}{body},"key":"k","kind":"t"}}],"facts":{facts}{TAIL}'.encode() for body, facts in [('{"a":1}', "{}"), *pieces]
    ]
    entry_of(leaves[0])  # from here on the actor is known
    found = [None if isinstance(entry, InvalidInput) else entry for entry in entries_of(leaves)]
    assert found == [the_long_way(leaf) for leaf in leaves]
    assert None in found


@given(st.lists(events, min_size=1, max_size=6), st.data())
def test_each_of_many_leaves_is_read_as_it_would_be_alone(some: list[Event], data: Any) -> None:
    leaves = [leaf_of(event) for event in some]
    for leaf in leaves:
        entry_of(leaf)
    place = data.draw(st.integers(0, len(leaves) - 1))
    cut = data.draw(st.integers(0, len(leaves[place]) - 1))
    leaves[place] = (
        leaves[place][:cut] + data.draw(st.sampled_from([b"}", b'"', b"{", b"]", b"", b"0"])) + leaves[place][cut + 1 :]
    )
    found = [None if isinstance(entry, InvalidInput) else entry for entry in entries_of(leaves)]
    assert found == [the_long_way(leaf) for leaf in leaves]
