"""A window view kept from a stream: equal to the batch at every watermark, whatever the order, and after every restart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.adapters.memory.online import MemoryOnline
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.moments import from_millis, iso, millis
from falaj.ports.online import Stored
from falaj.ports.predictions import Cursor
from falaj.stages.features.spec import Entity, WindowView, count, distinct, last, mean, spread, total
from falaj.stages.features.stream import WindowStream, follow, pieces_of
from falaj.stages.features.windows import WindowState, grid_points, window_rows

START = datetime(2013, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATENESS = 40 * MINUTE
VIEW = WindowView(
    "delays",
    "flights",
    entity="carrier",
    time="landed_at",
    windows=("45m", "2h"),
    every="30m",
    aggregates=(
        mean("delay"),
        count("landed"),
        spread("delay", "spread"),
        last("delay", "newest"),
        distinct("tail", "tails"),
        total("delay", "minutes"),
    ),
)
SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "carrier": pl.String,
    "landed_at": pl.Datetime("us", "UTC"),
    "delay": pl.Float64,
    "tail": pl.String,
}


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def event(minutes: float, name: str = "", delay: float | None = 1.0, carrier: str | None = "UA") -> dict[str, Any]:
    at = START + minutes * MINUTE
    return {"id": name or f"{carrier} {minutes}", "carrier": carrier, "landed_at": at, "delay": delay, "tail": f"N{minutes % 3}"}


times = st.integers(0, 60 * 12).map(float) | st.integers(0, 24).map(lambda n: n * 30.0) | st.floats(0, 720)
flights = st.lists(
    st.tuples(times, st.sampled_from(["UA", "AA", "B6"]), st.none() | st.floats(-1e3, 1e3), st.floats(0, LATENESS / MINUTE)),
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(flights, st.data())
def test_at_every_watermark_the_stream_is_bit_by_bit_what_the_batch_is(made: list[tuple[Any, ...]], data: st.DataObject) -> None:
    """Any order that keeps to the lateness, any duplicates, any cuts, and a restart from the checkpoint after any cut."""
    events = [event(at, f"e{n}", delay, carrier) for n, (at, carrier, delay, _) in enumerate(made)]
    arrival = sorted(range(len(events)), key=lambda n: (made[n][0] + made[n][3], n))
    sent = [events[n] for n in arrival]
    twice = data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=5))
    for place in twice:
        sent.insert(data.draw(st.integers(place, len(sent))), sent[place])  # again, some time after the first
    whole = frame(events)
    stream, online, seen = WindowStream(VIEW, lateness=LATENESS, event_id="id"), MemoryOnline(), []
    while sent:
        cut = data.draw(st.integers(1, len(sent)))
        stream.take(frame(sent[:cut]))
        sent = sent[cut:]
        out = stream.advance(START + 20 * 60 * MINUTE if not sent else None)
        seen.append(out.rows)
        online.put("delays", out.newest)
        if out.until is not None:
            newest = WindowState(VIEW)
            newest.add(whole.filter(pl.col("landed_at") <= out.until))
            names, at, _ = newest.newest(out.until)
            rows = online.get([("delays", name) for name in names])
            assert [None if row is None else row.at_ms for row in rows] == at.tolist()
        if data.draw(st.booleans()):
            stream = WindowStream.resume(VIEW, stream.checkpoint())
    assert stream.counts.taken == len(events)
    assert stream.counts.too_late + stream.counts.duplicates >= len(twice)
    first = min(row["landed_at"] for row in events) - timedelta(milliseconds=1)
    points = grid_points(VIEW, first, START + 20 * 60 * MINUTE)
    assert pl.concat(seen).sort("carrier", "at").equals(window_rows(whole, VIEW, points))


@settings(max_examples=60, deadline=None)
@given(flights, st.integers(0, 29))
def test_a_stream_that_is_resumed_knows_exactly_what_it_knew(made: list[tuple[Any, ...]], cut: int) -> None:
    stream = WindowStream(VIEW, lateness="5m", event_id="id")
    stream.take(frame([event(at, f"e{n}", delay, carrier) for n, (at, carrier, delay, _) in enumerate(made[:cut])]))
    stream.advance()
    data = stream.checkpoint("17")
    again = WindowStream.resume(VIEW, data)
    assert (again.checkpoint("17"), again.position, again.watermark) == (data, "17", stream.watermark)


def test_an_event_that_comes_too_late_is_told_and_counts_from_then_on() -> None:
    stream = WindowStream(VIEW, lateness="10m", event_id="id")
    stream.take(frame([event(5), event(95)]))
    assert stream.watermark == START + 85 * MINUTE - timedelta(milliseconds=1)
    assert stream.advance().until == START + 60 * MINUTE
    late = stream.take(frame([event(50, "late"), event(61, "in time"), event(50, "late")]))
    assert (late.taken, late.too_late, late.duplicates) == (2, 2, 1)
    stream.take(frame([event(131)]))
    (row,) = stream.advance().rows.filter(pl.col("at") == START + 120 * MINUTE).to_dicts()
    assert row["landed_2h"] == 4.0
    everything = frame([event(5), event(95), event(50, "late"), event(61, "in time"), event(131)])
    batch = window_rows(everything, VIEW, [START + 60 * MINUTE, START + 120 * MINUTE])  # the batch mends the row that was out
    assert batch["landed_2h"].to_list() == [2.0, 4.0]
    assert stream.counts.too_late == 2  # the duplicate too


def test_an_event_exactly_as_late_as_is_allowed_is_in_time() -> None:
    stream = WindowStream(VIEW, lateness="10m")
    stream.take(frame([event(40)]))
    assert stream.advance().rows.is_empty()
    assert stream.take(frame([event(30)])).too_late == 0
    assert stream.advance(START + 30 * MINUTE).rows["landed_2h"].to_list() == [1.0]


def test_an_event_of_the_future_does_not_move_the_watermark() -> None:
    stream = WindowStream(VIEW, lateness="10m")
    counts = stream.take(frame([event(20), event(9e5), event(25, carrier=None)]), now=START + 30 * MINUTE)
    assert (counts.taken, counts.ahead, counts.unusable) == (1, 1, 1)
    assert stream.watermark == START + 10 * MINUTE - timedelta(milliseconds=1)


def test_a_gap_of_years_is_not_filled_with_grid_points() -> None:
    fine = WindowView("fine", "flights", "carrier", "landed_at", ("2s",), "1s", (count("n"),))
    stream = WindowStream(fine, lateness="0s")
    stream.take(frame([event(0), event(60 * 24 * 365 * 90)]))
    assert stream.advance().rows["at"].to_list() == [START, START + timedelta(seconds=1)]


def test_a_silent_stream_is_moved_on_by_who_knows_that_it_is_silent() -> None:
    stream = WindowStream(VIEW, lateness="10m")
    assert stream.advance().until is None
    assert stream.advance(START).until == START
    stream.take(frame([event(20)]))
    assert stream.advance(START + 45 * MINUTE).newest["UA"].at_ms == millis(START + 30 * MINUTE)
    gone = stream.advance(START + 300 * MINUTE)
    assert gone.newest["UA"].at_ms == millis(START + 120 * MINUTE)  # the last grid point at which the event was in
    assert stream.advance(START + 330 * MINUTE).newest == {}


def test_following_a_stream_keeps_the_store_and_a_checkpoint() -> None:
    online, saved, stream = MemoryOnline(), list[bytes](), WindowStream(VIEW, lateness="10m", event_id="id")
    pieces = [(str(n), frame([event(n * 20.0 + k) for k in range(3)])) for n in range(12)]
    assert sum(counts.taken for counts in follow(stream, pieces[:7], online, saved.append)) == 21
    again = WindowStream.resume(VIEW, saved[4])  # died after the rows of the sixth piece were put, before it was saved
    rest = pieces[int(again.position) + 1 :]
    assert sum(counts.duplicates for counts in follow(again, rest, online, saved.append)) == 0
    last_row = window_rows(frame([event(n * 20.0 + k) for n in range(12) for k in range(3)]), VIEW, [START + 210 * MINUTE])
    assert online.get([("delays", "UA")]) == [Stored(millis(START + 210 * MINUTE), last_row.drop("carrier", "at").row(0))]


def test_records_of_a_log_become_pieces() -> None:
    def records() -> Iterator[tuple[Cursor, Mapping[str, Any]]]:
        for n in range(5):
            yield Cursor(0, n + 1), {"origin": "JFK", "carrier": "UA", "at": iso(START + n * MINUTE), "delay": n, "more": {}}
        yield Cursor(1, 1), {"kind": "other"}

    pair = Entity("pair", keys=("origin", "carrier"))
    view = WindowView("pairs", "flights", pair, "at", ("1h",), "5m", (mean("delay"), count("n")))
    stream, online = WindowStream(view, lateness="0s"), MemoryOnline()
    positions = [position for position, _ in pieces_of(records(), view, size=2)]
    assert positions == ["0:2", "0:4", "1:1"]
    list(follow(stream, pieces_of(records(), view, size=2), online, lambda _: None))
    assert stream.advance(START + 5 * MINUTE).newest["JFK|UA"].values == (2.0, 5.0)
    with pytest.raises(InvalidInput):
        list(pieces_of([(Cursor(), {"origin": "a", "carrier": "b", "at": "noon"})], view))


@pytest.mark.parametrize("wrong", ["cut", "other", "flipped", "left over", "long"])
def test_bytes_that_no_checkpoint_wrote_are_refused(wrong: str) -> None:
    import hashlib

    stream = WindowStream(VIEW, lateness="10m", event_id="id")
    stream.take(frame([event(5), event(95)]))
    data = stream.checkpoint()
    body = data[:-32]
    summed = {"left over": body + b"x", "long": body.replace(b'"ids":2', b'"ids":9')}
    broken = {
        "cut": data[:-1],
        "other": b"FALAJWS2" + data[8:],
        "flipped": data[:100] + bytes([data[100] ^ 1]) + data[101:],
        **{name: text + hashlib.sha256(text).digest() for name, text in summed.items()},
    }
    with pytest.raises(InvalidInput, match="no checkpoint"):
        WindowStream.resume(VIEW, broken[wrong])


def test_a_checkpoint_can_be_read_by_any_program() -> None:
    stream = WindowStream(VIEW, lateness="10m", event_id="id")
    stream.take(frame([event(5, "a"), event(95, "bé", 2.5)]))
    data = stream.checkpoint("9")
    assert data[:8] == b"FALAJWS1"
    size = int.from_bytes(data[8:12], "little")
    head = json.loads(data[12 : 12 + size])
    assert (head["names"], head["ids"], head["position"]) == (["UA"], 2, "9")
    keys = np.frombuffer(data, "<i8", 2, 12 + size)
    assert [from_millis(int(key) - (1 << 42)) for key in keys] == [START + 5 * MINUTE, START + 95 * MINUTE]


def test_a_checkpoint_of_another_definition_is_refused() -> None:
    other = WindowView("delays", "flights", "carrier", "landed_at", ("1h",), "30m", (count("landed"),))
    with pytest.raises(Conflict, match="another definition"):
        WindowStream.resume(other, WindowStream(VIEW, lateness="1m").checkpoint())


def test_events_that_are_refused_may_be_sent_again() -> None:
    stream = WindowStream(VIEW, lateness="10m", event_id="id")
    with pytest.raises(InvalidInput, match="'delay'"):
        stream.take(frame([event(5)]).with_columns(delay=pl.lit("ten")))
    with pytest.raises(InvalidInput, match="'id'"):
        stream.take(frame([event(5)]).drop("id"))
    assert stream.take(frame([event(5)])).taken == 1
    with pytest.raises(InvalidInput, match="negative"):
        WindowStream(VIEW, lateness=-MINUTE)
