"""Who holds which message: in order by key, never two at once, and nothing forgotten."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from falaj.core.leases import MOST_HELD, Leases

STEP = st.tuples(st.sampled_from(["take", "ack", "release", "extend", "wait", "save"]), st.sampled_from("ab"), st.integers(0, 5))


@given(st.lists(st.sampled_from(["", "x", "y"]), max_size=20), st.lists(STEP, max_size=60))
@example(["", "x", "x"], [("take", "b", 3), ("release", "b", 2), ("take", "a", 2)])
def test_every_message_is_handed_out_and_a_key_never_to_two(keys: list[str], steps: list[tuple[str, str, int]]) -> None:
    leases, now, done = Leases(), 0, set[int]()
    for what, owner, amount in steps:
        held = sorted(n for n, lease in leases.held.items() if lease.owner == owner and lease.until_ms > now)
        if what == "take":
            fresh = [(n, keys[n]) for n in range(leases.next, len(keys))]
            for number, attempts in leases.take(fresh, owner, amount, (now, now + 10)):
                assert number not in done
                assert attempts >= 1
        elif what == "ack":
            leases.acknowledge(held[:amount])
            done |= set(held[:amount])
        elif what == "release":
            leases.release(held[:amount], owner)
        elif what == "extend":
            leases.extend(held[:amount], owner, now + 10)
        elif what == "wait":
            now += 4 * amount
        else:
            leases = Leases.read(json.loads(json.dumps(leases.settled())), json.loads(json.dumps(leases.open())))
        live = [(lease.key, lease.owner) for lease in leases.held.values() if lease.owner and lease.until_ms > now and lease.key]
        assert len({key for key, _ in live}) == len(set(live))
    while taken := leases.take([(n, keys[n]) for n in range(leases.next, len(keys))], "end", 3, (now + 1000, now + 2000)):
        numbers = [number for number, _ in taken]
        assert numbers == sorted(numbers)
        leases.acknowledge(numbers)
        done |= set(numbers)
        now += 2000
    assert done == set(range(len(keys)))
    assert (leases.done, leases.acked, leases.held) == (len(keys), set(), {})


def test_no_more_is_handed_out_than_can_be_kept_in_mind() -> None:
    leases = Leases()
    taken = leases.take(((n, "") for n in range(10_000)), "a", 10_000, (0, 10))
    assert len(taken) == MOST_HELD
    leases.acknowledge([0])
    assert [number for number, _ in leases.take(((n, "") for n in range(leases.next, 10_000)), "a", 10, (0, 10))] == [MOST_HELD]


def test_what_retention_removed_is_forgotten() -> None:
    leases = Leases()
    leases.take([(n, "k") for n in range(6)], "a", 6, (0, 10))
    leases.acknowledge([4])
    leases.skip_to(4)
    assert (leases.done, sorted(leases.held)) == (5, [5])
