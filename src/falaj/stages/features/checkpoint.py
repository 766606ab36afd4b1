"""A checkpoint of a window stream: what it knows, as bytes in a fixed layout that any program can read.

    8 bytes    FALAJWS1
    4 bytes    length of the head, unsigned, little-endian
    head       canonical JSON (RFC 8785): view, definition (digest), lateness_ms, event_id, watermark_ms, out_ms, position,
               counts; names (the entities, by place), labels (column → its texts, by number), columns (column, form,
               where, events: how many), ids (how many)
    columns    for each column its keys as int64, then its values as doubles; a key is the entity's place · 2^43 + the
               event's time in ms + 2^42
    ids        for each id its event's time in ms as int64; then each id's length in bytes as uint32; then their UTF-8
    32 bytes   SHA-256 of everything before

All numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from falaj.core.codec import canonical
from falaj.core.errors import InvalidInput
from falaj.stages.features.events import Events, Wanted
from falaj.stages.features.spec import WindowView
from falaj.stages.features.windows import WindowState

MAGIC = b"FALAJWS1"
LARGEST = 4 << 30
_LENGTH = struct.Struct("<I")
_SUM = 32


def write(head: Mapping[str, Any], state: WindowState, ids: Mapping[str, int]) -> bytes:
    """The bytes of a stream whose own facts are in `head`."""
    columns = [
        {"column": w.column, "form": w.form, "where": list(w.where) if w.where else None, "events": len(events.keys)}
        for w, events in state.columns.items()
    ]
    labels = {column: list(known) for column, known in state.labels.items()}
    text = canonical({**head, "names": state.names, "labels": labels, "columns": columns, "ids": len(ids)})
    names = [name.encode() for name in ids]
    parts = [MAGIC, _LENGTH.pack(len(text)), text]
    for events in state.columns.values():
        parts += [events.keys.astype("<i8").tobytes(), events.values.astype("<f8").tobytes()]
    parts += [np.array(list(ids.values()), "<i8").tobytes(), np.array([len(name) for name in names], "<u4").tobytes(), *names]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def read(view: WindowView, data: bytes) -> tuple[dict[str, Any], WindowState, dict[str, int]]:
    """The head, the state and the ids. Raises InvalidInput for anything that `write` did not write."""
    if not len(MAGIC) + _LENGTH.size + _SUM <= len(data) <= LARGEST or not data.startswith(MAGIC):
        raise _broken("it does not begin as one")
    body = data[:-_SUM]
    if hashlib.sha256(body).digest() != data[-_SUM:]:
        raise _broken("its sum is not right")
    try:
        return _read(view, body)
    except (KeyError, TypeError, ValueError, struct.error) as exc:
        raise _broken(f"{type(exc).__name__}: {exc}") from exc


def _read(view: WindowView, body: bytes) -> tuple[dict[str, Any], WindowState, dict[str, int]]:
    start = len(MAGIC) + _LENGTH.size
    (size,) = _LENGTH.unpack_from(body, len(MAGIC))
    head: dict[str, Any] = json.loads(body[start : start + size])
    place = start + size
    columns: dict[Wanted, Events] = {}
    for one in head["columns"]:
        count = one["events"]
        keys, place = np.frombuffer(body, "<i8", count, place).astype(np.int64), place + 8 * count
        values, place = np.frombuffer(body, "<f8", count, place).astype(np.float64), place + 8 * count
        where = (one["where"][0], one["where"][1]) if one["where"] else None
        columns[Wanted(one["column"], one["form"], where)] = Events(keys, values)
    count = head["ids"]
    times, place = np.frombuffer(body, "<i8", count, place).tolist(), place + 8 * count
    sizes, place = np.frombuffer(body, "<u4", count, place).tolist(), place + 4 * count
    ids: dict[str, int] = {}
    for ms, length in zip(times, sizes, strict=True):
        ids[body[place : place + length].decode()] = ms
        place += length
    if place != len(body):
        raise ValueError(f"{len(body) - place} bytes are left over")
    labels = {column: {text: float(number) for number, text in enumerate(texts)} for column, texts in head["labels"].items()}
    return head, WindowState.of(view, list(head["names"]), labels, columns), ids


def _broken(why: str) -> InvalidInput:
    return InvalidInput(f"This is no checkpoint of a window stream: {why}.", "resume from the one before it, or begin anew.")
