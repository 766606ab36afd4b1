"""Everything that falaj offers to a person or a program, in one table that the command line and the HTTP API both read."""

from __future__ import annotations

from collections.abc import Mapping

from falaj.operations import (
    approval,
    audit,
    contract,
    dataset,
    doors,
    evidence,
    feature,
    identity,
    kills,
    label,
    lineage,
    models,
    policy,
    rebuild,
    retention,
    run,
    serving,
    stream,
    subjects,
    trust,
    zone,
)
from falaj.operations.operation import Operation

OPERATIONS: tuple[Operation, ...] = (
    *contract.OPERATIONS,
    *dataset.OPERATIONS,
    *feature.OPERATIONS,
    *lineage.OPERATIONS,
    *run.OPERATIONS,
    *models.OPERATIONS,
    *evidence.OPERATIONS,
    *approval.OPERATIONS,
    *serving.OPERATIONS,
    *kills.OPERATIONS,
    *label.OPERATIONS,
    *stream.OPERATIONS,
    *trust.OPERATIONS,
    *rebuild.OPERATIONS,
    *audit.OPERATIONS,
    *doors.OPERATIONS,
    *identity.OPERATIONS,
    *retention.OPERATIONS,
    *subjects.OPERATIONS,
    *policy.OPERATIONS,
    *zone.OPERATIONS,
)

SHORT: Mapping[str, tuple[str, str]] = {
    "promote": ("model", "promote"),
    "rollback": ("endpoint", "rollback"),
    "status": ("status", "show"),
    "trace": ("prediction", "trace"),
    "whoami": ("identity", "show"),
}
"""Everyday commands, without their noun."""

INTERNAL: Mapping[str, str] = {
    # an @action verb that no face offers: why
    "audit.beat": "the worker leaves a sign of life once a minute; one made by hand would promise what nobody keeps",
    "alert.clear": "a look that found nothing counts towards the end of an alert",
    "alert.deliver": "the worker delivers what an alert owes",
    "dataset.watch": "the worker looks on schedule",
    "alert.open": "monitors open alerts",
    "hold.end": "the worker records that a hold is over by its own date",
    "lineage.export": "the worker hands new events to the OpenLineage collector",
    "monitor.look": "the worker looks on schedule",
    "monitor.start": "a monitor starts with the model that it watches",
    "predictions.seal": "the worker seals what the inference server closed",
    "rollout.look": "the worker looks on schedule; looking more often by hand would not change the evidence",
    "run.finish": "a run says itself how it ended",
    "transfer.use": "the gate uses a grant up that is good once",
    "zone.deny": "the gate keeps what it refused",
}

__all__ = ["INTERNAL", "OPERATIONS", "SHORT", "Operation"]
