from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from falaj.core.ref import Ref
from falaj.stages.privacy.consent import Consent
from falaj.stages.privacy.permitted import PermittedRows
from tests.kits.clinic import DAY, NORA, VISITS, Clinic, emirates_id, visits

LATER = DAY + timedelta(days=1)


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    clinic = Clinic(tmp_path, visits(200))
    yield clinic
    clinic.close()


def test_who_withdrew_or_is_restricted_is_not_learned_from_and_everybody_else_is(clinic: Clinic) -> None:
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    consent = Consent(clinic.kernel)
    rows = PermittedRows(contracts, lambda: clinic.vault, lambda: consent.excluded("training"))
    everybody = rows.frame("visits", until=LATER, by="known")
    assert everybody.equals(contracts.frame("visits", until=LATER, by="known"))
    subjects = [Ref("subject", clinic.vault.token(emirates_id(number))) for number in (3, 4, 5)]
    consent.consent(NORA, subjects[0], purpose="training", version="v1")
    consent.withdraw(NORA, subjects[0], purpose="training")
    consent.restrict(NORA, subjects[1], reason="contested")
    consent.withdraw(NORA, subjects[2], purpose="marketing")
    left = rows.frame("visits", until=LATER, by="known")
    assert left.height == 180
    gone = set(everybody["emirates_id"]) - set(left["emirates_id"])
    assert gone == {emirates_id(3), emirates_id(4)}
    consent.consent(NORA, subjects[0], purpose="training", version="v2")
    assert rows.frame("visits", until=LATER, by="known").height == 190
    assert rows.assets("visits") == contracts.assets("visits")


def test_rows_of_nobody_stay(clinic: Clinic) -> None:
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    token = clinic.vault.token(emirates_id(3))
    clinic.vault.shred([token])
    rows = PermittedRows(clinic.contracts(), lambda: clinic.vault, lambda: frozenset({token}))
    assert rows.frame("visits").height == 200  # what is left of an erased person's rows names nobody
    assert rows.frame("visits")["emirates_id"].null_count() == 10
