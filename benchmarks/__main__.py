"""Runs every benchmark of this folder, each in a process of its own: `python -m benchmarks [name …]`.

One line a figure. The exit code is 1 where one of them failed or missed its budget.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import benchmarks

BY_HAND = ("profile", "soak")
"""Only when they are named: one has no figures, the other takes ten minutes."""


def main(wanted: list[str]) -> int:
    found = pkgutil.iter_modules(benchmarks.__path__)
    names = sorted(m.name for m in found if m.name not in ("__main__", "figure", "limit") and not m.ispkg)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        print(f"There is no benchmark named {unknown[0]!r}; there is: {', '.join(names)}.", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or [name for name in names if name not in BY_HAND]:
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed or beyond budget: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
