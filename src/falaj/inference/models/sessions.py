"""Where a graph is run: onnxruntime on one thread of the processor, or on a graphics card that is named and really there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from falaj.core.errors import InvalidInput, MissingDependency, Unavailable

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "MIGraphXExecutionProvider",
}
"""The setting `serve_provider` → onnxruntime's own name."""
_PACKAGES = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "rocm": "onnxruntime-migraphx"}


@dataclass(frozen=True, slots=True)
class Device:
    """`number`: which card. `memory_mb`: so much of its memory at most; 0 sets no bound."""

    provider: str = "cpu"
    number: int = 0
    memory_mb: int = 0

    @property
    def is_cpu(self) -> bool:
        return self.provider == "cpu"


HERE = Device()


def check_device(device: Device) -> None:
    """For the start of a server. Raises InvalidInput for what names no device, MissingDependency for the wrong onnxruntime."""
    if device.provider not in PROVIDERS:
        raise InvalidInput(f"There is no provider {device.provider!r}.", f"serve_provider is one of {', '.join(PROVIDERS)}.")
    if device.number < 0 or device.memory_mb < 0:
        raise InvalidInput(f"The device {device.number} with {device.memory_mb} MB is none.", "both are 0 or more.")
    there = ort.get_available_providers()
    if PROVIDERS[device.provider] not in there:
        raise MissingDependency(
            f"This onnxruntime ({ort.__version__}) has no {PROVIDERS[device.provider]}; it has {', '.join(there)}.",
            f'pip install {_PACKAGES[device.provider]} in place of onnxruntime, or set serve_provider = "cpu".',
        )


def open_session(data: bytes, device: Device = HERE) -> ort.InferenceSession:
    """A session whose every node runs where it was asked for.

    Raises InvalidInput for what is no graph or does not fit the device, Unavailable where the device cannot be used.
    """
    options = session_options(device)
    try:
        # Its own fallback would try again with the processor, and say what became of that instead of what was wrong.
        session = ort.InferenceSession(data, options, providers=provider_list(device), enable_fallback=0)
    except Exception as exc:  # onnxruntime has no root of its own for what it may raise
        raise _refused(exc, device) from exc
    # onnxruntime prints a warning and takes the processor where a card or its libraries are missing.
    if PROVIDERS[device.provider] not in session.get_providers():
        chosen = ", ".join(session.get_providers())
        raise Unavailable(
            f"Device {device.number} of {device.provider!r} cannot be used; onnxruntime chose {chosen}.",
            'look at the driver with nvidia-smi, or set serve_provider = "cpu".',
        )
    session.disable_fallback()
    return session


def session_options(device: Device = HERE) -> ort.SessionOptions:
    """One thread and no spinning: on a small machine a second thread made every size slower. Nothing is kept beyond its use:
    without the arena the memory after a large batch is that of before, and a single row takes no longer."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if not device.is_cpu:
        # A node that the card has no kernel for would go to the processor without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = 4
    return options


def provider_list(device: Device) -> list[Any]:
    """What onnxruntime is given: the provider asked for, with its options. TensorRT leaves to CUDA what it does not know.

    By default (TF32) products keep three digits where float32 has seven, and scores differ by 1e-4 from what a gate measured.
    """
    if device.is_cpu:
        return [CPU]
    number = {"device_id": str(device.number)}
    if device.provider == "rocm":
        return [(PROVIDERS["rocm"], number)]
    bound = {"gpu_mem_limit": str(device.memory_mb << 20)} if device.memory_mb else {}
    exact = {"use_tf32": "0", "do_copy_in_default_stream": "1"}
    cuda = (PROVIDERS["cuda"], {**number, **bound, **exact, "arena_extend_strategy": "kSameAsRequested"})
    if device.provider == "cuda":
        return [cuda]
    room = {"trt_max_workspace_size": str(device.memory_mb << 20)} if device.memory_mb else {}
    return [(PROVIDERS["tensorrt"], {**number, **room}), cuda]


def _refused(exc: Exception, device: Device) -> InvalidInput | Unavailable:
    told = str(exc)[:200]
    if device.is_cpu:
        return InvalidInput(f"The model is no ONNX graph that can be run: {told}.", "export it again.")
    if "fallback" in str(exc):
        return InvalidInput(
            f"The model has nodes that {device.provider!r} cannot run: {told}.",
            'trees run on the processor alone: set serve_provider = "cpu", or serve a network.',
        )
    return Unavailable(f"The model cannot be opened on {device.provider!r}: {told}.", 'set serve_provider = "cpu".')
