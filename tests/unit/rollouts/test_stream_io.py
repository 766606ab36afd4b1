"""What is declared about an endpoint's streams, and what they are opened with."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.reference import stream_options
from falaj.core.codec import decode, encode
from falaj.core.errors import InvalidInput
from falaj.ports.host import Wanted
from falaj.stages.rollouts.service import _as_declared, _first
from falaj.stages.rollouts.spec import Endpoint, StreamIO


def test_dead_letters_have_a_stream_of_their_own_unless_it_is_named() -> None:
    assert StreamIO("requests", "answers").dead == "requests.dead"
    assert StreamIO("requests", "answers", "graves").dead == "graves"


@pytest.mark.parametrize("wrong", [
    {"source": ""}, {"source": "../a"}, {"source": "a b"}, {"sink": "requests"}, {"dead": "answers"}, {"group": "a/b"},
    {"batch": 0}, {"batch": 5000}, {"tries": 0}, {"source": "x" * 101},
])  # fmt: skip
def test_what_cannot_work_is_refused_where_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        StreamIO(**{"source": "requests", "sink": "answers", **wrong})


def test_a_declaration_reaches_the_host_and_older_records_are_read_without_one() -> None:
    declared = StreamIO("requests", "answers")
    endpoint = Endpoint("delay", "delay", stream=declared)
    wanted = _as_declared(_first(endpoint).wanted, endpoint)
    assert decode(Wanted, encode(wanted)).stream == asdict(declared)
    older = {name: value for name, value in encode(wanted).items() if name != "stream"}
    assert decode(Wanted, older).stream == {}


def test_an_address_that_shows_a_secret_or_leads_away_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(scheme: str, url: str) -> Any:
        return stream_options(scheme, folder=tmp_path, url=url, name="requests")

    assert opened("file", "") == {"folder": tmp_path, "name": "requests"}
    assert opened("kafka", "kafka://127.0.0.1:1,localhost:2")["url"] == "kafka://127.0.0.1:1,localhost:2"
    monkeypatch.setenv("WHERE", "kafka://u:hush@away:1,away:2")
    assert opened("kafka", "env:WHERE")["url"] == "kafka://u:hush@away:1,away:2"
    for url in ("", "kafka://away:1", "kafka://127.0.0.1:1,away:2", "kafka://u:hush@127.0.0.1:1", "env:NOWHERE"):
        with pytest.raises(InvalidInput) as told:
            opened("kafka", url)
        assert "hush" not in str(told.value)
