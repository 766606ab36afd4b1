"""What NVIDIA's driver says of the GPUs of this machine, by its library NVML; nothing where there is no such driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

Device = tuple[str, int, int, float]
"""Number, bytes used by anybody, bytes in all, share of the time busy (0 to 1)."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t"""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, percent"""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def devices() -> Callable[[], list[Device]] | None:
    """Asks anew at each call; None where there is nobody to ask. A GPU that does not answer is left out."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
    except (OSError, AttributeError):
        return None
    found = []
    for number in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)) == 0:
            found.append((str(number), handle))
    return lambda: [device for name, handle in found if (device := _look(library, name, handle)) is not None]


def _look(library: Any, name: str, handle: ctypes.c_void_p) -> Device | None:
    memory, use = _Memory(), _Utilization()
    if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
        return None
    # One that is cut into instances tells no utilisation.
    busy = use.gpu / 100 if library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(use)) == 0 else 0.0
    return name, memory.used, memory.total, busy
