"""Who may do what, by role, in one table: the source of every permit that falaj itself gives."""

from __future__ import annotations

from collections.abc import Mapping

READS = frozenset(
    {
        "dataset.read",
        "model.read",
        "endpoint.read",
        "rollout.read",
        "experiment.read",
        "shadow.read",
        "monitor.read",
        "alert.read",
        "run.read",
    }
)
CALLS = frozenset({"endpoint.predict", "endpoint.feedback"})
_RUNS = frozenset({"run.start", "run.finish"})
_MAKES = frozenset(
    {
        "dataset.ingest",
        "dataset.replay",
        "feature.compare",
        "feature.materialise",
        "feature.verify",
        "model.train",
        "model.evaluate",
        "model.register",
        "model.score",
    }
)
_WATCHES = frozenset(
    {
        "dataset.watch",
        "monitor.start",
        "monitor.look",
        "alert.open",
        "alert.clear",
        "alert.deliver",
        "alert.resolve",
        "rollout.look",
        "rollout.abort",
        "model.rollback",
        "endpoint.rollback",
    }
)
_LABELS = frozenset({"label.take"})
_TELLS = frozenset({"lineage.export"})
_SHIPS = frozenset({"endpoint.deploy", "rollout.start", "stream.replay", "alert.acknowledge"})
_SPLITS = frozenset(
    {
        "endpoint.prepare",
        "endpoint.switch",
        "endpoint.drop",
        "endpoint.split",
        "endpoint.weigh",
        "endpoint.unsplit",
        "endpoint.shadow",
        "endpoint.unshadow",
    }
)
"""Who is answered by which model, on the word of a person: the worker never does this by itself."""
_KILLS = frozenset({"endpoint.kill", "endpoint.revive"})
"""Who may end the use of an endpoint, and take it back into use; a program may do neither."""
_DRILLS = frozenset({"endpoint.drill"})
_TESTIFIES = frozenset({"model.describe", "model.declare", "model.test"})
"""Whoever makes, runs or judges models says what is known of them; who may judge what is the action's own question."""
_KEYS = frozenset({"key.create", "key.revoke", "key.read"})
_VOUCHES = frozenset({"key.confirm", "certificate.confirm", "key.read", "certificate.read"})
"""Who may say that another one is to judge what others do: whoever does so already."""
_DOORS = frozenset(
    {
        "certificate.allow",
        "certificate.read",
        "certificate.revoke",
        "certificate.sign",
        "token.create",
        "token.revoke",
    }
)
_SELF = frozenset({"identity.read", "identity.logout"})
"""What everybody may ask about themselves, but callers of endpoints."""
_APPROVES = frozenset({"model.approve", "model.tier"})
_OBJECTS = frozenset({"model.object", "model.withdraw"})
"""Stakeholders: whoever knows why a model should not go on may say so."""
_BREAKS = frozenset({"access.elevate"})
_REVIEWS = frozenset({"access.read", "access.review", "access.revoke"})
_SHOWS = frozenset({"evidence.make"})
_AUDITS = frozenset({"audit.read", "audit.checkpoint", "audit.export", "audit.witness"})
_BEATS = frozenset({"audit.beat"})
_ROTATES = frozenset({"audit.rotate"})
_MENDS = frozenset({"audit.rebuild"})
"""Makes the state anew from the events; whoever audits does not."""
_EXPIRES = frozenset({"dataset.expire", "export.expire", "model.expire", "predictions.expire", "retention.apply"})
_HOLDS = frozenset({"hold.place", "hold.release"})
_WAIVES = frozenset({"waiver.ask", "waiver.grant"})
_DESK = frozenset(
    {
        "export.read",
        "hold.read",
        "privacy.read",
        "receipt.read",
        "request.approve",
        "request.close",
        "request.extend",
        "request.open",
        "request.read",
        "retention.read",
        "waiver.read",
    }
)
_PEOPLE = frozenset(
    {
        "subject.admit",
        "subject.check",
        "subject.consent",
        "subject.erase",
        "subject.export",
        "subject.find",
        "subject.mark",
        "subject.restrict",
        "subject.unrestrict",
        "subject.withdraw",
    }
)
"""About one person in the data, who is named: for the data protection officer alone."""
_STEPS = frozenset({"hold.end", "model.mark", "receipt.issue", "subject.advance", "subject.replay"})
"""The steps of what an officer began, and what a restored backup makes necessary."""
_ANSWERS = frozenset({"model.justify", "model.quarantine"})
_SEES = frozenset({"hold.read", "privacy.read", "receipt.read", "request.read", "retention.read", "waiver.read"})
_POLICIES = frozenset({"policy.read"})
ZONES = frozenset({"zone.read", "transfer.read"})
"""What leads where, and which leave there is: nobody who works here needs to guess."""
PLACES = frozenset({"zone.attest", "zone.deny", "transfer.use"})
"""What the gate itself keeps, and what a look at reality found."""
ASKS = frozenset({"transfer.request"})
GRANTS = frozenset({"transfer.approve", "transfer.revoke"})
"""Leave to take data out of its zone, and its end. Whoever runs the place has none of it to give."""

ROLES: Mapping[str, frozenset[str]] = {
    "data_scientist": READS | _TESTIFIES | ZONES | ASKS | _SELF | _RUNS | _MAKES | _OBJECTS,
    "ml_engineer": READS
    | _TESTIFIES
    | ZONES
    | ASKS
    | _SELF
    | CALLS
    | _RUNS
    | _MAKES
    | _WATCHES
    | _SHIPS
    | _SPLITS
    | _LABELS
    | _TESTIFIES
    | _OBJECTS
    | _BREAKS
    | {"access.read", "access.revoke"},
    "approver": READS
    | _VOUCHES
    | _SHOWS
    | _KILLS
    | _TESTIFIES
    | ZONES
    | ASKS
    | GRANTS
    | _SELF
    | _APPROVES
    | _OBJECTS
    | _BREAKS
    | _REVIEWS
    | _HOLDS
    | _WAIVES
    | {"hold.read", "model.quarantine", "request.approve", "request.read", "waiver.read"}
    | _POLICIES
    | {"model.promote", "model.rollback", "endpoint.rollback", "rollout.abort", "alert.acknowledge", "audit.read"},
    # Runs the place, and so may do whatever keeps it running; but which model may serve is for somebody else to say.
    "operator": READS
    | _SHOWS
    | ZONES
    | ASKS
    | {"zone.attest", "transfer.revoke"}
    | _SELF
    | _OBJECTS
    | _BREAKS
    | {"access.read", "access.revoke"}
    | CALLS
    | _RUNS
    | _MAKES
    | _WATCHES
    | _SHIPS
    | _SPLITS
    | _KILLS
    | _DRILLS
    | _TESTIFIES
    | _KEYS
    | _DOORS
    | _AUDITS
    | _BEATS
    | _ROTATES
    | _POLICIES
    | _TELLS
    | _LABELS
    | _MENDS
    | {
        "project.init",
        "predictions.seal",
        "worker.tick",
        "hold.read",
        "model.quarantine",
        "retention.read",
        "waiver.ask",
        "waiver.read",
    },
    "auditor": READS | _SHOWS | _SEES | ZONES | _SELF | _AUDITS | _POLICIES | _OBJECTS | _REVIEWS | _VOUCHES,
    # The data protection officer: for the people in the data, and for nobody who builds or runs models.
    "dpo": READS
    | _VOUCHES
    | _SHOWS
    | _KILLS
    | _TESTIFIES
    | {"model.dpia"}
    | _DESK
    | _PEOPLE
    | _STEPS
    | _EXPIRES
    | _HOLDS
    | _WAIVES
    | _ANSWERS
    | ZONES
    | ASKS
    | GRANTS
    | _SELF
    | _POLICIES
    | _APPROVES
    | _OBJECTS
    | _REVIEWS
    | {"audit.read"},
    # The worker promotes too: when a rollout's evidence has decided. What is in quarantine it takes out of every endpoint.
    "service": READS
    | _SELF
    | _RUNS
    | _MAKES
    | _WATCHES
    | _SHIPS
    | _AUDITS
    | _BEATS
    | _TELLS
    | _LABELS
    | ZONES
    | PLACES
    | _EXPIRES
    | _STEPS
    | {"endpoint.drop", "endpoint.kill", "endpoint.unshadow", "endpoint.unsplit"}
    | {"project.init", "model.promote", "predictions.seal", "worker.tick"},
    "caller": CALLS,
}
VERBS = frozenset().union(*ROLES.values())
OPEN = frozenset({"public", "internal"})
"""Classes of data that may be looked at from a place that nobody knows."""
KINDS = ("person", "service", "system")

# Verbs that rules speak of together. One that no role has yet may stand here before it comes.
_RELEASES = frozenset(
    {
        "model.promote",
        "endpoint.deploy",
        "endpoint.prepare",
        "endpoint.revive",
        "endpoint.switch",
        "endpoint.split",
        "endpoint.shadow",
        "rollout.start",
    }
)
# `subject.erase` only says what is to become of a person's data, restriction under a hold; `subject.advance` destroys.
_ERASES = frozenset({"dataset.expire", "export.expire", "model.expire", "predictions.expire", "subject.advance"})
_PROTECTS = frozenset(
    {
        "alert.acknowledge",
        "alert.clear",
        "alert.deliver",
        "alert.open",
        "alert.read",
        "alert.resolve",
        "access.read",
        "access.review",
        "access.revoke",
        "audit.beat",
        "audit.checkpoint",
        "audit.export",
        "audit.read",
        "audit.rebuild",
        "audit.rotate",
        "audit.witness",
        "certificate.revoke",
        "endpoint.drop",
        "endpoint.kill",
        "endpoint.rollback",
        "endpoint.unshadow",
        "endpoint.unsplit",
        "hold.end",
        "hold.place",
        "hold.read",
        "hold.release",
        "key.revoke",
        "model.justify",
        "model.mark",
        "model.quarantine",
        "model.object",
        "model.rollback",
        "policy.read",
        "predictions.seal",
        "rollout.abort",
        "token.revoke",
        "transfer.revoke",
        "zone.attest",
        "zone.deny",
        "zone.read",
    }
)
GROUPS: Mapping[str, frozenset[str]] = {
    # group of actions: the verbs in it, as far as a role has them
    "approval": frozenset({"model.promote", "model.approve"}),
    "calling": CALLS,
    "erasure": _ERASES,
    # Whatever is not known to be harmless handles the data, so that a new verb is held to the rules from its first day.
    "processing": VERBS - _PROTECTS - _ERASES,
    "release": _RELEASES,
}
