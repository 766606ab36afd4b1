"""Audit: shows that the ledger is whole, proves single events to strangers, and tells what happened to anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

from falaj.core.decision import Decision, judge
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.event import Event
from falaj.core.merkle import leaf_hash, verify_inclusion
from falaj.core.note import Verifier
from falaj.core.ref import Ref
from falaj.core.succession import ROTATE, Succession, rotations
from falaj.core.tlog_proof import ProofText, write_proof
from falaj.ports.evidence import Evident
from falaj.ports.ledger import Checkpoint, Proof
from falaj.ports.shelf import Shelf
from falaj.stages.action import Act, Kernel, action
from falaj.stages.governance import pulse, witnessing
from falaj.stages.governance.bundle import Exported, export
from falaj.stages.governance.rules import verify
from falaj.stages.governance.tree import LedgerTree
from falaj.stages.governance.watch import Watched, watch
from falaj.stages.governance.witnessing import Witnesses

PROMISE = timedelta(minutes=5)
"""Within this the next beat is promised, where one is due every minute."""
CHECKPOINT_EVERY = timedelta(hours=1)
"""Where nothing but the audit trail's own upkeep was written, a beat signs a checkpoint this often."""
_LOOK = "`falaj audit verify` shows where."


class KeyFiles(Protocol):
    """The keys of the ledger on this machine."""

    def make(self) -> str: ...

    def signer(self, rotations: Sequence[tuple[int, str]], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Audit:
    kernel: Kernel
    verifier: Verifier
    """The ledger's first key; who knows it can follow to the later ones."""
    witnesses: Witnesses = field(default_factory=Witnesses)
    keys: KeyFiles | None = None
    shelf: Callable[[], Shelf] | None = None
    _trees: dict[str, LedgerTree] = field(default_factory=dict)

    def verify(self, *, remembered: str | None = None, max_age: timedelta = timedelta(days=1), ask: bool = False) -> Decision:
        """Whether the ledger is whole. `remembered`: a checkpoint's text that was kept elsewhere; `ask`: the witnesses, too.

        Allow: every question could be asked and was answered well. Hold: some of it is not under a checkpoint, or was not seen
        by the witnesses, for too long; or there was a silence. Deny: something was changed, and the checks name the first place.
        """
        ledger, now = self.kernel.ledger, self.kernel.now()
        if not isinstance(ledger, Evident):
            raise InvalidInput("This ledger does not show its evidence.", "use an adapter that does: sqlite or memory.")
        with ledger.evidence() as evidence:
            found = verify(evidence, Succession.of(self.verifier, ledger), now=now, remembered=remembered, max_age=max_age)
        seen = witnessing.compare(self.verifier.name, self.witnesses, LedgerTree(ledger.leaves)) if ask else []
        beats = ledger.events(verb=pulse.BEAT)
        checks = (*found.checks, pulse.check(beats, now), *witnessing.check(ledger, self.witnesses, now), *seen)
        reason = "" if any(check.passed and check.name.startswith("seen by") for check in seen) else found.reason
        return replace(found, verdict=judge(checks), checks=checks, reason=reason)

    @action("audit.checkpoint")
    def checkpoint(self, act: Act, subject: Ref) -> Checkpoint:
        """Signs the ledger as it is. The signing is an event itself, so that silence shows."""
        with act.change():
            pass
        return self.kernel.ledger.checkpoint()

    @action("audit.beat")
    def beat(self, act: Act, subject: Ref, *, state: str = "on", within: timedelta = PROMISE) -> Checkpoint | None:
        """A sign of life, and the promise of the next one; signs a checkpoint where something else was written, or once an hour.

        `state`: `up` at a start, `on`, or `down` at the end, which promises nothing.
        """
        if state not in pulse.STATES:
            raise InvalidInput(f"{state!r} is no state of a beat.", f"there is: {', '.join(pulse.STATES)}.")
        ledger = self.kernel.ledger
        with act.change() as draft:
            draft.note(state=state, within_s=0 if state == "down" else int(within.total_seconds()))
        signed = ledger.checkpoints()
        last = signed[-1].size if signed else 0
        fresh = ledger.events(after=last - 2)
        before = next(fresh, None) if last else None
        is_old = before is None or act.now - before.at >= CHECKPOINT_EVERY
        if state == "on" and not is_old and all(event.verb.startswith("audit.") for event in fresh):
            return None
        return ledger.checkpoint()

    @action("audit.rotate")
    def rotate(self, act: Act, subject: Ref) -> Mapping[str, Any]:
        """Hands over to a new key: the old key's last checkpoint covers the event that names the new one, and it never signs
        again. Raises InvalidInput where the ledger's keys cannot follow each other."""
        ledger = self.kernel.ledger
        if self.keys is None or "rotates" not in ledger.capabilities:
            raise InvalidInput("The keys of this ledger cannot follow each other.", "use an adapter that says `rotates`: sqlite.")
        ledger.checkpoint()  # what came before is settled under the key of before
        vkey = self.keys.make()
        with act.change() as draft:
            draft.note(vkey=vkey)
        handover = ledger.checkpoint()
        self.keys.signer(rotations(ledger.events(verb=ROTATE)))
        return {"vkey": vkey, "from_size": handover.size, "note": "give this key to every witness, or it refuses the ledger"}

    @action("audit.witness")
    def witness(self, act: Act, subject: Ref) -> Decision:
        """Shows the newest checkpoint to every witness that has not cosigned it, and keeps what they sign.

        Allow: enough of them have cosigned. Hold: not yet. Deny: one refuses, because it has seen another history.
        Raises InvalidInput where no witness is named.
        """
        if not self.witnesses.asked:
            raise InvalidInput("No witness is named.", 'witnesses = ["<key> <address>"] in falaj.toml; falaj config show.')
        ledger = self.kernel.ledger
        newest = (ledger.checkpoints() or [ledger.checkpoint()])[-1]
        states = {verifier.name: ledger.get(witnessing.WITNESS, verifier.name) or {} for verifier in self.witnesses.verifiers}
        outcomes = []
        for verifier, witness in self.witnesses.asked:
            state = states[verifier.name]
            if state.get("state") == "cosigned" and state.get("size") == newest.size:
                outcomes.append(witnessing.Outcome(verifier.name, "cosigned", newest.size))
            else:
                outcomes.append(witnessing.hand_over((verifier, witness), newest, self._tree, old=int(state.get("size", 0))))
        fresh = [o for o in outcomes if o.line or o.state != states[o.witness].get("state")]
        if fresh:
            self._keep(act, newest, fresh)
        checks = tuple(outcome.check(newest) for outcome in outcomes)
        enough = sum(outcome.state == "cosigned" for outcome in outcomes) >= self.witnesses.wanted
        refused = any(outcome.state == "refused" for outcome in outcomes)
        return Decision(subject, "witness", "deny" if refused else "allow" if enough else "hold", checks, act.actor, act.now)

    def _keep(self, act: Act, newest: Checkpoint, fresh: Sequence[witnessing.Outcome]) -> None:
        with act.change() as draft:
            for outcome in fresh:
                body = {"state": outcome.state, "size": outcome.size, "said": outcome.said, "at": act.now}
                draft.put(witnessing.WITNESS, outcome.witness, body)
                if outcome.line:
                    key = f"{newest.size:020d}|{outcome.witness}"
                    draft.put(witnessing.COSIGNATURE, key, {"line": outcome.line, "at": act.now})
            kept = {key.partition("|")[2] for key, _ in draft.tx.find(witnessing.COSIGNATURE, prefix=f"{newest.size:020d}|")}
            kept |= {outcome.witness for outcome in fresh if outcome.line}
            if len(kept & {verifier.name for verifier in self.witnesses.verifiers}) >= self.witnesses.wanted:
                draft.put(witnessing.WITNESSED, "ledger", {"size": newest.size, "at": act.now})
            draft.note(
                size=newest.size, **{state: [o.witness for o in fresh if o.state == state] for state in {o.state for o in fresh}}
            )

    @action("audit.export")
    def export(self, act: Act, subject: Ref) -> Exported:
        """Adds what is new to the bundle in the state folder, up to a checkpoint of now. Raises Conflict where the bundle that
        lies there is of another history."""
        if self.shelf is None:
            raise InvalidInput("There is no place for bundles here.", "open the project from its folder.")
        ledger = self.kernel.ledger
        ledger.checkpoint()
        signed = [witnessing.cosigned(ledger, checkpoint) for checkpoint in ledger.checkpoints()]
        named = [f"log {vkey}" for vkey in self._vkeys()] + [f"witness {witness.vkey}" for _, witness in self.witnesses.asked]
        done = export(self.shelf(), ledger.leaves, self._tree, signed, named)
        with act.change() as draft:
            draft.note(size=done.size, root=done.root, tiles=done.tiles)
        return done

    def prove(self, seq: int) -> Proof:
        """That an event is in the ledger, for a stranger: under the newest that the witnesses cosigned, else the newest.

        Cosignatures stand in the checkpoint's note. Raises NotFound, or Conflict where the event was changed.
        """
        ledger = self.kernel.ledger
        leaf = next(ledger.leaves(seq, seq + 1), None) if seq >= 0 else None
        if leaf is None:
            raise NotFound(f"The ledger has no event {seq}.", "falaj audit history")
        seen = witnessing.witnessed(ledger, self.witnesses)
        newest = next((c for c in reversed(ledger.checkpoints()) if c.size > seq), None)
        under = seen if seen and seen.size > seq else witnessing.cosigned(ledger, newest or ledger.checkpoint())
        return self._proof(seq, leaf, under)

    def proof(self, seq: int) -> str:
        """The same as the text of a `.tlog-proof` file that brings the event itself along. Raises as `prove`."""
        return _text(self.prove(seq))

    def rotations(self) -> list[str]:
        """How the ledger's keys followed each other: for each rotation its proof, under the last checkpoint of the key before."""
        ledger = self.kernel.ledger
        signed, found = ledger.checkpoints(), list[Proof]()
        for seq, _vkey in rotations(ledger.events(verb=ROTATE)):
            under = next((checkpoint for checkpoint in signed if checkpoint.size > seq), None)
            if under is not None:
                found.append(self._proof(seq, next(ledger.leaves(seq, seq + 1)), witnessing.cosigned(ledger, under)))
        last = {proof.checkpoint.size: proof for proof in found}  # of several under one checkpoint the last counts
        return [_text(proof) for proof in last.values()]

    def watch(self, *, after: int = -1, root: str = "", limit: int = 100) -> Watched:
        """The next events, with what can be checked of them. `root`: that of a watch before this one, which ended at `after`."""
        ledger = self.kernel.ledger
        return watch(ledger, self._tree, Succession.of(self.verifier, ledger), since=(after, root), limit=limit)

    def history(self, subject: Ref) -> list[Event]:
        """Everything that was ever done to it; without a version, to any of its versions."""
        return list(self.kernel.ledger.events(subject=subject))

    @property
    def _tree(self) -> LedgerTree:
        return self._trees.setdefault("ledger", LedgerTree(self.kernel.ledger.leaves))

    def _vkeys(self) -> list[str]:
        from falaj.core.note import vkey

        first = vkey(self.verifier.name, self.verifier.public_key)
        return [first, *(text for _seq, text in rotations(self.kernel.ledger.events(verb=ROTATE)))]

    def _proof(self, seq: int, leaf: bytes, under: Checkpoint) -> Proof:
        try:
            path = self._tree.inclusion(seq, under)
        except Conflict:
            path = ()
        if not verify_inclusion(leaf_hash(leaf), seq, under.size, path, under.root):
            raise Conflict(f"Event {seq} is not what its checkpoint of {under.size} events covers.", _LOOK, seq=seq)
        return Proof(seq, leaf, path, under)


def _text(proof: Proof) -> str:
    return write_proof(ProofText(proof.index, proof.path, proof.checkpoint.note, proof.leaf))
