"""What every source must keep: subclass SourceSuite in your tests and say how yours is filled and opened."""

from __future__ import annotations

import gc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from falaj.core.errors import FalajError, NotFound, Unavailable
from falaj.ports.source import Source

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
END = datetime(2027, 1, 1, tzinfo=UTC)
SCHEMA = {
    "id": pl.Int64(), "known": pl.Datetime("us", "UTC"), "name": pl.String(), "miles": pl.Float64(), "late": pl.Boolean(),
    "day": pl.Date(),
}  # fmt: skip


def rows() -> pl.DataFrame:
    """A few rows with what is lost most easily on the way; two became known at the same moment."""
    names = ["plain", None, 'says "so", twice', "two\nlines", "مطار دبي ✈ 𝄞", " spaces ", "NULL"]
    return pl.DataFrame(
        {
            "id": [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, 7],
            "known": [START + timedelta(hours=n, microseconds=n) for n in (0, 1, 2, 3, 3, 4, 5)],
            "name": names,
            "miles": [0.1, None, -0.0, 1.7976931348623157e308, 5e-324, 1 / 3, -1e-7],
            "late": [True, False, None, True, False, True, None],
            "day": [
                date(2026, 1, 1),
                None,
                date(1900, 2, 28),
                date(9999, 12, 31),
                date(1, 1, 1),
                date(2024, 2, 29),
                date(1970, 1, 1),
            ],
        },
        schema=SCHEMA,
    )


def many(count: int = 60_000) -> pl.DataFrame:
    number = pl.int_range(count, eager=True)
    return pl.DataFrame(
        {
            "id": number,
            "known": (number * 1_000_000 + START_US).cast(SCHEMA["known"]),
            "name": pl.Series(["a name that takes some room on its way"]).new_from_index(0, count),
            "miles": number / 7,
            "late": number % 2 == 0,
            "day": pl.Series([date(2026, 1, 1)]).new_from_index(0, count),
        },
        schema=SCHEMA,
    )


class SourceSuite:
    __test__ = False
    secrets: tuple[str, ...] = ()
    """Passwords and keys that the source was opened with."""

    def source(self, rows: pl.DataFrame) -> Source:
        """A new source that holds these rows, opened with `known` and ordered by it and by `id`."""
        raise NotImplementedError

    def nowhere(self) -> Source:
        """A source that looks for a table, a file or an object which is not there."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends what the last source reads from, or changes it, while it is read; one that cannot be stopped skips here."""
        pytest.skip("the source cannot be stopped from outside")

    def test_everything_comes_back_as_it_was(self) -> None:
        assert_frame_equal(_all(self.source(rows())), rows().sort("known", "id"))

    def test_the_same_rows_come_in_the_same_order(self) -> None:
        source = self.source(rows())
        assert_frame_equal(_all(source, ordered=False), _all(source, ordered=False))

    def test_a_period_leaves_its_start_out_and_takes_its_end_in(self) -> None:
        source = self._with_periods()
        times = rows()["known"]
        assert _all(source, times[0], times[3])["id"].to_list() == [1, -1, -(2**63), 2**63 - 1]
        assert _all(source, None, times[0])["id"].to_list() == [0]
        assert _all(source, None, times[0] - timedelta(microseconds=1)).height == 0

    def test_periods_side_by_side_bring_every_row_once(self) -> None:
        source = self._with_periods()
        times = sorted(set(rows()["known"]))
        parts = [_all(source, since, until) for since, until in zip([None, *times], [*times, END], strict=True)]
        assert_frame_equal(pl.concat(parts), rows().sort("known", "id"))

    def test_a_period_without_rows_has_its_columns(self) -> None:
        source = self._with_periods()
        [piece] = list(source.read(END, END + timedelta(days=1)))
        assert piece.height == 0
        assert _in_utc(piece).schema == SCHEMA

    def test_a_source_without_rows_has_its_columns(self) -> None:
        [piece] = list(self.source(rows().clear()).read(None, END))
        assert piece.height == 0
        assert piece.columns == list(SCHEMA)

    @pytest.mark.slow
    def test_many_rows_come_in_pieces_that_look_alike(self) -> None:
        source = self.source(many())
        pieces = list(source.read(None, END))
        assert len(pieces) > 1 or "bounded" not in source.capabilities
        assert {tuple(_in_utc(piece).schema.items()) for piece in pieces} == {tuple(SCHEMA.items())}
        assert_frame_equal(_in_utc(pl.concat(pieces)).sort("id"), many())

    @pytest.mark.slow
    def test_closing_early_frees_everything(self) -> None:
        source = self.source(many())
        held = []
        for _ in range(3):
            reading = iter(source.read(None, END))
            assert next(reading).height
            reading.close()  # type: ignore[attr-defined]  # a generator, as every source is
            del reading
            gc.collect()
            held.append(_open_files())
        assert held[-1] <= held[0] + 2

    @pytest.mark.slow
    def test_a_source_that_stops_half_way_is_not_taken_for_the_whole(self) -> None:
        if type(self).stop is SourceSuite.stop:
            self.stop()
        reading = iter(self.source(many(150_000)).read(None, END))
        next(reading)
        self.stop()
        with pytest.raises(Unavailable):
            for _ in reading:
                pass

    def test_what_is_not_there_is_not_found(self) -> None:
        with pytest.raises(NotFound) as told:
            list(self.nowhere().read(None, END))
        self._says_no_secret(told.value)

    def test_a_source_names_where_it_reads_from_without_a_secret(self) -> None:
        source = self.source(rows())
        assert source.origin.namespace
        assert source.origin.name
        for secret in self.secrets:
            assert secret not in f"{source.origin} {source!r}"

    def _with_periods(self) -> Source:
        source = self.source(rows())
        if "known" not in source.capabilities:
            pytest.skip("the source hands out everything, whatever the period")
        return source

    def _says_no_secret(self, error: FalajError) -> None:
        for secret in self.secrets:
            assert secret not in f"{error.message} {error.hint} {error.facts}"


def _all(source: Source, since: datetime | None = None, until: datetime = END, *, ordered: bool = True) -> pl.DataFrame:
    found = _in_utc(pl.concat(source.read(since, until)))
    return found.sort("known", "id", maintain_order=True) if ordered else found


def _in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    """A store that knows no zones hands times out without one, and means UTC."""
    return frame.with_columns(pl.col(pl.Datetime("us", None)).dt.replace_time_zone("UTC"))


def _open_files() -> int:
    place = Path("/proc/self/fd")
    return sum(1 for _ in place.iterdir()) if place.is_dir() else 0
