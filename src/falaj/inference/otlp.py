"""Tells spans to a collector by OTLP over HTTP, from a thread of its own: a collector that is slow or away costs no answer."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from falaj.core.errors import FalajError, MissingDependency, Unavailable
from falaj.inference.traces import Context, Ended

_BATCH = 256
_EVERY_S = 1.0
_TIMEOUT_S = 5.0
_COMPLAIN_EVERY_S = 60.0
PER_S = 200
"""Requests that are told in a second. Each costs about 0.2 ms of processor time, which the answers have to share."""
_TURN_S = 0.0005
"""How long the loop may wait for this thread's turn to end; Python's own 5 ms would be seen in the latencies."""


class OtlpSpans:
    """At most `per_s` requests a second are told, and `most` wait; what is over is dropped and counted.

    OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES …) hold too.
    """

    def __init__(
        self,
        url: str,
        about: Mapping[str, str],
        *,
        per_s: int = PER_S,
        most: int = 2048,
        permitted: Callable[[], None] | None = None,
        complain: Callable[[FalajError], None] | None = None,
    ) -> None:
        """`url`: the collector's, as in http://127.0.0.1:4318/v1/traces. `about`: the attributes of the resource. `permitted`
        raises FalajError where nothing may go there now; it is asked before each batch.

        Raises MissingDependency where OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ModuleNotFoundError as exc:
            raise MissingDependency.of("Telling traces", str(exc.name), "traces") from exc
        # What goes wrong is told below, once a minute; the library would say it at each try.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter: Any = OTLPSpanExporter(url, timeout=_TIMEOUT_S)
        self._made = _Made(about)
        self._per_s, self._most, self._complain, self._permitted = per_s, most, complain, permitted
        self._left, self._second = per_s, 0.0
        self._waiting: deque[Ended] = deque()
        self._over = threading.Event()
        self._wake = threading.Event()
        self._quiet_until = 0.0
        self.told = self.dropped = 0
        """Requests whose spans the collector has taken, and requests whose spans are lost."""
        sys.setswitchinterval(min(_TURN_S, sys.getswitchinterval()))
        self._thread = threading.Thread(target=self._run, name="falaj-traces", daemon=True)
        self._thread.start()

    def send(self, ended: Ended) -> None:
        """Never waits."""
        if ended.ended >= self._second:
            self._left, self._second = self._per_s, ended.ended + 1.0
        if self._left <= 0 or len(self._waiting) >= self._most:
            self.dropped += 1
            return
        self._left -= 1
        self._waiting.append(ended)
        if len(self._waiting) == _BATCH:
            self._wake.set()

    def close(self) -> None:
        """Tells what waits, for a few seconds at most."""
        self._over.set()
        self._wake.set()
        self._thread.join(_TIMEOUT_S + 1)

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait(_EVERY_S)
            self._wake.clear()
            self._flush()
        self._exporter.shutdown()

    def _flush(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                if self._permitted is not None:
                    self._permitted()
                # The two clocks are held against each other at each batch: one may be set while the other runs on.
                offset = time.time_ns() - time.perf_counter_ns()
                result = self._exporter.export(self._made.spans(batch, offset))
                failed = result.name != "SUCCESS"
            except Exception as exc:  # whatever it is, serving goes on
                failed = True
                self._tell(f"{type(exc).__name__}: {str(exc)[:200]}")
            if failed:
                self.dropped += len(batch)
                self._tell("the collector did not take them")
            else:
                self.told += len(batch)

    def _tell(self, why: str) -> None:
        if self._complain is not None and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _COMPLAIN_EVERY_S
            self._complain(Unavailable(f"Traces are lost: {why}.", "look at the collector at serve_trace_url."))


class _Made:
    """OpenTelemetry's spans, made by its own tracer with the ids and times that are known already."""

    def __init__(self, about: Mapping[str, str]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        ids = self._ids = deque[tuple[int, int]]()
        made: list[ReadableSpan] = []
        self._ended = made

        class Given(IdGenerator):
            """The next span gets the ids that it has told its caller; those within it any."""

            def generate_trace_id(self) -> int:
                return ids[0][0]

            def generate_span_id(self) -> int:
                return ids.popleft()[1] if ids else RandomIdGenerator().generate_span_id()

            def is_trace_id_random(self) -> bool:
                return True

        class Kept(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                made.append(span)

        provider = TracerProvider(ALWAYS_ON, Resource.create(dict(about)), shutdown_on_exit=False, id_generator=Given())
        provider.add_span_processor(Kept())
        self._tracer = provider.get_tracer("falaj.inference")

    def spans(self, batch: Iterable[Ended], offset: int) -> list[Any]:
        """`offset`: nanoseconds from time.perf_counter's zero to 1970."""
        self._ended.clear()
        for ended in batch:
            self._make(ended, offset)
        return list(self._ended)

    def _make(self, ended: Ended, offset: int) -> None:
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind, Status, StatusCode

        def at(seconds: float) -> int:
            return offset + round(seconds * 1e9)

        own, parent = ended.span.context, ended.span.parent
        around = trace.set_span_in_context(trace.NonRecordingSpan(_their(parent))) if parent is not None else None
        self._ids.append((int(own.trace_id, 16), int(own.span_id, 16)))
        span = self._tracer.start_span(
            "request", around, SpanKind.SERVER, {**ended.attributes, "http.response.status_code": ended.status},
            start_time=at(ended.began),
        )  # fmt: skip
        if ended.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        within = trace.set_span_in_context(span)
        for name, began, over in ended.span.stages:
            kind = SpanKind.CLIENT if name == "features" else SpanKind.INTERNAL
            self._tracer.start_span(name, within, kind, start_time=at(began)).end(at(over))
        span.end(at(ended.ended))


def _their(context: Context) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    return SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=TraceFlags(context.flags),
        trace_state=TraceState.from_header([context.state]) if context.state else None,
    )  # fmt: skip
