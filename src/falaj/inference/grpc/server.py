"""The loop of the gRPC worker: whatever has arrived meanwhile is checked, becomes one run of the model, and is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from falaj.core.actor import Actor
from falaj.core.errors import FalajError, Unauthenticated
from falaj.inference.auth import Keyring, demand
from falaj.inference.calls import TensorCall
from falaj.inference.deadlines import demand_time
from falaj.inference.errors import Busy, TooSlow, failed
from falaj.inference.grpc.calls import Part, Single, Stream, Waiting
from falaj.inference.grpc.infer import Answers, Asked, read_infer
from falaj.inference.grpc.port import Port, certificate_of
from falaj.inference.grpc.service import BY_PATH, STREAM, Method, Service
from falaj.inference.grpc.status import Unknown, refusal
from falaj.inference.settings import ServerSettings

if TYPE_CHECKING:
    from falaj.inference.tls import Peer

LOOK_EVERY_S = 0.1
_AT_ONCE = 1024
"""Events that are taken before what came with them is answered."""
_BUSY = Busy("More requests wait than this server takes on.", "come back in a second.")
_SLOW = TooSlow("The message did not arrive in time.", "send it as soon as the call is open.")
_REMEMBERED = 1024
_NOBODY = Actor("nobody", "service")


class GrpcServer:
    """One thread: `run` belongs to it, `stop` may be called by any other."""

    def __init__(
        self, settings: ServerSettings, keyring: Keyring, service: Service, port: Port, sync: Callable[[], None] | None = None
    ) -> None:
        """`sync` is called between the append to the log and the answers: it makes `sync = "always"` wait."""
        self._settings, self._keyring, self._service, self._port, self._sync = settings, keyring, service, port, sync
        self._predictor = service.predictor
        self._answers = Answers()
        self._is_secure = port.is_secure
        self._peers: dict[bytes, Peer | None] = {}
        """Certificates that were read before."""
        self._waiting: list[Waiting] = []
        self.opening: dict[Single, None] = {}
        """Calls whose message is not here yet, the oldest first."""
        self._streams: set[Stream] = set()
        self.open = 0
        """Calls that were taken on and are not over yet."""
        self.turned = time.monotonic()
        """When the loop last came round: it does so ten times a second, unless it hangs."""
        self._stopped = 0.0
        self._is_over = False
        self._wants_stop = False

    def start(self) -> None:
        """From now on calls are taken; they are answered by `run`."""
        self._keyring.look()
        self._port.start(self._accept)

    def run(self) -> None:
        """Serves until `stop`, and then until everything that was taken on is answered or `drain_s` is over."""
        looked = time.monotonic()
        while not self._is_over:
            event = self._port.poll(LOOK_EVERY_S)
            for _ in range(_AT_ONCE):
                if event is None:
                    break
                event.tag(event)
                event = self._port.poll(0)
            else:
                if event is not None:
                    event.tag(event)
            if self._waiting:
                self._answer()
            self.turned = now = time.monotonic()
            if now - looked >= LOOK_EVERY_S:
                looked = now
                self._look(now)
        self._port.close()

    def stop(self) -> None:
        """Takes no new calls; `run` returns when those that are open are answered."""
        self._wants_stop = True

    # --- taking calls on ---

    def _accept(self, event: Any) -> None:
        if not event.success:  # the port was shut
            return
        self._port.accept()
        method = BY_PATH.get(event.call_details.method)
        if method is None:
            path = event.call_details.method.decode("latin-1")[:120]
            self._turn_away(event, Unknown(f"There is no method {path!r}.", "the protocol's .proto file lists them."))
        elif self.open >= self._settings.max_waiting:
            self._turn_away(event, _BUSY)
        elif method.name == STREAM:
            self._accept_stream(event, method)
        else:
            call = Single(self._port, event, method, self._over)
            self.open += 1
            if self._is_welcome(call, method):
                self.opening[call] = None
                call.receive(self._received)

    def _accept_stream(self, event: Any, method: Method) -> None:
        if len(self._streams) * 2 >= self._settings.max_waiting:  # the other half is for single calls
            self._turn_away(event, _BUSY)
            return
        stream = Stream(self._port, event, method, self._waiting_on, self._stream_over)
        self.open += 1
        self._streams.add(stream)
        stream.open()
        try:
            self._actor(method, stream, is_new=True)
        except FalajError as exc:
            self._predictor.metrics.refused(exc.code)
            stream.end(exc)

    def _is_welcome(self, call: Single, method: Method) -> bool:
        """Who is not known gets no message read."""
        try:
            self._actor(method, call, is_new=True)
        except FalajError as exc:
            self._refuse(call, exc)
            return False
        return True

    def _turn_away(self, event: Any, error: FalajError) -> None:
        self._predictor.metrics.refused(error.code)
        told = refusal(error)
        self._port.refuse(event.call, (told.code, told.text, told.metadata), lambda _event: None)

    def _received(self, call: Single, is_whole: bool) -> None:
        self.opening.pop(call, None)
        if is_whole:
            self._waiting.append(call)

    def _waiting_on(self, part: Part) -> None:
        self._waiting.append(part)

    def _over(self, _event: Any) -> None:
        self.open -= 1

    def _shut(self, _event: Any) -> None:
        self._is_over = True

    def _stream_over(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.discard(stream)
            self.open -= 1

    # --- answering ---

    def _answer(self) -> None:
        """Everything that waits. Keys are looked at now: who lost theirs before a call arrived is refused."""
        waiting, self._waiting = self._waiting, []
        self._keyring.look()
        asked: list[tuple[Waiting, Asked]] = []
        rows = 0
        for one in waiting:
            try:
                found = self._prepare(one)
            except FalajError as exc:
                self._refuse(one, exc)
                continue
            except Exception as exc:
                self._refuse(one, failed(exc))
                continue
            if found is None:
                continue
            if asked and rows + len(found.call.matrix) > self._settings.batch_rows:
                self._predict(asked)
                asked, rows = [], 0
            asked.append((one, found))
            rows += len(found.call.matrix)
        if asked:
            self._predict(asked)

    def _prepare(self, one: Waiting) -> Asked | None:
        """The call for the model, or None where the method asks none and is answered. Raises FalajError."""
        method = one.method
        actor = self._actor(method, one)
        asker = one.asker
        demand_time(asker.deadline, asker.started)
        if method.permission != "predict":
            one.reply(self._service.answer(method.name, one.data, actor))
            return None
        return read_infer(one.data, asker.caller(actor), self._predictor.serving)

    def _predict(self, asked: list[tuple[Waiting, Asked]]) -> None:
        calls: list[TensorCall] = [one.call for _, one in asked]
        try:
            found = self._predictor.answer(calls)
            if self._sync is not None:
                self._sync()
        except FalajError as exc:
            found = [exc] * len(calls)
        except Exception as exc:
            found = [failed(exc)] * len(calls)
        for (waiting, one), outcome in zip(asked, found, strict=True):
            if isinstance(outcome, FalajError):
                self._refuse(waiting, outcome)
                continue
            try:
                waiting.reply(self._answers.write(one, outcome))
            except Exception as exc:
                self._refuse(waiting, failed(exc))

    def _actor(self, method: Method, one: Waiting | Single | Stream, *, is_new: bool = False) -> Actor:
        """Who calls, as of the last look at the keys. Raises Unauthenticated or Denied."""
        if method.permission == "open":
            return _NOBODY
        asker = one.asker
        try:
            actor = self._known(one)
        except Unauthenticated:
            if not is_new:
                raise
            self._keyring.look()  # perhaps a key that was given out a moment ago
            actor = self._known(one)
        if actor is not asker.actor:
            demand(actor, method.permission)
            asker.actor = actor
        return actor

    def _known(self, one: Waiting | Single | Stream) -> Actor:
        key = one.asker.key
        if key or not self._is_secure:
            return self._keyring.actor(key)
        pem = certificate_of(one.call)
        return self._keyring.actor(b"") if pem is None else self._holder(pem)

    def _holder(self, pem: bytes) -> Actor:
        """Whose certificate it is, for a call without a key. Raises Unauthenticated."""
        from falaj.inference.tls import peer_of_pem  # brings 4 MB that an endpoint without certificates has no use for

        if pem not in self._peers:
            if len(self._peers) >= _REMEMBERED:
                self._peers.clear()
            self._peers[pem] = peer_of_pem(pem, self._settings.tls_names)
        peer = self._peers[pem]
        if peer is None or peer.until < time.time():
            raise Unauthenticated("The certificate names nobody, or is over.", "show a new one, or send a key.")
        return self._keyring.holder(peer.identity)

    def _refuse(self, one: Waiting, error: FalajError) -> None:
        self._predictor.metrics.refused(error.code)
        one.refuse(error)

    # --- ten times a second ---

    def _look(self, now: float) -> None:
        if self._wants_stop and not self._stopped:
            self._stopped = now
            self._port.shut(self._shut)
            for stream in list(self._streams):
                stream.drain()
        if self._stopped and now - self._stopped > self._settings.drain_s:
            self._stopped = now
            self._port.cancel()
        late = time.perf_counter() - self._settings.request_timeout_s
        while self.opening and (oldest := next(iter(self.opening))).asker.started < late:
            del self.opening[oldest]
            self._refuse(oldest, _SLOW)
