"""What a supervisor does next follows from its table alone."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from falaj.inference.slots import Drain, Falls, Kill, Limits, Start, Table, Worker, is_ready, is_settled, pause, steps

LIMITS = Limits(hang_s=15, start_s=60, drain_s=11, cores=2)


def ready(slot: str, generation: str = "new", beat: float = 100.0) -> Worker:
    return Worker(slot, generation, True, 0.0, beat)


def starting(slot: str, since: float = 100.0) -> Worker:
    return Worker(slot, "", False, since, since)


def table(*workers: Worker, falls: Falls | None = None, **wanted: int) -> Table:
    return Table(wanted or {"http": 2}, "new", workers, {"http": falls} if falls else {})


def test_what_is_missing_is_started() -> None:
    assert steps(table(ready("http-1")), 100, LIMITS) == [Start("http")]
    assert steps(table(http=1, grpc=1), 100, LIMITS) == [Start("http"), Start("grpc")]


def test_what_is_wanted_and_there_needs_nothing() -> None:
    both = table(ready("http-0"), ready("http-3"))
    assert steps(both, 100, LIMITS) == []
    assert is_ready(both)
    assert is_settled(both)


def test_one_that_starts_counts_as_there_but_not_as_ready() -> None:
    found = table(ready("http-0"), starting("http-1"))
    assert steps(found, 101, LIMITS) == []
    assert not is_ready(found)


ONE_CORE = replace(LIMITS, cores=1)


def test_where_cores_are_short_a_kind_waits_for_those_before_it() -> None:
    both = {"http": 1, "grpc": 1}
    assert steps(table(**both), 100, ONE_CORE) == [Start("http")]
    assert steps(table(starting("http-0"), **both), 101, ONE_CORE) == []
    assert steps(table(starting("http-0"), **both), 101, LIMITS) == [Start("grpc")]
    assert steps(table(ready("http-0"), **both), 101, ONE_CORE) == [Start("grpc")]
    assert steps(table(starting("grpc-0"), **both), 101, ONE_CORE) == [Start("http")], "nobody waits for one that comes later"


def test_a_kind_waits_neither_for_long_nor_for_one_that_only_has_no_model() -> None:
    both = {"http": 1, "grpc": 1}
    assert steps(table(starting("http-0"), **both), 102, ONE_CORE) == [Start("grpc")]
    assert steps(table(replace(ready("http-0"), ready=False), **both), 101, ONE_CORE) == [Start("grpc")]
    assert steps(replace(table(**both), falls={"http": Falls(3, 100.0)}), 101, ONE_CORE) == [Start("grpc")]
    assert steps(table(grpc=1), 100, ONE_CORE) == [Start("grpc")]


def test_all_workers_of_a_kind_start_at_once() -> None:
    assert steps(table(http=3, grpc=1), 100, LIMITS) == [Start("http")] * 3


def test_old_ones_stay_until_all_new_ones_are_ready() -> None:
    old = (ready("http-0", "old"), ready("http-1", "old"))
    assert steps(table(*old), 100, LIMITS) == [Start("http"), Start("http")]
    half = table(*old, ready("http-2"), starting("http-3"))
    assert steps(half, 101, LIMITS) == []
    assert is_ready(half)
    assert not is_settled(half)
    assert steps(table(*old, ready("http-2"), ready("http-3")), 101, LIMITS) == [Drain("http-0"), Drain("http-1")]


def test_one_too_many_is_drained_first_one_that_is_not_ready() -> None:
    assert steps(table(ready("http-0"), starting("http-1"), ready("http-2")), 101, LIMITS) == [Drain("http-1")]


def test_a_kind_that_is_no_longer_wanted_is_drained() -> None:
    assert steps(table(ready("grpc-0"), http=0), 100, LIMITS) == [Drain("grpc-0")]
    assert steps(Table({}, "new", [ready("http-0")]), 100, LIMITS) == [Drain("http-0")]
    assert not is_ready(Table({}, "new", [ready("http-0")]))


def test_a_worker_without_a_sign_of_life_is_killed() -> None:
    assert steps(table(ready("http-0"), http=1), 115, LIMITS) == []
    (kill,) = steps(table(ready("http-0"), http=1), 115.1, LIMITS)
    assert isinstance(kill, Kill)
    assert "no sign of life" in kill.why


def test_one_that_is_not_ready_yet_has_longer() -> None:
    assert steps(table(starting("http-0"), http=1), 160, LIMITS) == []
    assert isinstance(steps(table(starting("http-0"), http=1), 161, LIMITS)[0], Kill)


def test_one_that_leaves_is_neither_counted_nor_asked_again_and_killed_when_its_time_is_over() -> None:
    leaving = replace(ready("http-0"), leaving=100.0)
    assert steps(table(leaving, http=1), 111, LIMITS) == [Start("http")]
    assert steps(table(leaving, ready("http-1", beat=111), http=1), 111.5, LIMITS) == [Kill("http-0", "it did not end in time")]


def test_pauses_grow_only_while_starts_fail() -> None:
    assert [pause(Falls(count)) for count in range(9)] == [0, 0, 1, 2, 4, 8, 16, 30, 30]
    assert steps(table(falls=Falls(3, 100.0), http=1), 101.9, LIMITS) == []
    assert steps(table(falls=Falls(3, 100.0), http=1), 102.0, LIMITS) == [Start("http")]


workers = st.builds(
    Worker,
    st.just(""),
    st.sampled_from(("new", "old", "")),
    st.booleans(),
    st.floats(0, 100),
    st.floats(0, 100),
    st.sampled_from((None, 50.0)),
).map(lambda worker: replace(worker, ready=worker.ready and worker.generation != ""))


@given(st.lists(workers, max_size=8), st.integers(0, 3))
def test_carried_out_again_and_again_the_steps_come_to_what_is_wanted(found: list[Worker], wanted: int) -> None:
    now, there = 100.0, [replace(worker, slot=f"http-{number}") for number, worker in enumerate(found)]
    last = len(there)
    for _ in range(12):
        now += 1
        there = [replace(w, beat=now) if w.leaving is None else w for w in there]
        serving = sum(w.ready and w.leaving is None for w in there)
        for step in steps(Table({"http": wanted}, "new", there), now, LIMITS):
            if isinstance(step, Start):
                there.append(Worker(f"http-{last}", "", False, now, now))
                last += 1
            elif isinstance(step, Drain):
                there = [replace(w, leaving=now) if w.slot == step.slot else w for w in there]
            else:
                there = [w for w in there if w.slot != step.slot]
        assert sum(w.ready and w.leaving is None for w in there) >= min(serving, wanted), "an endpoint that served still does"
        there = [w for w in there if w.leaving is None or now - w.leaving < 3]
        there = [replace(w, generation=w.generation or "new", ready=True) if w.leaving is None else w for w in there]
    assert is_settled(Table({"http": wanted}, "new", there))
