"""Which arm answers: a sticky split, in which an arm that grows takes units from the champion and from nobody else."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import Protocol, TypeVar

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, NotFound
from falaj.inference.auth import demand
from falaj.ports.host import BUCKETS, SIDE, Arm

_LONGEST = 200
_number = Struct(">Q").unpack_from
"""The first 8 bytes as a number, in half the time of int.from_bytes."""


class Answering(Protocol):
    """What answers: an arm with its model loaded."""

    @property
    def arm(self) -> Arm: ...

    @property
    def version(self) -> str: ...


A = TypeVar("A", bound=Answering)


@dataclass(frozen=True, slots=True)
class Split:
    """The split of one revision, counted out once: `ends[i]` is the bucket behind the i-th run, `arms[i]` whose run it is.

    One hash and one binary search a unit; nothing is hashed where one arm answers alone.
    """

    salt: bytes
    ends: tuple[int, ...]
    arms: tuple[int, ...]

    def of(self, unit: str) -> int:
        """The place of the unit's arm among the arms that the split was made of."""
        arms = self.arms
        if len(arms) == 1:
            return arms[0]
        found = _number(sha256(self.salt + unit.encode()).digest())[0] % BUCKETS
        return arms[bisect_right(self.ends, found)]


def split_of(arms: Sequence[Arm], salt: str) -> Split:
    """The split of the arms that answer; standby and shadow get nothing.

    An arm's share is rounded to whole buckets, half to even, and the champion has all that are left, so that the shares sum to
    one. An arm with buckets of its own keeps them; the others get the lowest that are free, in the order of the arms, so that
    a challenger's run begins at 0 and whoever is in it at 5 % is in it at 25 %.

    Raises InvalidInput where there is not one champion, or the arms want more than there is or the same buckets.
    """
    champions = [place for place, arm in enumerate(arms) if arm.role == "champion"]
    if len(champions) != 1:
        raise InvalidInput(
            f"There are {len(champions)} champions among the arms.", "one arm is the champion: it has what is left."
        )
    others = [(place, arm) for place, arm in enumerate(arms) if arm.role not in SIDE and place != champions[0]]
    wanted = sum(arm.share for _, arm in others)
    if wanted > 1 + 1e-9:
        raise InvalidInput(f"The arms want {wanted:.4f} of the units.", "their shares must come to 1 or less.")
    owners = [champions[0]] * BUCKETS
    free = dict.fromkeys(range(BUCKETS))
    for place, arm in sorted(others, key=lambda one: not one[1].buckets):
        mine = [bucket for run in arm.buckets for bucket in range(*run)] or list(free)[: round(arm.share * BUCKETS)]
        for bucket in mine:
            if bucket not in free:
                raise InvalidInput(f"Two arms have the bucket {bucket}.", "the control plane writes them; deploy again.")
            del free[bucket]
            owners[bucket] = place
    ends = [bucket for bucket in range(1, BUCKETS) if owners[bucket] != owners[bucket - 1]]
    return Split(salt.encode(), tuple(ends), tuple(owners[end - 1] for end in (*ends, BUCKETS)))


def bucket(salt: str, unit: str) -> int:
    """0 to 9,999, the same for the same salt and unit everywhere: the first 8 bytes of SHA-256(salt ‖ unit), modulo 10,000.

    10,000 go into 2⁶⁴ almost evenly: no bucket is likelier than another by more than 10⁻¹⁵.
    """
    return int(_number(sha256(f"{salt}{unit}".encode()).digest())[0] % BUCKETS)


def shadowed(arm: Arm, unit: str) -> bool:
    """Whether a shadow gets a copy of what this unit asks. Salted with its release: it does not depend on which arm answers."""
    return arm.share >= 1 or bucket(f"{arm.release}/shadow/", unit) < round(arm.share * BUCKETS)


def read_arm(text: str) -> str:
    """What `X-Falaj-Arm` asks for, be it a header or metadata of gRPC: a role, a version, or a model's Ref; "" for nothing.

    Raises InvalidInput for a text that can be none of them.
    """
    asked = text.strip()
    if len(asked) > _LONGEST or not asked.isascii() or not asked.isprintable():
        raise InvalidInput(
            f"X-Falaj-Arm says {asked[:40]!r}.",
            "name a role, as in challenger, or a version of the model, as in 7 or model/delay@7.",
        )
    return asked


def insisted(arms: Sequence[A], actor: Actor, asked: str) -> A:
    """The arm that a caller insists on by role, version or Ref; what it answers is to be marked `forced`.

    The standby and the shadow can be asked so too. Raises Denied without the permission `force`, NotFound where no arm is meant.
    """
    demand(actor, "force")
    names = [(one.arm.role, one.version, one.arm.model) for one in arms]
    for column in range(3):
        for one, name in zip(arms, names, strict=True):
            if name[column] == asked:
                return one
    raise NotFound.named("arm", asked, [role for role, _, _ in names])
