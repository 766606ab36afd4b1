"""falaj: the whole life of a model on one small machine. What a project declares is imported from here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from falaj.stages.contracts.spec import Dataset as Dataset
    from falaj.stages.features.spec import View as View
    from falaj.stages.rollouts.spec import Canary as Canary
    from falaj.stages.rollouts.spec import Endpoint as Endpoint

_PLACES = {
    # public name: the module that declares it, imported when the name is first used
    "Canary": "falaj.stages.rollouts.spec",
    "Dataset": "falaj.stages.contracts.spec",
    "Endpoint": "falaj.stages.rollouts.spec",
    "View": "falaj.stages.features.spec",
}

__all__ = ["__version__", *sorted(_PLACES)]  # noqa: PLE0604  # every name is a text


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"falaj has no {name!r}. There is: {', '.join(sorted(_PLACES))}.")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
