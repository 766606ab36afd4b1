"""Near routes: what a caller may have meant whose path leads nowhere."""

from __future__ import annotations

import difflib
import re

from falaj.operations import OPERATIONS
from falaj.operations.operation import plural

LISTED = "docs/reference/operations.md lists every route."
_LONGEST = 200
_SLASHED = re.compile(r"/v1/(?P<noun>[a-z]+)/(?P<subject>[^/:]+)/(?P<verb>[a-z_]+)")
_SUBJECT = re.compile(r"/v1/[^/:]+/([^:]+?)(?:[:/][a-z_]+)?")


def hint_for(path: str) -> str:
    """The right form of the path, or the nearest routes; else where all of them are listed."""
    if len(path) > _LONGEST:
        return LISTED
    meant = with_colon(path)
    if meant:
        return f"a verb stands behind a colon: {meant}."
    found = _SUBJECT.fullmatch(path)
    subject = found[1] if found and "/" not in found[1] else "{subject}"
    routes: dict[str, list[str]] = {}
    for operation in OPERATIONS:
        routes.setdefault(operation.path.replace("{subject}", subject), []).append(operation.method)
    close = difflib.get_close_matches(path, routes, n=3, cutoff=0.7)
    return f"did you mean {' or '.join(f'{routes[near][0]} {near}' for near in close)}?" if close else LISTED


def with_colon(path: str) -> str:
    """`/v1/datasets/weather/quarantine` as the route that was meant, with its method; empty where there is none."""
    found = _SLASHED.fullmatch(path)
    for operation in OPERATIONS if found else ():
        if (
            found is None or operation.subject is None or found["subject"] == operation.subject.kind
        ):  # `dataset/test` is a subject
            continue
        if found["noun"] in (operation.noun, plural(operation.noun)) and operation.verb == found["verb"]:
            return f"{operation.method} {operation.path.replace('{subject}', found['subject'])}"
    return ""
