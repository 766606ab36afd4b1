"""Data tests in pytest: `pytest -p falaj.testing.data --falaj-project PATH` makes one test of each check of each dataset.

The sources are asked when the tests run, once for each dataset, and nothing is taken in. Without `--falaj-project` the plugin
does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from falaj.core.decision import Check, Decision
from falaj.core.errors import FalajError, NotFound
from falaj.core.moments import moment
from falaj.stages.contracts.trial import TELLS, judge, names_of

if TYPE_CHECKING:
    from falaj.app import App

_APP: pytest.StashKey[App] = pytest.StashKey()
REST = "further checks"
"""What `rules.check` calls the checks that were too many to list."""


class Broken(Exception):
    """A check of the data failed; the text is what the reader needs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("falaj", "data tests")
    group.addoption("--falaj-project", metavar="DIR", help="test the data of this project's datasets by their contracts")
    group.addoption(
        "--falaj-until", metavar="TIME", help="judge what was known at that time, as 2013-05-01T00:00:00Z (default: now)"
    )
    group.addoption("--falaj-new", action="store_true", help="judge only what the next load would bring (default: everything)")
    group.addoption("--falaj-dataset", metavar="NAME", action="append", default=[], help="only this dataset; may be given again")


@pytest.hookimpl(tryfirst=True)  # so that -k and -m choose among the data tests too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    where = config.getoption("--falaj-project")
    if not where:
        return
    try:
        items.extend(_collected(session, config, Path(where)))
    except FalajError as exc:
        raise pytest.UsageError(str(exc)) from exc


def pytest_unconfigure(config: pytest.Config) -> None:
    app = config.stash.get(_APP, None)
    if app is not None:
        app.close()


def _collected(session: pytest.Session, config: pytest.Config, where: Path) -> Iterator[pytest.Item]:
    given = config.getoption("--falaj-until")
    app = config.stash[_APP] = _open(where)
    until = moment(given) if given else app.kernel.now()
    names = config.getoption("--falaj-dataset") or list(app.project.datasets)
    for name in names:
        declared = app.project.one("datasets", name)
        trial = Trial(app, name, until, everything=not config.getoption("--falaj-new"))
        group = Group.from_parent(session, name=name, path=Path(app.settings.folder) / declared.contract)
        try:
            checks = names_of(app.contracts.contract(name))
        except FalajError:
            checks = ("contract",)  # running it says what is wrong with the file
        for check in checks:
            yield CheckItem.from_parent(group, name=check, trial=trial)


def _open(where: Path) -> App:
    """The project with its ledger, or where it has none yet, with one in memory: testing data needs no installation."""
    from falaj.app import open_app

    try:
        return open_app(where)
    except NotFound:
        return open_app(where, {"ledger": "memory", "blobs": "memory", "mirror": "none", "host": "memory", "online": "memory"})


class Trial:
    """The judgement of one dataset, made when its first check asks."""

    def __init__(self, app: App, name: str, until: datetime, *, everything: bool) -> None:
        self.app = app
        self.name = name
        self.until = until
        self.everything = everything
        self._judged: Decision | FalajError | None = None

    def judged(self) -> Decision:
        """Raises what stopped it, again for each check."""
        if self._judged is None:
            try:
                self._judged = judge(self.app.contracts, self.name, self.until, everything=self.everything)
            except FalajError as exc:
                self._judged = exc
        if isinstance(self._judged, FalajError):
            raise Broken(f"{self.name}: {self._judged}")
        return self._judged


class Group(pytest.Collector):
    """One dataset; its checks are listed without asking its source."""

    def collect(self) -> list[pytest.Item]:
        return []


class CheckItem(pytest.Item):
    """One check of one dataset."""

    def __init__(self, *, trial: Trial, **rest: Any) -> None:
        super().__init__(**rest)
        self.trial = trial

    def runtest(self) -> None:
        decision = self.trial.judged()
        if decision.verdict == "hold":
            pytest.skip(f"nothing new: {decision.reason}")
        found = next((item for item in decision.checks if item.name == self.name), None)
        if found is None:
            self._unlisted(decision)
        elif found.passed is None:
            pytest.skip(f"not seen: {found.seen}")
        elif not found.passed and self.name.startswith(TELLS):
            self.warn(pytest.PytestWarning(_text(self.trial.name, found)))
        elif not found.passed:
            raise Broken(_text(self.trial.name, found))

    def _unlisted(self, decision: Decision) -> None:
        """The load was stopped before this check, or there were too many checks to list."""
        rest = next((item for item in decision.checks if item.name == REST), None)
        if rest is not None and rest.passed:
            return
        raise Broken(f"{self.trial.name}: {decision.reason}" if rest is None else _text(self.trial.name, rest))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, Broken) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.trial.name}: {self.name}"


def _text(dataset: str, check: Check) -> str:
    return f"{dataset}: {check.name}\n  wanted  {check.wanted}\n  seen    {check.seen}"
