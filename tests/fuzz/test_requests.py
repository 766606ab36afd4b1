"""The short form of the fuzz run: every shape once, and a few hundred rounds."""

import socket
from collections.abc import Iterator

import pytest

from tests.fuzz import requests
from tests.fuzz.shapes import SHAPES, Shape, head
from tests.fuzz.wire import exchange

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[requests.Target]:
    with requests.endpoint(tmp_path_factory.mktemp("state")) as found:
        yield found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_request_that_is_wrong_as_http_is_refused_as_it_should_be(target: requests.Target, shape: Shape) -> None:
    found, wire = exchange(target.host, target.port, [target.keyed(shape.sent)], len(shape.answers))
    found = wire.answers(len(shape.answers) + 1, requests.QUIET_S)
    wire.close()
    requests.check_all(found, wire, shape.answers, target.key)
    requests.check_good(target)


def test_what_answers_a_head_has_no_body_that_could_be_taken_for_the_next_answer(target: requests.Target) -> None:
    wire = socket.create_connection((target.host, target.port), timeout=20)
    wire.sendall(
        target.keyed(head(method=b"HEAD", path=b"/v2/models/delay") + head(b"Connection: close", method=b"GET", path=b"/v2"))
    )
    data = b""
    while piece := wire.recv(65536):
        data += piece
    wire.close()
    first, _, rest = data.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 ")
    assert rest == b"" or rest.startswith(b"HTTP/1.1 ")


def test_a_few_hundred_rounds_find_nothing(target: requests.Target) -> None:
    assert requests.run(target, range(400), seed=7).total() == 400
