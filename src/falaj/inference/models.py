"""Models: loaded by digest, only after the signature over their manifest was checked, and run on one thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from falaj.core.codec import decode, digest, digest_of
from falaj.core.envelope import open_envelope
from falaj.core.errors import Bug, Conflict, FalajError, InvalidInput
from falaj.core.masking import Classes, masking
from falaj.core.recipe import Reader, Recipe
from falaj.core.ref import Ref
from falaj.inference.mask import NOTHING, Mask
from falaj.ports.blobs import Blobs
from falaj.ports.host import Arm, Wanted

MANIFEST_TYPE = "application/vnd.falaj.model+json"
"""The payload type of a model's signed envelope; its payload needs `digest`, `recipe`, `places` and may name its `model`."""
_TYPES = {"tensor(float)": ("FP32", np.float32), "tensor(double)": ("FP64", np.float64)}
_OUT = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(bool)": "BOOL",
}

Matrix = NDArray[np.float32] | NDArray[np.float64]
Verify = Callable[[bytes, bytes], bool]
"""(signature, message) → whether the model key signed it."""


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    datatype: str
    shape: tuple[int, ...]


class Model:
    """An ONNX session with its recipe. Raises InvalidInput for a graph that takes or gives anything but one matrix of numbers."""

    def __init__(self, data: bytes, recipe: Recipe, places: Mapping[str, Sequence[str]]) -> None:
        self.recipe = recipe
        self.classes: Classes = {}
        """What the signed manifest says of whom its fields and features concern."""
        self.reader = Reader(recipe, _zone, places)
        self.width = len(recipe.columns)
        self._session = _session(data)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES:
            raise InvalidInput(
                "The model must take one matrix of floats.", "export it with a single float input of shape [None, columns]."
            )
        self.input = inputs[0].name
        self.datatype, self._dtype = _TYPES[inputs[0].type]
        unknown = [output.name for output in outputs if output.type not in _OUT]
        if unknown:
            raise InvalidInput(f"The model's output {unknown[0]!r} is not a tensor of numbers.", "export it with zipmap=False.")
        self.outputs = tuple(
            Output(
                o.name, _OUT[o.type], tuple(d if isinstance(d, int) else -1 for d in ([-1, *o.shape[1:]] if o.shape else [-1]))
            )
            for o in outputs
        )
        self._warm_up()

    def run(self, rows: Sequence[Sequence[float]] | Matrix) -> list[NDArray[Any]]:
        """Every output for a matrix of rows. Raises Bug where the model fails."""
        matrix = np.asarray(rows, dtype=self._dtype)
        try:
            found: list[NDArray[Any]] = self._session.run(None, {self.input: matrix})
        except Exception as exc:  # onnxruntime has no root of its own for what a graph may raise
            raise Bug(f"The model failed: {exc}.", "falaj rollback takes the version before.") from exc
        return found

    def scores(self, outputs: Sequence[NDArray[Any]]) -> list[float]:
        """One number a row: the probability of the second class, or the only float output. Raises Bug for a NaN."""
        for output, spec in zip(outputs, self.outputs, strict=True):
            if spec.datatype.startswith("FP"):
                column = output[:, 1] if output.ndim == 2 and output.shape[1] == 2 else output.reshape(len(output), -1)[:, 0]
                scores: list[float] = column.tolist()
                if not all(-1e300 < score < 1e300 for score in scores):
                    raise Bug("The model gave a score that is no number.", "falaj rollback takes the version before.")
                return scores
        raise Bug("The model has no float output to take a score from.", "export probabilities as a float tensor.")

    def _warm_up(self) -> None:
        """The first run allocates; nobody's request should pay for that. It also shows that the widths fit."""
        try:
            for count in (1, 2, 1):
                self.scores(self.run(np.zeros((count, self.width))))
        except FalajError as exc:
            raise InvalidInput(f"The model does not run on its recipe's {self.width} columns: {exc.message}") from exc


@dataclass(frozen=True, slots=True)
class Live:
    """An arm that answers."""

    arm: Arm
    model: Model
    version: str
    mask: Mask = NOTHING
    """What the log may not hold of its predictions."""

    @property
    def role(self) -> str:
        return self.arm.role

    @property
    def share(self) -> float:
        return self.arm.share

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.arm.model, self.version, self.arm.role


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served now: replaced as a whole, so that a request sees one revision from start to end."""

    wanted: Wanted
    name: str
    arms: tuple[Live, ...]

    @property
    def mask(self) -> Mask:
        """For what belongs to no arm, such as a label: units and fields are masked alike on all of them."""
        return self.arms[0].mask


class Models:
    """Opens what is wanted; a model that is open already is not opened again."""

    def __init__(self, blobs: Blobs, verify: Verify, mask_key: bytes = b"") -> None:
        """`mask_key`: what masked values are hashed with; without one an endpoint that masks is not served."""
        self._blobs = blobs
        self._verify = verify
        self._mask_key = mask_key
        self._known: dict[tuple[str, str], Model] = {}

    def open(self, wanted: Wanted) -> Serving:
        """Raises Conflict where a signature or digest is wrong, NotFound for a missing model, InvalidInput for a broken one."""
        if not wanted.arms or len({arm.role for arm in wanted.arms}) != len(wanted.arms):
            raise InvalidInput(
                f"Revision {wanted.revision} names {len(wanted.arms)} arms.", "it takes a champion and at most one challenger."
            )
        known: dict[tuple[str, str], Model] = {}
        arms = []
        for arm in wanted.arms:
            key = (arm.digest, digest_of(dict(arm.manifest)))
            model = known[key] = self._known.get(key) or self._load(arm)
            arms.append(Live(arm, model, Ref.parse(arm.model).version or "0"))
        self._known = known
        return Serving(wanted, wanted.endpoint.rpartition("/")[2], tuple(self._masked(wanted, arms)))

    def _masked(self, wanted: Wanted, arms: list[Live]) -> list[Live]:
        rules = masking(wanted.mask)
        if not rules.is_on:
            return arms
        if not self._mask_key:
            raise InvalidInput(f"{wanted.endpoint} masks its log, and no key was given to do so.", "start it by its host.")
        read = [(live.model.recipe, live.model.classes) for live in arms]
        masks = [Mask(rules, self._mask_key, read, arm=place, unit=wanted.unit) for place in range(len(arms))]
        return [replace(live, mask=mask) for live, mask in zip(arms, masks, strict=True)]

    def _load(self, arm: Arm) -> Model:
        body = _manifest(arm, self._verify)
        if body.get("digest") != arm.digest or body.get("model", arm.model) != arm.model:
            raise Conflict(f"The signed manifest of {arm.model} is about another model.", "falaj audit verify", model=arm.model)
        data = self._blobs.get(arm.digest)
        if digest(data) != arm.digest:
            raise Conflict(f"The bytes of {arm.model} are not those that were signed.", "falaj audit verify", model=arm.model)
        places = {str(view): tuple(map(str, names)) for view, names in dict(body.get("places", {})).items()}
        model = Model(data, decode(Recipe, body["recipe"]), places)
        model.classes = body.get("classification") or {}
        return model


def _manifest(arm: Arm, verify: Verify) -> Mapping[str, Any]:
    """The manifest, its signature checked. Raises Conflict: an unsigned model is as good as a tampered one."""
    try:
        body = json.loads(open_envelope(arm.manifest, MANIFEST_TYPE, verify))
    except FalajError as exc:
        raise Conflict(
            f"The manifest of {arm.model} is not signed with this installation's key: {exc.message}", exc.hint, model=arm.model
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise Conflict(f"The manifest of {arm.model} cannot be read: {exc!r}.", "falaj audit verify", model=arm.model) from exc
    if not isinstance(body, Mapping) or "recipe" not in body:
        raise Conflict(f"The manifest of {arm.model} has no recipe.", "register the model again.", model=arm.model)
    return body


def _session(data: bytes) -> ort.InferenceSession:
    """One thread and no spinning: on a small machine a second thread made every size slower."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise InvalidInput(f"The model is no ONNX graph that can be run: {str(exc)[:200]}.", "export it again.") from exc


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise InvalidInput(f"There is no time zone {name!r} on this machine.", "pip install tzdata") from exc
