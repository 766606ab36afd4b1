"""Registers what its gates let pass, signs it, and points names at versions; every pointer has a decision behind it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from falaj.core.asset import Asset
from falaj.core.codec import canonical, decode, encode
from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import Conflict, FalajError, InvalidInput, NotFound
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.ledger import Ledger, Transaction
from falaj.ports.mirror import Mirror
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.registry.approvals import Approvals, promoted, record_of
from falaj.stages.registry.demands import BUILT_IN
from falaj.stages.registry.impact import impact
from falaj.stages.registry.rules import authors_of

PAYLOAD_TYPE = "application/vnd.falaj.model+json"
KEPT = 20
"""So many versions an alias can be rolled back through, one by one."""

Sign = Callable[[bytes, str], Mapping[str, Any]]
Places = Callable[[Recipe], Mapping[str, list[str]]]
Classify = Callable[[str, Recipe], Mapping[str, Mapping[str, str]]]


class Registry:
    """`sign(payload, type)` gives a DSSE envelope; `places(recipe)` the order of the features in each view's stored rows;
    `classes(training, recipe)` what the contracts say of the fields and features that it reads."""

    def __init__(
        self, kernel: Kernel, blobs: Blobs, *, sign: Sign, places: Places, mirror: Mirror, classes: Classify | None = None
    ) -> None:
        self.kernel = kernel
        self.blobs = blobs
        self.sign = sign
        self.places = places
        self.mirror = mirror
        self.classes = classes
        self.demands = BUILT_IN
        """What a version with a tier has to show; the wiring says what the packs in force demand."""

    @property
    def approvals(self) -> Approvals:
        """Who vouches for a version, and who speaks against it."""
        return Approvals(self.kernel)

    @action("model.register")
    def register(self, act: Act, subject: Ref, *, candidate: Ref, decision: Decision) -> Ref:
        """Signs the candidate and gives it the next version, which is returned.

        Raises Conflict unless the decision is the ledger's own latest gate decision about this candidate, and allows it; a
        decision that somebody else wrote counts for nothing.
        """
        asset = self._asset(candidate)
        recorded = self.kernel.ledger.get("decision", f"{candidate}|gate")
        if recorded is None or decode(Decision, recorded) != decision or not decision.allowed:
            verdict = recorded["verdict"] if recorded else "nothing"
            raise Conflict(f"The gate of {candidate} says {verdict}.", f"falaj model evaluate {candidate}")
        known = [body["ref"] for body in self.listing(subject.name) if body["run"] == asset.run]
        if known:
            return Ref.parse(str(known[0]))
        version = Ref("model", subject.name, str(self._last(subject.name) + 1))
        manifest = self.sign(canonical(self._manifest(version, asset, decision)), PAYLOAD_TYPE)
        authors = self._authors(act, candidate, asset)
        asset = replace(asset, labels={**asset.labels, "authors": list(authors)})
        record = {
            "ref": version, "authors": authors,
            "asset": asset, "manifest": manifest, "run": asset.run, "training": asset.labels["training"],
            "candidate": candidate, "created_at": act.now, "by": str(act.actor), "metrics": asset.labels["metrics"],
            "gate": decision.verdict, "mirror": {"run": asset.labels.get("mirror")},
        }  # fmt: skip
        with act.change(version) as draft:
            if draft.get("model", _key(version)) is not None:
                raise Conflict(f"{version} was registered by somebody else meanwhile.", "register again.")
            draft.put("model", _key(version), record)
            draft.note(candidate=str(candidate), digest=asset.digest, metrics=asset.labels["metrics"], authors=authors)
        self._mirrored(lambda: self._mirror_model(version, asset))
        return version

    @action("model.promote")
    def promote(self, act: Act, model: Ref, *, alias: str = "champion", reason: str = "") -> Decision:
        """Points the alias at the version, on the word of whoever asks.

        Denied where the version's gate did not allow it, where somebody objects, and where its tier asks for more: approvals, a
        test, an assessment.
        """
        record = self.get(model)
        with act.change() as draft:
            checks = (
                *promoted(draft, model, record, act.actor.name), standing_of(draft.tx, model),
                *impact(draft.get, model, record, act.now, demands=self.demands),
            )  # fmt: skip
            verdict = judge(checks)
            decision = Decision(model, "approval", verdict, checks, act.actor, act.now, reason or "approved")
            draft.decide(decision)
            if decision.allowed:
                now = draft.get("alias", f"{model.name}@{alias}")
                before = [] if now is None else [ref for ref in (*now.get("before", ()), now["model"]) if ref != str(model)]
                self._point(draft, act, model, alias, (f"{model}|approval", before[-KEPT:]))
            draft.note(alias=alias, verdict=verdict, reason=decision.reason, digest=record["asset"]["digest"])
        if decision.allowed:
            self._mirrored(lambda: self.mirror.record_alias(model.name, alias, str(model.version)))
        return decision

    @action("model.rollback")
    def rollback(self, act: Act, subject: Ref, *, reason: str, alias: str = "champion") -> Ref:
        """Points the alias at the version before the present one, which is returned. What an endpoint serves changes by a deploy.

        Raises Conflict where there is none before.
        """
        with act.change() as draft:
            now = draft.get("alias", f"{subject.name}@{alias}")
            before = list(now.get("before", ())) if now else []
            if not now or not before:
                raise Conflict(f"{subject.bare}@{alias} has nothing to go back to.", f"falaj model list --name {subject.name}")
            earlier = Ref.parse(str(before[-1]))
            self._point(draft, act, earlier, alias, (f"{subject.bare}|rollback", before[:-1]))
            draft.decide(Decision(subject.bare, "rollback", "allow", (), act.actor, act.now, reason))
            draft.note(alias=alias, model=str(earlier), left=now["model"], reason=reason)
        self._mirrored(lambda: self.mirror.record_alias(earlier.name, alias, str(earlier.version)))
        return earlier

    def get(self, model: Ref) -> Mapping[str, Any]:
        """A version's record. Raises NotFound with the nearest names."""
        return record_of(self.kernel.ledger, model)

    def resolve(self, text: str) -> Ref:
        """The version that `delay@7`, `model/delay@7` or `delay@champion` means."""
        ref = Ref.parse(text if "/" in text else f"model/{text}")
        alias = self.kernel.ledger.get("alias", _key(ref))
        found = Ref.parse(str(alias["model"])) if alias else ref
        self.get(found)
        return found

    def champion(self, name: str) -> Ref | None:
        alias = self.kernel.ledger.get("alias", f"{name}@champion")
        return Ref.parse(str(alias["model"])) if alias else None

    def listing(self, name: str = "") -> list[Mapping[str, Any]]:
        """Every version, oldest first."""
        found = [body for _, body in self.kernel.ledger.find("model", prefix=f"{name}@" if name else "")]
        return sorted(found, key=lambda body: (Ref.parse(body["ref"]).name, int(Ref.parse(body["ref"]).version or 0)))

    def manifest(self, model: Ref) -> Mapping[str, Any]:
        """What was signed. The signature is checked where a model is loaded and traced, not here."""
        payload: Mapping[str, Any] = json.loads(b64decode(self.get(model)["manifest"]["payload"]))
        return payload

    def _manifest(self, version: Ref, asset: Asset, decision: Decision) -> dict[str, Any]:
        """All that an inference server has to know, and what the model came from."""
        body = self.kernel.ledger.get("recipe", str(asset.labels["recipe"]))
        if body is None:
            raise NotFound(f"The recipe of {asset.ref} is not in the ledger.", "train it again.")
        recipe = decode(Recipe, body)
        return {
            "model": str(version),
            "digest": asset.digest,
            "size": asset.labels["size"],
            "format": asset.labels.get("format", "onnx"),
            "recipe": encode(recipe),
            "places": dict(self.places(recipe)),
            "inputs": {"name": "input", "dtype": "FP32", "columns": len(recipe.columns)},
            "output": "probabilities",
            "training_run": asset.run,
            "candidate": str(asset.ref),
            "gate": {"verdict": decision.verdict, "at": encode(decision.at), "by": str(decision.actor)},
            "threshold": asset.labels["threshold"],
            "classification": self.classes(str(asset.labels["training"]), recipe) if self.classes else {},
        }

    def _authors(self, act: Act, candidate: Ref, asset: Asset) -> tuple[str, ...]:
        """Who made it, by the ledger's own events about its run and the candidate; and whoever registers it now."""
        about = [candidate, *([Ref("run", asset.run)] if asset.run else [])]
        found = [event for ref in about for event in self.kernel.ledger.events(subject=ref)]
        return tuple(dict.fromkeys([*authors_of(sorted(found, key=lambda event: event.seq)), act.actor.name]))

    def _point(self, draft: Draft, act: Act, model: Ref, alias: str, why: tuple[str, list[str]]) -> None:
        """`why`: the key of the decision, and the versions to go back to, oldest first. What was rolled back is none of them."""
        if not alias or Ref("alias", alias).version is not None:
            raise InvalidInput(f"{alias!r} is not a name for an alias.", "use lower-case letters, as in champion.")
        decision, before = why
        body = {"model": str(model), "since": act.now, "by": str(act.actor), "decision": decision, "before": before}
        draft.put("alias", f"{model.name}@{alias}", body)

    def _last(self, name: str) -> int:
        return max((int(key.rpartition("@")[2]) for key, _ in self.kernel.ledger.find("model", prefix=f"{name}@")), default=0)

    def _asset(self, candidate: Ref) -> Asset:
        body = self.kernel.ledger.get("asset", str(candidate))
        if body is None:
            known = [key for key, _ in self.kernel.ledger.find("asset", prefix="candidate/")]
            raise NotFound.named("candidate", str(candidate), known)
        return decode(Asset, body)

    def _mirror_model(self, version: Ref, asset: Asset) -> None:
        tags = {"falaj.ref": str(version), "falaj.digest": asset.digest, "falaj.run": asset.run or ""}
        self.mirror.record_model(version.name, str(version.version), run=asset.run or "", source=asset.digest, tags=tags)

    def _mirrored(self, tell: Callable[[], None]) -> None:
        """The mirror is never the truth: that it does not answer changes nothing here."""
        try:
            tell()
        except FalajError:
            return


def standing_of(ledger: Ledger | Transaction, model: Ref) -> Check:
    """Whether anything stands against a version: a quarantine, or that retention removed its bytes."""
    body = ledger.get("standing", _key(model))
    state = str(body["state"]) if body else "none"
    return Check("standing", "neither quarantined nor removed", state, body is None)


def refuse_withheld(reader: Ledger | Transaction, model: Ref) -> None:
    """Raises Conflict for a version in quarantine, and for one whose bytes were removed."""
    standing = standing_of(reader, model)
    if not standing.passed:
        raise Conflict(f"{model} is {standing.seen}: it may not answer anybody.", f"falaj model show {model}")


def _key(ref: Ref) -> str:
    return f"{ref.name}@{ref.version}"
