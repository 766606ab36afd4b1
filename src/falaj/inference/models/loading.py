"""Loading: a model is opened by its digest; no parser sees a byte before the signature over its manifest was checked."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from falaj.core.codec import decode, digest, digest_of
from falaj.core.envelope import open_envelope
from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.masking import masking
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.inference.mask import NOTHING, Mask
from falaj.inference.models.model import Model, Stored
from falaj.inference.models.sessions import HERE, Device
from falaj.inference.personal import PersonalMask, Whose
from falaj.ports.blobs import Blobs
from falaj.ports.host import Arm, Wanted
from falaj.ports.vault import Vault

MANIFEST_TYPE = "application/vnd.falaj.model+json"
"""The payload type of a model's signed envelope; its payload needs `digest`, `recipe`, `places` and may name its `model`
and its `format`, which is ONNX where nothing is said."""
Vaults = Callable[[], Vault]
Verify = Callable[[bytes, bytes], bool]
"""(signature, message) → whether the model key signed it."""


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

    def __init__(
        self, blobs: Blobs, verify: Verify, mask_key: bytes = b"", device: Device = HERE, *, vaults: Vaults | None = None
    ) -> None:
        """`mask_key`: what masked values are hashed with; without one an endpoint that masks is not served. `vaults` opens the
        vault; without it none is served whose log is about people."""
        self._blobs = blobs
        self._verify = verify
        self._mask_key, self._device, self._vaults = mask_key, device, vaults
        self._known: dict[tuple[str, str], Model] = {}

    def open(self, wanted: Wanted) -> Serving:
        """Raises Conflict where a signature or digest is wrong, NotFound for a missing model, InvalidInput for a broken one."""
        if not wanted.arms or len({arm.role for arm in wanted.arms}) != len(wanted.arms):
            raise InvalidInput(
                f"Revision {wanted.revision} names {len(wanted.arms)} arms.", "it takes one champion, and every other role once."
            )
        known: dict[tuple[str, str], Model] = {}
        arms = []
        for arm in wanted.arms:
            key = (arm.digest, digest_of(dict(arm.manifest)))
            model = known[key] = self._known.get(key) or self._load(arm)
            arms.append(Live(arm, model, Ref.parse(arm.model).version or "0"))
        self._known = known
        give_back()
        return Serving(wanted, wanted.endpoint.rpartition("/")[2], tuple(self._masked(wanted, arms)))

    def _masked(self, wanted: Wanted, arms: list[Live]) -> list[Live]:
        rules = masking(wanted.mask)
        subject = wanted.subject or next((found for live in arms if (found := _subject(live.model))), "")
        if not rules.is_on and not subject:
            return arms
        if not self._mask_key:
            raise InvalidInput(f"{wanted.endpoint} masks its log, and no key was given to do so.", "start it by its host.")
        read = [(live.model.recipe, live.model.classes) for live in arms]
        masks: list[Mask] = [Mask(rules, self._mask_key, read, arm=place, unit=wanted.unit) for place in range(len(arms))]
        if subject:
            if self._vaults is None:
                raise InvalidInput(f"{wanted.endpoint} is about people, and no vault was given.", "start it by its host.")
            name, unit = wanted.endpoint.rpartition("/")[2], wanted.unit
            whose = Whose(self._vaults(), name, subject)
            masks = [
                PersonalMask(mask, self._mask_key, read, arm=place, unit=unit, whose=whose) for place, mask in enumerate(masks)
            ]
        return [replace(live, mask=mask) for live, mask in zip(arms, masks, strict=True)]

    def _load(self, arm: Arm) -> Model:
        body = _manifest(arm, self._verify)
        if body.get("digest") != arm.digest or body.get("model", arm.model) != arm.model:
            raise Conflict(f"The signed manifest of {arm.model} is about another model.", "falaj audit verify", model=arm.model)
        data = self._blobs.get(arm.digest)
        if digest(data) != arm.digest:
            raise Conflict(f"The bytes of {arm.model} are not those that were signed.", "falaj audit verify", model=arm.model)
        places = {str(view): tuple(map(str, names)) for view, names in dict(body.get("places", {})).items()}
        recipe = decode(Recipe, body["recipe"])
        model = Model(data, recipe, places, Stored(str(body.get("format", "onnx")), len(recipe.columns), body, self._device))
        model.classes = body.get("classification") or {}
        model.places_of_people = {
            view: (int(place.partition("/")[0]), int(place.partition("/")[2]))
            for view, place in (model.classes.get("keys") or {}).items()
        }
        return model


def _subject(model: Model) -> str:
    return str((model.classes.get("subjects") or {}).get("request", ""))


def give_back() -> None:
    """Memory that loading took and needs no more goes back to the machine, where the C library can do that (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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
