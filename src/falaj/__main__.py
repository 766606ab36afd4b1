"""Runs the command line: `python -m falaj` is `falaj`."""

from __future__ import annotations

import sys

from falaj.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
