"""Whatever a stranger or a witness is shown, it is read or refused with a reason; `python -m tests.fuzz.proofs` runs more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.proofs import PROOF, SHOWN, judged, read, some_rounds


@pytest.mark.parametrize("name", SHOWN)
def test_what_nobody_harmed_is_read(name: str, tmp_path: Path) -> None:
    assert read(name, SHOWN[name][0]) == "read"
    assert judged(tmp_path, PROOF.encode()) == 0


@pytest.mark.slow
def test_a_few_thousand_rounds_find_nothing(tmp_path: Path) -> None:
    seen = some_rounds(7, 4000, tmp_path)
    assert {what.partition(" ")[2] for what in seen if not what.startswith("verify.py")} <= {"read", "InvalidInput", "Denied"}
    assert {int(what.partition(" ")[2]) for what in seen if what.startswith("verify.py")} <= {0, 1}
