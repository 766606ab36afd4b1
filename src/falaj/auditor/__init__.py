"""What an auditor is given: one file that checks a ledger without falaj."""

from __future__ import annotations

from pathlib import Path


def verifier_source() -> str:
    """The standalone verifier, to be saved as `verify.py`; it needs Python 3.10 or newer and the package `cryptography`."""
    return Path(__file__).with_name("verify.py").read_text("utf-8")
