"""Fuzzes what reads policies, packs and labels: whatever comes, it is read or refused, and nothing forbidden is ever allowed.

python -m tests.fuzz.policies --rounds 20000 --seed 7
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from falaj.adapters.cedar.policies import BASE, Source
from falaj.core.decision import Decision
from falaj.core.errors import InvalidInput, NotFound
from falaj.packs import Pack, known, load, read_pack
from falaj.packs.pack import FOLDER
from tests.kits.policies import NOTHING, PAIRS, policy

POLICIES = [BASE.read_text("utf-8"), *(pack.policies for pack in load(known()))]
PACKS = [(FOLDER / name / "pack.toml").read_text("utf-8") for name in known()]
SIGNS = [
    "permit", "forbid", "principal", "action", "resource", "context", "when", "unless", "has", "in", "is", "like", "if",
    "then", "else", "true", "false", "&&", "||", "==", "!=", "<", ">=", "+", "-", "*", "!", "(", ")", "[", "]", "{", "}",
    ",", ";", ":", "decimal(", ".", "::", "@id", '("', '")', '"', "\\", "//", "/*", "\n", "\x00", "é", "\u2028",
    "?principal", "9223372036854775808", "decimal(", 'ip("', "contains(", "containsAny(", '@id("a")', 'Action::"processing"',
    'Role::"auditor"', "template", "(principal, action, resource)", "zone", "classes", "getTag(", "datetime(", "`", "'", "#",
    "$", "%",
]  # fmt: skip
TOML = [
    "[pack]",
    "[[value]]",
    "=",
    '"',
    "'''",
    "[",
    "]",
    "{",
    "}",
    "1e999",
    "nan",
    "\n",
    "#",
    "1979-05-27",
    "true",
    "\\u0000",
    "..",
    '"""',
]
TEXT = st.text(max_size=6)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["tier1", "personal", "uae-onshore"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT | st.sampled_from(["__entity", "__extn", "type", "id", "fn", "arg"]), inner, max_size=3)
    ),
    max_leaves=6,
)
LABELS = st.dictionaries(
    st.sampled_from(sorted({*NOTHING, "zone", "purposes", "authors", "approvals", "state", "purpose"})) | TEXT, VALUE
)


@st.composite
def mutated(draw: st.DrawFn, texts: list[str], signs: list[str]) -> str:
    """A text with a few pieces cut out, doubled, or put in from elsewhere."""
    text = draw(st.sampled_from(texts))
    words = [*signs, *text.split()[:200]]
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        piece = draw(st.sampled_from(words) | TEXT) * draw(st.sampled_from([1, 1, 1, 2, 400]))
        text = text[:start] + piece + text[end if draw(st.booleans()) else start :]
    return text


def soup(signs: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(signs) | TEXT, max_size=30).map(" ".join)


def tried_policy(text: str) -> str:
    """`read` or `refused`. Raises whatever else happens, and where something forbidden was allowed."""
    name = sorted(PAIRS)[len(text) % len(PAIRS)]
    pack, _, refused = PAIRS[name]
    whole = policy(pack, refused.zone, refused.purpose)
    try:
        changed = whole.changed([*(Source(one.id, one.policies) for one in load(pack)), Source("own.cedar", text, own=True)])
    except InvalidInput as exc:
        if "own.cedar" not in exc.message:
            raise
        return "refused"
    ruling = changed.decide(refused.actor, refused.verb, refused.subject, refused.told)
    assert ruling.verdict == "deny", f"{name} was lifted by {text!r}"
    return "read"


def tried_pack(text: str) -> str:
    try:
        pack = read_pack(text, "", "fuzzed")
    except (InvalidInput, NotFound):
        return "refused"
    assert isinstance(pack, Pack)
    assert all(value.path and value.status for value in pack.values())
    return "read"


def tried_labels(labels: Any) -> str:
    """Whatever labels come, a decision; what lacks a label that must be there, or has one of another type, is a deny."""
    name = sorted(PAIRS)[len(labels) % len(PAIRS)]
    pack, _, refused = PAIRS[name]
    asked = policy(pack, refused.zone, refused.purpose)
    ruling = asked.decide(refused.actor, refused.verb, refused.subject, labels)
    assert isinstance(ruling, Decision)
    is_whole = (
        isinstance(labels.get("classes"), list)
        and all(isinstance(one, str) for one in labels["classes"])
        and isinstance(labels.get("tier"), str)
        and isinstance(labels.get("held"), bool)
    )
    assert is_whole or not ruling.allowed
    return "read" if ruling.allowed else "refused"


KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "policies": (mutated(POLICIES, SIGNS) | soup(SIGNS), tried_policy),
    "packs": (mutated(PACKS, TOML) | soup(TOML), tried_pack),
    "labels": (LABELS | LABELS.map(lambda labels: {**NOTHING, **labels}), tried_labels),
}


def run(kind: str, count: int, number: int) -> tuple[Counter[str], float]:
    """How many were read and refused, and the CPU seconds of the slowest."""
    inputs, tried = KINDS[kind]
    counts: Counter[str] = Counter()
    slowest = 0.0

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def rounds(data: Any) -> None:
        nonlocal slowest
        start = time.process_time()
        counts[tried(data)] += 1
        slowest = max(slowest, time.process_time() - start)

    rounds()
    return counts, slowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    for kind in KINDS:
        counts, slowest = run(kind, given_.rounds, given_.seed)
        told = f"{counts['read']:,} read, {counts['refused']:,} refused"
        sys.stdout.write(f"{kind}: {counts.total():,} rounds: {told}; slowest {slowest:.3f} CPU seconds\n")


if __name__ == "__main__":
    main()
