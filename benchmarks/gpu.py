"""What a graphics card does for a network, beside one thread of the processor, as endpoints run it.

python -m benchmarks.gpu        (needs onnxruntime-gpu and an NVIDIA driver; without them it says so and measures nothing)

Each line is one network and one size of batch, from rows in memory to scores in memory, so that the way to the card and back
counts. The arithmetic of the network per second stands beside it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime as ort
import safetensors.numpy

from falaj.inference import nvml
from falaj.inference.models import Device, Stored
from falaj.inference.models.model import program

SHAPES = {"small": (64, 128, 1), "middle": (256, 1024, 1024, 1), "large": (1024, 4096, 4096, 4096, 1)}
BATCHES = (1, 64, 1024, 8192)
SECONDS = 0.6


def network(widths: tuple[int, ...]) -> bytes:
    """A network of linear layers with ReLU between them and a sigmoid at its end, as a file."""
    chance = np.random.default_rng(1)
    weights: dict[str, Any] = {"usual": np.zeros(widths[0], np.float32)}
    layers: list[dict[str, Any]] = [{"op": "fill", "values": "usual"}]
    for n, (before, after) in enumerate(pairwise(widths)):
        weights[f"{n}.weight"] = (chance.normal(size=(after, before)) / np.sqrt(before)).astype(np.float32)
        weights[f"{n}.bias"] = np.zeros(after, np.float32)
        layers += [{"op": "linear", "weight": f"{n}.weight", "bias": f"{n}.bias"}, {"op": "relu"}]
    layers[-1] = {"op": "sigmoid"}
    return bytes(safetensors.numpy.save(weights, metadata={"network": json.dumps({"layers": layers})}))


def typical(run: Callable[[], Any]) -> float:
    """Seconds of the middle one of many calls, after three to warm up."""
    for _ in range(3):
        run()
    taken, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(taken) < 5:
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[len(taken) // 2]


def main() -> int:
    look = nvml.devices()
    if "CUDAExecutionProvider" not in ort.get_available_providers() or look is None:
        print("There is no graphics card, or no onnxruntime for it: nothing was measured.")
        return 0
    print(f"onnxruntime {ort.__version__}; card 0 has {look()[0][2] / 1e9:.0f} GB")
    for name, widths in SHAPES.items():
        data = network(widths)
        here, there = (program(data, Stored("safetensors", widths[0], {}, Device(kind))) for kind in ("cpu", "cuda"))
        work = 2 * sum(a * b for a, b in pairwise(widths))
        for batch in BATCHES:
            x = np.random.default_rng(2).normal(size=(batch, widths[0])).astype(np.float32)
            apart = float(np.max(np.abs(here.run(x)[0] - there.run(x)[0])))
            slow = None if work * batch > 1e12 else typical(lambda: here.run(x))  # noqa: B023  # called at once
            fast = typical(lambda: there.run(x))  # noqa: B023  # called at once
            beside = "" if slow is None else f"{slow / fast:8.1f} × one thread ({slow * 1e3:.2f} ms)"
            speed = f"{batch / fast:12,.0f} rows/s  {work * batch / fast / 1e12:7.2f} TFLOP/s"
            print(f"{name:6} {batch:5} rows  {fast * 1e3:8.3f} ms  {speed}  apart {apart:.1e}{beside}", flush=True)
    print(f"memory in use at the end: {look()[0][1] / 1e9:.1f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
