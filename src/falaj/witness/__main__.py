"""Runs a witness: `python -m falaj.witness FOLDER`. It prints its address and its key, and serves until it is told to stop."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from falaj.core.errors import FalajError
from falaj.witness.book import LOGS, open_book
from falaj.witness.service import WitnessServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m falaj.witness", description=__doc__)
    parser.add_argument("folder", type=Path, help="where its key and what it has seen are kept; made on first start")
    parser.add_argument("--name", default="", help="its name in cosignatures, such as dpo.example/witness; given once")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7790, help="0 picks a free one")
    parser.add_argument("--trust", action="append", default=[], metavar="VKEY", help=f"the key of a ledger, added to `{LOGS}`")
    given = parser.parse_args()
    try:
        with open_book(given.folder, given.name) as book:
            book.trust(given.trust)
            with WitnessServer(book, given.host, given.port) as server:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda _number, _frame: threading.Thread(target=server.shutdown).start())
                sys.stdout.write(f"{server.url} {book.vkey}\n")
                sys.stdout.flush()
                server.serve_forever(poll_interval=0.1)
    except FalajError as exc:
        sys.stderr.write(f"error[{exc.code}]: {exc}\n")
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
