"""What an auditor is given: files that check a ledger, and an archive of evidence, without falaj."""

from __future__ import annotations

from pathlib import Path


def verifier_source() -> str:
    """The standalone verifier, to be saved as `verify.py`; it needs Python 3.10 or newer and the package `cryptography`."""
    return Path(__file__).with_name("verify.py").read_text("utf-8")


def archive_programs() -> dict[str, str]:
    """What an archive of evidence is checked with, by the names that the files have in it."""
    return {
        "verify.py": Path(__file__).with_name("verify_archive.py").read_text("utf-8"),
        "audit/verify_ledger.py": verifier_source(),
    }
