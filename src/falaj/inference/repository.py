"""The protocol's model repository: what is served here, and taking it out of service and back by hand.

Which models there are is the ledger's to say: nobody brings one in through an endpoint. An operator may take the endpoint's
model out of service; it stays loaded, every worker refuses to answer from it until it is taken back in, and both are written
into the prediction log, which is sealed into the ledger.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, Unavailable
from falaj.core.moments import iso
from falaj.inference.describe import arms_of
from falaj.inference.log import PredictionLog, replace_file
from falaj.inference.models import Serving

Operation = Callable[[Serving | None, str, Mapping[str, Any], Actor], None]
"""`Repository.load` or `unload`."""
READY, OUT = "READY", "UNAVAILABLE"
FILE = "unloaded.json"
_KNOWN = {"unload_dependents": bool}
"""What an operation's parameters may say: Triton's clients always send it, and nothing here depends on anything."""


class Repository:
    """`unloaded.json` beside the log's folder: model → who took it out of service and when. All workers obey it."""

    def __init__(self, log: PredictionLog, now: Callable[[], datetime]) -> None:
        self._path, self._log, self._now = log.folder.parent / FILE, log, now
        self._name = str(self._path)
        self._seen: tuple[int, int, int] | None = None
        self._out: Mapping[str, Any] = {}
        self.killed: Unavailable | None = None
        """What callers are told while the control plane has taken the endpoint out of use; nobody can undo that here."""

    def look(self) -> None:
        """Takes in what changed, for once before the calls that arrived together. What cannot be read is obeyed."""
        if not os.access(self._name, os.F_OK):  # nearly always, for each batch of calls; an exception takes three times as long
            self._seen, self._out = None, {}
            return
        try:
            stat = os.stat(self._name)  # noqa: PTH116  # a Path takes twice as long
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            self._out = dict(orjson.loads(self._path.read_bytes()))
            self._seen = seen
        except (OSError, ValueError, TypeError):
            self._seen, self._out = None, {"": {"by": "?", "at": "?"}}

    def problem(self, name: str) -> Unavailable | None:
        """Why a model does not answer although it is loaded, as of the last look."""
        if self.killed is not None:
            return self.killed
        if not self._out:
            return None
        told = self._out.get(name) or self._out.get("")
        if told is None:
            return None
        return Unavailable(
            f"The model {name} was taken out of service by {told['by']} at {told['at']}.", "an operator loads it again."
        )

    def answers(self, name: str) -> bool:
        """Whether it is in service now."""
        self.look()
        return self.problem(name) is None

    def index(self, serving: Serving | None, *, only_ready: bool = False) -> list[dict[str, str]]:
        """Every version that is loaded: its name, version, state and the reason of the state."""
        self.look()
        if serving is None:
            return []
        problem = self.problem(serving.name)
        state, why = (READY, "") if problem is None else (OUT, problem.message)
        versions = sorted({live.version for live in serving.arms})
        return [
            {"name": serving.name, "version": version, "state": state, "reason": why}
            for version in versions
            if problem is None or not only_ready
        ]

    def unload(self, serving: Serving | None, name: str, parameters: Mapping[str, Any], actor: Actor) -> None:
        """From now on no worker answers. Raises NotFound, InvalidInput for parameters, Unavailable where it cannot be written."""
        at = self._record("unload", serving, name, parameters, actor)
        self._write({name: {"by": actor.name, "at": at}})

    def load(self, serving: Serving | None, name: str, parameters: Mapping[str, Any], actor: Actor) -> None:
        """The model answers again, in every worker. Raises as `unload`, and Unavailable while the endpoint is out of use."""
        if self.killed is not None:
            raise self.killed
        self._record("load", serving, name, parameters, actor)
        self._write({})

    def obey(self, killed: Mapping[str, str]) -> None:
        """From the next call on as the control plane wants it: `killed` as in `Wanted`. Any thread may say so."""
        told = f"The endpoint was taken out of use at {killed.get('at', '?')}." if killed else ""
        hint = "nothing is predicted here until its operators take it back into use: falaj endpoint show"
        self.killed = Unavailable(told, hint, out_of_use=True) if killed else None

    def _record(self, what: str, serving: Serving | None, name: str, parameters: Mapping[str, Any], actor: Actor) -> str:
        """Into the prediction log, before it is done: what cannot be written down is not done."""
        for key, value in parameters.items():
            if not isinstance(value, _KNOWN.get(key, type(None))):
                raise InvalidInput(
                    f"The parameter {key[:80]!r} is not taken: a model comes from the registry alone.",
                    "register the model, then falaj promote.",
                )
        arms = arms_of(serving, name, None)
        at = iso(self._now())
        record = {
            "kind": "operation",
            "operation": what,
            "at": at,
            "wrote": at,
            "endpoint": name,
            "models": sorted({live.arm.model for live in arms}),
            "by": actor.name,
        }
        line = orjson.dumps(record)
        self._log.append(lambda _segment, _row: (line,))
        return at

    def _write(self, out: Mapping[str, Any]) -> None:
        try:
            replace_file(self._path, orjson.dumps(out))
        except OSError as exc:
            raise Unavailable(
                f"{self._path} cannot be written: {exc.strerror}.", "make room on the disk, then ask again."
            ) from exc
        self.look()
