"""The description against the running server, by a program that nobody here wrote: whatever it tries, both say the same."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from falaj.inference.openapi import POLICY
from tests.kits.endpoint import Installation

pytestmark = pytest.mark.slow

SETTINGS = """
[generation]
# A header or a field that nobody asked for is passed over, as HTTP wants it.
allow-extra-parameters = false
[checks]
# A schema cannot say that a tensor's data has to fit its shape, or that a label is for a prediction that was made.
positive_data_acceptance.enabled = false
# 504 is the right answer where a caller gave a millisecond.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]
"""
EXAMPLES = 8
"""For each operation. By hand with more: schemathesis run <url>/openapi.json -H "Authorization: Bearer <key>" -n 500"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    found = Installation(tmp_path_factory.mktemp("state"))
    found.store()
    found.host.serve(found.wanted(found.arm(1, share=0.5), found.arm(2, "challenger", 0.5)), found.keys)
    yield found
    found.close()


def test_what_is_described_is_what_the_server_does(place: Installation, tmp_path: Path) -> None:
    # Not an operator: one that takes the model out of service would be answered 503 from then on.
    key = place.key("app", "caller", "service")
    place.host.allow(place.keys)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    program = str(Path(sys.executable).parent / "schemathesis")
    command = [program, "--config-file", "schemathesis.toml", "run", f"{place.url}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {key}", "-n", str(EXAMPLES), "--seed", "1", "--continue-on-failure"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert place.host.look("delay").ready


def test_the_page_needs_no_key_and_shows_nothing_without_one(place: Installation) -> None:
    answer = httpx.get(f"{place.url}/docs", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert "delay" not in answer.text
    assert httpx.get(f"{place.url}/openapi.json", trust_env=False).status_code == 401
