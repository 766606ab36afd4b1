"""How falaj reaches Kafka: the address, what its client is told, and its errors as falaj's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from confluent_kafka import KafkaError, KafkaException

from falaj.core.errors import Denied, FalajError, InvalidInput, Unavailable

_FILES = {"ca": "ssl.ca.location", "cert": "ssl.certificate.location", "key": "ssl.key.location"}
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)  # fmt: skip


def options(url: str) -> tuple[dict[str, Any], str]:
    """What the client is told of an address, and its hosts without what may be secret. Raises InvalidInput."""
    try:
        start, _, rest = url.partition("?")
        parts, asked = urlsplit(start), {name: value[0] for name, value in parse_qs(rest).items()}
        hosts = parts.netloc.rpartition("@")[2]
        mechanism = asked.pop("sasl", "SCRAM-SHA-512")
        if parts.scheme not in ("kafka", "kafkas") or not hosts or set(asked) - set(_FILES) or mechanism not in _MECHANISMS:
            raise ValueError
    except ValueError:
        raise InvalidInput(
            "The address of the stream is no Kafka address.",
            "write kafka://host:9092,host:9092 or kafkas:// for TLS; behind `?` only ca, cert, key and sasl may stand.",
        ) from None
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    protocol = ("SASL_" if user else "") + ("SSL" if parts.scheme == "kafkas" else "PLAINTEXT")
    told = {"bootstrap.servers": hosts, "security.protocol": protocol, "client.id": "falaj"}
    told |= {_FILES[name]: value for name, value in asked.items()}
    if user:
        told |= {"sasl.mechanism": mechanism, "sasl.username": unquote(user), "sasl.password": unquote(password)}
    return told, hosts


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Kafka's errors, as falaj's own."""
    try:
        yield
    except KafkaException as exc:
        raise error_of(where, exc.args[0]) from exc


def error_of(where: str, error: Any) -> FalajError:
    code = error.code()
    if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE):
        return InvalidInput(f"{where} takes no message of that size.", "raise message.max.bytes there.")
    if code in _REFUSED:
        return Denied(f"{where} refuses: {error.name()}.", "check what `stream_url` refers to.")
    if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return Unavailable(f"{where} does not exist, and Kafka does not make it.", "make the topic; falaj tries again.")
    return Unavailable(f"{where} does not answer: {error.name()}.", "check that Kafka runs there; falaj tries again.")
