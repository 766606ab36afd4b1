"""The compiled protocol: made from its text, and the same on the wire as what the public client brings."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from falaj.inference.grpc.messages import message, methods
from falaj.inference.grpc.service import METHODS
from tools.protocols import FOLDER, compiled


@pytest.mark.parametrize("name", ["open_inference", "status"])
def test_compiling_again_gives_the_same(name: str) -> None:
    assert (FOLDER / f"{name}.binpb").read_bytes() == compiled(FOLDER / f"{name}.proto")


def test_every_field_has_the_number_and_the_type_of_the_public_protocol() -> None:
    theirs = {**_messages(service_pb2.DESCRIPTOR), **_messages(model_config_pb2.DESCRIPTOR)}
    ours = _messages(message("inference.ModelInferRequest").DESCRIPTOR.file)
    assert len(ours) > 40
    wrong = {name: fields for name, fields in ours.items() if not fields.items() <= theirs[name].items()}
    assert not wrong


def test_the_service_has_the_methods_of_the_table_and_streams_one() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    assert set(methods()) == {method.name for method in METHODS} <= set(theirs)


def test_a_client_can_be_imported_beside_the_server() -> None:
    data = service_pb2.ModelInferRequest(model_name="delay", id="1").SerializeToString()
    assert message("inference.ModelInferRequest").FromString(data).model_name == "delay"


def _messages(file: Any) -> dict[str, dict[str, tuple[int, int, bool, str]]]:
    """Every message of a file, nested ones too: its fields by name with number, type, whether repeated, and of which message."""
    found: dict[str, dict[str, tuple[int, int, bool, str]]] = {}
    waiting = list(file.message_types_by_name.values())
    while waiting:
        one = waiting.pop()
        waiting += one.nested_types
        found[one.full_name] = {
            f.name: (f.number, f.type, f.is_repeated, f.message_type.full_name if f.message_type else "") for f in one.fields
        }
    return found
