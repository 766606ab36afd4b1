"""What a person can ask about an endpoint's streams, and send through once more, whichever face they use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from falaj.adapters.local.stream import FileStream
from falaj.app import App, init_project, open_app
from falaj.cli.main import main
from falaj.core.actor import Actor
from falaj.core.errors import Denied, NotFound
from falaj.core.message import Message
from falaj.operations import OPERATIONS

AMAL, CALLER = Actor("amal", roles=("operator",)), Actor("app", "service", ("caller",))
BY_NAME = {operation.name: operation for operation in OPERATIONS}
PROJECT = '''
"""Two endpoints, one with streams."""

from falaj import Endpoint, StreamIO

delay = Endpoint("delay", "delay", stream=StreamIO("requests", "answers"))
quiet = Endpoint("quiet", "quiet")
'''


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    name = f"streams_{uuid4().hex}"  # a module is imported once in a process
    (tmp_path / f"{name}.py").write_text(PROJECT)
    (tmp_path / "falaj.toml").write_text(f'modules = "{name}"\n')
    init_project(tmp_path)
    with open_app(tmp_path) as opened:
        yield opened


def stream(app: App, name: str) -> FileStream:
    return FileStream(app.state / "streams", name)


def test_a_stream_is_shown_and_its_letters_go_again(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream(app, "requests").produce([Message(b"waits")])
    stream(app, "requests.dead").produce([Message(b"hush", headers={"falaj-reason": "bug", "falaj-position": "7"})])
    told = BY_NAME["stream.show"].do(app, AMAL, "delay", {})
    assert (told["lag"], told["dead_letters"], told["newest"][0]["reason"]) == (1, 1, "bug")
    sent = BY_NAME["stream.replay"].do(app, AMAL, "delay", {"reason": "mended"})
    assert sent == {"sent": 1, "left": 0}
    assert [one.message.id for one in stream(app, "requests").replay()] == ["", "7~0"]
    assert app.ledger.events()
    assert main(["stream", "show", "delay", "--project", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["lag"] == 2
    assert "hush" not in shown


def test_an_endpoint_without_streams_and_a_caller_without_the_right_are_refused(app: App) -> None:
    with pytest.raises(NotFound, match="takes no messages"):
        BY_NAME["stream.show"].do(app, AMAL, "quiet", {})
    with pytest.raises(NotFound, match="nothing"):
        BY_NAME["stream.show"].do(app, AMAL, "nothing", {})
    for name, given in (("stream.show", {}), ("stream.replay", {"reason": "x"})):
        with pytest.raises(Denied):
            BY_NAME[name].do(app, CALLER, "delay", given)
