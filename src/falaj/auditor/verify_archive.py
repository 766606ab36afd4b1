"""Checks an archive of evidence about one model version, without falaj.

    python -I verify.py [FOLDER] [--vkey KEY] [--witness KEY --quorum N] [--json]

FOLDER: the unpacked archive; where this file lies unless said otherwise. KEY is the ledger's first key as text, got from
somebody you trust: without it, all that is shown is that the archive agrees with itself. Needs Python 3.10 or newer and the
package `cryptography`. Exit: 0 everything holds, 1 something does not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST, SIGNED = "manifest.json", "manifest.dsse.json"
ARCHIVE_TYPE, MODEL_TYPE = "application/vnd.falaj.evidence+json", "application/vnd.falaj.model+json"
PEOPLE = ("tier", "description", "approval", "objection", "test", "dpia")
"""Kinds of records that people write. What the events say of them is all in people/approvals.json, and nothing else is."""
LARGEST = 1 << 28


class Archive:
    """The files as they lie there. What is wrong is kept in `faults`, under the name of the file that it is about."""

    def __init__(self, folder: Path, ask: argparse.Namespace) -> None:
        self.folder, self.ask = folder, ask
        self.faults: list[tuple[str, str]] = []
        self.seen: list[tuple[str, str]] = []
        self.manifest: Mapping[str, Any] = _object(self.read(MANIFEST))
        self.keys: Mapping[str, str] = _object(self.read("keys.json"))
        self.leaves: dict[int, Mapping[str, Any]] = {}
        """The events whose proofs hold."""

    def read(self, name: str) -> bytes:
        path = self.folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ValueError(f"{name!r} leads out of the archive")
        # What is no file might never end, and is not even opened.
        if path.is_symlink() or path.stat().st_size > LARGEST or not path.is_file():
            raise ValueError(f"{name} is a link or a device, or larger than it may be")
        return path.read_bytes()

    def fault(self, name: str, what: str) -> None:
        self.faults.append((name, what))

    def hold(self, name: str, what: str) -> None:
        self.seen.append((name, what))


def check(archive: Archive) -> None:
    """Every question, in order: one that finds a fault does not keep the others from being asked."""
    for question in (files, signature, proofs, signer, weights, quotes, people, promoted):
        before = len(archive.faults)
        try:
            told = question(archive)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError) as exc:
            archive.fault(question.__name__, f"it cannot be read: {type(exc).__name__}: {exc}")
            continue
        if len(archive.faults) == before:
            archive.hold(question.__name__, told)


def files(archive: Archive) -> str:
    """Each file is what the manifest says, none is missing and none was added."""
    listed = archive.manifest["files"]
    there = {path.relative_to(archive.folder).as_posix() for path in archive.folder.rglob("*") if path.is_file()}
    for name in sorted(there - set(listed) - {MANIFEST, SIGNED}):
        archive.fault(name, "it is not in the manifest")
    for name, wanted in sorted(listed.items()):
        if name not in there:
            archive.fault(name, "it is missing")
        elif hashlib.sha256(archive.read(name)).hexdigest() != wanted["sha256"]:
            archive.fault(name, "it was changed: it has another digest than the manifest says")
    return f"{len(listed)} files are as the manifest says"


def signature(archive: Archive) -> str:
    """The manifest is what the key signed that is named in keys.json."""
    payload, key_id = opened(read_json(archive.read(SIGNED)), ARCHIVE_TYPE, unb64(archive.keys["model"]))
    if payload != archive.read(MANIFEST):
        archive.fault(MANIFEST, "it is not what was signed")
    return f"the manifest is signed by {key_id}"


def proofs(archive: Archive) -> str:
    """Each event is in the ledger, under one checkpoint that the ledger's key signed."""
    ledger = verifier()
    vkey = archive.ask.vkey or archive.keys["ledger"]
    if vkey != archive.keys["ledger"]:
        archive.fault("keys.json", "the ledger's key is another than the one that was given with --vkey")
    has_rotations = (archive.folder / "audit" / "rotations").exists()
    chain = ledger.chain_of(vkey, archive.read("audit/rotations").decode() if has_rotations else "")
    note = archive.read("audit/checkpoint").decode()
    found = sorted((archive.folder / "audit").glob("*.tlog-proof"))
    for path in found:
        name = f"audit/{path.name}"
        proof = ledger.Proof.read(archive.read(name).decode())
        event = read_json(proof.leaf) if proof.holds() else None
        if event is None:
            archive.fault(name, f"the leaf is not event {proof.index} under the signed root")
        elif not int(path.stem) == proof.index == event["seq"]:
            archive.fault(name, f"it proves event {proof.index}, not {path.stem}")
        elif wrong := chain.signed(proof.note):
            archive.fault(name, wrong)
        elif not archive.read(name).decode().endswith(f"\n\n{note}"):
            archive.fault(name, "it ends in another checkpoint than audit/checkpoint")
        else:
            archive.leaves[proof.index] = event
    _all_leaves(archive)
    _witnessed(archive, ledger, note)
    about, signed = archive.manifest["ledger"], ledger.Note.read(note)
    if (about["origin"], about["size"]) != (signed.origin, signed.size):
        archive.fault(MANIFEST, "it speaks of another ledger than the checkpoint")
    return f"{len(archive.leaves)} events are in the ledger {signed.origin} of {signed.size}"


def _all_leaves(archive: Archive) -> None:
    """Each line of events.jsonl has its proof, and each proof its line."""
    lines = [read_json(line) for line in archive.read("audit/events.jsonl").splitlines()]
    told = {event["seq"]: event for event in lines}
    for seq in sorted(set(told) | set(archive.leaves)):
        if told.get(seq) != archive.leaves.get(seq):
            archive.fault("audit/events.jsonl", f"event {seq} has no proof, or reads otherwise there")


def _witnessed(archive: Archive, ledger: Any, note: str) -> None:
    if archive.ask.witness:
        keys = [ledger.Key.read(text, ledger.WITNESS) for text in archive.ask.witness]
        found = ledger.Note.read(note).cosigned_by(keys)
        wanted = archive.ask.quorum or len(keys)
        if len(found) < wanted:
            archive.fault("audit/checkpoint", f"it has {len(found)} cosignatures of the witnesses, wanted were {wanted}")
        else:
            archive.hold("witnesses", f"cosigned by {', '.join(sorted(found))}")


def signer(archive: Archive) -> str:
    """Whoever signed the manifest is who signed the model, and that is in the ledger."""
    envelope = _registered(archive)["manifest"]
    known = {one["keyid"] for one in envelope["signatures"]}
    own = "sha256:" + hashlib.sha256(unb64(archive.keys["model"])).hexdigest()
    if own not in known:
        archive.fault(MANIFEST, f"it is signed by {own}, but the ledger knows {', '.join(sorted(known))} as who signs models")
    if read_json(archive.read("model/model.dsse.json")) != envelope:
        archive.fault("model/model.dsse.json", "it is not the envelope that the ledger holds")
    return "the manifest is signed by the key that signed the model"


def weights(archive: Archive) -> str:
    """The card, the bill of materials and the signed manifest speak of the weights that were registered."""
    record = _registered(archive)
    digest = record["asset"]["digest"]
    payload, _ = opened(record["manifest"], MODEL_TYPE, unb64(archive.keys["model"]))
    bom = read_json(archive.read("model/mlbom.cdx.json"))["metadata"]["component"]
    told = {
        "model/model.dsse.json": read_json(payload)["digest"],
        "model/manifest.json": read_json(archive.read("model/manifest.json"))["digest"],
        "model/model-card.json": read_json(archive.read("model/model-card.json"))["model"]["weights"],
        "model/inventory.json": read_json(archive.read("model/inventory.json"))["weights"],
        "model/mlbom.cdx.json": "sha256:" + bom["hashes"][0]["content"],
    }
    for name, seen in told.items():
        if seen != digest:
            archive.fault(name, f"it speaks of the weights {seen}, registered were {digest}")
    for path in sorted((archive.folder / "data" / "contracts").glob("*.odcs.yaml")):
        name = f"data/contracts/{path.name}"
        if hashlib.sha256(archive.read(name)).hexdigest() != path.name.partition(".")[0]:
            archive.fault(name, "it is not the contract of that digest")
    return f"{archive.manifest['model']} has the weights {digest}"


def quotes(archive: Archive) -> str:
    """Each record that a paper quotes reads as the event says that is named with it."""
    count = 0
    for name in sorted(archive.manifest["files"]):
        if name.endswith(".json") and (archive.folder / name).is_file():
            for quoted in _quoted(read_json(archive.read(name))):
                count += 1
                event = archive.leaves.get(quoted["event"])
                if event is None:
                    archive.fault(name, f"it quotes event {quoted['event']}, which is not proven")
                elif _change(event, quoted["kind"], quoted["key"]) != quoted["body"]:
                    archive.fault(name, f"{quoted['kind']} {quoted['key']} reads otherwise in event {quoted['event']}")
    return f"{count} quotes read as their events do"


def people(archive: Archive) -> str:
    """No approval, objection, test, assessment, tier or description is left out or added."""
    told = read_json(archive.read("people/approvals.json"))
    shown = {(one["kind"], one["key"]): one["body"] for kind in PEOPLE for one in told[kind]}
    says: dict[tuple[str, str], Any] = {}
    for _, event in sorted(archive.leaves.items()):
        for change in event["changes"]:
            if change["kind"] in PEOPLE and _is_own(archive, change["key"]):
                says[change["kind"], change["key"]] = change["body"]
    says = {key: body for key, body in says.items() if body is not None}
    for kind, key in sorted(set(says) | set(shown)):
        if says.get((kind, key)) != shown.get((kind, key)):
            fault = "is left out" if (kind, key) not in shown else "is in no event, or reads otherwise there"
            archive.fault("people/approvals.json", f"{kind} {key} {fault}")
    return f"{len(says)} records that people wrote, all of them"


def promoted(archive: Archive) -> str:
    """Whoever a promotion counted as an approver has an event in which they approved."""
    model, count = str(archive.manifest["model"]), 0
    by = {
        change["body"]["name"]
        for event in archive.leaves.values() for change in event["changes"]
        if change["kind"] == "approval" and change["body"] and change["key"].startswith(f"{model}|")
    }  # fmt: skip
    for seq, event in sorted(archive.leaves.items()):
        if event["verb"] != "model.promote" or event["subject"] != model or event["facts"].get("verdict") != "allow":
            continue
        decision = _change(event, "decision", f"{model}|approval") or {}
        for seen in (check["seen"] for check in decision["checks"] if check["name"] == "approvals" and check["passed"]):
            count += 1
            for name in seen.split(", "):
                if name not in by:
                    archive.fault("audit", f"event {seq} counts {name} as an approver, and no event says that they approved")
    return f"{count} counts of approvers agree with the approvals"


def _registered(archive: Archive) -> Mapping[str, Any]:
    model = str(archive.manifest["model"])
    key = model.removeprefix("model/")
    for event in archive.leaves.values():
        if event["verb"] == "model.register" and event["subject"] == model:
            record: Mapping[str, Any] | None = _change(event, "model", key)
            if record is not None:
                return record
    raise ValueError(f"no proven event registered {model}")


def _is_own(archive: Archive, key: str) -> bool:
    version = str(archive.manifest["model"]).removeprefix("model/")
    return key.partition("|")[0].removeprefix("model/") in (version, version.partition("@")[0])


def _change(event: Mapping[str, Any], kind: str, key: str) -> Any:
    found = [change["body"] for change in event["changes"] if (change["kind"], change["key"]) == (kind, key)]
    return found[-1] if found else None


def _quoted(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if {"kind", "key", "event", "body"} == set(value):
            yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _quoted(item)


def opened(envelope: Mapping[str, Any], payload_type: str, raw: bytes) -> tuple[bytes, str]:
    """The payload of a DSSE envelope and the key's id. Raises ValueError where that key did not sign it."""
    payload, kind = unb64(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    if envelope["payloadType"] != payload_type:
        raise ValueError(f"the envelope holds {envelope['payloadType']!r}")
    for one in envelope["signatures"]:
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(unb64(one["sig"]), message)
        except InvalidSignature:
            continue
        return payload, "sha256:" + hashlib.sha256(raw).hexdigest()
    raise ValueError("the signature is not by the key that keys.json names")


def read_json(data: bytes) -> Any:
    """JSON of one meaning: UTF-8, and no name stands twice, or two readers would see two things."""
    return json.loads(data.decode(), object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in it")
    return dict(pairs)


def _object(data: bytes) -> dict[str, Any]:
    found = read_json(data)
    if not isinstance(found, dict):
        raise ValueError("an object was expected")
    return found


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def verifier() -> Any:
    """The ledger's own verifier: beside this file, so that whoever brings a copy of their own runs nothing of the archive."""
    own = Path(__file__).resolve().parent
    path = own / "audit" / "verify_ledger.py"
    spec = importlib.util.spec_from_file_location("verify_ledger", path if path.is_file() else own / "verify.py")
    if spec is None or spec.loader is None:
        raise OSError("audit/verify_ledger.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent)
    parser.add_argument("--vkey", default="", help="the ledger's first key")
    parser.add_argument("--witness", action="append", default=[], help="the key of a witness; again for each")
    parser.add_argument("--quorum", type=int, default=0, help="how many of them have to have cosigned (all)")
    parser.add_argument("--json", action="store_true")
    ask = parser.parse_args(argv)
    sys.dont_write_bytecode = True  # nothing may be added to the archive by looking at it
    try:
        archive = Archive(ask.folder, ask)
    except (OSError, ValueError, RecursionError) as exc:
        return sys.stderr.write(f"it could not be looked at: {exc}\n") and 2
    check(archive)
    holds = not archive.faults
    if ask.json:
        told = {"holds": holds, "faults": archive.faults, "seen": archive.seen, "pinned": bool(ask.vkey)}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        return 0 if holds else 1
    sys.stdout.write("".join(f"holds   {name:<12}{what}\n" for name, what in archive.seen))
    sys.stdout.write("".join(f"BROKEN  {name}: {what}\n" for name, what in archive.faults))
    if not ask.vkey:
        sys.stdout.write(f"        The ledger's key was taken from the archive itself: {archive.keys.get('ledger')}\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
