"""The methods of the service in one table, each with the permission it takes; what is not in the table does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput
from falaj.inference.describe import arms_of, model_config, model_metadata, model_statistics, server_metadata
from falaj.inference.errors import Malformed
from falaj.inference.grpc.messages import SERVICE, methods
from falaj.inference.predict import Predictor
from falaj.inference.tensors import MAX_ROWS

INFER, STREAM = "ModelInfer", "ModelStreamInfer"


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    permission: str
    """One of auth.PERMISSIONS; `open` needs no key and is for health alone."""


METHODS = (
    Method("ServerLive", "open"),
    Method("ServerReady", "open"),
    Method("ModelReady", "read"),
    Method("ServerMetadata", "read"),
    Method("ModelMetadata", "read"),
    Method("ModelConfig", "read"),
    Method("ModelStatistics", "metrics"),
    Method(INFER, "predict"),
    Method(STREAM, "predict"),
    Method("RepositoryIndex", "read"),
    Method("RepositoryModelLoad", "operate"),
    Method("RepositoryModelUnload", "operate"),
)
BY_PATH: Mapping[bytes, Method] = {f"/{SERVICE}/{method.name}".encode(): method for method in METHODS}
_CLASSES = methods()


class Service:
    """Answers every method but the two that ask the model."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.repository = predictor, predictor.repository
        self._calls: dict[str, Callable[[Any, Actor], Mapping[str, Any]]] = {
            "ServerLive": lambda _request, _actor: {"live": True},
            "ServerReady": lambda _request, _actor: {"ready": self._is_ready()},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _request, _actor: server_metadata(),
            "ModelMetadata": self._metadata,
            "ModelConfig": self._config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    def answer(self, name: str, data: bytes, actor: Actor) -> bytes:
        """The encoded answer. Raises FalajError."""
        asked, answers = _CLASSES[name]
        try:
            request = asked.FromString(data)
        except DecodeError as exc:
            raise Malformed(f"The message is no {asked.__name__}.", "the protocol's .proto file says what it holds.") from exc
        answer: bytes = answers(**self._calls[name](request, actor)).SerializeToString()
        return answer

    def _is_ready(self) -> bool:
        serving = self.predictor.serving
        return serving is not None and self.repository.answers(serving.name)

    def _model_ready(self, request: Any, _actor: Actor) -> Mapping[str, Any]:
        arms_of(self.predictor.serving, request.name, request.version)
        return {"ready": self._is_ready()}

    def _metadata(self, request: Any, _actor: Actor) -> Mapping[str, Any]:
        about = model_metadata(request.name, arms_of(self.predictor.serving, request.name, request.version))
        inputs = [{key: value for key, value in tensor.items() if key != "parameters"} for tensor in about["inputs"]]
        return {**about, "inputs": inputs}

    def _config(self, request: Any, _actor: Actor) -> Mapping[str, Any]:
        arms = arms_of(self.predictor.serving, request.name, request.version)
        return {"config": model_config(request.name, arms, MAX_ROWS)}

    def _statistics(self, request: Any, _actor: Actor) -> Mapping[str, Any]:
        serving = self.predictor.serving
        name = request.name or (serving.name if serving is not None else "")
        arms = arms_of(serving, name, request.version)
        return {"model_stats": model_statistics(name, arms, self.predictor.metrics)}

    def _index(self, request: Any, _actor: Actor) -> Mapping[str, Any]:
        _one_repository(request)
        return {"models": self.repository.index(self.predictor.serving, only_ready=request.ready)}

    def _load(self, request: Any, actor: Actor) -> Mapping[str, Any]:
        self.repository.load(self.predictor.serving, _one_repository(request), _parameters(request), actor)
        return {}

    def _unload(self, request: Any, actor: Actor) -> Mapping[str, Any]:
        self.repository.unload(self.predictor.serving, _one_repository(request), _parameters(request), actor)
        return {}


def _one_repository(request: Any) -> str:
    if request.repository_name:
        raise InvalidInput(f"There is no repository {request.repository_name[:80]!r}.", "leave it out: there is one.")
    return str(getattr(request, "model_name", ""))


def _parameters(request: Any) -> dict[str, Any]:
    return {
        key: getattr(value, value.WhichOneof("parameter_choice") or "bool_param") for key, value in request.parameters.items()
    }
