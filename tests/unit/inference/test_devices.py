"""Where models run: named by a setting, refused where it is not there, and never changed in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from falaj.config import load, serving_options
from falaj.core.errors import FalajError, InvalidInput, MissingDependency, Unavailable
from falaj.inference.models import PROVIDERS, Device, Stored, check_device
from falaj.inference.models import sessions as module
from falaj.inference.models.model import program
from falaj.inference.models.sessions import CPU, open_session, provider_list, session_options
from falaj.inference.settings import settings_from
from tests.kits.endpoint import Installation
from tests.kits.stored import COLUMNS, stored

HERE = [name for name, provider in PROVIDERS.items() if provider not in ort.get_available_providers()]
"""What this onnxruntime does not have: on a machine without a card, all but the processor."""


def test_the_processor_is_always_there() -> None:
    check_device(Device())


@pytest.mark.parametrize("name", HERE)
def test_a_provider_that_this_onnxruntime_lacks_is_refused_with_what_to_install(name: str) -> None:
    with pytest.raises(MissingDependency, match="has no") as refused:
        check_device(Device(name))
    assert "pip install onnxruntime-" in refused.value.hint


@pytest.mark.parametrize("device", [Device("gpu"), Device("cpu", -1), Device("cpu", 0, -5)])
def test_a_device_that_cannot_be_is_refused(device: Device) -> None:
    with pytest.raises(InvalidInput):
        check_device(device)


def test_a_session_that_fell_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime takes the processor, with a warning, where a card's libraries are missing: that is what is played here."""
    monkeypatch.setattr(module, "provider_list", lambda _device: [CPU])
    monkeypatch.setattr(module, "session_options", lambda _device: session_options())
    with pytest.raises(Unavailable, match="onnxruntime chose CPUExecutionProvider"):
        open_session(stored("onnx"), Device("cuda", 1))


@pytest.mark.skipif("cuda" not in HERE, reason="asks for a card that is not there, and one is")
def test_a_missing_card_is_refused_when_a_model_is_opened() -> None:
    with pytest.raises(FalajError):
        program(stored("onnx"), Stored("onnx", COLUMNS, {}, Device("cuda")))


@pytest.mark.parametrize("form", ["lightgbm", "xgboost"])
def test_trees_are_refused_where_they_would_run_on_the_processor_instead(form: str) -> None:
    with pytest.raises(InvalidInput, match="Trees do not run on 'cuda'"):
        program(stored(form), Stored(form, COLUMNS, {}, Device("cuda")))


def test_a_card_is_given_its_number_and_its_bound() -> None:
    ((name, options),) = provider_list(Device("cuda", 2, 4096))
    assert name == "CUDAExecutionProvider"
    assert (options["device_id"], options["gpu_mem_limit"]) == ("2", str(4 << 30))
    assert [name for name, _ in provider_list(Device("tensorrt", 1))] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert all(options["device_id"] == "1" for _, options in provider_list(Device("tensorrt", 1)))
    assert "gpu_mem_limit" not in provider_list(Device("cuda"))[0][1]
    assert provider_list(Device()) == [CPU]


def test_nothing_may_go_to_the_processor_when_a_card_was_asked_for() -> None:
    assert session_options(Device("cuda")).get_session_config_entry("session.disable_cpu_ep_fallback") == "1"


def test_the_processor_is_used_by_one_thread_that_does_not_spin() -> None:
    options = session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not options.enable_cpu_mem_arena


def test_the_setting_reaches_the_server(tmp_path: Any) -> None:
    settings = load(tmp_path, {"serve_provider": "cuda", "serve_device": 1, "serve_device_memory": 2048}, {})
    given = {"endpoint": "delay", "blobs": "", "online": "", "public_key": "", "pepper": ""}
    served = settings_from({**given, **serving_options(settings)})
    assert (served.provider, served.device, served.device_memory_mb) == ("cuda", 1, 2048)
    assert "provider" not in serving_options(load(tmp_path, {}, {}))


@pytest.mark.slow
@pytest.mark.skipif("cuda" not in HERE, reason="asks for a card that is not there, and one is")
def test_a_server_that_is_to_use_a_missing_card_does_not_start_and_says_why(tmp_path: Path) -> None:
    place = Installation(tmp_path, {"clock": "replay", "provider": "cuda"})
    try:
        with pytest.raises(Unavailable, match="has no CUDAExecutionProvider") as refused:
            place.host.serve(place.wanted(), place.keys)
        assert "onnxruntime-gpu" in str(refused.value)
    finally:
        place.close()
