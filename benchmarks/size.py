"""How much falaj brings along: the packages of the base installation and of the demo's, from what is installed here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.figure import Figure, show

MEGABYTE = 1_000_000


def figures() -> Iterator[Figure]:
    for extra in ("", "data", "serve", "train", "mlflow", "demo"):
        found = _closure("falaj", extra)
        name = f"falaj[{extra}]" if extra else "falaj"
        size = sum(_bytes(one) for key, one in found.items() if key != "falaj")
        largest = sorted(((_bytes(one), key) for key, one in found.items()), reverse=True)[:3]
        note = ", ".join(f"{key} {size / MEGABYTE:.0f}" for size, key in largest)
        yield Figure(f"{name}: packages", len(found) - 1, "", note="without falaj itself")
        yield Figure(f"{name}: on disk", size / MEGABYTE, "MB", note=note)


def _closure(name: str, extra: str) -> dict[str, Distribution]:
    """Every installed distribution that `name[extra]` needs."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra), (name, "")]
    while waiting:
        key, wanted = waiting.pop()
        if (key, wanted) in seen:
            continue
        seen.add((key, wanted))
        try:
            one = distribution(key)
        except PackageNotFoundError:  # for another platform, or left out of the lock on purpose
            continue
        found[key] = one
        for text in one.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": wanted}):
                waiting += [(canonicalize_name(needed.name), e) for e in ("", *needed.extras)]
    return found


def _bytes(one: Distribution) -> int:
    """As listed at installation; bytecode counts, for it is on the disk too."""
    paths = (Path(str(file.locate())) for file in one.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    raise SystemExit(show(figures()))
