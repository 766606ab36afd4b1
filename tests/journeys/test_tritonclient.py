"""The public client of the Open Inference Protocol, which nobody here wrote, against a real endpoint: REST and gRPC."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from tests.kits.endpoint import Installation

pytestmark = pytest.mark.slow

MATRIX = np.array([[1, 2, 3, 4], [5, 6, np.nan, 8]], np.float32)
EXPECTED = 1 / (1 + np.exp(-0.001 * np.nansum(MATRIX, axis=1)))
COLUMNS = ("distance", "carrier", "temp", "hour")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    found = Installation(tmp_path_factory.mktemp("triton"), {"clock": "wall"})
    found.key("ops", "operator")
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def key(place: Installation) -> str:
    found = place.key("operator", "operator")
    place.caller = place.key("caller", "caller")  # type: ignore[attr-defined]
    place.host.serve(place.wanted(), place.keys)
    return found


class Client:
    """One of the two clients, with a key."""

    def __init__(self, module: ModuleType, address: str, key: str) -> None:
        self.module, self.key = module, key
        self.raw = module.InferenceServerClient(address)
        self.headers = {"authorization": f"Bearer {key}"}

    def input(self, name: str, values: np.ndarray, **options: Any) -> Any:
        kind = {np.dtype("f4"): "FP32", np.dtype("f8"): "FP64", np.dtype("i8"): "INT64"}[values.dtype]
        tensor = self.module.InferInput(name, list(values.shape), kind)
        tensor.set_data_from_numpy(values, **options)
        return tensor

    def infer(self, *inputs: Any, **options: Any) -> Any:
        return self.raw.infer("delay", list(inputs), headers=self.headers, **options)

    def dict(self, method: str, *arguments: Any) -> Any:
        options = {"as_json": True} if self.module is over_grpc else {}
        return getattr(self.raw, method)(*arguments, headers=self.headers, **options)


def clients(place: Installation, key: str) -> dict[str, Client]:
    told = json.loads((place.folder / "server.json").read_text())
    return {
        "http": Client(over_http, str(told["url"]).removeprefix("http://"), key),
        "grpc": Client(over_grpc, str(told["grpc_url"]), key),
    }


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, place: Installation, key: str) -> Iterator[Client]:
    found = clients(place, key)
    yield found[request.param]
    for one in found.values():
        one.raw.close()


def test_it_is_alive_and_ready_and_says_so_without_a_key(client: Client) -> None:
    assert client.raw.is_server_live()
    assert client.raw.is_server_ready()
    assert client.raw.is_model_ready("delay", headers=client.headers)
    assert client.raw.is_model_ready("delay", "1", headers=client.headers)


def test_it_describes_itself_and_its_model(client: Client) -> None:
    assert client.dict("get_server_metadata")["name"] == "falaj"
    about = client.dict("get_model_metadata", "delay")
    assert (about["name"], about["versions"], about["platform"]) == ("delay", ["1"], "onnx_onnxv1")
    assert [(t["name"], t["datatype"], [int(size) for size in t["shape"]]) for t in about["inputs"]] == [("X", "FP32", [-1, 4])]
    assert [t["name"] for t in about["outputs"]] == ["label", "probabilities", "prediction_id"]
    config = client.dict("get_model_config", "delay")
    config = config.get("config", config)
    assert (config["name"], int(config["max_batch_size"]), config["input"][0]["data_type"]) == ("delay", 1024, "TYPE_FP32")


def test_it_predicts_and_every_prediction_has_an_id(client: Client, place: Installation) -> None:
    found = client.infer(client.input("X", MATRIX), request_id="r-1")
    assert found.as_numpy("probabilities")[:, 1] == pytest.approx(EXPECTED, abs=1e-6)
    assert found.as_numpy("label").tolist() == [1, 1]
    ids = found.as_numpy("prediction_id").tolist()
    assert len(set(ids)) == 2
    response = found.get_response(as_json=True) if client.module is over_grpc else found.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("r-1", "delay", "1")
    last = sorted((place.folder / "segments").glob("*.jsonl"))[-1].read_bytes().splitlines()[-1]
    record = json.loads(last)
    assert (record["request_id"], record["by"], record["via"]) == (
        "r-1",
        "operator",
        "grpc" if client.module is over_grpc else "v2",
    )
    assert record["features"] == [1, 2, 3, 4, 5, 6, None, 8]


def test_it_takes_other_kinds_of_numbers(client: Client) -> None:
    for kind in (np.float64, np.int64):
        found = client.infer(client.input("X", MATRIX[:1].astype(kind)))
        assert found.as_numpy("probabilities")[0, 1] == pytest.approx(EXPECTED[0], abs=1e-6)


def test_it_takes_one_tensor_for_each_column(client: Client) -> None:
    inputs = [client.input(name, MATRIX[:, [place]]) for place, name in enumerate(COLUMNS)]
    assert client.infer(*reversed(inputs)).as_numpy("probabilities")[:, 1] == pytest.approx(EXPECTED, abs=1e-6)


def test_it_gives_only_the_outputs_that_were_asked_for(client: Client) -> None:
    found = client.infer(client.input("X", MATRIX), outputs=[client.module.InferRequestedOutput("probabilities")])
    assert found.as_numpy("probabilities").shape == (2, 2)
    assert found.as_numpy("label") is None


@pytest.mark.parametrize("into", [True, False])
@pytest.mark.parametrize("back", [True, False])
def test_json_and_bytes_go_together_either_way(place: Installation, key: str, into: bool, back: bool) -> None:
    client = clients(place, key)["http"]
    given = MATRIX[:1] if not into else MATRIX  # JSON has no NaN
    outputs = [over_http.InferRequestedOutput(name, binary_data=back) for name in ("probabilities", "prediction_id", "label")]
    found = client.infer(client.input("X", given, binary_data=into), outputs=outputs)
    assert found.as_numpy("probabilities")[:, 1] == pytest.approx(EXPECTED[: len(given)], abs=1e-6)
    assert found.as_numpy("prediction_id").shape == (len(given),)
    client.raw.close()


def test_calls_need_not_wait_for_each_other(place: Installation, key: str) -> None:
    held = clients(place, key)
    told = json.loads((place.folder / "server.json").read_text())
    many = over_http.InferenceServerClient(str(told["url"]).removeprefix("http://"), concurrency=8)
    http, grpc = held["http"], held["grpc"]
    pending = [many.async_infer("delay", [http.input("X", MATRIX)], headers=http.headers) for _ in range(40)]
    assert all(one.get_result().as_numpy("label").tolist() == [1, 1] for one in pending)
    many.close()
    answers: queue.Queue[Any] = queue.Queue()
    for _ in range(40):
        grpc.raw.async_infer(
            "delay", [grpc.input("X", MATRIX)], lambda result, error: answers.put((result, error)), headers=grpc.headers
        )
    found = [answers.get(timeout=10) for _ in range(40)]
    assert not [error for _, error in found if error is not None]
    for one in held.values():
        one.raw.close()


def test_a_stream_is_answered_in_order_and_outlives_a_mistake(place: Installation, key: str) -> None:
    client = clients(place, key)["grpc"]
    answers: queue.Queue[Any] = queue.Queue()
    client.raw.start_stream(lambda result, error: answers.put((result, error)), headers=client.headers)
    for number in range(100):
        name = "X" if number != 50 else "Y"
        client.raw.async_stream_infer("delay", [client.input(name, MATRIX)], request_id=str(number))
    found = [answers.get(timeout=10) for _ in range(100)]
    client.raw.stop_stream()
    client.raw.close()
    assert [result.get_response().id for result, error in found if error is None] == [str(n) for n in range(100) if n != 50]
    assert "no input named 'Y'" in str(found[50][1])


def test_it_lists_unloads_and_loads_for_operators_only(client: Client, place: Installation) -> None:
    def index() -> list[tuple[str, str, str]]:
        found = client.dict("get_model_repository_index")
        models = found["models"] if client.module is over_grpc else found
        return [(model["name"], model["version"], model["state"]) for model in models]

    assert index() == [("delay", "1", "READY")]
    caller = {"authorization": f"Bearer {place.caller}"}  # type: ignore[attr-defined]
    with pytest.raises(InferenceServerException, match="may not operate"):
        client.raw.unload_model("delay", headers=caller)
    client.raw.unload_model("delay", headers=client.headers)
    try:
        assert index() == [("delay", "1", "UNAVAILABLE")]
        assert not client.raw.is_server_ready()
        for one in clients(place, client.key).values():  # whoever took the order, every worker obeys it
            with pytest.raises(InferenceServerException, match="taken out of service by operator"):
                one.infer(one.input("X", MATRIX))
            one.raw.close()
    finally:
        client.raw.load_model("delay", headers=client.headers)
    assert client.raw.is_server_ready()
    client.infer(client.input("X", MATRIX))


def test_nobody_loads_a_model_of_their_own(client: Client) -> None:
    with pytest.raises(InferenceServerException, match="registry alone"):
        client.raw.load_model("delay", headers=client.headers, config="{}", files={"file:1/model.onnx": b"x"})
    with pytest.raises(InferenceServerException, match="no model named"):
        client.raw.load_model("other", headers=client.headers)


@pytest.mark.parametrize("given", ["", "Bearer wrong", "Bearer "])
def test_without_a_good_key_there_is_nothing(client: Client, given: str) -> None:
    headers = {"authorization": given} if given else {}
    inputs = [client.input("X", MATRIX)]
    for ask in (
        lambda: client.raw.infer("delay", inputs, headers=headers),
        lambda: client.raw.get_server_metadata(headers=headers),
        lambda: client.raw.get_model_metadata("delay", headers=headers),
        lambda: client.raw.get_model_repository_index(headers=headers),
        lambda: client.raw.unload_model("delay", headers=headers),
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert caught.value.status() in ("401", "StatusCode.UNAUTHENTICATED")


def test_a_mistake_is_named(client: Client) -> None:
    for inputs, words in (
        ([client.input("X", MATRIX[:, :3].copy())], "takes 4 columns"),
        ([client.input("Y", MATRIX)], "no input named 'Y'"),
        ([client.input("distance", MATRIX[:, [0]])], "has no 'carrier'"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(*inputs)
    with pytest.raises(InferenceServerException, match="no model named 'dela'"):
        client.raw.infer("dela", [client.input("X", MATRIX)], headers=client.headers)
    with pytest.raises(InferenceServerException, match="no version named '7'"):
        client.infer(client.input("X", MATRIX), model_version="7")
    outputs = [client.module.InferRequestedOutput("label", class_count=1)]
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer(client.input("X", MATRIX), outputs=outputs)


def test_an_encrypted_endpoint_speaks_grpc_to_who_trusts_its_authority_and_to_nobody_in_clear(tmp_path: Path) -> None:
    place = Installation(tmp_path, {"clock": "wall"}, is_encrypted=True)
    try:
        key = place.key("operator", "operator")
        place.host.serve(place.wanted(), place.keys)
        address = str(json.loads((place.folder / "server.json").read_text())["grpc_url"])
        authority = str(place.state / "keys" / "authority.pem")
        safe = over_grpc.InferenceServerClient(address, ssl=True, root_certificates=authority)
        tensor = over_grpc.InferInput("X", [2, 4], "FP32")
        tensor.set_data_from_numpy(MATRIX)
        found = safe.infer("delay", [tensor], headers={"authorization": f"Bearer {key}"})
        assert found.as_numpy("label").tolist() == [1, 1]
        clear = over_grpc.InferenceServerClient(address)
        with pytest.raises(InferenceServerException):
            clear.is_server_live(client_timeout=2)
        safe.close()
        clear.close()
    finally:
        place.close()
