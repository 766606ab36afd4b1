"""What policy is told about a thing beside its name: where it is, what it holds, who made and who approved it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

from falaj.core.errors import InvalidInput
from falaj.core.event import Event
from falaj.core.ref import Ref
from falaj.stages.vouching import counts

Body = Mapping[str, Any]
HERE = "local"
UNTIERED = "none"
NOTHING: Mapping[str, Any] = {"classes": [], "held": False, "tier": UNTIERED}
"""Said of everything of which nothing is known. That it is said is what policy insists on."""


class Records(Protocol):
    """What of a ledger is read for labels."""

    def get(self, kind: str, key: str) -> Body | None: ...

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Body]]: ...

    def events(self, *, verb: str = "", subject: Ref | None = None) -> Iterable[Event]: ...


class Labels:
    """The labels of any ref, from the ledger's records as they stand.

    `home`: what holds for what has no record of its own, such as the zone of the installation.
    `stands_on`: the refs whose data a ref is declared to use, for what has no asset yet: a view, a model to be trained.
    """

    def __init__(
        self, records: Records, home: Body | None = None, stands_on: Callable[[Ref], Iterable[Ref]] = lambda _ref: ()
    ) -> None:
        self.records, self.stands_on = records, stands_on
        self.home = {"zone": HERE} if home is None else dict(home)

    def __call__(self, ref: Ref) -> dict[str, Any]:
        """Raises InvalidInput for a record that cannot be read: what nobody can read says nothing in anybody's favour."""
        asset = self._asset(ref)
        labels = {**NOTHING, **self.home, **self._of_data(ref, asset)}
        labels["held"] = self._is_held(ref)
        if state := self._state(ref):
            labels["state"] = state
        if ref.kind in ("model", "candidate"):
            labels["tier"] = self._tier(ref)
            authors = self._authors(ref)
            labels["approvals"] = self._approvals(ref, authors or ())
            if authors is not None:
                labels["authors"] = authors
        return labels

    # --- what it holds ---

    def _of_data(self, ref: Ref, asset: Body | None) -> dict[str, Any]:
        """Zone, classes and purposes: its own, and those of whatever it was made of."""
        own = (asset or {}).get("labels") or {}
        if not isinstance(own, Mapping):
            raise InvalidInput(f"The labels of {ref} are not readable.")
        classes, purposes = set(_classes(own)), [_texts(own["purposes"])] if own.get("purposes") else []
        if not classes:  # a contract that says what a derived dataset holds knows better than what it was made of
            for below in self._below(ref, asset, {ref.bare}):
                classes |= set(_classes(below))
                if below.get("purposes"):
                    purposes.append(_texts(below["purposes"]))
        told: dict[str, Any] = {"classes": sorted(classes)}
        if asset is not None and asset.get("zone") and asset["zone"] != HERE:
            told["zone"] = asset["zone"]
        if purposes:  # what came of several sources may be used for what all of them may be used for
            told["purposes"] = sorted(set(purposes[0]).intersection(*purposes[1:]))
        return told

    def _below(self, ref: Ref, asset: Body | None, seen: set[Ref]) -> Iterator[Body]:
        """The labels of what it was made of, and of what that was made of where it does not say itself what it holds."""
        for source in self._sources(ref, asset):
            if source in seen:
                continue
            seen.add(source)
            found = self._asset(source)
            labels = (found or {}).get("labels") or {}
            yield labels
            if not _classes(labels):
                yield from self._below(source, found, seen)

    def _sources(self, ref: Ref, asset: Body | None) -> Iterator[Ref]:
        """Each dataset below it once, as it stands now."""
        if ref.kind == "endpoint":
            record = self.records.get("endpoint", ref.name) or {}
            models = {Ref.parse(arm["model"]) for arm in (record.get("wanted") or {}).get("arms", ())}
            for model in sorted(models):
                yield from self._sources(model, self._asset(model))
            return
        inputs = [Ref.parse(text) for text in (asset or {}).get("inputs") or ()]
        declared = () if asset is not None else self.stands_on(ref)
        yield from sorted({one.bare for one in (*inputs, *declared) if one.bare != ref.bare})

    def _asset(self, ref: Ref) -> Body | None:
        """The asset's record; of a bare dataset the newest one."""
        if ref.kind == "model" and ref.version is not None:
            record = self.records.get("model", f"{ref.name}@{ref.version}")
            return None if record is None or "asset" not in record else _mapping(record["asset"], ref)
        if ref.version is None:
            head = self.records.get("head", str(ref))
            version = None if head is None else head.get("version")
            return self.records.get("asset", f"{ref}@{version}") if version else None
        return self.records.get("asset", str(ref))

    def _state(self, ref: Ref) -> str:
        """What stands against its use: `expired` (its bytes were removed), a model's `quarantined`, an endpoint's `killed`; else
        nothing."""
        if ref.kind == "endpoint":
            return "killed" if ((self.records.get("endpoint", ref.name) or {}).get("wanted") or {}).get("killed") else ""
        if ref.version is None:
            return ""
        if self.records.get("expired", str(ref)) is not None:
            return "expired"
        body = self.records.get("standing", f"{ref.name}@{ref.version}") if ref.kind == "model" else None
        return str(body["state"]) if body else ""

    # --- who answers for it ---

    def _tier(self, ref: Ref) -> str:
        record = self.records.get("tier", f"model/{ref.name}")
        return UNTIERED if record is None else str(record["tier"])

    def _approvals(self, ref: Ref, authors: Collection[str]) -> list[str]:
        """Whoever said yes and has not taken it back, but by a key that an author made."""
        found = self.records.find("approval", prefix=f"{ref}|")
        yes = [key.rpartition("|")[2] for key, body in found if _counts(body) and counts(body, authors)]
        return sorted(set(yes))

    def _authors(self, ref: Ref) -> list[str] | None:
        """Whoever trained it, started the run that did, or registered it; None where that is not recorded.

        What the version's own record says counts beside what the events do: nobody is taken out by either.
        """
        candidate, by = ref, set()
        if ref.kind == "model":
            record = self.records.get("model", f"{ref.name}@{ref.version}") or {}
            by |= set(_texts(record.get("authors") or ()))
            if not record.get("candidate") or not record.get("by"):
                return sorted(by) or None
            candidate = Ref.parse(record["candidate"])
            by.add(str(record["by"]).partition(":")[2])
        by |= {event.actor.name for event in self.records.events(verb="model.train", subject=candidate)}
        if candidate.version is not None:
            by |= {event.actor.name for event in self.records.events(verb="run.start", subject=Ref("run", candidate.version))}
        return sorted(filter(None, by)) or None

    def _is_held(self, ref: Ref) -> bool:
        """Whether a hold that is not over names it, or names nothing that can be read, which then holds everything."""
        names = {str(ref), str(ref.bare), "all"}
        for _, body in self.records.find("hold"):
            if any(body.get(name) for name in ("ended_at", "released_at", "lifted_at")):
                continue
            of = body.get("of", body.get("subjects"))
            texts = [of] if isinstance(of, str) else of
            if not isinstance(texts, (list, tuple)) or not texts or names & {str(text) for text in texts}:
                return True
        return False


def _counts(body: Body) -> bool:
    return body.get("verdict", "allow") == "allow" and not any(body.get(name) for name in ("withdrawn_at", "revoked_at"))


def _classes(labels: Body) -> list[str]:
    """A contract's classification, those of its columns, and whatever else was said, in lower case."""
    whole = labels.get("classification") or ()
    parts = (*((whole,) if isinstance(whole, str) else whole), *_texts(labels.get("column_classes") or ()))
    return [text.strip().lower() for text in (*parts, *_texts(labels.get("classes") or ()))]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{str(value)[:80]!r} is not a list of names.")
    return list(value)


def _mapping(value: Any, ref: Ref) -> Body:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"The record of {ref} is not readable.")
    return value
