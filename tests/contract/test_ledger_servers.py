"""PostgreSQL keeps the contract of the ledger, and says clearly what is wrong with it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from falaj.adapters import open_adapter
from falaj.adapters.local.signing import open_key
from falaj.ports.ledger import Ledger
from falaj.testing.ledger import LedgerSuite

pytestmark = pytest.mark.slow
_NAMES = itertools.count()


class TestPostgresLedger(LedgerSuite):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _place(self, postgresql_url: str, tmp_path: Path) -> None:
        self.url, self.key, self.project = postgresql_url, open_key(tmp_path / "key"), f"suite {next(_NAMES)}"

    def open(self) -> Ledger:
        return open_adapter("ledger", "postgresql", url=self.url, project=self.project, key=self.key)
