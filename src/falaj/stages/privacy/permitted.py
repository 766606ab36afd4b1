"""Rows that may be learned from: without those of people who withdrew their consent, or whose data is restricted or erased."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.ports.vault import Vault
from falaj.stages.contracts.sealed import as_text
from falaj.stages.contracts.service import Contracts


class PermittedRows:
    """Datasets as a training reads them. `excluded()`: the tokens of those whose rows stay out, asked for at each reading."""

    def __init__(self, contracts: Contracts, vaults: Callable[[], Vault], excluded: Callable[[], frozenset[str]]) -> None:
        self.contracts = contracts
        self.vaults = vaults
        self.excluded = excluded

    def frame(self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Any = "time") -> pl.DataFrame:
        """As the contracts give it; a dataset whose contract names no person is about nobody, and read as it is."""
        rows = self.contracts.frame(name, since=since, until=until, by=by)
        subject = self.contracts.contract(name).subject
        without = self.excluded() if subject and subject in rows.columns else frozenset()
        if not without:
            return rows
        vault, people = self.vaults(), rows[subject].unique().drop_nulls()
        named = zip(people, as_text(people), strict=True)
        out = [who for who, text in named if text is not None and vault.token(text) in without]
        return rows.filter(~rows[subject].is_in(pl.Series(out, dtype=people.dtype).implode()).fill_null(False))

    def assets(self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Any = "time") -> list[Asset]:
        return self.contracts.assets(name, since, until, by=by)
