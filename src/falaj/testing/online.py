"""What every online feature store must do. Subclass `OnlineSuite`, give it an `online` fixture, and run it with pytest."""

from __future__ import annotations

import math
import struct
import threading
from typing import Any

import pytest

from falaj.core.errors import Conflict, InvalidInput
from falaj.core.stored import pack
from falaj.ports.online import Online, Stored, Value


class OnlineSuite:
    """The contract of `ports.online`."""

    @pytest.fixture
    def online(self) -> Online:
        raise NotImplementedError("give the suite an `online` fixture")

    def test_what_was_put_is_read_back_bit_by_bit(self, online: Online) -> None:
        row = Stored(1_367_400_600_000, (0.1, -0.0, 1e308, 5e-324, None, float("inf")))
        assert online.put("weather", {"JFK": row}) == 1
        (found,) = online.get([("weather", "JFK")])
        assert found is not None
        assert found == row
        assert str(found.values[1]) == "-0.0"

    def test_a_nan_is_a_value_and_none_is_none(self, online: Online) -> None:
        online.put("weather", {"JFK": Stored(1, (float("nan"), None))})
        (found,) = online.get([("weather", "JFK")])
        assert found is not None
        assert isinstance(found.values[0], float)
        assert math.isnan(found.values[0])
        assert found.values[1] is None

    @pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 17, 200])
    def test_any_number_of_features_fits(self, online: Online, size: int) -> None:
        row = Stored(5, tuple(None if place % 3 == 0 else place / 7 for place in range(size)))
        online.put("wide", {"x": row})
        assert online.get([("wide", "x")]) == [row]

    def test_answers_come_in_the_order_of_the_questions(self, online: Online) -> None:
        online.put("a", {"x": Stored(1, (1.0,)), "y": Stored(2, (2.0,))})
        online.put("b", {"x": Stored(3, (3.0,))})
        found = online.get([("b", "x"), ("a", "nobody"), ("a", "y"), ("none", "x"), ("a", "x"), ("a", "y")])
        assert [row.values[0] if row else None for row in found] == [3.0, None, 2.0, None, 1.0, 2.0]

    def test_nothing_asked_is_nothing_answered(self, online: Online) -> None:
        assert online.get([]) == []
        assert online.put("a", {}) == 0
        assert online.count("a") == 0

    def test_a_later_row_replaces_an_earlier_one(self, online: Online) -> None:
        online.put("a", {"x": Stored(10, (1.0,))})
        assert online.put("a", {"x": Stored(11, (2.0,))}) == 1
        assert online.get([("a", "x")]) == [Stored(11, (2.0,))]

    def test_an_earlier_row_leaves_the_later_one(self, online: Online) -> None:
        online.put("a", {"x": Stored(10, (1.0,))})
        assert online.put("a", {"x": Stored(9, (2.0,)), "y": Stored(9, (3.0,))}) == 1
        assert online.get([("a", "x"), ("a", "y")]) == [Stored(10, (1.0,)), Stored(9, (3.0,))]

    def test_a_row_of_the_same_time_replaces_so_that_putting_twice_changes_nothing(self, online: Online) -> None:
        online.put("a", {"x": Stored(10, (1.0,))})
        assert online.put("a", {"x": Stored(10, (2.0,))}) == 1
        assert online.put("a", {"x": Stored(10, (2.0,))}) == 1
        assert online.get([("a", "x")]) == [Stored(10, (2.0,))]
        assert online.count("a") == 1

    def test_times_before_1970_are_times(self, online: Online) -> None:
        online.put("a", {"x": Stored(-5, (1.0,))})
        assert online.put("a", {"x": Stored(-6, (2.0,))}) == 0
        assert online.freshness("a") == -5

    def test_each_view_knows_its_newest_time_and_its_count(self, online: Online) -> None:
        assert online.freshness("a") is None
        online.put("a", {"x": Stored(10, (1.0,)), "y": Stored(30, (1.0,))})
        online.put("a", {"x": Stored(20, (1.0,)), "z": Stored(5, (1.0,))})
        online.put("ab", {"x": Stored(99, (1.0,))})
        assert (online.freshness("a"), online.count("a")) == (30, 3)
        assert (online.freshness("ab"), online.count("ab")) == (99, 1)

    def test_clearing_a_view_leaves_the_others(self, online: Online) -> None:
        online.put("a", {"x": Stored(10, (1.0,)), "y": Stored(10, (1.0,))})
        online.put("ab", {"x": Stored(10, (1.0,))})
        online.clear("a")
        online.clear("never there")
        assert (online.freshness("a"), online.count("a"), online.get([("a", "x")])) == (None, 0, [None])
        assert online.count("ab") == 1
        online.put("a", {"x": Stored(1, (4.0,))})
        assert online.get([("a", "x")]) == [Stored(1, (4.0,))]

    def test_entities_may_be_long_empty_or_in_any_script(self, online: Online) -> None:
        names = ["", "x" * 5_000, "x" * 4_999 + "y", "فلج", "a/b c\n", "0"]
        online.put("a", {name: Stored(1, (float(place),)) for place, name in enumerate(names)})
        assert [row.values[0] if row else None for row in online.get([("a", name) for name in names])] == [
            float(p) for p in range(len(names))
        ]
        assert online.count("a") == len(names)

    def test_views_and_entities_cannot_be_confused(self, online: Online) -> None:
        online.put("ab", {"c": Stored(1, (1.0,))})
        assert online.get([("a", "bc"), ("abc", ""), ("ab", "c")]) == [None, None, Stored(1, (1.0,))]

    @pytest.mark.parametrize("wrong", [b"bytes", object(), "\ud800", 1 << 3_000, "x" * 70_000, [1.0]])
    def test_a_put_that_fails_leaves_nothing(self, online: Online, wrong: Any) -> None:
        online.put("a", {"x": Stored(1, (1.0,))}, "first")
        with pytest.raises(InvalidInput, match=r".+"):
            online.put("a", {"x": Stored(2, (2.0,)), "y": Stored(2, (wrong,)), "z": Stored(2, (3.0,))}, "second")
        assert online.get([("a", "x"), ("a", "y"), ("a", "z")]) == [Stored(1, (1.0,)), None, None]
        assert (online.freshness("a"), online.count("a"), online.mark("a")) == (1, 1, "first")

    @pytest.mark.parametrize("at", [1 << 60, -(1 << 60), 1.5, None])
    def test_a_time_that_is_none_is_refused(self, online: Online, at: Any) -> None:
        with pytest.raises(InvalidInput, match="no time"):
            online.put("a", {"x": Stored(at, (1.0,))})
        assert online.count("a") == 0

    def test_every_value_comes_back_as_the_type_that_it_was(self, online: Online) -> None:
        values: tuple[Value, ...] = (
            1, 1.0, True, False, None, "", "1", "فلج 🐪 e\u0301", "x\0y", "ت" * 30_000, -0.0, float("inf"), 5e-324,
            (1 << 53) + 1, -(1 << 63), (1 << 63) - 1, 1 << 63, -(1 << 200), 0, -1,
        )  # fmt: skip
        online.put("typed", {"x": Stored(7, values)})
        (found,) = online.get([("typed", "x")])
        assert found == Stored(7, values)
        assert found is not None
        assert [type(value) for value in found.values] == [type(value) for value in values]
        assert str(found.values[10]) == "-0.0"

    def test_a_nan_keeps_its_bits_in_either_layout(self, online: Online) -> None:
        (odd,) = struct.unpack("<d", b"\x01\x02\x03\x04\x05\x06\xf8\xff")
        online.put("a", {"floats": Stored(1, (odd,)), "typed": Stored(1, (odd, "x"))})
        for row in online.get([("a", "floats"), ("a", "typed")]):
            assert row is not None
            assert isinstance(row.values[0], float)
            assert struct.pack("<d", row.values[0]) == b"\x01\x02\x03\x04\x05\x06\xf8\xff"

    def test_a_row_that_was_packed_already_is_a_row(self, online: Online) -> None:
        rows = {"x": Stored(3, (1.0, None)), "y": Stored(4, ("UA", 5))}
        assert online.put("a", {name: pack(row) for name, row in rows.items()}) == 2
        assert online.get([("a", "x"), ("a", "y")]) == list(rows.values())
        assert online.put("a", {"x": pack(Stored(2, (9.0,)))}) == 0
        assert (online.freshness("a"), online.count("a")) == (4, 2)
        with pytest.raises(Conflict, match="nobody can read"):
            online.put("a", {"z": b"short"})

    def test_a_mark_comes_with_the_rows_it_speaks_of_and_goes_with_them(self, online: Online) -> None:
        assert online.mark("a") is None
        online.put("a", {"x": Stored(1, (1.0,))}, "until noon")
        online.put("b", {}, "ب")
        assert (online.mark("a"), online.mark("b"), online.count("b")) == ("until noon", "ب", 0)
        online.put("a", {"x": Stored(2, (1.0,))})
        assert online.mark("a") == "until noon"
        online.put("a", {"x": Stored(1, (1.0,))}, "until one")
        assert online.mark("a") == "until one"
        online.clear("a")
        assert (online.mark("a"), online.mark("b")) == (None, "ب")

    def test_a_retry_changes_nothing(self, online: Online) -> None:
        rows = {f"e{n}": Stored(n, (float(n), f"t{n}")) for n in range(50)}
        for _ in range(3):
            assert online.put("a", rows, "m") == 50
            assert (online.freshness("a"), online.count("a"), online.mark("a")) == (49, 50, "m")
            assert online.get([("a", name) for name in rows]) == list(rows.values())

    def test_a_large_batch_goes_in_as_a_whole(self, online: Online) -> None:
        rows = {f"entity-{n}": pack(Stored(n % 977, (float(n), None, 1.5))) for n in range(50_000)}
        assert online.put("a", rows) == 50_000
        assert (online.freshness("a"), online.count("a")) == (976, 50_000)
        later = {f"entity-{n}": pack(Stored(500, (0.0, None, 1.5))) for n in range(0, 60_000, 2)}
        fresh = sum(n >= 50_000 or n % 977 <= 500 for n in range(0, 60_000, 2))
        assert online.put("a", later) == fresh
        assert online.count("a") == 55_000
        assert online.get([("a", "entity-0"), ("a", "entity-502"), ("a", "entity-59998")]) == [
            Stored(500, (0.0, None, 1.5)), Stored(502, (502.0, None, 1.5)), Stored(500, (0.0, None, 1.5))
        ]  # fmt: skip

    def test_one_read_covers_many_views(self, online: Online) -> None:
        for place in range(40):
            online.put(f"view_{place}", {"x": Stored(place, (float(place),)), "y": Stored(place, (f"{place}",))})
        asked = [(f"view_{place % 45}", "xyz"[place % 3]) for place in range(400)]
        found = online.get(asked)
        for (view, entity), row in zip(asked, found, strict=True):
            place = int(view[5:])
            wanted = None if place >= 40 or entity == "z" else (float(place) if entity == "x" else f"{place}")
            assert (row.values[0] if row else None) == wanted

    def test_two_writers_at_once_leave_the_latest_of_both(self, online: Online) -> None:
        rounds, failed = 15, []

        def write(own: int) -> None:
            try:
                for n in range(rounds):
                    # Each goes through the entities in an order of its own, so that locks taken one by one would cross.
                    order = [f"e{m}" for m in range(40)][:: 1 if own else -1]
                    online.put("a", {name: Stored(2 * n + own, (float(own), n)) for name in order}, f"{own}:{n}")
            except Exception as exc:  # told by the assert below
                failed.append(exc)

        threads = [threading.Thread(target=write, args=(own,)) for own in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failed
        assert online.get([("a", f"e{m}") for m in range(40)]) == [Stored(2 * rounds - 1, (1.0, rounds - 1))] * 40
        assert (online.freshness("a"), online.count("a")) == (2 * rounds - 1, 40)
        assert online.mark("a") in (f"0:{rounds - 1}", f"1:{rounds - 1}")
