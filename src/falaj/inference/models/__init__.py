"""Models: opened by digest once their signature was checked, from formats that hold data alone, and run on one thread."""

from falaj.inference.models.loading import MANIFEST_TYPE, Live, Models, Serving, Verify
from falaj.inference.models.model import FORMATS, Matrix, Model, Output, Stored, scorer
from falaj.inference.models.sessions import PROVIDERS, Device, check_device

__all__ = [
    "FORMATS",
    "MANIFEST_TYPE",
    "PROVIDERS",
    "Device",
    "Live",
    "Matrix",
    "Model",
    "Models",
    "Output",
    "Serving",
    "Stored",
    "Verify",
    "check_device",
    "scorer",
]
