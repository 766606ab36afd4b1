"""The short form of the fuzz run of policies, packs and labels, and what once ended the process."""

import pytest

from falaj.core.errors import InvalidInput
from tests.fuzz.policies import KINDS, run
from tests.kits.policies import policy


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_some_rounds_find_nothing(kind: str) -> None:
    counts, _ = run(kind, 150, 7)
    assert counts.total() >= 100
    assert set(counts) <= {"read", "refused"}


@pytest.mark.parametrize(
    "body",
    [
        "true" + " && true" * 20_000, "1" + "+1" * 20_000 + " > 0", "!" * 20_000 + "true", "principal" + ".a" * 20_000,
        'principal["a"]' + '["a"]' * 20_000, "if true then " * 20_000, "false || " * 20_000 + "true",
        "principal has " + ".".join(["a"] * 20_000), "(" * 20_000, "[" * 20_000,
    ],
    ids=["and", "plus", "not", "member", "index", "if", "or", "has", "brackets", "sets"],
)  # fmt: skip
def test_a_chain_that_would_end_the_process_is_refused(body: str) -> None:
    with pytest.raises(InvalidInput, match=r"own\.cedar:1: more than"):
        policy(own=f'@id("a") permit(principal, action, resource) when {{ {body} }};')
