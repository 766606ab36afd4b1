"""The gRPC endpoint over real sockets: answers, refusals, limits, streams and the way out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from falaj.inference.grpc.messages import message, methods
from falaj.inference.tls import Certificates, Files, grpc_credentials
from tests.kits.doors import NOW, authority, client_pair
from tests.kits.grpc_endpoint import GrpcEndpoint, grpc_endpoint

Request = message("inference.ModelInferRequest")
Status = message("google.rpc.Status")
SERVICE = "/inference.GRPCInferenceService/"
ROW = np.array([[1, 2, 3, 4]], np.float32)
OPTIONS = (("grpc.enable_retries", 0),)
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcEndpoint]:
    with grpc_endpoint(tmp_path_factory.mktemp("grpc")) as found:
        yield found


@pytest.fixture(scope="module")
def key(endpoint: GrpcEndpoint) -> str:
    found = endpoint.place.key("ops", "operator")
    endpoint.write_keys()
    return found


@pytest.fixture(scope="module")
def channel(endpoint: GrpcEndpoint) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(endpoint.address, OPTIONS) as found:
        yield found


@pytest.fixture
def call(channel: grpc.Channel, key: str) -> Call:
    return caller(channel, key)


def caller(channel: grpc.Channel, key: str) -> Call:
    """`call(method, request)`; the request may be a message, its fields, or bytes of any kind."""
    made = {name: channel.unary_unary(SERVICE + name, response_deserializer=answer.FromString) for name, (_, answer) in CLASSES}

    def ask(method: str, request: Any = None, **options: Any) -> Any:
        asked = dict(CLASSES)[method][0]
        data = request if isinstance(request, bytes) else (request if request is not None else asked()).SerializeToString()
        metadata = options.pop("metadata", (("authorization", f"Bearer {key}"),) if key else ())
        return made[method](data, metadata=metadata, timeout=options.pop("timeout", 10), **options)

    return ask


CLASSES = [(name, pair) for name, pair in methods().items() if name != "ModelStreamInfer"]


def infer(matrix: np.ndarray = ROW, **changes: Any) -> Any:
    """A request with one raw tensor."""
    tensor = {"name": "X", "datatype": "FP32", "shape": matrix.shape}
    return Request(**{"model_name": "delay", "inputs": [tensor], "raw_input_contents": [matrix.tobytes()], **changes})


def refused(ask: Callable[[], Any], code: grpc.StatusCode, words: str = "") -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    assert caught.value.code() is code, caught.value.details()
    assert words in caught.value.details()
    return caught.value


# --- answers ---


def test_what_comes_raw_leaves_raw_and_is_in_the_log(endpoint: GrpcEndpoint, call: Call) -> None:
    answer = call("ModelInfer", infer(np.repeat(ROW, 2, 0), id="r-7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("delay", "1", "r-7")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("label", "INT64", [2]), ("probabilities", "FP32", [2, 2]), ("prediction_id", "BYTES", [2])
    ]  # fmt: skip
    assert answer.parameters["arm"].string_param == "champion"
    record = endpoint.records()[-1]
    scores = np.frombuffer(answer.raw_output_contents[1], np.float32).reshape(2, 2)[:, 1]
    assert (record["via"], record["by"], record["request_id"]) == ("grpc", "ops", "r-7")
    assert record["scores"] == scores.tolist()
    assert f"{record['id']}.0".encode() in answer.raw_output_contents[2]


def test_what_comes_typed_leaves_typed_with_the_same_values(call: Call) -> None:
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
    typed = call("ModelInfer", Request(model_name="delay", inputs=[tensor]))
    raw = call("ModelInfer", infer())
    assert not typed.raw_output_contents
    assert np.frombuffer(raw.raw_output_contents[1], np.float32).tolist() == list(typed.outputs[1].contents.fp32_contents)
    assert typed.outputs[2].contents.bytes_contents[0].startswith(b"p0-")


TYPED = [("INT32", "int_contents"), ("UINT8", "uint_contents"), ("INT64", "int64_contents"), ("FP64", "fp64_contents")]


@pytest.mark.parametrize(("kind", "where"), TYPED)
def test_typed_numbers_of_other_kinds_are_taken(call: Call, kind: str, where: str) -> None:
    tensor = {"name": "X", "datatype": kind, "shape": [1, 4], "contents": {where: [1, 2, 3, 4]}}
    answer = call("ModelInfer", Request(model_name="delay", inputs=[tensor]))
    assert answer.outputs[1].contents.fp32_contents[1] == pytest.approx(0.5025)


def test_a_missing_number_is_a_nan_and_null_in_the_log(endpoint: GrpcEndpoint, call: Call) -> None:
    call("ModelInfer", infer(np.array([[1, np.nan, 3, 4]], np.float32)))
    assert endpoint.records()[-1]["features"] == [1, None, 3, 4]


def test_a_tensor_for_each_column_is_taken_in_any_order(call: Call) -> None:
    names = ["hour", "temp", "carrier", "distance"]
    inputs = [{"name": name, "datatype": "FP32", "shape": [1]} for name in names]
    raw = [np.array([value], np.float32).tobytes() for value in (4, 3, 2, 1)]
    answer = call("ModelInfer", Request(model_name="delay", inputs=inputs, raw_input_contents=raw))
    assert answer.raw_output_contents[1] == call("ModelInfer", infer()).raw_output_contents[1]


def test_only_the_outputs_that_were_asked_for_come_back_in_their_order(call: Call) -> None:
    answer = call("ModelInfer", infer(outputs=[{"name": "prediction_id"}, {"name": "label"}]))
    assert [output.name for output in answer.outputs] == ["prediction_id", "label"]
    assert len(answer.raw_output_contents) == 2


def test_what_is_described_is_what_is_served(call: Call) -> None:
    about = call("ModelMetadata", dict(CLASSES)["ModelMetadata"][0](name="delay"))
    assert (about.name, list(about.versions), about.inputs[0].name, list(about.inputs[0].shape)) == ("delay", ["1"], "X", [-1, 4])
    config = call("ModelConfig", dict(CLASSES)["ModelConfig"][0](name="delay", version="1")).config
    assert (config.input[0].data_type, list(config.input[0].dims), config.output[2].data_type) == (11, [4], 13)
    assert call("ServerMetadata").name == "falaj"
    assert call("ModelReady", dict(CLASSES)["ModelReady"][0](name="delay")).ready


def test_statistics_count_what_was_answered(call: Call) -> None:
    ask = dict(CLASSES)["ModelStatistics"][0](name="delay")
    before = call("ModelStatistics", ask).model_stats[0].inference_count
    call("ModelInfer", infer(np.repeat(ROW, 3, 0)))
    assert call("ModelStatistics", ask).model_stats[0].inference_count == before + 3


def test_calls_that_come_together_are_one_run_and_a_bad_one_fails_alone(
    endpoint: GrpcEndpoint, call: Call, channel: Any, key: str
) -> None:
    ask = channel.unary_unary(SERVICE + "ModelInfer")
    metadata = (("authorization", f"Bearer {key}"),)
    good, bad = infer().SerializeToString(), infer(model_name="nope").SerializeToString()
    futures = [ask.future(bad if number % 5 == 0 else good, metadata=metadata, timeout=10) for number in range(50)]
    codes = [future.code().name for future in futures]
    assert codes == ["NOT_FOUND" if number % 5 == 0 else "OK" for number in range(50)]


# --- who may ---


def test_health_needs_no_key(channel: grpc.Channel) -> None:
    call = caller(channel, "")
    assert call("ServerLive").live
    assert call("ServerReady").ready


@pytest.mark.parametrize("method", [name for name, _ in CLASSES if name not in ("ServerLive", "ServerReady")])
def test_everything_else_does(channel: grpc.Channel, method: str) -> None:
    refused(lambda: caller(channel, "")(method), grpc.StatusCode.UNAUTHENTICATED, "No key came")
    refused(lambda: caller(channel, "wrong")(method), grpc.StatusCode.UNAUTHENTICATED, "unknown or was revoked")


MAY_NOT = [
    ("auditor", "ModelInfer"),
    ("caller", "ModelStatistics"),
    ("ml_engineer", "RepositoryModelUnload"),
    ("caller", "RepositoryModelLoad"),
]


@pytest.mark.parametrize(("role", "method"), MAY_NOT)
def test_a_role_that_may_not_is_told_which_may(endpoint: GrpcEndpoint, channel: Any, role: str, method: str) -> None:
    call = caller(channel, endpoint.place.key(f"a-{role}", role))
    endpoint.write_keys()
    refused(lambda: call(method), grpc.StatusCode.PERMISSION_DENIED, "one of the roles")


def test_a_key_that_was_taken_back_is_refused_on_the_next_call(endpoint: GrpcEndpoint, channel: grpc.Channel) -> None:
    call = caller(channel, endpoint.place.key("leaver", "caller"))
    endpoint.write_keys()
    call("ModelInfer", infer())
    for hashed, who in list(endpoint.place.keys.items()):
        if who["name"] == "leaver":
            del endpoint.place.keys[hashed]
    endpoint.write_keys()
    refused(lambda: call("ModelInfer", infer()), grpc.StatusCode.UNAUTHENTICATED)


def test_another_arm_is_for_those_who_may_force_one(endpoint: GrpcEndpoint, channel: grpc.Channel, key: str) -> None:
    plain = endpoint.place.key("plain", "caller")
    endpoint.write_keys()
    for given, code in ((plain, grpc.StatusCode.PERMISSION_DENIED), (key, grpc.StatusCode.NOT_FOUND)):
        metadata = (("authorization", f"Bearer {given}"), ("x-falaj-arm", "challenger"))
        refused(lambda metadata=metadata: caller(channel, "")("ModelInfer", infer(), metadata=metadata), code)


# --- refusals ---


HOUR = [{"name": "hour", "datatype": "FP32", "shape": [1]}]
CLASSES_WANTED = [{"name": "label", "parameters": {"classification": {"int64_param": 1}}}]
LONG_AGO = {"at": {"string_param": "2013-05-01T09:30:00Z"}}
WRONG = [
    (b"\xff\xff\xff", "INVALID_ARGUMENT", "no ModelInferRequest"),
    (infer(model_name="nope"), "NOT_FOUND", "no model named 'nope'"),
    (infer(model_version="9"), "NOT_FOUND", "no version named '9'"),
    (infer(inputs=[]), "INVALID_ARGUMENT", "no inputs"),
    (infer(raw_input_contents=[b"123"]), "INVALID_ARGUMENT", "is 3 bytes"),
    (infer(raw_input_contents=[]), "INVALID_ARGUMENT", "holds 0 values"),
    (infer(raw_input_contents=[b"", b""]), "INVALID_ARGUMENT", "2 raw contents came for 1"),
    (infer(np.ones((1, 3), np.float32)), "INVALID_ARGUMENT", "takes 4 columns"),
    (infer(np.array([[np.inf, np.nan, 1, 1]], np.float32)), "INVALID_ARGUMENT", "beyond what FP32"),
    (infer(outputs=[{"name": "x"}]), "INVALID_ARGUMENT", "no output 'x'"),
    (infer(outputs=CLASSES_WANTED), "INVALID_ARGUMENT", "classification"),
    (infer(id="a\nb"), "INVALID_ARGUMENT", "'id'"),
    (infer(parameters={"timeout": {"int64_param": 1}}), "DEADLINE_EXCEEDED", ""),
    (infer(parameters=LONG_AGO), "INVALID_ARGUMENT", ""),
    (infer(inputs=HOUR, raw_input_contents=[b"\0" * 4]), "INVALID_ARGUMENT", "has no 'distance'"),
]


@pytest.mark.parametrize(("request_", "code", "words"), WRONG)
def test_a_request_that_cannot_be_answered_says_why(
    endpoint: GrpcEndpoint, call: Call, request_: Any, code: str, words: str
) -> None:
    before = len(endpoint.records())
    refused(lambda: call("ModelInfer", request_), grpc.StatusCode[code], words)
    assert len(endpoint.records()) == before
    assert call("ModelInfer", infer())


def test_a_method_that_does_not_exist_is_refused(channel: grpc.Channel, key: str) -> None:
    for path in (SERVICE + "SystemSharedMemoryRegister", "/other.Service/ModelInfer", "/"):
        ask = channel.unary_unary(path)
        refused(lambda ask=ask: ask(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)


def test_a_message_that_is_too_large_is_refused_and_the_connection_goes_on(call: Call) -> None:
    refused(lambda: call("ModelInfer", b"\0" * (1 << 20) + b"1"), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert call("ModelInfer", infer())


def test_a_compressed_message_is_not_taken(endpoint: GrpcEndpoint, key: str) -> None:
    with grpc.insecure_channel(endpoint.address, (*OPTIONS, ("grpc.default_compression_algorithm", 2))) as channel:
        refused(lambda: caller(channel, key)("ModelInfer", infer()), grpc.StatusCode.UNIMPLEMENTED, "ompression")


def test_more_metadata_than_the_server_reads_is_refused(channel: grpc.Channel, key: str) -> None:
    metadata = (("authorization", f"Bearer {key}"), ("x-long", "a" * (17 << 10)))
    refused(lambda: caller(channel, key)("ModelInfer", infer(), metadata=metadata), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_a_refusal_tells_programs_its_code_and_hint(call: Call) -> None:
    error = refused(lambda: call("ModelInfer", infer(model_name="dela")), grpc.StatusCode.NOT_FOUND)
    told = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = message("google.rpc.ErrorInfo").FromString(told.details[0].value)
    assert (info.reason, info.domain, info.metadata["hint"]) == ("NOT_FOUND", "falaj", "did you mean 'delay'?")


# --- the repository ---


def test_an_operator_takes_the_model_out_of_service_and_back(endpoint: GrpcEndpoint, call: Call) -> None:
    load, unload, index = (dict(CLASSES)[name][0] for name in ("RepositoryModelLoad", "RepositoryModelUnload", "RepositoryIndex"))
    call("RepositoryModelUnload", unload(model_name="delay"))
    try:
        error = refused(lambda: call("ModelInfer", infer()), grpc.StatusCode.UNAVAILABLE, "taken out of service by ops")
        assert ("grpc-retry-pushback-ms", "1000") in error.trailing_metadata()
        assert not call("ServerReady").ready
        [model] = call("RepositoryIndex").models
        assert (model.name, model.version, model.state) == ("delay", "1", "UNAVAILABLE")
        assert not call("RepositoryIndex", index(ready=True)).models
    finally:
        call("RepositoryModelLoad", load(model_name="delay"))
    assert call("ModelInfer", infer())
    operations = [record for record in endpoint.records() if record["kind"] == "operation"]
    assert [(record["operation"], record["by"]) for record in operations] == [("unload", "ops"), ("load", "ops")]


@pytest.mark.parametrize("parameters", [{"config": {"string_param": "{}"}}, {"file:1/model.onnx": {"bytes_param": b"x"}}])
def test_nobody_brings_in_a_model_or_a_path(call: Call, parameters: Any) -> None:
    load = dict(CLASSES)["RepositoryModelLoad"][0]
    refused(lambda: call("RepositoryModelLoad", load(model_name="delay", parameters=parameters)),
            grpc.StatusCode.INVALID_ARGUMENT, "registry alone")  # fmt: skip
    refused(
        lambda: call("RepositoryModelLoad", load(model_name="delay", repository_name="/tmp")), grpc.StatusCode.INVALID_ARGUMENT
    )
    refused(lambda: call("RepositoryModelLoad", load(model_name="../x")), grpc.StatusCode.NOT_FOUND)


# --- streams ---


def stream(channel: grpc.Channel, key: str, requests: Any) -> Any:
    ask = channel.stream_stream(
        SERVICE + "ModelStreamInfer", Request.SerializeToString, message("inference.ModelStreamInferResponse").FromString
    )
    return ask(iter(requests), metadata=(("authorization", f"Bearer {key}"),), timeout=20)


def test_a_stream_is_answered_in_order_and_goes_on_after_a_bad_message(channel: grpc.Channel, key: str) -> None:
    asked = [infer(id=str(number), model_name="nope" if number == 3 else "delay") for number in range(300)]
    answers = list(stream(channel, key, asked))
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(300)]
    assert "no model named 'nope'" in answers[3].error_message
    assert not any(answer.error_message for number, answer in enumerate(answers) if number != 3)


def test_a_stream_without_a_key_is_refused(channel: grpc.Channel) -> None:
    refused(lambda: list(stream(channel, "wrong", [infer()])), grpc.StatusCode.UNAUTHENTICATED)


def test_a_stream_whose_key_is_taken_back_ends(endpoint: GrpcEndpoint, channel: grpc.Channel) -> None:
    key = endpoint.place.key("streamer", "caller")
    endpoint.write_keys()
    more = threading.Event()

    def asked() -> Iterator[Any]:
        yield infer()
        more.wait(10)
        yield infer()

    answers = stream(channel, key, asked())
    assert next(answers).infer_response.model_name == "delay"
    for hashed, who in list(endpoint.place.keys.items()):
        if who["name"] == "streamer":
            del endpoint.place.keys[hashed]
    endpoint.write_keys()
    more.set()
    refused(lambda: next(answers), grpc.StatusCode.UNAUTHENTICATED)


def test_a_stream_that_is_cancelled_leaves_nothing_open(endpoint: GrpcEndpoint, channel: grpc.Channel, key: str) -> None:
    never = threading.Event()

    def asked() -> Iterator[Any]:
        yield infer()
        never.wait(10)

    answers = stream(channel, key, asked())
    next(answers)
    answers.cancel()
    never.set()
    assert until(lambda: not endpoint.server._streams and endpoint.server.open == 0)


# --- limits and the way out ---


def test_one_call_more_than_may_wait_is_told_when_to_come_back(tmp_path: Path) -> None:
    with grpc_endpoint(tmp_path, max_waiting=1) as own:
        key = own.place.key("one", "caller")
        own.write_keys()
        release = threading.Event()

        def asked() -> Iterator[Any]:
            yield infer()
            release.wait(10)

        with (
            grpc.insecure_channel(own.address, OPTIONS) as first,
            grpc.insecure_channel(own.address, (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))) as second,
        ):
            answers = stream(first, key, asked())
            next(answers)
            error = refused(lambda: caller(second, key)("ModelInfer", infer()), grpc.StatusCode.RESOURCE_EXHAUSTED)
            release.set()
            assert list(answers) == []
            assert ("grpc-retry-pushback-ms", "1000") in error.trailing_metadata()
            assert until(lambda: own.server.open == 0)
            assert caller(second, key)("ModelInfer", infer())


def test_a_call_whose_message_never_comes_is_ended(tmp_path: Path) -> None:
    with grpc_endpoint(tmp_path, request_timeout_s=0.2) as own:
        key = own.place.key("slow", "caller")
        own.write_keys()
        release = threading.Event()

        def nothing() -> Iterator[bytes]:
            release.wait(10)
            yield b""

        with grpc.insecure_channel(own.address, OPTIONS) as channel:
            ask = channel.stream_unary(SERVICE + "ModelInfer")
            metadata = (("authorization", f"Bearer {key}"),)
            refused(lambda: ask(nothing(), metadata=metadata, timeout=10), grpc.StatusCode.DEADLINE_EXCEEDED, "did not arrive")
            release.set()
            assert until(lambda: own.server.open == 0)


def test_no_more_connections_than_the_settings_say(tmp_path: Path) -> None:
    with grpc_endpoint(tmp_path, max_connections=2) as own:
        key = own.place.key("many", "caller")
        own.write_keys()
        alone = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        with (
            grpc.insecure_channel(own.address, alone) as a,
            grpc.insecure_channel(own.address, alone) as b,
            grpc.insecure_channel(own.address, alone) as c,
        ):
            caller(a, key)("ModelInfer", infer())
            caller(b, key)("ModelInfer", infer())
            refused(lambda: caller(c, key)("ModelInfer", infer(), timeout=2), grpc.StatusCode.UNAVAILABLE)
            caller(a, key)("ModelInfer", infer())


def test_a_server_that_stops_answers_what_it_has_and_sends_streams_elsewhere(tmp_path: Path) -> None:
    with grpc_endpoint(tmp_path) as own:
        key = own.place.key("one", "caller")
        own.write_keys()
        release = threading.Event()

        def asked() -> Iterator[Any]:
            yield infer(id="1")
            release.wait(10)

        with grpc.insecure_channel(own.address, OPTIONS) as channel:
            answers = stream(channel, key, asked())
            assert next(answers).infer_response.id == "1"
            own.server.stop()
            refused(lambda: next(answers), grpc.StatusCode.UNAVAILABLE, "going away")
            release.set()


def test_a_caller_that_stays_forever_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with grpc_endpoint(tmp_path, drain_s=0) as own:
        key = own.place.key("one", "caller")
        own.write_keys()
        release = threading.Event()

        def nothing() -> Iterator[bytes]:
            release.wait(10)
            yield b""

        with grpc.insecure_channel(own.address, OPTIONS) as channel:
            pending = channel.stream_unary(SERVICE + "ModelInfer").future(
                nothing(), metadata=(("authorization", f"Bearer {key}"),)
            )
            assert until(lambda: own.server.open == 1)
            own.server.stop()
            assert pending.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            release.set()


def test_a_client_may_come_by_its_certificate_alone(tmp_path: Path) -> None:
    issuer = authority(tmp_path)
    issuer.keep(tmp_path / "service.pem", "delay", ["127.0.0.1"], NOW)
    trusted = tmp_path / "keys" / "authority.pem"
    certificates = Certificates(Files(tmp_path / "service.pem", tmp_path / "service.pem", clients=trusted))
    with grpc_endpoint(tmp_path / "state", credentials=grpc_credentials(certificates)) as own:
        who = {"id": "app", "name": "app", "kind": "service", "roles": ["caller"]}
        own.place.keys["certificate:spiffe://flights/service/app"] = who
        own.write_keys()
        for name, code in (("app", None), ("stranger", grpc.StatusCode.UNAUTHENTICATED)):
            certificate, private = (path.read_bytes() for path in client_pair(tmp_path, issuer, name))
            credentials = grpc.ssl_channel_credentials(trusted.read_bytes(), private, certificate)
            alone = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
            with grpc.secure_channel(f"localhost:{own.address.rpartition(':')[2]}", credentials, alone) as channel:
                call = caller(channel, "")
                if code is None:
                    call("ModelInfer", infer())
                    assert own.records()[-1]["by"] == "app"
                else:
                    refused(lambda call=call: call("ModelInfer", infer()), code, "No one is known by the certificate")


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()
