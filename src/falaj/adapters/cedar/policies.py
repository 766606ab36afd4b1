"""A whole set of policies, parsed once: the role table's permits, what always holds, the packs' and the project's own."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from falaj.adapters.cedar.schema import permits_of, schema_of
from falaj.adapters.cedar.statements import Statement, statements
from falaj.core.codec import digest
from falaj.core.errors import InvalidInput

BASE = Path(__file__).with_name("base.cedar")
MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class Source:
    """A text of policies. `own`: the project's, which is checked more closely and may not touch the others."""

    name: str
    text: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Policies:
    """`handle` and `schema` are Cedar's own, parsed; `digest` names the set: the same policies have the same, in any order."""

    handle: Any = field(repr=False)
    schema: Any = field(repr=False)
    digest: str
    statements: Mapping[str, Statement]


def build(roles: Mapping[str, Collection[str]], groups: Mapping[str, Collection[str]], sources: Sequence[Source]) -> Policies:
    """Parses the whole set. Raises InvalidInput with file and line for a policy that is none, that speaks of what the schema
    does not have, or whose id another one has."""
    import cedarpy

    text = schema_of(frozenset().union(*roles.values()), groups)
    schema = cedarpy.Schema.from_str(text)
    found: dict[str, Statement] = {}
    given = [Source("roles", permits_of(roles)), Source(BASE.name, BASE.read_text("utf-8")), *sources]
    for source in given:
        read = statements(source.text, source.name)
        if source.own:
            _check(read, schema)
        for one in read:
            if one.id in found:
                raise InvalidInput(
                    f"{one.place}: the id {one.id!r} belongs to {found[one.id].place}.", "give the policy another @id."
                )
            found[one.id] = one
    bodies = {name: found[name].body for name in sorted(found)}
    handle = cedarpy.PolicySet.from_json_str(json.dumps({"staticPolicies": bodies, "templates": {}, "templateLinks": []}))
    # Not `canonical`: a policy may speak of any 64-bit integer.
    whole = json.dumps({"schema": text, "policies": bodies}, sort_keys=True, separators=(",", ":"))
    return Policies(handle, schema, digest(whole.encode()), found)


def project_sources(folder: Path) -> list[Source]:
    """The project's own policies, `*.cedar` in its folder `policies`, in name order. Raises InvalidInput for one that cannot be
    read."""
    if not folder.is_dir():
        return []
    paths = sorted(folder.glob("*.cedar"))
    if len(paths) > MOST_FILES:
        raise InvalidInput(f"{folder} holds {len(paths)} files of policies.", f"put them into {MOST_FILES} at most.")
    found = []
    for path in paths:
        shown = f"{folder.name}/{path.name}"
        try:
            found.append(Source(shown, path.read_text("utf-8"), own=True))
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidInput(f"{shown}:1: the file cannot be read: {exc}.", "save it as UTF-8, readable by falaj.") from exc
    return found


def _check(read: Iterable[Statement], schema: Any) -> None:
    """One by one only where something is wrong, to say where."""
    import cedarpy

    whole = list(read)
    if not whole or cedarpy.validate_policies("\n".join(one.text for one in whole), schema).validation_passed:
        return
    for one in whole:
        seen = cedarpy.validate_policies(one.text, schema)
        if not seen.validation_passed:
            why = seen.errors[0].error if seen.errors else "it does not fit the schema"
            raise InvalidInput(
                f"{one.place}: {one.id} cannot be used: {why.rstrip('.')[:400]}.",
                "falaj policy list shows actions and groups; guard an optional attribute with `has`.",
            )
    raise InvalidInput(f"{whole[0].place}: the policies do not fit the schema together.", "split the file.")
