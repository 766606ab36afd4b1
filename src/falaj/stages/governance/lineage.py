"""The last three hops of a trace: the run that trained the model, its snapshots and features, the source rows and contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from falaj.core.asset import Asset
from falaj.core.codec import digest, digest_of, encode
from falaj.core.errors import FalajError, NotFound
from falaj.core.masking import hides_request, masked_of
from falaj.core.moments import iso, moment
from falaj.core.recipe import Recipe, entity_of
from falaj.core.ref import Ref
from falaj.stages.features.rules import mismatches, spine_of
from falaj.stages.governance.hop import HopDraft

if TYPE_CHECKING:
    from falaj.stages.governance.trace import Trail

TOLERANCE = 1e-6
"""Relative; both sides are compared as the 32-bit numbers that the model read."""
NAMED = 20
_KEPT = ("native", "holdout", "reference")
_SHOWN = ("seed", "params", "code", "environment", "rows", "threshold")
_TICK = timedelta(milliseconds=1)


def training_run(trail: Trail, draft: HopDraft) -> None:
    asset = trail.asset
    if asset is None:
        draft.check("run", "named by the model", "the model's record could not be read", None)
        return
    proven = trail.proofs.record("asset", str(asset.ref))
    draft.checks.append(proven.check)
    labels = (proven.body or {}).get("labels", asset.labels)
    draft.note(run=asset.run, candidate=str(asset.ref), trained_by=proven.who)
    draft.note(training=labels.get("training"), as_of=labels.get("at"))
    draft.note(**{name: labels.get(name) for name in _SHOWN}, mlflow=labels.get("mirror"))
    for name in ("code", "environment"):
        draft.check(name, "a digest", str(labels.get(name) or "not recorded"), True if labels.get(name) else None)
    with draft.asking("recipe", "the recipe of the signed manifest"):
        _same_recipe(draft, trail.recipe, labels)
    for name in _KEPT:
        if labels.get(name):
            with draft.asking(name, str(labels[name])):
                data = trail.trace.blobs.get(labels[name])
                draft.check(name, labels[name], digest(data), digest(data) == labels[name])
    with draft.asking("run", "a run that succeeded and gave this candidate"):
        _run(trail, draft, asset)


def _same_recipe(draft: HopDraft, recipe: Recipe | None, labels: Mapping[str, Any]) -> None:
    if recipe is None or not labels.get("recipe"):
        draft.check("recipe", "the recipe of the signed manifest", "one of both could not be read", None)
        return
    found = digest_of(encode(recipe))
    draft.check("recipe", str(labels["recipe"]), found, found == labels["recipe"])


def _run(trail: Trail, draft: HopDraft, asset: Asset) -> None:
    if not asset.run or not trail.proofs.has("run", asset.run):
        draft.check("run", "a record of the run", f"{asset.run} was trained in place, without a run of its own", None)
        return
    proven = trail.proofs.record("run", asset.run)
    draft.checks.append(proven.check)
    body = proven.body or {}
    started = trail.proofs.history("run", asset.run)
    draft.note(**{name: body.get(name) for name in ("step", "started_at", "ended_at", "attempt")})
    draft.note(run_params=body.get("params"), started_by=str(started[0][0].actor) if started else None)
    gave = str(asset.ref) in body.get("outputs", ())
    state = str(body.get("state"))
    draft.check("outcome", "succeeded, and this candidate came of it", state, state == "succeeded" and gave)


def snapshots(trail: Trail, draft: HopDraft) -> None:
    inputs = trail.asset.inputs if trail.asset else ()
    draft.note(snapshots=len(inputs), datasets=_by_dataset(inputs))
    if trail.asset is None:
        draft.check("snapshots", "named by the candidate", "the model's record could not be read", None)
    else:
        _recompute(trail, draft, inputs, "training snapshots")
    with draft.asking("features", "the logged features as recomputed from snapshots"):
        _features(trail, draft)


def _by_dataset(refs: Sequence[Ref]) -> dict[str, str]:
    found: dict[str, list[int]] = {}
    for ref in refs:
        found.setdefault(ref.name, []).append(int(ref.version or 0))
    return {name: f"versions {min(v)} to {max(v)}" if len(v) > 1 else f"version {v[0]}" for name, v in sorted(found.items())}


def _recompute(trail: Trail, draft: HopDraft, refs: Sequence[Ref], what: str) -> None:
    """One check for all that are right, and one for each that is not."""
    good = 0
    for ref in dict.fromkeys(refs):
        problem, seen_yet = _problem(trail, ref)
        if problem:
            draft.check(str(ref), "its bytes and its event as recorded", problem, False if seen_yet else None)
        else:
            good += 1
    total = len(dict.fromkeys(refs))
    passed = True if good == total else None  # what is wrong has failed by its own name already
    draft.check(what, f"{total} with the digest that the ledger proves", f"{good} recomputed and proven", passed)


def _problem(trail: Trail, ref: Ref) -> tuple[str, bool]:
    """What is wrong with a snapshot, or nothing; and whether that is certain."""
    proven = trail.proofs.record("asset", str(ref))
    if proven.check.passed is not True:
        return proven.check.seen, proven.check.passed is False
    if trail.proofs.has("expired", str(ref)):
        return "its rows were removed by retention", False
    wanted = str((proven.body or {}).get("digest"))
    try:
        found = digest(trail.trace.blobs.get(wanted))
    except FalajError as exc:
        return exc.message, True
    return ("" if found == wanted else f"its bytes have the digest {found}"), True


def _features(trail: Trail, draft: HopDraft) -> None:
    record, recipe = trail.record, trail.recipe
    if not record or recipe is None or trail.at is None:
        draft.check("features", "a prediction and its recipe", "one of both could not be read", None)
        return
    logged, request = record["features"], record.get("request")
    draft.note(features=dict(zip(recipe.names, logged, strict=False)), columns=len(recipe.names))
    if not isinstance(request, Mapping):
        draft.check("features", "a request by entity", "the caller sent the vector itself: nothing was looked up", None)
        return
    if hides_request(record, recipe):
        hidden = ", ".join(sorted(masked_of(record)[0]))
        draft.check("features", "the request that they come from", f"masked: the log does not hold {hidden}", None)
        return
    behind = trail.trace.features
    draft.note(views={name: _explained(trail, draft, name, entity_of(request, fields)) for name, fields in recipe.views.items()})
    late = [name for name in recipe.views if not _covers(trail, behind.view(name).dataset)]
    if late:
        seen = f"the snapshots behind {', '.join(late)} do not reach that time yet"
        draft.check("features", "snapshots up to the time of the prediction", seen, None)
        return
    truth, _ = behind.training_frame(recipe, spine_of(recipe, [request], [trail.at]))
    masked = masked_of(record)[1]
    found = mismatches(recipe.names, {trail.text: logged}, truth, tolerance=TOLERANCE, masked={trail.text: masked})
    for wrong in found[:NAMED]:
        draft.check(f"feature {wrong.feature}", f"{wrong.offline}, recomputed", f"{wrong.online}, logged", False)
    seen = f"{len(recipe.names) - len(masked) - len(found)} of {len(recipe.names)} equal"
    seen += f", {len(masked)} masked" if masked else ""
    draft.check("features", "every logged feature as recomputed from snapshots", seen, not found)


def _explained(trail: Trail, draft: HopDraft, view: str, entity: Any) -> dict[str, Any]:
    """Which stored row was read and which rows of the dataset stand behind it."""
    said: dict[str, Any] = {"entity": entity, "logged_ms": (trail.record.get("stored_at") or {}).get(view)}
    if entity is None or trail.at is None:
        return said
    try:
        found = trail.trace.features.explain(view, str(entity), trail.at)
    except Exception as exc:  # a snapshot that was changed, or a view that is declared no more
        why = exc.message if isinstance(exc, FalajError) else f"{type(exc).__name__}: {exc}"
        draft.check(f"view {view}", "the rows behind the stored one", why[:300], False)
        return said
    said |= {"row_at": iso(found.at) if found.at else None, "values": dict(found.values), "rows": found.rows.height}
    said["snapshots"] = [str(asset.ref) for asset in found.assets]
    _recompute(trail, draft, [asset.ref for asset in found.assets], f"view {view}")
    return said


def _covers(trail: Trail, dataset: str) -> bool:
    head = trail.proofs.record("head", f"dataset/{dataset}").body
    return bool(head and head.get("watermark") and trail.at and moment(head["watermark"]) >= trail.at)


def source_rows(trail: Trail, draft: HopDraft) -> None:
    if trail.at is None or trail.asset is None:
        draft.check("row", "a prediction and its model", "one of both could not be read", None)
        return
    with draft.asking("row", "the row that the prediction was about"):
        found = _row(trail, draft)
        for dataset in dict.fromkeys(ref.name for ref in trail.asset.inputs):
            with draft.asking(f"contract of {dataset}", "a contract that let the data in"):
                _contract(trail, draft, dataset, found)


def _row(trail: Trail, draft: HopDraft) -> Ref | None:
    """The snapshot that holds the unit's row, by the time of the prediction."""
    request = trail.record.get("request") or {}
    value = request.get(trail.unit, trail.record.get("unit")) if trail.unit else None
    if value is None or trail.asset is None or trail.at is None:
        draft.check("row", "an endpoint that names its unit", "this one does not: no row can be looked up", None)
        return None
    if trail.unit in masked_of(trail.record)[0]:
        draft.check("row", f"the row where {trail.unit} is the prediction's", f"masked: the log does not hold {trail.unit}", None)
        return None
    missing = ""
    for dataset in dict.fromkeys(ref.name for ref in trail.asset.inputs):
        for asset in trail.trace.contracts.assets(dataset, trail.at - _TICK, trail.at):
            if trail.unit not in asset.labels.get("columns", ()):
                continue
            _recompute(trail, draft, [asset.ref], "snapshot of that time")
            try:
                row = trail.trace.contracts.row(asset.ref, trail.unit, value)
            except NotFound as exc:
                missing = exc.message
                continue
            draft.note(snapshot=str(asset.ref), row=encode(dict(row)))
            draft.check("row", f"one row where {trail.unit} is {value}", f"found in {asset.ref}", True)
            return asset.ref
    seen = missing or f"no snapshot holds {trail.unit} at that time yet"
    draft.check("row", f"one row where {trail.unit} is {value}", seen, None)
    return None


def _contract(trail: Trail, draft: HopDraft, dataset: str, row: Ref | None) -> None:
    """The contract that the newest snapshot in question came in under; that of the row where there is one."""
    assert trail.asset is not None
    newest = [ref for ref in trail.asset.inputs if ref.name == dataset][-1]
    ref = row if row is not None and row.name == dataset else newest
    proven = trail.proofs.record("asset", str(ref))
    labels = (proven.body or {}).get("labels", {})
    wanted = str(labels["contract"])
    found = digest(trail.trace.blobs.get(wanted))
    draft.check(f"contract of {dataset}", wanted, found, found == wanted)
    held = f"quarantine/{ref.name}@{ref.version}"
    body = trail.proofs.record("asset", held).body if trail.proofs.has("asset", held) else None
    decided = trail.proofs.record("decision", f"{ref}|contract")
    draft.checks.append(decided.check)
    kept_out = (body or {}).get("labels", {}).get("rows", 0)
    draft.note(**{
        f"{dataset}_contract": f"version {labels.get('contract_version')}, {wanted}",
        f"{dataset}_owner": labels.get("owner"),
        f"{dataset}_classification": labels.get("classification"),
        f"{dataset}_rows": f"{labels.get('rows')} taken in, {kept_out} in quarantine ({ref})",
        f"{dataset}_taken_in": f"{(decided.body or {}).get('verdict')} by {decided.who}",
    })  # fmt: skip
    is_allowed = (decided.body or {}).get("verdict") == "allow"
    draft.check(f"{ref} taken in", "allow", str((decided.body or {}).get("verdict")), is_allowed)
