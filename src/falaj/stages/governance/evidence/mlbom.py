"""The bill of materials of a version, as CycloneDX 1.6 with its modelCard (ECMA-424): weights, data, code, figures.

Written here, as the CycloneDX library for Python knows no modelCard; it checks what is written against the published schema.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from falaj.core.moments import iso
from falaj.stages.governance.evidence.gather import Gathered

Body = Mapping[str, Any]
SPACE = uuid.UUID("6f1d1f0e-7b3a-5c61-9d0e-4f3a1c2b5d70")
"""The namespace of the serial numbers: the same version of the same ledger always has the same."""
_FORMATS = {"onnx": "application/onnx", "lightgbm": "text/plain", "xgboost": "application/octet-stream"}


def mlbom(found: Gathered, shown: Body, origin: str) -> dict[str, Any]:
    """`shown`: the model card. `origin`: the ledger's name."""
    model, record = found.model, found.record
    made = str(record.get("created_at") or iso(found.events[-1].at))
    main = f"pkg:generic/falaj/{model.name}@{model.version}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(SPACE, " ".join((origin, str(model), str(shown["model"]["id"])))).urn,
        "version": 1,
        "metadata": {
            "timestamp": made,
            "component": _model(found, shown, main),
            "tools": {"components": [{"type": "application", "name": "falaj"}]},
        },
        "components": [*(_snapshot(one) for one in shown["data"]), *_code(shown)],
        "dependencies": [
            {"ref": main, "dependsOn": [one["snapshot"] for one in shown["data"]] + [part["bom-ref"] for part in _code(shown)]}
        ],
    }


def _model(found: Gathered, shown: Body, ref: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model", "bom-ref": ref, "name": found.model.name, "version": str(found.model.version),
        "description": str(shown["use"]["purpose"]), "purl": ref,
        "hashes": [{"alg": "SHA-256", "content": str(shown["model"]["weights"]).removeprefix("sha256:")}],
        "modelCard": model_card(shown),
        "properties": [
            *({"name": f"falaj:{name}", "value": str(shown["model"][name])} for name in ("id", "tier", "risk")),
            {"name": "falaj:human-oversight", "value": str(shown["use"]["human oversight"])},
            {"name": "falaj:lawful-basis", "value": str(shown["use"]["lawful basis"])},
        ],
    }  # fmt: skip


def model_card(shown: Body) -> dict[str, Any]:
    """CycloneDX's modelCard of the same facts."""
    kind = str(shown["model"]["format"])
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "classification",
            "datasets": [{"ref": one["snapshot"]} for one in shown["data"]],
            "inputs": [{"format": "FP32"}],
            "outputs": [{"format": "FP32"}],
            "modelArchitecture": _FORMATS.get(kind, kind),
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": name, "value": str(value), "slice": "sealed holdout"} for name, value in sorted(shown["figures"].items())
            ]
        },
        "considerations": {
            "useCases": [str(shown["use"]["purpose"])],
            "fairnessAssessments": [
                {"groupAtRisk": check["test"], "mitigationStrategy": f"wanted {check['wanted']}, seen {check['seen']}"}
                for check in shown["tests"] if check["test"].startswith(("slice", "bias"))
            ],
        },
        "properties": [{"name": f"falaj:training:{name}", "value": str(value)} for name, value in shown["training"].items()],
    }  # fmt: skip


def _snapshot(one: Body) -> dict[str, Any]:
    classes = one.get("column_classes") or one.get("classification") or "not stated"
    return {
        "type": "data", "bom-ref": one["snapshot"], "name": one["snapshot"].partition("@")[0].removeprefix("dataset/"),
        "version": one["snapshot"].rpartition("@")[2],
        "hashes": [{"alg": "SHA-256", "content": str(one["digest"]).removeprefix("sha256:")}],
        "data": [{"type": "dataset", "name": one["snapshot"], "classification": str(classes)}],
    }  # fmt: skip


def _code(shown: Body) -> list[dict[str, Any]]:
    """The project's code and the installed packages, by their digests."""
    parts = (("code", "the project's code"), ("environment", "the installed packages"))
    found = [(name, about, str(shown["training"].get(name) or "")) for name, about in parts]
    return [
        {
            "type": "file", "bom-ref": f"{name}:{value}", "name": about,
            "hashes": [{"alg": "SHA-256", "content": value.removeprefix("sha256:")}],
        }
        for name, about, value in found if len(value.removeprefix("sha256:")) == 64
    ]  # fmt: skip
