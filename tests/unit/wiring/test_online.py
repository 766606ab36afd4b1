"""The settings decide which online store the control plane writes and where its inference servers read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.adapters.local.host import ProcessHost
from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.redis.online import RedisOnline
from falaj.adapters.sealing.online import SealedOnline
from falaj.app import App, init_project, open_app
from falaj.core.errors import InvalidInput, Unavailable
from falaj.endpoint import LateOnline
from falaj.inference.settings import settings_from
from falaj.ports.online import Online, Stored
from tests.kits.servers import free_port

NEEDED = {"endpoint": "delay", "blobs": "/b", "public_key": "/k", "pepper": "/p"}


def opened(folder: Path, **settings: Any) -> App:
    module = f"project_{uuid4().hex}"
    (folder / f"{module}.py").write_text('"""Nothing is declared."""\n')
    given = {"modules": module, "clock": "replay", "runner": "memory", "mirror": "none", "name": "wired", **settings}
    init_project(folder, given)
    return open_app(folder, given)


def behind(app: App) -> Online:
    """The store itself; in front of it stands what seals the rows of people."""
    assert isinstance(app.online, SealedOnline)
    return app.online.inner


def test_a_redis_is_opened_by_reference_and_the_inference_servers_are_told_the_reference_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_OF_TEST", "redis://:hush@store.example:6379/0")
    with opened(tmp_path, online="redis", online_url="env:STORE_OF_TEST") as app:
        assert isinstance(behind(app), RedisOnline)
        assert isinstance(app.host, ProcessHost)
        told = {key: app.host.options[key] for key in ("online_scheme", "online_url", "project")}
        assert told == {"online_scheme": "redis", "online_url": "env:STORE_OF_TEST", "project": "wired"}


def test_an_embedded_store_needs_no_word_to_the_inference_servers(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        assert isinstance(behind(app), LmdbOnline)
        assert isinstance(app.host, ProcessHost)
        assert not {"online_scheme", "online_url", "project"} & set(app.host.options)


def test_endpoints_get_as_many_workers_as_the_settings_say(tmp_path: Path) -> None:
    with opened(tmp_path, serve_workers="2", serve_grpc="off", serve_grpc_port="7900") as app:
        assert isinstance(app.host, ProcessHost)
        told = {key: app.host.options[key] for key in ("workers", "grpc", "grpc_port")}
        assert told == {"workers": 2, "grpc": "off", "grpc_port": 7900}


def test_an_address_with_a_password_in_the_settings_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, online="postgres", online_url="postgresql://u:hush@127.0.0.1/d") as app:
        with pytest.raises(InvalidInput, match="online_url") as told:
            _ = app.online
        assert "hush" not in str(told.value)


def test_until_something_was_materialised_every_feature_is_missing(tmp_path: Path) -> None:
    late = LateOnline(settings_from({**NEEDED, "online": str(tmp_path / "online.lmdb")}))
    assert late.get([("a", "x")]) == [None]
    writer = LmdbOnline(tmp_path / "online.lmdb", map_size=1 << 24)
    writer.put("a", {"x": Stored(1, (1.0,))})
    writer.close()
    assert late.get([("a", "x")]) == [Stored(1, (1.0,))]
    late.close()


def test_a_store_that_is_away_is_not_waited_for_by_every_request() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    late = LateOnline(settings_from({**NEEDED, "online": "/o", "online_scheme": "redis", "online_url": url, "project": "p"}))
    with pytest.raises(Unavailable):
        late.get([("a", "x")])
    store: Any = late._store
    asked: list[float] = []
    store.get = lambda keys: asked.append(time.monotonic())
    with pytest.raises(Unavailable, match="does not answer"):
        late.get([("a", "x")])
    assert asked == []
    late.close()


def test_a_server_is_not_told_of_a_store_that_nobody_could_find() -> None:
    with pytest.raises(InvalidInput, match="leads nowhere"):
        LateOnline(settings_from({**NEEDED, "online": "/o", "online_scheme": "redis", "online_url": "env:NOT_SET_ANYWHERE"}))
