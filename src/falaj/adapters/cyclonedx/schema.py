"""Checks a bill of materials against CycloneDX's own schema before it leaves the house, where the library is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from falaj.core.errors import InvalidInput


def check(bom: Mapping[str, Any]) -> bool:
    """True where it was looked at and is good, False where nobody can look: `pip install falaj[evidence]`.

    Raises InvalidInput for one that breaks its schema.
    """
    try:
        from cyclonedx.exception import MissingOptionalDependencyException
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        return False
    version = SchemaVersion.from_version(str(bom.get("specVersion")))
    try:
        problem = JsonStrictValidator(version).validate_str(json.dumps(bom))
    except MissingOptionalDependencyException:
        return False
    if problem is not None:
        raise InvalidInput(f"The bill of materials breaks CycloneDX {version.to_version()}: {str(problem)[:500]}", "report it.")
    return True
