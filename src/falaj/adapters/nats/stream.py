"""Messages in NATS JetStream: one subject a stream, a durable pull consumer a group."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from nats import errors as wrong
from nats.aio.client import Client
from nats.js import errors as js_wrong
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StreamConfig

from falaj.core.errors import Conflict, Denied, FalajError, InvalidInput, Unavailable
from falaj.core.message import LARGEST_VALUE, Delivery, Message, check_messages

_KEY, _ID = "falaj-key", "Nats-Msg-Id"
_ALLOWED = frozenset({"ca", "cert", "key", "creds"})
_MOST_HELD = 4_096
_AT_ONCE = 512
T = TypeVar("T")


class NatsStream:
    """capabilities: `durable` (file storage), `dedup` (for the stream's duplicate window, whoever produces), `leases`,
    `counts`, `shared`.

    Not `ordered`: a message that is handed out again comes after younger ones. A stream that exists already is used as it
    is configured: its own window, limits and storage hold. The client runs in a thread of its own.
    """

    capabilities: frozenset[str] = frozenset({"durable", "dedup", "leases", "counts", "shared"})

    def __init__(
        self, url: str, name: str, *, visible_s: float = 30.0, largest: int = LARGEST_VALUE, window_s: float = 600.0,
        timeout_s: float = 5.0,
    ) -> None:  # fmt: skip
        """`url`: nats://[user:password@]host[:port], or tls://; several hosts by commas. Behind `?`: `ca`, `cert`, `key` (PEM
        files) and `creds` (a NATS credentials file). Connects when it is first asked. Raises InvalidInput.
        """
        self._options, place = _options(url)
        if not re.fullmatch(r"[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*", name):
            raise InvalidInput(f"{name[:80]!r} is no subject of a stream.", "write it as requests or flights.requests.")
        self._subject, self._stream = name, name.replace(".", "_")
        self._where = f"The stream {name!r} at {place}"
        self._visible_s, self._largest, self._window_s, self._timeout_s = visible_s, largest, window_s, timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._js: Any = None
        self._readers: dict[str, Any] = {}
        self._held: dict[tuple[str, str], Any] = {}

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        return self._do(self._consume(group, limit, wait_s), wait_s)

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        """Returns once the server has confirmed it."""
        held = self._of(group, deliveries)
        if held:
            self._do(self._each(message.ack_sync(timeout=self._timeout_s) for message in held.values()))
            for place in held:
                self._held.pop(place, None)

    def release(self, group: str, deliveries: Sequence[Delivery]) -> None:
        held = self._of(group, deliveries)
        if held:
            self._do(self._each(message.nak() for message in held.values()))
            for place in held:
                self._held.pop(place, None)

    def extend(self, group: str, deliveries: Sequence[Delivery]) -> None:
        held = self._of(group, deliveries)
        if held:
            self._do(self._each(message.in_progress() for message in held.values()))

    def produce(self, messages: Sequence[Message]) -> int:
        check_messages(messages, self._largest)
        return self._do(self._publish(messages)) if messages else 0

    def replay(self) -> Iterator[Delivery]:
        last = self._do(self._last())
        if last == 0:
            return
        reader = self._do(self._reader_of_all())
        try:
            while True:
                found = self._do(self._fetch(reader, _AT_ONCE, self._timeout_s), self._timeout_s)
                for message in found:
                    position = message.metadata.sequence.stream
                    if position > last:
                        return
                    yield _delivery(message, 0)
                    if position == last:
                        return
                if not found:
                    raise Unavailable(f"{self._where} stopped half-way.", "read it again.")
        finally:
            with suppress(FalajError):
                self._do(reader.unsubscribe())

    def lag(self, group: str) -> int:
        """Exact, as the server knows it at that moment."""
        return self._do(self._lag(group))

    def close(self) -> None:
        loop = self._loop
        if loop is None:
            return
        with suppress(FalajError):
            if self._client is not None and self._client.is_connected:
                self._do(self._each(message.nak() for message in self._held.values()))
                self._do(self._client.flush(timeout=1))
            if self._client is not None:
                self._do(self._client.close())
        self._held.clear()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(self._timeout_s)
        self._loop = self._client = None

    # --- in the client's thread ---

    async def _connected(self) -> Any:
        if self._client is None:
            told = {**self._options, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1, "error_cb": _quiet}
            # The first time it says at once what is wrong; from then on it comes back by itself, for as long as it takes.
            client = Client()
            try:
                await client.connect(connect_timeout=self._timeout_s, allow_reconnect=False, name="falaj", **told)
            except BaseException:
                await client.close()  # it leaves its socket open where it was refused
                raise
            client.options |= {"allow_reconnect": True, "max_reconnect_attempts": -1}
            self._client = client
            self._js = self._client.jetstream(timeout=self._timeout_s)
        return self._js

    async def _consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        reader = await self._reader(group)
        try:
            found = await self._fetch(reader, limit, max(wait_s, 0.05))
        except js_wrong.NotFoundError:  # the server came back without it
            del self._readers[group]
            raise
        if not found and not self._client.is_connected:
            raise wrong.ConnectionClosedError
        for message in found:
            self._held[group, str(message.metadata.sequence.stream)] = message
        return [_delivery(message, message.metadata.num_delivered) for message in found]

    async def _reader(self, group: str) -> Any:
        js = await self._connected()
        if group not in self._readers:
            await self._stream_there()
            config = ConsumerConfig(
                durable_name=group, filter_subject=self._subject, deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self._visible_s, max_deliver=-1, max_ack_pending=_MOST_HELD,
            )  # fmt: skip
            await js.add_consumer(self._stream, config=config)
            self._readers[group] = await js.pull_subscribe_bind(durable=group, stream=self._stream)
        return self._readers[group]

    async def _reader_of_all(self) -> Any:
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, inactive_threshold=60)
        return await self._js.pull_subscribe(self._subject, stream=self._stream, config=config)

    async def _fetch(self, reader: Any, limit: int, wait_s: float) -> list[Any]:
        try:
            found: list[Any] = await reader.fetch(limit, timeout=wait_s)
        except TimeoutError:  # the client's own is one too, but where the time ran out between its two requests it raises this
            return []
        return found

    async def _publish(self, messages: Sequence[Message]) -> int:
        js = await self._connected()
        if self._client.max_payload < max(len(message.value) for message in messages):
            raise InvalidInput(f"{self._where} takes at most {self._client.max_payload:,} bytes.", "raise max_payload there.")
        await self._stream_there()
        new = 0
        for start in range(0, len(messages), _AT_ONCE):
            sent = []
            for message in messages[start : start + _AT_ONCE]:
                # One after the other into the connection, so that they are stored in this order; the answers come together.
                headers = {
                    **message.headers,
                    **({_KEY: message.key} if message.key else {}),
                    **({_ID: message.id} if message.id else {}),
                }
                sent.append(await js.publish_async(self._subject, message.value, headers=headers or None))
            answers = await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), self._timeout_s)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                new += not answer.duplicate
        return new

    async def _stream_there(self) -> None:
        js = self._js
        try:
            await js.stream_info(self._stream)
        except js_wrong.NotFoundError:
            config = StreamConfig(
                name=self._stream, subjects=[self._subject], duplicate_window=self._window_s, discard=DiscardPolicy.NEW
            )
            with suppress(js_wrong.BadRequestError):  # somebody else was faster, or it is refused: then using it tells
                await js.add_stream(config)

    async def _last(self) -> int:
        js = await self._connected()
        try:
            return int((await js.stream_info(self._stream)).state.last_seq)
        except js_wrong.NotFoundError:
            return 0

    async def _lag(self, group: str) -> int:
        js = await self._connected()
        messages = 0
        with suppress(js_wrong.NotFoundError):  # nobody produced yet, or nobody of this group consumed yet
            messages = int((await js.stream_info(self._stream)).state.messages)
            about = await js.consumer_info(self._stream, group)
            return int(about.num_pending) + int(about.num_ack_pending)
        return messages

    async def _each(self, calls: Any) -> None:
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, wrong.MsgAlreadyAckdError):
                raise answer

    # --- between the threads ---

    def _do(self, call: Coroutine[Any, Any, T], wait_s: float = 0.0) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_spin, args=(self._loop,), name="falaj-nats", daemon=True)
            self._thread.start()
        with self._translated():
            # The call gives up by itself; the second limit is for one that does not.
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
            try:
                return future.result(wait_s + 4 * self._timeout_s)
            finally:
                future.cancel()

    def _of(self, group: str, deliveries: Sequence[Delivery]) -> dict[tuple[str, str], Any]:
        places = {(group, one.position) for one in deliveries}
        return {place: self._held[place] for place in places if place in self._held}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (wrong.AuthorizationError, ssl.SSLError) as exc:
            raise Denied(f"{self._where} refuses: {type(exc).__name__}.", "check what `stream_url` refers to.") from exc
        except js_wrong.NotFoundError as exc:
            raise Unavailable(f"{self._where} is not there any more.", "it is made anew; try again.") from exc
        except js_wrong.APIError as exc:
            if exc.err_code in (10_077, 10_122) or (exc.code or 0) >= 500:  # its limits are reached, or no room
                raise Unavailable(f"{self._where} has no room: {exc.description}.", "let its consumers catch up.") from exc
            raise Conflict(f"{self._where} refuses: {exc.description}.", "look at that stream's configuration.") from exc
        except wrong.MaxPayloadError as exc:
            raise InvalidInput(f"{self._where} takes no message of that size.", "raise max_payload there.") from exc
        except (wrong.Error, OSError, TimeoutError) as exc:
            if "authorization" in str(exc).lower():
                raise Denied(f"{self._where} refuses.", "check what `stream_url` refers to.") from exc
            raise Unavailable(
                f"{self._where} does not answer: {type(exc).__name__}.", "check that NATS runs there; falaj tries again."
            ) from exc


def _spin(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped; what is still under way then is ended, and its connections with it."""
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


async def _quiet(_error: Exception) -> None:
    """What goes wrong is told by the call that it happens to."""


def _delivery(message: Any, attempts: int) -> Delivery:
    about, headers = message.metadata, dict(message.headers or {})
    whole = Message(message.data, headers.pop(_KEY, ""), {}, headers.pop(_ID, ""))
    whole = Message(whole.value, whole.key, headers, whole.id)
    return Delivery(whole, str(about.sequence.stream), attempts, int(about.timestamp.timestamp() * 1000))


def _options(url: str) -> tuple[dict[str, Any], str]:
    """What the client is told, and the hosts without what may be secret."""
    try:
        first = url.partition(",")[0]
        parts, asked = urlsplit(url.partition("?")[0]), parse_qs(url.partition("?")[2])
        hosts = [one.rpartition("@")[2].rpartition("//")[2] for one in url.partition("?")[0].split(",")]
        if parts.scheme not in ("nats", "tls") or not all(hosts) or set(asked) - _ALLOWED or urlsplit(first).port == 0:
            raise ValueError
    except ValueError:
        raise InvalidInput(
            "The address of the stream is no NATS address.",
            "write nats://host:4222, or tls:// for TLS; behind `?` only ca, cert, key and creds may stand.",
        ) from None
    files = {name: value[0] for name, value in asked.items()}
    options: dict[str, Any] = {"servers": [f"{parts.scheme}://{host}" for host in hosts]}
    user, _, password = parts.netloc.split(",")[0].rpartition("@")[0].partition(":")
    if user:
        options |= {"user": unquote(user), "password": unquote(password)}
    if parts.scheme == "tls" or "ca" in files:
        options["tls"] = _tls(files)
    if "creds" in files:
        options["user_credentials"] = files["creds"]
    return options, ",".join(hosts)


def _tls(files: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except OSError as exc:
        raise InvalidInput(
            f"A certificate of the stream's address cannot be read: {exc.strerror or exc}.", "check `ca`, `cert` and `key`."
        ) from exc
    return context
