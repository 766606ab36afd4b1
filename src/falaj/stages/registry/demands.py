"""What is demanded of models that matter and of their kill switch: how long tests and drills count, how fast a kill is.

The packs in force say so; where they are silent, or say two things that cannot both be kept, falaj's own figure holds, `assumed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from falaj.core.errors import InvalidInput
from falaj.packs import Conflict, Pack, Strictest, strictest
from falaj.packs.pack import size_of

YEAR = timedelta(days=365)
LONGEST_S = timedelta(days=36_500).total_seconds()
"""A ceiling beyond this bounds nothing."""
_OWN = "falaj's own figure"


@dataclass(frozen=True, slots=True)
class Window:
    """How long a test counts. `status`: enacted, guidance, assumed, pending or unverified."""

    span: timedelta
    status: str
    instrument: str
    blocks: bool
    """Whether a promotion waits for it; else it is told as overdue."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The longest time that something may take, or may lie behind."""

    span: timedelta
    status: str
    instrument: str

    @property
    def told(self) -> str:
        return f"{self.instrument}, {self.status}"


WINDOWS: Mapping[str, Mapping[str, Window]] = {
    "tier1": {
        "bias": Window(YEAR, "guidance", "CBUAE AI/ML Guidance Note 3(c)", True),
        "validation": Window(YEAR, "assumed", "CBUAE MMS 4.9-4.10", False),
    },
    "tier2": {
        "bias": Window(YEAR, "guidance", "CBUAE AI/ML Guidance Note 3(c)", True),
        "validation": Window(2 * YEAR, "assumed", "CBUAE MMS 4.9-4.10", False),
    },
}
"""tier → kind of test. The frequencies of the Model Management Standards could not be read: theirs are assumed."""


@dataclass(frozen=True, slots=True)
class Demands:
    windows: Mapping[str, Mapping[str, Window]] = field(default_factory=lambda: WINDOWS)
    slo: Ceiling = Ceiling(timedelta(seconds=5), "guidance", "CBUAE AI/ML Guidance Note 6(f)")
    """Of a kill: from the word to the last answer."""
    drill: Ceiling = Ceiling(timedelta(days=31), "guidance", "CBUAE AI/ML Guidance Note 6(f)")
    """How long a good drill counts."""
    conflicts: tuple[Conflict, ...] = ()
    """Where the packs in force cannot all be kept. Somebody has to decide; until then falaj's own figure holds."""


BUILT_IN = Demands()


def demands_of(packs: Iterable[Pack]) -> Demands:
    """What these packs demand together: the strictest of each, with the status of what is known least of it."""
    found, conflicts = strictest(packs)
    windows = {
        tier: {kind: _window(found.get(_path(tier, kind)), window) for kind, window in kinds.items()}
        for tier, kinds in WINDOWS.items()
    }
    slo = _ceiling(found.get("kill_switch.slo.ceiling"), BUILT_IN.slo.span)
    drill = _ceiling(found.get("kill_switch.drill.ceiling"), BUILT_IN.drill.span)
    return Demands(windows, slo, drill, conflicts)


def _path(tier: str, kind: str) -> str:
    return "model_gates.bias_test.ceiling" if kind == "bias" else f"model_gates.{tier}.{kind}.ceiling"


def _window(said: Strictest | None, own: Window) -> Window:
    ceiling = _ceiling(said, own.span)
    return replace(own, span=ceiling.span, status=ceiling.status, instrument=ceiling.instrument)


def _ceiling(said: Strictest | None, own: timedelta) -> Ceiling:
    if said is None or said.sources[0].kind != "ceiling" or not isinstance(said.value, str):
        return Ceiling(own, "assumed", _OWN)
    try:
        seconds = size_of(said.value)
    except InvalidInput:
        return Ceiling(own, "assumed", _OWN)
    if not 0 < seconds <= LONGEST_S:
        return Ceiling(own, "assumed", _OWN)
    deciding = [source for source in said.sources if source.value == said.value]
    source = next((source for source in deciding if source.instrument), deciding[0])  # two may say the same, one of them by law
    where = " ".join(filter(None, (source.instrument, source.article))) or f"pack {source.pack}"
    return Ceiling(timedelta(seconds=seconds), said.status, where)
