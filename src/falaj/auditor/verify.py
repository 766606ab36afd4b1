"""Checks what a falaj ledger proves, without falaj: a proof file, an exported ledger, or one prediction.

    python verify.py proof|prediction FILE --vkey KEY [--rotations FILE] [--witness KEY --quorum N]
    python verify.py bundle FOLDER --vkey KEY [--witness KEY --quorum N] [--remember NOTE]

KEY is the ledger's first key, `<name>+<hash>+<base64>`, got from somebody you trust and never from what is checked. Needs
Python 3.10 and the package `cryptography`. Formats: C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-tiles;
hashes: RFC 6962. Exit: 0 everything holds, 1 something does not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS, LARGEST, MOST, WIDTH = 1, 4, 1 << 20, 1 << 26, 256
HEADER, NUMBER = "c2sp.org/tlog-proof@v1", "(0|[1-9][0-9]{0,18})"


class Refused(ValueError):
    """What was shown does not hold."""


@dataclass(frozen=True)
class Key:
    name: str
    raw: bytes
    hash: bytes

    @classmethod
    def read(cls, text: str, kind: int) -> Key:
        name, _, rest = text.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        data = unb64(encoded)
        if not name or len(data) != 33 or data[0] != kind or sha(name.encode(), b"\n", data)[:4].hex() != hashed:
            raise Refused(f"{text[:100]!r} is no key of a {'log' if kind == LOG else 'witness'}")
        return cls(name, data[1:], bytes.fromhex(hashed))

    def signed(self, signature: bytes, message: bytes) -> bool:
        try:
            return Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message) is None
        except (InvalidSignature, ValueError):
            return False


@dataclass(frozen=True)
class Note:
    """A signed checkpoint. `lines`: its signatures, as (name, key hash, signature)."""

    text: str
    origin: str
    size: int
    root: bytes
    lines: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def read(cls, note: str) -> Note:
        text, blank, tail = note.rpartition("\n\n")
        said, lines = text.split("\n"), tail.split("\n")
        if not blank or len(note) > LARGEST or lines.pop() or not lines or len(said) < 3 or not all(said):
            raise Refused("a checkpoint is no signed note")
        root = unb64(said[2])
        if not re.fullmatch(NUMBER, said[1]) or len(root) != 32:
            raise Refused("a checkpoint does not say its size and root")
        parts = [line.split(" ") for line in lines]
        if any(len(part) != 3 or part[0] != "—" or len(unb64(part[2])) < 5 for part in parts):
            raise Refused("a signature line cannot be read")
        signatures = tuple((name, unb64(data)[:4], unb64(data)[4:]) for _, name, data in parts)
        return cls(text + "\n", said[0], int(said[1]), root, signatures)

    def is_signed_by(self, key: Key) -> bool:
        """By the first line of that key: a false one is not made good by a later one."""
        own = [data for *by, data in self.lines if by == [key.name, key.hash]]
        return bool(own) and self.origin == key.name and key.signed(own[0], self.text.encode())

    def cosigned_by(self, witnesses: Sequence[Key]) -> dict[str, int]:
        """Witness → when, in seconds since 1970. One key under two names counts once."""
        found: dict[bytes, tuple[str, int]] = {}
        for key in witnesses:
            for name, hashed, data in self.lines:
                at = int.from_bytes(data[:8], "big")
                message = f"cosignature/v1\ntime {at}\n{self.text}".encode()
                if (name, hashed, len(data)) == (key.name, key.hash, 72) and key.signed(data[8:], message):
                    found.setdefault(key.raw, (name, at))
        return dict(found.values())


@dataclass(frozen=True)
class Proof:
    index: int
    path: tuple[bytes, ...]
    note: Note
    leaf: bytes

    @classmethod
    def read(cls, text: str) -> Proof:
        head, _, note = text.partition("\n\n")
        lines = head.split("\n")
        leaf = unb64(lines.pop(1)[6:]) if len(lines) > 1 and lines[1].startswith("extra ") else b""
        if len(text) > LARGEST or len(lines) < 2 or lines[0] != HEADER or not re.fullmatch(f"index {NUMBER}", lines[1]):
            raise Refused(f"it is no proof of the form {HEADER}")
        return cls(int(lines[1][6:]), tuple(unb64(line) for line in lines[2:]), Note.read(note), leaf)

    def holds(self) -> bool:
        """Whether the leaf that came along is where the proof says, under the checkpoint's root."""
        return included(sha(b"\0", self.leaf), self.index, self.note.size, self.path, self.note.root)


@dataclass
class Chain:
    """The keys of one ledger: each signs the checkpoints above the size at which it took over, up to where the next did."""

    keys: list[Key]
    since: list[int] = field(default_factory=lambda: [-1])

    def rotate(self, leaf: bytes, covered: Note) -> None:
        """Takes in the key that a rotation names, under the first checkpoint that covers it. Raises Refused."""
        if not covered.is_signed_by(self.keys[-1]):
            raise Refused(f"the rotation at {covered.size} events is not signed by the key before it")
        key = Key.read(str(event_of(leaf, "audit.rotate")["facts"]["vkey"]), LOG)
        if key.name != self.keys[0].name or covered.size <= self.since[-1]:
            raise Refused("a rotation names the key of another ledger, or goes back")
        self.keys.append(key)
        self.since.append(covered.size)

    def signed(self, note: Note) -> str:
        """Empty where the key signed whose turn it was; else what is wrong."""
        turn = max(i for i, size in enumerate(self.since) if size < note.size or i == 0)
        fault = f"the checkpoint of {note.size} events is not signed by key {turn + 1}, whose turn it was"
        return "" if note.is_signed_by(self.keys[turn]) else fault


@dataclass
class Report:
    checks: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    def check(self, name: str, fault: str, seen: str) -> None:
        self.checks.append({"check": name, "holds": not fault, "seen": fault or seen})

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check["holds"] for check in self.checks)

    def as_json(self) -> str:
        return json.dumps({"holds": self.holds, "checks": self.checks, **self.told}, ensure_ascii=False) + "\n"

    def as_text(self) -> str:
        rows = [("holds " if check["holds"] else "BROKEN", check["check"], check["seen"]) for check in self.checks]
        rows += [("", name, json.dumps(value, ensure_ascii=False)) for name, value in self.told.items()]
        return "".join(f"{mark:<8}{name:<14}{seen}\n" for mark, name, seen in rows)


def check_proof(text: str, chain: Chain, ask: argparse.Namespace) -> Report:
    report, proof = Report(), Proof.read(text)
    size, is_in = proof.note.size, proof.holds()
    report.check("signature", chain.signed(proof.note), f"the ledger {proof.note.origin} signed {size} events")
    fault = "" if is_in else f"the leaf is not number {proof.index} under the signed root"
    report.check("inclusion", fault, f"it is event {proof.index} of {size}")
    _witnessed([proof.note], ask, report)
    for kept in [Note.read(path.read_bytes().decode()) for path in ask.remember]:
        fault = "" if kept.size != size or kept.root == proof.note.root else "another root was remembered for this size"
        report.check("remembered", fault, f"of {kept.size} events; only a bundle can show that this one extends it")
    report.told |= {"event": JSON.decode(proof.leaf.decode())} if is_in else {}
    return report


def check_prediction(text: str, chain: Chain, ask: argparse.Namespace) -> Report:
    """The line is under its segment's root, and that root is in an event of the ledger."""
    shown = JSON.decode(text)
    line, row, rows = unb64(shown["line"]), int(shown["row"]), int(shown["rows"])
    path, proof = [unb64(node) for node in shown["path"]], str(shown["proof"])
    report = check_proof(proof, chain, ask)
    changes, hashed = event_of(Proof.read(proof).leaf, "predictions.seal")["changes"], sha(b"\0", line)
    seals = [c["body"] for c in changes if c["kind"] == "seal" and c["body"]]
    under = [s for s in seals if s["rows"] == rows and included(hashed, row, rows, path, bytes.fromhex(s["root"][7:]))]
    seen = f"line {row} of segment {under[0]['segment']} of {under[0]['endpoint']}" if under else ""
    report.check("prediction", "" if under else "the line is under no segment that this event sealed", seen)
    report.told |= {"prediction": JSON.decode(line.decode())} if under else {}
    return report


def check_bundle(folder: Path, chain: Chain, ask: argparse.Namespace) -> Report:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or (path.is_file() and path.stat().st_size <= MOST)):
            raise Refused(f"{path} is a link or a device, or larger than it may be")
    report, newest = Report(), Note.read((folder / "checkpoint").read_bytes().decode())
    read = (Note.read(JSON.decode(line.decode())["note"]) for line in (folder / "checkpoints.jsonl").read_bytes().splitlines())
    notes = [note for note in read if note.size <= newest.size]  # an export may be under way
    kept = [Note.read(path.read_bytes().decode()) for path in ask.remember]
    tree = Tree(folder, {note.size for note in (*notes, *kept)})
    tree.walk(newest.size)
    sizes = [note.size for note in notes]
    ordered = sizes == sorted(set(sizes)) and sizes[-1:] == [newest.size] and notes[-1].text == newest.text
    report.check("checkpoints", "" if ordered else "they are not in order, or the newest is another", f"{len(notes)} checkpoints")
    report.check("leaves", tree.faults.get("leaves", ""), f"{newest.size} events, each with its number")
    report.check("tiles", tree.faults.get("tiles", ""), "every hash that is stored follows from the events")
    faults = [*_untrue(notes, tree, chain), ""]
    report.check("roots", faults[0], f"each checkpoint is true of the events and extends the one before ({len(chain.keys)} keys)")
    for note in kept:
        fault = chain.signed(note) or ("" if tree.roots.get(note.size) == note.root else "the ledger does not extend it")
        report.check("remembered", fault, f"the {note.size} events that were remembered are all there")
    _witnessed([*notes[:-1], newest], ask, report)
    return report


def _untrue(notes: Sequence[Note], tree: Tree, chain: Chain) -> Iterator[str]:
    """What is wrong with the checkpoints, the first fault first; takes in the keys of the rotations on its way."""
    rotations = list(tree.rotations)
    for note in notes:
        if fault := chain.signed(note):
            yield fault
        if tree.roots.get(note.size) != note.root:
            yield f"{note.size} events have another root than was signed"
        covered = [leaf for seq, leaf in rotations if seq < note.size]
        del rotations[: len(covered)]
        if covered:
            chain.rotate(covered[-1], note)


def _witnessed(notes: Sequence[Note], ask: argparse.Namespace, report: Report) -> None:
    if not ask.witness:
        report.told["witnesses"] = "not asked: without them nobody but the ledger itself says that there is only one history"
        return
    witnesses = [Key.read(text, WITNESS) for text in ask.witness]
    wanted = ask.quorum if ask.quorum > 0 else len(witnesses)
    for note in reversed(notes):
        if len(found := note.cosigned_by(witnesses)) >= wanted:
            report.check("witnesses", "", f"{note.size} events were cosigned by {', '.join(sorted(found))}")
            report.told["witnessed"] = {"size": note.size, "at": found}
            return
    report.check("witnesses", f"no checkpoint has {wanted} cosignatures of the witnesses", "")


class Tree:
    """Walks the leaves of a bundle once, in memory for a few tiles, and notes the roots that somebody asks for."""

    def __init__(self, folder: Path, sizes: set[int]) -> None:
        self.folder, self.sizes = folder, sizes
        self.roots: dict[int, bytes] = {0: sha()}
        self.rotations: list[tuple[int, bytes]] = []
        self.faults: dict[str, str] = {}
        self._rows: list[list[bytes]] = [[] for _ in range(9)]
        self._full = [0] * 9

    def walk(self, size: int) -> None:
        for first in range(0, size, WIDTH):
            leaves = self._entries(first // WIDTH, min(WIDTH, size - first))
            hashes = [sha(b"\0", leaf) for leaf in leaves]
            for seq, leaf in enumerate(leaves, first):
                # Names stand in order in a leaf, and behind `seq` there are only texts: the last hit is the event's own.
                if not leaf[leaf.rfind(b'"seq":') :].startswith(b'"seq":%d,' % seq):
                    self.faults.setdefault("leaves", f"event {seq} does not say that it is number {seq}")
                if leaf.endswith(b'"verb":"audit.rotate"}'):
                    self.rotations.append((seq, leaf))
            for wanted in (s for s in self.sizes if first < s <= first + len(hashes)):
                self._rows[0] = hashes[: wanted - first]
                smallest_first = [peak for row in self._rows for peak in reversed(peaks(row))]
                self.roots[wanted] = reduce(lambda root, peak: sha(b"\1", peak, root), smallest_first)
            self._rows[0] = hashes
            level = 0
            while len(row := self._rows[level]) == WIDTH:  # a full tile becomes one hash of the level above
                self._compare(level, self._full[level], row)
                self._full[level] += 1
                self._rows[level] = []
                level += 1
                self._rows[level].append(peaks(row)[0])
        for level, row in ((level, row) for level, row in enumerate(self._rows) if row):
            self._compare(level, self._full[level], row)

    def _entries(self, index: int, width: int) -> list[bytes]:
        file = self.folder / tile_path("entries", index, width)
        data, leaves, at = file.read_bytes() if file.is_file() else b"", [], 0
        while at + 2 <= len(data):
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            leaves.append(data[at + 2 : end])
            at = end
        if at != len(data) or len(leaves) != width:
            raise Refused(f"the entry bundle {index} does not hold {width} whole events")
        return leaves

    def _compare(self, level: int, index: int, row: list[bytes]) -> None:
        path = tile_path(str(level), index, len(row))
        if not (self.folder / path).is_file() or (self.folder / path).read_bytes() != b"".join(row):
            self.faults.setdefault("tiles", f"{path} is missing, or holds other hashes")


def peaks(row: Sequence[bytes]) -> list[bytes]:
    """The roots of the complete subtrees over a row, largest first."""
    found, at = [], 0
    while at < len(row):
        width = 1 << (len(row) - at).bit_length() - 1
        nodes = list(row[at : at + width])
        while len(nodes) > 1:
            nodes = [sha(b"\1", nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
        found.append(nodes[0])
        at += width
    return found


def included(node: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, section 2.1.3.2."""
    last = size - 1
    if not 0 <= index <= last:
        return False
    for sibling in path:
        if last == 0 or len(sibling) != 32:
            return False
        if index & 1 or index == last:
            node = sha(b"\1", sibling, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = sha(b"\1", node, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and node == root


def tile_path(level: str, index: int, width: int) -> str:
    place = f"{index % 1000:03d}"
    while index := index // 1000:
        place = f"x{index % 1000:03d}/{place}"
    return f"tile/{level}/{place}" + ("" if width == WIDTH else f".p/{width}")


def event_of(leaf: bytes, verb: str) -> dict[str, Any]:
    event = JSON.decode(leaf.decode())
    if isinstance(event, dict) and event.get("verb") == verb and isinstance(event.get("facts"), dict):
        return event
    raise Refused(f"an event that should be {verb} is none")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """No name stands twice in what is shown, or two readers would see two things."""
    if len(dict(pairs)) != len(pairs):
        raise Refused("a name stands twice in what was shown")
    return dict(pairs)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def unb64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if not data or base64.b64encode(data).decode() != text:
        raise Refused("a part of the text is not base64 in its one form")
    return data


JSON = json.JSONDecoder(object_pairs_hook=once)
CHECKS: dict[str, Any] = {"proof": check_proof, "bundle": check_bundle, "prediction": check_prediction}


def chain_of(first: str, rotations: str) -> Chain:
    """`rotations`: the proofs of the keys that followed the first, one behind the other."""
    chain = Chain([Key.read(first, LOG)])
    for part in rotations.split(HEADER + "\n")[1:]:
        proof = Proof.read(f"{HEADER}\n{part}")
        chain.rotate(proof.leaf if proof.holds() else b"{}", proof.note)
    return chain


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=CHECKS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--vkey", required=True, help="the ledger's first key")
    parser.add_argument("--rotations", type=Path, help="file with the proofs of later keys (`falaj audit rotations`)")
    parser.add_argument("--witness", action="append", help="the key of a witness; again for each")
    parser.add_argument("--quorum", type=int, default=0, help="how many of them have to have cosigned (all)")
    parser.add_argument("--remember", type=Path, action="append", default=[], help="file with a checkpoint that was kept")
    parser.add_argument("--json", action="store_true")
    ask = parser.parse_args(argv)
    try:
        chain = chain_of(ask.vkey, ask.rotations.read_bytes().decode() if ask.rotations else "")
        shown = ask.path if ask.what == "bundle" else ask.path.read_bytes().decode()
        report = CHECKS[ask.what](shown, chain, ask)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        report = Report([{"check": "form", "holds": False, "seen": str(exc) or type(exc).__name__}])
    except OSError as exc:
        return sys.stderr.write(f"it could not be looked at: {exc}\n") and 2
    sys.stdout.write(report.as_json() if ask.json else report.as_text())
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
