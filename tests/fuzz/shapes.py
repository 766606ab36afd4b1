"""Requests that are wrong as HTTP, each with the statuses that it may be answered with; and good ones in unusual form."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from tests.fuzz.bodies import CALL, INFER

BODY = json.dumps(CALL).encode()
LENGTH = str(len(BODY)).encode()
HIDDEN = b"GET /v2/models/delay HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n\r\n"
"""A second request inside of the first one's body; whoever answers it was talked into taking the body for a request."""
LIMIT = 1 << 20
REFUSED = (400, 404, 405, 411, 413, 414, 415, 417, 422, 426, 431)


@dataclass(frozen=True)
class Shape:
    """`sent`: the bytes; KEY stands for a good key. `answers`: for each answer in turn, the statuses that are right.

    A connection that is closed without a word is right only where `answers` is empty.
    """

    name: str
    sent: bytes
    answers: tuple[tuple[int, ...], ...]


def head(*lines: bytes, method: bytes = b"POST", path: bytes = INFER.encode(), version: bytes = b"HTTP/1.1") -> bytes:
    """A request's head with a key; `lines` come after it."""
    first = b" ".join((method, path, version))
    return b"\r\n".join((first, b"Host: x", b"Authorization: Bearer KEY", *lines, b"", b""))


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


TE, CL = b"Transfer-Encoding: chunked", b"Content-Length: " + LENGTH
OK, BAD = ((200,),), ((400,),)
GET = head(method=b"GET", path=b"/v2/models/delay")
WHOLE = head(CL) + BODY


def _lengths() -> list[Shape]:
    odd = (
        b"-1",
        b"-%d" % len(BODY),
        b"+%d" % len(BODY),
        b"0x10",
        b"1e3",
        b"",
        b"abc",
        b"5, 5",
        b"9" * 30,
        b"18446744073709551617",
        b"1 2",
    )
    made = [Shape(f"length {value.decode()!r}", head(b"Content-Length: " + value) + BODY, (REFUSED,)) for value in odd]
    big = str(LIMIT + 1).encode()
    return [
        *made,
        Shape("length spaced", head(b"Content-Length:   " + LENGTH + b"  ") + BODY, OK),
        Shape("length twice, unequal", head(CL, b"Content-Length: 3") + BODY, BAD),
        Shape("length twice, equal", head(CL, CL) + BODY, ((200, 400),)),
        Shape("length before encoding", head(CL, TE) + chunked(BODY), BAD),
        Shape("length after encoding", head(TE, CL) + chunked(BODY), BAD),
        Shape("hidden by length and encoding", head(b"Content-Length: 6", TE) + b"0\r\n\r\n" + HIDDEN, BAD),
        Shape("hidden by encoding and length", head(TE, b"Content-Length: 4") + b"5c\r\n" + HIDDEN + b"0\r\n\r\n", BAD),
        Shape("hidden by a space", head(b"Content-Length: 0", b"Content-Length : 6") + HIDDEN, BAD),
        Shape("hidden by a tab", head(b"Transfer-Encoding:\tchunked", b"Content-Length: 3") + b"0\r\n\r\n" + HIDDEN, BAD),
        Shape("hidden by a fold", head(b"Transfer-Encoding:\r\n chunked", b"Content-Length: 3") + b"0\r\n\r\n" + HIDDEN, BAD),
        Shape("length too large", head(b"Content-Length: " + big), ((413,),)),
        Shape("no length", head(), ((400, 411, 422),)),
        Shape("length zero", head(b"Content-Length: 0"), ((400, 422),)),
        Shape("length zero with a body", head(b"Content-Length: 0") + GET, ((400, 422), (200,))),
    ]


def _encodings() -> list[Shape]:
    odd = (
        b"xchunked",
        b"chunked, identity",
        b"identity",
        b"gzip, chunked",
        b"chunked\x0b",
        b"chunked, chunked",
        b"\x00chunked",
        b"",
    )
    made = [Shape(f"encoding {value!r}", head(b"Transfer-Encoding: " + value) + chunked(BODY), (REFUSED,)) for value in odd]
    sizes = (b"g", b"-1", b"0x5", b"fffffffffffffffff", b"5 5", b"\n", b"5;\n", b"+5")
    made += [Shape(f"chunk size {size!r}", head(TE) + size + b"\r\n" + BODY, (REFUSED,)) for size in sizes]
    half = len(BODY) // 2
    return [
        *made,
        Shape("chunks", head(TE) + chunked(BODY[:half], BODY[half:]), OK),
        Shape("chunks, single bytes", head(TE) + chunked(*(BODY[n : n + 1] for n in range(len(BODY)))), OK),
        Shape("chunk with extension", head(TE) + b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), ((200, 400),)),
        Shape("chunk with a trailer", head(TE) + chunked(BODY)[:-2] + b"X-A: b\r\n\r\n", ((200, 400),)),
        Shape("chunk too short", head(TE) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY) - 3, BODY), BAD),
        Shape("encoding twice", head(TE, TE) + chunked(BODY), ((200, 400),)),
        Shape("endless chunks", head(TE) + b"10000\r\n" + b"x" * 65536 + (b"\r\n10000\r\n" + b"x" * 65536) * 20, ((413,),)),
        Shape("compressed", head(CL, b"Content-Encoding: gzip") + BODY, ((400, 415, 422),)),
    ]


def _heads() -> list[Shape]:
    get = head(method=b"GET", path=b"/v2/models/delay")
    return [
        Shape("bare line feeds", get.replace(b"\r\n", b"\n"), ((200, 400),)),
        Shape("bare carriage returns", get.replace(b"\r\n", b"\r"), BAD),
        Shape("folded header", head(b"X-A: 1\r\n  2", method=b"GET", path=b"/v2/models/delay"), ((200, 400),)),
        Shape("header without a name", head(b": x", CL) + BODY, BAD),
        Shape("header without a colon", head(b"rubbish", CL) + BODY, BAD),
        Shape("header with a space", head(b"X A: b", CL) + BODY, BAD),
        Shape("header with a null", head(b"X-A: a\0b", CL) + BODY, BAD),
        Shape("header not ASCII", head("X-Ä: b".encode(), CL) + BODY, BAD),
        Shape("value not UTF-8", head(b"X-A: \xff\xfe", CL) + BODY, ((200, 400),)),
        Shape("a thousand headers", head(*(b"X-%d: y" % n for n in range(1000)), CL) + BODY, ((200, 431),)),
        Shape("headers too long", head(b"X-A: " + b"x" * 40_000, CL) + BODY, ((431,),)),
        Shape("name too long", head(b"X" * 40_000 + b": x", CL) + BODY, ((431,),)),
        Shape("path too long", head(method=b"GET", path=b"/" + b"x" * 40_000), ((414, 431),)),
        Shape("endless head", b"GET /" + b"x" * 200_000, ((414, 431),)),
        Shape("no host", get.replace(b"Host: x\r\n", b""), ((200, 400),)),
        Shape("two hosts", head(b"Host: y", method=b"GET", path=b"/v2"), ((200, 400),)),
        Shape("HTTP/1.0", head(CL, version=b"HTTP/1.0") + BODY, OK),
        Shape("HTTP/1.0, kept", head(CL, b"Connection: keep-alive", version=b"HTTP/1.0") + BODY, OK),
        Shape("HTTP/0.9", b"GET /v2\r\n", ((400, 408),)),
        Shape("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
        Shape("HTTP/9.9", head(method=b"GET", path=b"/v2", version=b"HTTP/9.9"), BAD),
        Shape("HTTP in small letters", head(method=b"GET", path=b"/v2", version=b"http/1.1"), BAD),
        Shape("no version", head(method=b"GET", path=b"/v2", version=b""), BAD),
        Shape("method unknown", head(method=b"FROB", path=b"/v2"), (REFUSED,)),
        Shape("method in small letters", head(method=b"get", path=b"/v2"), (REFUSED,)),
        Shape("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xab" * 200, BAD),
        Shape("rubbish", b"rubbish\r\n\r\n", BAD),
        Shape("only line ends first", b"\r\n\r\n" + get, ((200, 400),)),
    ]


H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")


def _targets() -> list[Shape]:
    paths = (
        b"//v2", b"/v2/", b"/v2//models/delay", b"/../v2", b"/v2/%2e%2e/v2", b"/v2%00", b"/%", b"/%zz", b"/v2;a", b"*",
        b"/v2/models/%ff",
        b"/v2/models/" + b"d" * 3000, "/v2/models/dél".encode(), b"/v2/models/delay/versions/", b"/v2/models/delay/versions/9",
        b"/v1/models/:predict", b"/admin", b"/v2/models/delay/infer",
    )  # fmt: skip
    made = [Shape(f"path {path[:30]!r}", head(method=b"GET", path=path), (REFUSED,)) for path in paths]
    made += [
        Shape(f"method {m.decode()}", head(method=m, path=b"/v2"), ((400, 404, 405),))
        for m in (b"PUT", b"DELETE", b"TRACE", b"PATCH")
    ]
    return [
        *made,
        Shape("a question", head(method=b"GET", path=b"/v2/models/delay?x=1&x=%00"), OK),
        Shape("absolute form", head(method=b"GET", path=b"http://x/v2/models/delay"), ((200, 400, 404),)),
        Shape("another's address", head(method=b"GET", path=b"http://example.org/v2/models/delay"), ((200, 400, 404),)),
        Shape("connect", head(method=b"CONNECT", path=b"example.org:443"), (REFUSED,)),
        Shape("options for all", head(method=b"OPTIONS", path=b"*"), (REFUSED,)),
        Shape("upgrade to websocket", head(b"Connection: Upgrade", b"Upgrade: websocket", CL) + BODY, ((200, 400, 426),)),
        Shape("upgrade to HTTP/2", head(*H2C, CL) + BODY, ((200, 400, 426),)),
        Shape("expects to go on", head(CL, b"Expect: 100-continue") + BODY, OK),
        Shape("expects the unknown", head(CL, b"Expect: wonders") + BODY, ((200, 417),)),
        Shape("get with a body", head(CL, method=b"GET", path=b"/v2/models/delay") + BODY, OK),
    ]  # fmt: skip


def _several() -> list[Shape]:
    return [
        Shape("three at once", WHOLE * 3, ((200,),) * 3),
        Shape("twenty at once", GET * 20, ((200,),) * 20),
        Shape("a bad one among good ones", WHOLE + head(b"Content-Length: 2") + b"{]" + WHOLE, ((200,), (400,), (200,))),
        Shape("a good one, then rubbish", WHOLE + b"\0\0\0\r\n\r\n", ((200,), (400,))),
        Shape("a good one that says close, then another", head(CL, b"Connection: close") + BODY + GET, ((200,),)),
        Shape("the same request again", WHOLE.replace(b"Host: x", b"Host: x\r\nX-Request-Id: again") * 2, ((200,), (200,))),
    ]


def _keys() -> list[Shape]:
    odd = (
        b"", b"Authorization: Bearer wrong", b"Authorization: Bearer", b"Authorization: Basic S0VZ",
        b"Authorization: Bearer " + b"k" * 9000, b"Authorization: Bearer \xff\xfe",
        b"Authorization: KEY", b"X-Falaj-Key:", b"X-Falaj-Key: wrong",
        b"Authorization: Bearer KEYx", b"Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.", b"Cookie: key=KEY",
    )  # fmt: skip
    bare = b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\n"
    made = []
    for number, line in enumerate(odd):
        sent = bare + (line + b"\r\n" if line else b"") + CL + b"\r\n\r\n" + BODY
        made.append(Shape(f"key {number}: {line[:40].decode('latin-1')}", sent, ((401,),)))
    forced = head(CL, b"X-Falaj-Arm: champion") + BODY
    none = head(CL, b"X-Falaj-Arm: \xff") + BODY
    return [
        *made,
        Shape("an arm that may not be forced", forced, ((403,),)),
        Shape("an arm that is none", none, ((403, 404, 422),)),
    ]


SHAPES = (*_lengths(), *_encodings(), *_heads(), *_targets(), *_several(), *_keys())


_PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"\xff", b"%00", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
)  # fmt: skip


def broken(chance: random.Random) -> bytes:
    """A good request, or one of these, with a few bytes of its head harmed."""
    held = bytearray(chance.choice((WHOLE, WHOLE, GET, chance.choice(SHAPES).sent))[:60_000])
    end = max(1, held.find(b"\r\n\r\n") + 4)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(min(end, len(held)) or 1)
        match chance.randrange(6):
            case 0:
                held[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                held[at:at] = chance.choice(_PIECES)
            case 2:
                del held[at : at + chance.choice((1, 2, 4, 30))]
            case 3:
                held[at:at] = held[at : at + chance.choice((2, 8, 40))]
            case 4:
                del held[at:]
            case _:
                held[at : at + 4] = chance.randbytes(4)
        if not held:
            break
    return bytes(held)
