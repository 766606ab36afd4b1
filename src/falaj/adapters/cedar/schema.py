"""What Cedar policies may speak of: actors in roles, refs with their labels, and one action for each verb."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

TYPES = """\
type Context = {
  // where this installation stands, and what for it processes data
  zone: String,
  purpose?: String,
};
entity Role;
entity Actor in [Role] = { name: String, kind: String, zone: String };
// A versioned ref is in its bare one: Ref::"model/delay@7" in Ref::"model/delay".
entity Ref in [Ref] = {
  kind: String,
  name: String,
  version?: String,
  classes: Set<String>,
  tier: String,
  held: Bool,
  zone?: String,
  purposes?: Set<String>,
  authors?: Set<String>,
  approvals?: Set<String>,
  // how many of those who approved it made no part of it
  approvers?: Long,
  state?: String,
};
"""
"""What a label must say has no question mark: a resolver that leaves it out gets a deny."""


def schema_of(verbs: Collection[str], groups: Mapping[str, Collection[str]]) -> str:
    """A Cedar schema: each verb an action, in the groups that hold it. A group may name verbs that do not exist yet."""
    lines = [TYPES]
    lines += [f"action {_quoted(group)};" for group in sorted(groups)]
    for verb in sorted(verbs):
        inside = [_quoted(group) for group in sorted(groups) if verb in groups[group]]
        within = f" in [{', '.join(inside)}]" if inside else ""
        lines.append(f"action {_quoted(verb)}{within} appliesTo {{ principal: Actor, resource: Ref, context: Context }};")
    return "\n".join(lines) + "\n"


def permits_of(roles: Mapping[str, Collection[str]]) -> str:
    """The role table as Cedar: one permit for each role, whose id is `role.<role>`."""
    return "\n".join(
        f"@id({_quoted(f'role.{role}')})\n"
        f"permit(principal in Role::{_quoted(role)}, "
        f"action in [{', '.join(f'Action::{_quoted(verb)}' for verb in sorted(verbs))}], resource);\n"
        for role, verbs in roles.items()
        if verbs
    )


def _quoted(text: str) -> str:
    return json.dumps(text)
