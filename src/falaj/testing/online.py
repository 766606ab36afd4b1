"""What every online feature store must do. Subclass `OnlineSuite`, give it an `online` fixture, and run it with pytest."""

from __future__ import annotations

import math

import pytest

from falaj.ports.online import Online, Stored


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
        assert found.values[0] is not None
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

    def test_a_put_that_fails_leaves_nothing(self, online: Online) -> None:
        online.put("a", {"x": Stored(1, (1.0,))})
        with pytest.raises(Exception, match=r".+"):  # whatever the store says about a text among the numbers
            online.put("a", {"x": Stored(2, (2.0,)), "y": Stored(2, ("no number",))})  # type: ignore[arg-type]
        assert online.get([("a", "x"), ("a", "y")]) == [Stored(1, (1.0,)), None]
        assert (online.freshness("a"), online.count("a")) == (1, 1)
