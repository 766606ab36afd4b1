"""The first three hops of a trace: the logged prediction, the release that answered, and the signed model behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from falaj.core.asset import Asset
from falaj.core.codec import decode, digest
from falaj.core.envelope import open_envelope
from falaj.core.errors import NotFound
from falaj.core.event import Event
from falaj.core.merkle import leaf_hash, root, verify_inclusion
from falaj.core.moments import iso, millis, moment
from falaj.core.recipe import Recipe
from falaj.core.segment import Seal, records_of
from falaj.stages.governance.hop import HopDraft
from falaj.stages.governance.proofs import Tree
from falaj.stages.monitoring.outcomes import said_of
from falaj.stages.registry.service import PAYLOAD_TYPE

if TYPE_CHECKING:
    from falaj.stages.governance.trace import Trail

LABELS_WITHIN = 16
"""Segments behind the prediction's own in which its label is looked for."""
TAKE_OVER = timedelta(seconds=60)
"""A server may answer with the arms of before for so long after the ledger has changed."""
SKEW = timedelta(seconds=5)
"""How far the clock of a request may be from that of the control plane."""
_SHOWN = ("at", "wrote", "release", "model", "arm", "share", "unit", "request_id", "by", "via", "forced", "score")


def prediction(trail: Trail, draft: HopDraft) -> None:
    segment, row = trail.id.segment, trail.id.row
    draft.note(id=trail.text, endpoint=f"endpoint/{trail.endpoint}", segment=segment, row=row)
    lines: list[bytes] = []
    with draft.asking("segment", f"segment {segment} of the prediction log"):
        lines = trail.trace.predictions_of(trail.endpoint).lines(segment)
    with draft.asking("line", f"line {row} of segment {segment} is this prediction"):
        _read_line(trail, draft, lines, row)
    with draft.asking("seal", "the segment's seal in the ledger, and the line under its root"):
        _sealed(trail, draft, lines)
    with draft.asking("label", "a readable log behind the prediction"):
        _label(trail, draft, lines)


def _read_line(trail: Trail, draft: HopDraft, lines: list[bytes], row: int) -> None:
    if not 0 <= row < len(lines):
        raise NotFound(f"the segment has {len(lines)} lines")
    held = trail.trace.predictions_of(trail.endpoint).records(lines[row])[trail.id.part :]
    is_this = bool(held) and held[0].get("kind") == "prediction" and held[0].get("id") == trail.text
    draft.check("line", "the prediction with this id", "it is there" if is_this else "another record stands there", is_this)
    if not is_this:
        return
    record = held[0]
    trail.record, trail.at = record, moment(record["at"])
    draft.note(**{name: record.get(name) for name in _SHOWN})
    same = millis(trail.at) == trail.id.millis
    draft.check("time", "the time that is part of the id", iso(trail.at), same)


def _sealed(trail: Trail, draft: HopDraft, lines: list[bytes]) -> None:
    segment, key = trail.id.segment, f"{trail.endpoint}/{trail.id.segment:06d}"
    on_disk = next((seal for seal in trail.trace.predictions_of(trail.endpoint).seals() if seal.segment == segment), None)
    if not trail.proofs.has("seal", key):
        state = "closed, but its seal is not in the ledger yet" if on_disk else "still open"
        seen = f"segment {segment} is {state}: the prediction is logged, and cannot be proven until then"
        draft.check("seal", "a sealed segment", seen, None)
        return
    proven = trail.proofs.record("seal", key)
    draft.checks.append(proven.check)
    seal = decode(Seal, proven.body)
    draft.note(sealed_by=proven.who, sealed_rows=seal.rows, root=seal.root)
    hashes = [leaf_hash(line) for line in lines]
    wanted = bytes.fromhex(seal.root.removeprefix("sha256:"))
    is_whole = len(lines) == seal.rows and root(hashes) == wanted
    seen = f"{len(lines)} lines under that root" if is_whole else f"{len(lines)} lines with another root: a line was changed"
    draft.check("segment", f"{seal.rows} lines under the sealed root", seen, is_whole)
    row = trail.id.row
    is_in = 0 <= row < len(hashes) and verify_inclusion(hashes[row], row, len(hashes), Tree(hashes).path(row), wanted)
    draft.check("inclusion", "the line is under the sealed root", "proven" if is_in else "its proof leads to another root", is_in)
    seen = "the same" if on_disk == seal else "another, or none"
    draft.check("seal file", "the seal beside the segment is the ledger's", seen, on_disk == seal)


def _label(trail: Trail, draft: HopDraft, lines: list[bytes]) -> None:
    """What really happened, if it is known, of the prediction or of its unit: the last that was said counts."""
    stream, names = trail.trace.predictions_of(trail.endpoint), [trail.text.encode()]
    if trail.record.get("unit"):
        names.append(json.dumps(trail.record["unit"], ensure_ascii=False).encode())
    records: list[Mapping[str, Any]] = []
    for number in range(trail.id.segment, trail.id.segment + LABELS_WITHIN):
        try:
            held = lines if number == trail.id.segment else stream.lines(number)
        except NotFound:
            break
        for line in held:
            if any(name in line for name in names):
                records += records_of(json.loads(line))
    found = said_of(trail.record, records) if trail.record else None
    if found is not None:
        by = {} if "id" in found else {"label_of": "its unit"}
        draft.note(label="withdrawn" if found["label"] is None else found["label"], label_known_at=found.get("at"), **by)


def release(trail: Trail, draft: HopDraft) -> None:
    ref = trail.record.get("release")
    if not ref:
        draft.check("release", "named by the prediction", "the prediction could not be read", None)
        return
    proven = trail.proofs.record("release", _key(ref))
    draft.checks.append(proven.check)
    body = proven.body or {}
    draft.note(
        release=ref, model=body.get("model"), since=body.get("at"), by=body.get("by"), reason=body.get("reason"),
        outcome=body.get("outcome"), outcome_at=body.get("outcome_at"),
    )  # fmt: skip
    same = body.get("model") == trail.record.get("model")
    draft.check("model", f"the prediction's, {trail.record.get('model')}", str(body.get("model")), same)
    first = trail.proofs.history("release", _key(ref))
    if first:
        _approve(trail, f"{first[0][0].verb} of {ref}", first[0][0])
    with draft.asking("served", "the endpoint was to serve this release then"):
        _served(trail, draft)
    reason = str(body.get("reason") or "")
    if reason.startswith("rollout/"):
        with draft.asking("rollout", "a readable rollout"):
            _rollout(trail, draft, reason)
    elif reason.startswith("experiment/"):
        with draft.asking("experiment", "a readable experiment"):
            _experiment(trail, draft, reason)


def _served(trail: Trail, draft: HopDraft) -> None:
    """The arms that were wanted when the prediction was made, with the event that wanted them."""
    states = [(event, body) for event, body in trail.proofs.history("endpoint", trail.endpoint) if body is not None]
    before = [state for state in states if trail.at is not None and state[0].at <= trail.at + SKEW]
    late = [before[-2]] if len(before) > 1 and trail.at is not None and trail.at - before[-1][0].at <= TAKE_OVER else []
    for event, body in [*before[-1:], *late]:
        for arm in body["wanted"]["arms"]:
            if all(arm[name] == trail.record.get(name) for name in ("release", "model", "digest")):
                trail.unit = str(body["wanted"].get("unit", ""))
                draft.note(threshold=body["wanted"].get("threshold"), wanted_by=str(event.actor), wanted_since=iso(event.at))
                seen = f"{arm['role']} with {arm['share']:.0%} since event {event.seq}"
                draft.check("served", "the release was to be served at that time", seen, True)
                draft.checks.append(trail.proofs.event(event.seq))
                return
    seen = "nothing was to be served" if not before else f"event {before[-1][0].seq} wanted other releases"
    draft.check("served", "the release was to be served at that time", seen, False)


def _rollout(trail: Trail, draft: HopDraft, ref: str) -> None:
    proven = trail.proofs.record("rollout", _key(ref))
    draft.checks.append(proven.check)
    status = (proven.body or {}).get("status", {})
    draft.note(rollout=f"{ref}: {status.get('state')}, {status.get('reason')}")
    for event in trail.proofs.about("rollout.look", ref):
        if event.facts.get("state") in ("promoted", "rolled_back"):
            _approve(trail, f"{ref} {event.facts['state']}: {event.facts.get('reason', '')}", event)


def _experiment(trail: Trail, draft: HopDraft, ref: str) -> None:
    proven = trail.proofs.record("experiment", _key(ref))
    draft.checks.append(proven.check)
    body = proven.body or {}
    winner = f"won by {body['winner']}" if body.get("winner") else "not decided yet"
    draft.note(experiment=f"{ref}: {body.get('reason')}, {winner}")


def model(trail: Trail, draft: HopDraft) -> None:
    ref = trail.record.get("model")
    if not ref:
        draft.check("model", "named by the prediction", "the prediction could not be read", None)
        return
    proven = trail.proofs.record("model", _key(ref))
    draft.checks.append(proven.check)
    trail.model = proven.body or {}
    draft.note(model=ref, registered_by=proven.who)
    draft.note(**{name: trail.model.get(name) for name in ("created_at", "training", "metrics")})
    wanted = str(trail.record.get("digest"))
    with draft.asking("signature", "a manifest signed with this installation's model key"):
        _manifest(trail, draft, ref, wanted)
    with draft.asking("asset", "the candidate that was registered"):
        trail.asset = _asset(trail, draft, wanted)
    with draft.asking("model file", f"bytes with the digest {wanted[:19]}…"):
        data = trail.trace.blobs.get(wanted)
        draft.note(digest=wanted, bytes=len(data))
        found = digest(data)
        draft.check("model file", wanted, found, found == wanted)
    with draft.asking("gate", "a gate that let it pass"):
        _gate(trail, draft, ref)


def _manifest(trail: Trail, draft: HopDraft, ref: str, wanted: str) -> None:
    envelope = trail.model["manifest"]
    body = json.loads(open_envelope(envelope, PAYLOAD_TYPE, trail.trace.verify))
    key_id = str(envelope["signatures"][0].get("keyid", ""))
    draft.note(signed_by_key=key_id)
    draft.check("signature", "signed by the trusted model key", key_id or "good", True)
    is_same = body.get("digest") == wanted and body.get("model", ref) == ref
    seen = f"{body.get('model', ref)}, {body.get('digest')}"
    draft.check("manifest", f"about {ref} and the digest that answered", seen, is_same)
    trail.recipe = decode(Recipe, body["recipe"])
    draft.note(columns=len(trail.recipe.columns))


def _asset(trail: Trail, draft: HopDraft, wanted: str) -> Asset:
    asset = decode(Asset, trail.model["asset"])
    draft.check("asset", "the digest that answered", asset.digest, asset.digest == wanted)
    draft.note(candidate=str(asset.ref))
    return asset


def _gate(trail: Trail, draft: HopDraft, ref: str) -> None:
    subjects = dict.fromkeys([*([str(trail.asset.ref)] if trail.asset else []), ref, f"candidate/{_key(ref)}"])
    key = next((f"{subject}|gate" for subject in subjects if trail.proofs.has("decision", f"{subject}|gate")), None)
    if key is None:
        draft.check("gate", "a gate's decision in the ledger", "there is none", False)
        return
    proven = trail.proofs.record("decision", key)
    draft.checks.append(proven.check)
    body = proven.body or {}
    checks = body.get("checks", [])
    passed = sum(check["passed"] is True for check in checks)
    draft.note(gate=f"{body.get('verdict')}, {passed} of {len(checks)} checks passed")
    draft.check("gate", "allow", str(body.get("verdict")), body.get("verdict") == "allow")
    if proven.event is not None:
        _approve(trail, f"gate of {key.partition('|')[0]}: {body.get('verdict')}, {passed} of {len(checks)} checks", proven.event)
    for event in trail.proofs.about("model.promote", ref):
        _approve(trail, f"{ref} promoted{_reason(event.facts)}", event)


def _approve(trail: Trail, what: str, event: Event) -> None:
    from falaj.stages.governance.trace import Approval

    trail.approvals.append(Approval(what, str(event.actor), event.at, event.seq))


def _reason(facts: Mapping[str, Any]) -> str:
    return f": {facts['reason']}" if facts.get("reason") else ""


def _key(ref: Any) -> str:
    """`release/delay@3` → `delay@3`."""
    return str(ref).partition("/")[2]
