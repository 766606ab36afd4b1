"""What is served here, as the Open Inference Protocol describes it: the server, its models, and whether they answer."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import NotFound, Unavailable
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Serving

EXTENSIONS = (
    "binary_tensor_data",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "model_configuration",
)
PLATFORM = "onnx_onnxv1"
IDS = {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]}


def arms_of(serving: Serving | None, name: str, version: str | None) -> list[Live]:
    """The arms that have that model and version. Raises Unavailable where nothing is served yet, NotFound."""
    if serving is None:
        raise Unavailable("No model is served here yet.", "falaj status says why.")
    if name != serving.name:
        raise NotFound.named("model", name, [serving.name])
    arms = [live for live in serving.arms if version in (None, "", live.version)]
    if not arms:
        raise NotFound.named("version", str(version), [live.version for live in serving.arms])
    return arms


def server_metadata() -> dict[str, Any]:
    from falaj import __version__

    return {"name": "falaj", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(name: str, arms: list[Live]) -> dict[str, Any]:
    """Of the first of the arms; `versions` has them all. An input names its columns: each may be sent as a tensor of its own."""
    model = arms[0].model
    outputs = [{"name": o.name, "datatype": o.datatype, "shape": list(o.shape)} for o in model.outputs]
    return {
        "name": name,
        "versions": sorted({live.version for live in arms}),
        "platform": PLATFORM,
        "inputs": [
            {
                "name": model.input,
                "datatype": model.datatype,
                "shape": [-1, model.width],
                "parameters": {"columns": ",".join(model.recipe.names)},
            }
        ],
        "outputs": [*outputs, IDS],
    }


def model_config(name: str, arms: list[Live], max_rows: int) -> dict[str, Any]:
    """What of Triton's model configuration means something here; sizes are without the rows."""
    about = model_metadata(name, arms)
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": max_rows,
        "input": [_tensor(tensor) for tensor in about["inputs"]],
        "output": [_tensor(tensor) for tensor in about["outputs"]],
    }


def model_statistics(name: str, arms: list[Live], metrics: Metrics) -> list[dict[str, Any]]:
    """One entry an arm: rows, requests, and their time in nanoseconds."""
    found = []
    for live in arms:
        tally = metrics.tally(live.labels)
        answered = tally.requests - tally.errors
        found.append(
            {
                "name": name,
                "version": live.version,
                "inference_count": tally.rows,
                "execution_count": answered,
                "inference_stats": {
                    "success": {"count": answered, "ns": int(tally.seconds * 1e9)},
                    "fail": {"count": tally.errors},
                },
            }
        )
    return found


def _tensor(about: dict[str, Any]) -> dict[str, Any]:
    kind = {"BYTES": "STRING"}.get(about["datatype"], about["datatype"])
    return {"name": about["name"], "data_type": f"TYPE_{kind}", "dims": about["shape"][1:] or [1]}
