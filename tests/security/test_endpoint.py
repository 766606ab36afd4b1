"""A web page that points a name of its own at an endpoint: it reaches the server, and gets nothing that it could use.

An endpoint answers by any name, as whoever stands before it gives it one; what opens it is a key that no browser sends by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from falaj.inference.server import ROUTES
from tests.kits.endpoint import Installation
from tests.security.classes import attack

pytestmark = pytest.mark.slow

HOSTS = ("evil.example", "127.0.0.1.evil.example", "localhost", "169.254.169.254", "0x7f000001")
PAGE = {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}
"""What a browser says of a page whose name was pointed elsewhere: that it is its own."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    (tmp_path_factory.getbasetemp() / "rebound").mkdir()
    place = Installation(Path(tmp_path_factory.getbasetemp() / "rebound"))
    place.key("app", "operator")
    place.host.serve(place.wanted(), place.keys)
    yield place
    place.close()


@attack("redirect and rebinding")
@attack("foreign page")
@pytest.mark.parametrize("host", HOSTS)
def test_a_page_that_points_its_name_here_has_no_key_and_so_nothing(endpoint: Installation, host: str) -> None:
    with httpx.Client(base_url=endpoint.url, trust_env=False, timeout=20, headers={"Host": host, **PAGE}) as client:
        for route in ROUTES:
            path = route.pattern.replace("{name}", "delay").replace("{version}", "1")
            answer = client.request(route.method, path, content=b"{}" if route.method == "POST" else None)
            assert answer.status_code == (401 if route.permission != "open" else 200), path
            assert not [name for name in answer.headers if name.startswith(("access-control", "set-cookie"))], path
            assert route.permission != "open" or "delay" not in answer.text, "what is open to all says nothing of a model"


@attack("foreign page")
def test_nothing_that_a_browser_sends_by_itself_opens_anything(endpoint: Installation) -> None:
    key = endpoint.key("other", "operator")
    endpoint.host.serve(endpoint.wanted(), endpoint.keys)
    with httpx.Client(base_url=endpoint.url, trust_env=False, timeout=20) as client:
        assert client.get("/v2", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for sent in ({"Cookie": f"authorization=Bearer {key}; key={key}"}, {"Referer": f"http://{key}@127.0.0.1/"}):
            assert client.get("/v2", headers=sent).status_code == 401
        assert client.get(f"/v2?key={key}&authorization=Bearer%20{key}").status_code == 401
        preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = client.request("OPTIONS", "/v2/models/delay/infer", headers=preflight)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.status_code >= 400
