"""A closed loop of keep-alive connections against one address: wrk where it is installed, else a client of our own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.endpoints.machine import LOAD_CORE, pinned

_LUA = """
local bodies, turn = {}, 0
for line in io.lines(%(bodies)s) do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
%(key)s
local made = {}
function init(args)
  for n, body in ipairs(bodies) do made[n] = wrk.format("POST", %(path)s, wrk.headers, body) end
end
function request()
  turn = turn %% #made + 1
  return made[turn]
end
function done(summary, latency, requests)
  local bad = summary.errors
  io.write(string.format('{"count":%%d,"seconds":%%f,"p50":%%f,"p99":%%f,"bad":%%d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    bad.connect + bad.read + bad.write + bad.status + bad.timeout))
end
"""


@dataclass(frozen=True)
class Answers:
    """What came back: whole answers in `seconds`, and percentiles in milliseconds."""

    count: int
    seconds: float
    p50: float
    p99: float

    @property
    def rps(self) -> float:
        return self.count / self.seconds


def client() -> str:
    """Which load generator measures here."""
    return "wrk" if shutil.which("wrk") else "benchmarks.endpoints.client"


def press(
    url: str, key: str, bodies: Sequence[bytes], *, connections: int, seconds: int, cores: Sequence[int] = (LOAD_CORE,)
) -> Answers:
    """Sends the bodies in turn from a process of its own on the second core. Raises RuntimeError for any answer but a 200."""
    parts = urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "bodies"
        texts.write_bytes(b"\n".join(bodies) + b"\n")
        if shutil.which("wrk"):
            script = Path(folder) / "load.lua"
            line = f'wrk.headers["Authorization"] = "Bearer {key}"' if key else ""
            script.write_text(_LUA % {"bodies": json.dumps(str(texts)), "key": line, "path": json.dumps(parts.path)})
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
        else:
            command = [sys.executable, "-m", "benchmarks.endpoints.client", url, key, str(texts), str(connections), str(seconds)]
        with pinned(*cores):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as exc:
        raise RuntimeError(f"The load generator failed: {done.stderr[-500:]}{done.stdout[-500:]}") from exc
    if found["bad"]:
        raise RuntimeError(f"{found['bad']} of {found['count']} answers of {url} were not whole answers with status 200.")
    return Answers(found["count"], found["seconds"], found["p50"], found["p99"])
