"""Shelves: the places that retention empties, each with what stands there, of which class, and since when."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from falaj.core.errors import FalajError
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger
from falaj.ports.predictions import Predictions
from falaj.stages.privacy.lives import Lives
from falaj.stages.privacy.names import DIGEST
from falaj.stages.privacy.rules import Item

CLASS_OF: Mapping[str, str] = {"health": "health_record", "phi": "health_record", "bank-confidential": "consumer_data"}
"""Class of data → class of things to be kept."""
CLASSED = ("classes", "column_classes", "classification")
NOT_ROWS = frozenset({"contract", "contract_version", "code", "environment", "recipe"})
"""Labels whose digests are about no rows: what was read and by which rules stays provable when the rows are gone."""


class Shelf(Protocol):
    """One kind of thing."""

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def items(self) -> Iterator[Item]:
        """Everything of these kinds that was not removed."""
        ...

    def one(self, ref: Ref) -> Item | None:
        """One thing as it is now; None where it is not there or was removed."""
        ...

    def clear(self, ref: Ref, digests: Iterable[str]) -> int:
        """Removes the bytes, once the event that says so was committed; idempotent. How many files or blobs there were."""
        ...


class DatasetShelf:
    """Snapshots and quarantine of datasets."""

    kinds = ("dataset", "quarantine")

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self.ledger = ledger
        self.blobs = blobs

    def items(self) -> Iterator[Item]:
        lives = Lives(self.ledger)
        for kind in self.kinds:
            for body in standing(self.ledger, "asset", f"{kind}/"):
                yield self._item(kind, body, lives)

    def one(self, ref: Ref) -> Item | None:
        body = self.ledger.get("asset", str(ref))
        is_gone = body is None or self.ledger.get("expired", str(ref)) is not None
        return None if is_gone or body is None else self._item(ref.kind, body, Lives(self.ledger))

    def _item(self, kind: str, body: Mapping[str, Any], lives: Lives) -> Item:
        ref, labels = Ref.parse(body["ref"]), body["labels"]
        models = lives.learned_from(ref)
        classes = {"dataset_snapshot" if kind == "dataset" else "quarantine", *classes_behind(self.ledger, body)}
        classes |= {"training_snapshot"} if models else set()
        triggers = {"created": _moment(body.get("created_at")), "life_of_model": lives.end(models)}
        refs = (ref, Ref("dataset", ref.name, ref.version), *models)
        digests = [text for name, text in _digests(labels) if name not in NOT_ROWS]
        blobs = (*self._parts(body), *digests)
        return Item(
            ref, frozenset(classes), triggers, refs, tuple(dict.fromkeys(blobs)), rows=int(labels.get("rows", 0)), has_people=True
        )

    def _parts(self, body: Mapping[str, Any]) -> list[str]:
        """The blobs with rows, and where there are several the list of them as well."""
        whole = str(body["digest"])
        if "parts" not in body["labels"] or not self.blobs.has(whole):
            return [whole]
        try:
            return [*(str(part["digest"]) for part in json.loads(self.blobs.get(whole))["parts"]), whole]
        except (FalajError, ValueError, KeyError, TypeError):
            return [whole]

    def clear(self, ref: Ref, digests: Iterable[str]) -> int:
        return _delete(self.blobs, digests)


class ModelShelf:
    """Candidates, and registered versions; one that ever served is kept for ever."""

    kinds = ("candidate", "model")

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self.ledger = ledger
        self.blobs = blobs

    def items(self) -> Iterator[Item]:
        lives = Lives(self.ledger)
        registered = {str(body["candidate"]): str(body["ref"]) for body in standing(self.ledger, "model")}
        for body in standing(self.ledger, "asset", "candidate/"):
            ref = Ref.parse(body["ref"])
            used = (registered[str(ref)],) if str(ref) in registered else ()
            yield _model_item(ref, frozenset({"candidate"}), body, (ref, Ref("model", ref.name)), used)
        for body in standing(self.ledger, "model"):
            ref = Ref.parse(body["ref"])
            served = {"model_version_ever_in_production"} if str(ref) in lives.served else set()
            used = ("an alias or an endpoint",) if str(ref) in lives.alive else ()
            yield _model_item(ref, frozenset({"model_version", *served}), body["asset"], (ref,), used)

    def one(self, ref: Ref) -> Item | None:
        return next((item for item in self.items() if item.ref == ref), None)

    def clear(self, ref: Ref, digests: Iterable[str]) -> int:
        return _delete(self.blobs, digests)


class PredictionShelf:
    """Sealed segments of the prediction log; the seal stays, so that the tree of the ledger stays provable."""

    kinds = ("predictions",)

    def __init__(self, ledger: Ledger, log_of: Callable[[str], Predictions]) -> None:
        self.ledger = ledger
        self.log_of = log_of

    def items(self) -> Iterator[Item]:
        gone = {key for key, _ in self.ledger.find("expired", prefix="predictions/")}
        found = (_segment(body) for _, body in self.ledger.find("seal"))
        yield from (item for item in found if str(item.ref) not in gone)

    def one(self, ref: Ref) -> Item | None:
        body = self.ledger.get("seal", f"{ref.name}/{int(ref.version or 0):06d}")
        return None if body is None or self.ledger.get("expired", str(ref)) is not None else _segment(body)

    def clear(self, ref: Ref, digests: Iterable[str]) -> int:
        return int(self.log_of(ref.name).drop(int(ref.version or 0)))


class ExportShelf:
    """Copies that were made for people who asked what is held about them."""

    kinds = ("export",)

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self.ledger = ledger
        self.blobs = blobs

    def items(self) -> Iterator[Item]:
        yield from (_export(body) for body in standing(self.ledger, "export"))

    def one(self, ref: Ref) -> Item | None:
        body = self.ledger.get("export", ref.name)
        return None if body is None or self.ledger.get("expired", str(ref)) is not None else _export(body)

    def clear(self, ref: Ref, digests: Iterable[str]) -> int:
        return _delete(self.blobs, digests)


def standing(ledger: Ledger, kind: str, prefix: str = "") -> Iterator[Mapping[str, Any]]:
    """The records of a kind whose thing was not removed."""
    gone = {key for key, _ in ledger.find("expired", prefix=prefix)}
    for _, body in ledger.find(kind, prefix=prefix):
        if str(body["ref"]) not in gone:
            yield body


def classes_behind(ledger: Ledger, asset: Mapping[str, Any]) -> set[str]:
    """As `data_classes`; of a derived asset whose contract does not say what it holds, those of what it was derived of."""
    found: set[str] = set()
    left, seen = [asset], set[str]()
    while left:
        labels = left[-1].get("labels") or {}
        inputs = left.pop().get("inputs") or ()
        found |= data_classes(labels)
        if any(labels.get(name) for name in CLASSED):
            continue
        for ref in {str(one) for one in inputs} - seen:
            seen.add(ref)
            below = ledger.get("asset", ref)
            left += [below] if below is not None else []
    return found


def data_classes(labels: Mapping[str, Any]) -> set[str]:
    """The classes of things to be kept that the data's own classes make it: `health` makes a `health_record`."""
    given: set[str] = set()
    for name in CLASSED:
        value = labels.get(name, ())
        given |= {value} if isinstance(value, str) else {str(each) for each in value}
    plain = {each.strip().lower().replace("_", "-").replace(" ", "-") for each in given}  # as a contract's author wrote it
    return {CLASS_OF[each] for each in plain if each in CLASS_OF}


def _model_item(
    ref: Ref, classes: frozenset[str], asset: Mapping[str, Any], refs: tuple[Ref, ...], used: tuple[str, ...]
) -> Item:
    digests = [str(asset["digest"]), *(text for name, text in _digests(asset["labels"]) if name not in NOT_ROWS)]
    triggers = {"created": _moment(asset.get("created_at"))}
    return Item(ref, classes, triggers, refs, tuple(dict.fromkeys(digests)), used, has_people=True)


def _segment(body: Mapping[str, Any]) -> Item:
    ref = Ref("predictions", body["endpoint"], f"{body['segment']:06d}")
    refs, triggers = (ref, Ref("endpoint", ref.name)), {"created": _moment(body.get("last_at"))}
    return Item(ref, frozenset({"prediction_log"}), triggers, refs, rows=int(body["rows"]), has_people=True)


def _export(body: Mapping[str, Any]) -> Item:
    ref = Ref.parse(body["ref"])
    refs, triggers = (ref, Ref("subject", body["token"])), {"created": _moment(body["at"])}
    return Item(ref, frozenset({"export"}), triggers, refs, (body["digest"],), rows=body["records"])


def _digests(labels: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in labels.items():
        if isinstance(value, str) and DIGEST.fullmatch(value):
            yield name, value


def _delete(blobs: Blobs, digests: Iterable[str]) -> int:
    return sum(blobs.delete(digest) for digest in digests)


def _moment(text: Any) -> datetime | None:
    return moment(text) if text else None
