"""Damages tables of places, registries and addresses, and looks that each is read or refused and that nothing slips home.

`python -m tests.fuzz.places --rounds 100000 --seed 1`
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from importlib.resources import files

from falaj.core.errors import FalajError
from falaj.core.places import UNKNOWN, read_places
from falaj.stages.governance.residency.destinations import destinations, zone_of
from falaj.stages.governance.residency.registry import read_registry, registry

KNOWN = registry()
TABLE = "127.0.0.2=difc,10.0.0.0/8=aws:me-central-1,*.ae.example=uae-onshore,s3://lake=eu,/mnt/x=qatar,adapter:online.a=adgm,fd00::/8=eu"
URLS = (
    "redis://:p@nobody.example:6379/0", "postgresql://u:p@nobody.example,also.example:5432/x?sslmode=require", "https://nobody.example/x",
    "snowflake://u:p@nobody/x", "kafka://nobody.example:9092", "nats://[2001:db8::1]:4222", "mssql+pyodbc://nobody.example/x",
)  # fmt: skip
PIECES = (
    "=",
    ",",
    "/",
    ":",
    "@",
    "?host=",
    "%2e",
    "..",
    "*",
    "0x7f",
    "2130706433",
    "127.1",
    "\0",
    "é",
    "１",
    "[",
    "]",
    "&",
    "//",
    "#",
)
FILES = {
    name: files("falaj.stages.governance.residency").joinpath(f"{name}.toml").read_text("utf-8")
    for name in ("zones", "regions", "residency")
}


def damaged(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        at, much = chance.randrange(len(text) + 1), chance.randrange(4)
        text = text[:at] + chance.choice((*PIECES, "")) + text[at + much :]
    return text


def table(chance: random.Random) -> str:
    try:
        places = read_places(damaged(TABLE, chance), "local", KNOWN.zone_of)
    except FalajError as exc:
        return f"table {exc.code}"
    assert places.home == "local"
    named = [zone for _, zone in (*places.networks, *places.names.items(), *places.buckets.items(), *places.folders)]
    assert set(named) <= set(KNOWN.zones)
    return "table read"


def address(chance: random.Random) -> str:
    """No damage may turn an address that nobody declared into one of a zone, unless it became an address of this machine."""
    places = read_places("10.0.0.0/8=eu", "uae-onshore", KNOWN.zone_of)
    url = damaged(chance.choice(URLS), chance)
    (found, *_) = destinations("online", "online", "redis", {"url": url, "secret": lambda _: b""})
    zone, _ = zone_of(found, places, KNOWN)
    if zone != UNKNOWN:
        hosts = [str(host) for host in found.hosts]
        assert found.folder or found.is_here or all(h == "localhost" or h.startswith(("127.", "::1", "10.")) for h in hosts), url
    return f"address {zone}"


def law(chance: random.Random) -> str:
    name = chance.choice(sorted(FILES))
    try:
        read = read_registry(**{**FILES, name: damaged(FILES[name], chance)})
    except FalajError as exc:
        return f"registry {exc.code}"
    assert all(region.zone in read.zones for region in read.regions.values() if region.status == "listed")
    return "registry read"


def run(rounds: int, seed: int) -> Counter[str]:
    """Raises whatever is no FalajError."""
    chance = random.Random(seed)
    return Counter(chance.choice((table, address, address, law))(chance) for _ in range(rounds))


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=20_000)
    asked.add_argument("--seed", type=int, default=1)
    given = asked.parse_args()
    for what, count in sorted(run(given.rounds, given.seed).items()):
        sys.stdout.write(f"{count:>8}  {what}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
