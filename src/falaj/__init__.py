"""falaj: the whole life of a model on one small machine. What a project declares is imported from here."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# onnxruntime (from 1.29 on) keeps a database of what it is used for in ~/.cache and sends it to Microsoft, unless it is told not
# to before it is loaded: its function that turns this off comes too late. Here every process that may load it says so, and
# whatever such a process starts: https://github.com/microsoft/onnxruntime/pull/27379
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from falaj.stages.alerts.spec import Alerting as Alerting
    from falaj.stages.contracts.sources import database as database
    from falaj.stages.contracts.sources import delta as delta
    from falaj.stages.contracts.sources import files as files
    from falaj.stages.contracts.sources import iceberg as iceberg
    from falaj.stages.contracts.sources import postgres as postgres
    from falaj.stages.contracts.sources import s3 as s3
    from falaj.stages.contracts.sources import stream as stream
    from falaj.stages.contracts.sources import warehouse as warehouse
    from falaj.stages.contracts.spec import Dataset as Dataset
    from falaj.stages.contracts.spec import Derived as Derived
    from falaj.stages.contracts.spec import From as From
    from falaj.stages.features.spec import Entity as Entity
    from falaj.stages.features.spec import View as View
    from falaj.stages.features.spec import WindowView as WindowView
    from falaj.stages.features.spec import age_hours as age_hours
    from falaj.stages.features.spec import category as category
    from falaj.stages.features.spec import count as count
    from falaj.stages.features.spec import difference as difference
    from falaj.stages.features.spec import distinct as distinct
    from falaj.stages.features.spec import greatest as greatest
    from falaj.stages.features.spec import inputs as inputs
    from falaj.stages.features.spec import last as last
    from falaj.stages.features.spec import least as least
    from falaj.stages.features.spec import local as local
    from falaj.stages.features.spec import mean as mean
    from falaj.stages.features.spec import number as number
    from falaj.stages.features.spec import product as product
    from falaj.stages.features.spec import ratio as ratio
    from falaj.stages.features.spec import share as share
    from falaj.stages.features.spec import spread as spread
    from falaj.stages.features.spec import total as total
    from falaj.stages.features.spec import years_since as years_since
    from falaj.stages.gates.spec import Gate as Gate
    from falaj.stages.monitoring.spec import Monitor as Monitor
    from falaj.stages.rollouts.spec import Canary as Canary
    from falaj.stages.rollouts.spec import Endpoint as Endpoint
    from falaj.stages.rollouts.spec import StreamIO as StreamIO
    from falaj.stages.training.spec import FitContext as FitContext
    from falaj.stages.training.spec import Fitted as Fitted
    from falaj.stages.training.spec import Training as Training

_PLACES = {
    # public name: the module that declares it, imported when the name is first used
    "Alerting": "falaj.stages.alerts.spec",
    "Canary": "falaj.stages.rollouts.spec",
    "Dataset": "falaj.stages.contracts.spec",
    "Derived": "falaj.stages.contracts.spec",
    "Endpoint": "falaj.stages.rollouts.spec",
    "Entity": "falaj.stages.features.spec",
    "FitContext": "falaj.stages.training.spec",
    "Fitted": "falaj.stages.training.spec",
    "From": "falaj.stages.contracts.spec",
    "Gate": "falaj.stages.gates.spec",
    "Monitor": "falaj.stages.monitoring.spec",
    "StreamIO": "falaj.stages.rollouts.spec",
    "Training": "falaj.stages.training.spec",
    "View": "falaj.stages.features.spec",
    "WindowView": "falaj.stages.features.spec",
    "age_hours": "falaj.stages.features.spec",
    "category": "falaj.stages.features.spec",
    "count": "falaj.stages.features.spec",
    "database": "falaj.stages.contracts.sources",
    "delta": "falaj.stages.contracts.sources",
    "difference": "falaj.stages.features.spec",
    "distinct": "falaj.stages.features.spec",
    "files": "falaj.stages.contracts.sources",
    "greatest": "falaj.stages.features.spec",
    "iceberg": "falaj.stages.contracts.sources",
    "inputs": "falaj.stages.features.spec",
    "last": "falaj.stages.features.spec",
    "least": "falaj.stages.features.spec",
    "local": "falaj.stages.features.spec",
    "mean": "falaj.stages.features.spec",
    "number": "falaj.stages.features.spec",
    "postgres": "falaj.stages.contracts.sources",
    "product": "falaj.stages.features.spec",
    "ratio": "falaj.stages.features.spec",
    "s3": "falaj.stages.contracts.sources",
    "share": "falaj.stages.features.spec",
    "spread": "falaj.stages.features.spec",
    "stream": "falaj.stages.contracts.sources",
    "total": "falaj.stages.features.spec",
    "warehouse": "falaj.stages.contracts.sources",
    "years_since": "falaj.stages.features.spec",
}

__all__ = ["__version__", *sorted(_PLACES)]  # noqa: PLE0604  # every name is a text


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"falaj has no {name!r}. There is: {', '.join(sorted(_PLACES))}.")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
