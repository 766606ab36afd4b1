"""The protocol's messages as classes, from the compiled `.binpb` files beside this module (`python -m tools.protocols`).

They live in a pool of their own: another library that brings the same public protocol, as `tritonclient` does, can be
imported in the same process, which the usual generated modules do not allow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"
_pool = DescriptorPool()
for _name in ("open_inference", "status"):
    for _file in FileDescriptorSet.FromString((Path(__file__).parent / f"{_name}.binpb").read_bytes()).file:
        _pool.AddSerializedFile(_file.SerializeToString())


def message(name: str) -> Any:
    """The class of a message, `inference.ModelInferRequest`; its attributes are the fields of the `.proto` file."""
    return GetMessageClass(_pool.FindMessageTypeByName(name))


def methods() -> dict[str, tuple[Any, Any]]:
    """The service's methods by name, each with the classes of its request and its answer."""
    service = _pool.FindServiceByName(SERVICE)
    return {one.name: (GetMessageClass(one.input_type), GetMessageClass(one.output_type)) for one in service.methods}
