"""A request's place in somebody's trace, and what a collector is told of it."""

import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import Denied, FalajError, Unavailable
from falaj.inference.otlp import OtlpSpans
from falaj.inference.traces import Context, Ended, Span, Traces, read_context, read_state, trace_lines
from tests.kits.collector import collecting, values

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    interval = sys.getswitchinterval()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    sys.setswitchinterval(interval)


def test_a_parent_is_read_as_the_standard_writes_it() -> None:
    assert read_context(PARENT) == Context(TRACE, CALLER, 1)
    assert (read_context(PARENT) or Context("", "", 0)).text == PARENT
    assert read_context(f"00-{TRACE}-{CALLER}-00") == Context(TRACE, CALLER, 0)
    # flags that are not known yet are not passed on; a later version may say more
    assert read_context(f"00-{TRACE}-{CALLER}-ff") == Context(TRACE, CALLER, 3)
    assert read_context(f"cc-{TRACE}-{CALLER}-01-what-the-future-will-be-like") == Context(TRACE, CALLER, 1)
    assert read_context(f"01-{TRACE}-{CALLER}-01") == Context(TRACE, CALLER, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-01-more",
        f"00-{TRACE}-{CALLER}-01-",
        f"cc-{TRACE}-{CALLER}-01.more",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT.upper(),
        f" {PARENT}",
        f"{PARENT} ",
        f"{PARENT}\n",
        f"00-{TRACE[:-1]}-{CALLER}-01",
        f"00-{TRACE}0-{CALLER}-01",
        f"00-{TRACE}-{CALLER}0-01",
        f"00-{TRACE}-{CALLER}-1",
        f"00-{TRACE}-{CALLER}-0x",
        f"0-{TRACE}-{CALLER}-01",
        f".0-{TRACE}-{CALLER}-01",
        f"00_{TRACE}_{CALLER}_01",
        f"00-{TRACE[:-1]}٣-{CALLER}-01",
    ],
)
def test_what_is_no_parent_counts_for_nothing(text: str) -> None:
    assert read_context(text) is None


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("foo=1,bar=2", "foo=1,bar=2"),
        ("foo=1 , \tbar=2, ,", "foo=1,bar=2"),
        ("fw529a3039@dt=FfSAvcs,0@x=1", "fw529a3039@dt=FfSAvcs,0@x=1"),
        ("foo=a b:c", "foo=a b:c"),
        ("foo=1,foo=2", ""),
        ("foo", ""),
        ("foo=", ""),
        ("=1", ""),
        ("foo=1=2", ""),
        ("Foo=1", ""),
        ("foo =1", ""),
        ("foo@=1", ""),
        ("foo@bar@baz=1", ""),
        ("foo@9a=1", ""),
        (f"{'z' * 256}=1", f"{'z' * 256}=1"),
        (f"{'z' * 257}=1", ""),
        (f"{'t' * 241}@{'v' * 14}=1", f"{'t' * 241}@{'v' * 14}=1"),
        (f"{'t' * 242}@v=1", ""),
        (f"t@{'v' * 15}=1", ""),
        (f"foo={'v' * 256}", f"foo={'v' * 256}"),
        (f"foo={'v' * 257}", ""),
        ("foo=é", ""),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        ("a" * 5000, ""),
    ],
)
def test_a_state_is_passed_on_or_left_out(given_: str, kept: str) -> None:
    assert read_state(given_) == kept
    assert read_context(PARENT, given_) == Context(TRACE, CALLER, 1, kept)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_header_breaks_anything(parent: str, state: str) -> None:
    read_context(parent, state)
    traces = Traces(lambda _: None)
    assert traces.begin(parent.encode("utf-8", "replace"), state.encode("utf-8", "replace")) is not None


# --- whose decision ---


def test_a_callers_decision_is_honoured() -> None:
    sent: list[Ended] = []
    traces = Traces(sent.append, share=0.0)
    for flag in (0, 1):
        span = traces.begin(f"00-{TRACE}-{CALLER}-0{flag}".encode(), b"vendor=1")
        assert span is not None
        assert (span.context.trace_id, span.context.flags, span.context.state) == (TRACE, flag, "vendor=1")
        assert span.parent == Context(TRACE, CALLER, flag, "vendor=1")
        assert span.context.span_id != CALLER
        traces.end(span, 0.0, 1.0, 200, {})
    assert [ended.span.context.flags for ended in sent] == [1]


def test_where_nobody_decided_the_share_does() -> None:
    chance = random.Random(7)
    for share, low, high in ((0.0, 0, 0), (0.25, 200, 300), (1.0, 1000, 1000)):
        traces = Traces(lambda _: None, share, chance)
        spans = [traces.begin(None) for _ in range(1000)]
        assert low <= sum(span is not None and span.is_sampled for span in spans) <= high
        assert all(span is not None and span.parent is None for span in spans)


def test_a_bad_parent_begins_a_new_trace() -> None:
    span = Traces(lambda _: None).begin(b"00-nonsense", b"vendor=1")
    assert span is not None
    assert span.parent is None
    assert span.context.state == ""
    assert read_context(span.context.text) == span.context


def test_without_a_collector_only_a_callers_own_word_is_kept() -> None:
    traces = Traces()
    assert traces.begin(None) is None
    assert traces.begin(b"nonsense") is None
    span = traces.begin(PARENT.encode())
    assert span is not None
    assert span.context.text == PARENT
    traces.end(span, 0.0, 1.0, 200, {})


def test_the_answer_says_which_span_it_was_and_repeats_the_callers_id() -> None:
    span = Span(Context(TRACE, CALLER, 1), None)
    assert trace_lines(span, b"") == f"traceparent: {PARENT}\r\n".encode()
    assert trace_lines(None, b"r-1") == b"x-request-id: r-1\r\n"
    assert trace_lines(None, b"") == b""


# --- what a collector gets ---


def ended(traces: Traces, status: int = 200, parent: bytes | None = None) -> Span:
    span = traces.begin(parent, b"vendor=1")
    assert span is not None
    now = time.perf_counter()
    span.stages = (("features", now - 0.008, now - 0.006), ("model", now - 0.006, now - 0.002), ("log", now - 0.002, now - 0.001))
    traces.end(span, now - 0.01, now, status, {"falaj.endpoint": "delay", "falaj.rows": 3})
    return span


def test_a_collector_gets_the_request_and_its_stages() -> None:
    with collecting() as collector:
        spans = OtlpSpans(collector.url, {"service.name": "delay"})
        traces, before = Traces(spans.send), time.time_ns()
        told = ended(traces, parent=PARENT.encode())
        spans.close()
        found = {span.name: span for span in collector.wait(4)}
    assert collector.resources[0]["service.name"] == "delay"
    assert list(found) == ["features", "model", "log", "request"]
    request = found["request"]
    assert request.span_id.hex() == told.context.span_id
    assert (request.parent_span_id.hex(), request.trace_state) == (CALLER, "vendor=1")
    assert {span.trace_id.hex() for span in found.values()} == {TRACE}
    assert {found[name].parent_span_id for name in ("features", "model", "log")} == {request.span_id}
    assert values(request) == {"falaj.endpoint": "delay", "falaj.rows": 3, "http.response.status_code": 200}
    assert request.end_time_unix_nano - request.start_time_unix_nano == pytest.approx(10_000_000, abs=1000)
    assert found["model"].end_time_unix_nano - found["model"].start_time_unix_nano == pytest.approx(4_000_000, abs=1000)
    assert abs(request.end_time_unix_nano - before) < 5_000_000_000
    assert [request.start_time_unix_nano <= found[name].start_time_unix_nano for name in found] == [True] * 4
    assert (spans.told, spans.dropped) == (1, 0)


def test_nothing_is_told_while_the_collector_is_where_no_trace_may_go() -> None:
    may = False

    def permitted() -> None:
        if not may:
            raise Denied("the collector is abroad")

    with collecting() as collector:
        said: list[Any] = []
        spans = OtlpSpans(collector.url, {}, permitted=permitted, complain=said.append)
        ended(Traces(spans.send))
        spans._flush()
        assert (spans.told, spans.dropped, collector.spans) == (0, 1, [])
        assert "abroad" in str(said[0])
        may = True
        ended(Traces(spans.send))
        spans.close()
        assert (spans.told, spans.dropped) == (1, 1)


def test_an_endpoint_asks_where_its_collector_is_before_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from falaj.doors import look_up
    from falaj.inference.settings import ServerSettings

    def settings(url: str, networks: str = "") -> ServerSettings:
        return ServerSettings("delay", "/b", "/o", "/k", "/p", trace_url=url, trace_networks=networks)

    look_up(settings("http://127.0.0.1:4318/v1/traces"))
    for url, networks in (
        ("https://127.0.0.6/", "-127.0.0.6/32 +127.0.0.0/8"),
        ("https://192.0.2.1/", ""),
        ("https://169.254.169.254/", "+0.0.0.0/0"),
    ):
        with pytest.raises(Denied):
            look_up(settings(url, networks))
    with pytest.raises(Unavailable):
        look_up(settings("https://nowhere.invalid/"))
    found = [(socket.AF_INET, 1, 6, "", (one, 0)) for one in ("10.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(Denied, match=r"192\.0\.2\.1"):
        look_up(settings("https://collector.example/", "+10.0.0.0/8"))


def test_a_new_trace_has_the_ids_that_the_caller_was_told_and_a_failure_is_one() -> None:
    with collecting() as collector:
        spans = OtlpSpans(collector.url, {})
        traces = Traces(spans.send)
        told = [ended(traces, status) for status in (200, 503, 422)]
        spans.close()
        requests = [span for span in collector.wait(12) if span.name == "request"]
    assert [(r.trace_id.hex(), r.span_id.hex()) for r in requests] == [(s.context.trace_id, s.context.span_id) for s in told]
    assert [r.parent_span_id for r in requests] == [b""] * 3
    assert [r.status.code for r in requests] == [0, 2, 0]


def test_more_than_may_wait_is_dropped_and_counted_and_nobody_waits() -> None:
    with collecting() as collector:
        spans = OtlpSpans(collector.url, {}, most=5)
        traces = Traces(spans.send)
        spans._over.set()  # the thread is about to leave
        spans._wake.set()
        spans._thread.join()
        for _ in range(8):
            ended(traces)
        assert (len(spans._waiting), spans.dropped) == (5, 3)


def test_only_so_many_requests_are_told_in_a_second() -> None:
    with collecting() as collector:
        spans = OtlpSpans(collector.url, {}, per_s=3)
        span = Span(Context(TRACE, CALLER, 1), None)
        for number in range(10):
            spans.send(Ended(span, 0.0, 100.0 + number * 0.3, 200, {}))
        spans.close()
        assert len(collector.wait(8)) == 8
    assert (spans.told, spans.dropped) == (8, 2)


@pytest.mark.slow
def test_a_collector_that_is_away_is_complained_of_once_and_costs_only_spans() -> None:
    said: list[FalajError] = []
    with collecting() as collector:
        collector.status = 400
        spans = OtlpSpans(collector.url, {}, complain=said.append)
        traces = Traces(spans.send)
        for lost in (1, 2):
            ended(traces)
            spans._wake.set()
            until = time.monotonic() + 20
            while spans.dropped < lost:
                assert time.monotonic() < until
                time.sleep(0.01)
        collector.status = 200
        ended(traces)
        spans.close()
        assert len(collector.wait(4)) == 4
    assert (spans.dropped, spans.told, len(said)) == (2, 1, 1)
    assert "serve_trace_url" in said[0].hint


def test_nothing_of_opentelemetry_is_imported_where_no_collector_is_named() -> None:
    import subprocess
    import sys

    code = "import sys, falaj.inference.traces as t; t.Traces().begin(None); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "falaj.inference.traces" in found.stdout
    assert "opentelemetry" not in found.stdout
