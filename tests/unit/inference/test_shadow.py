"""A shadow sees what was asked, is never waited for, and cannot break anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from falaj.adapters.local.signing import checker
from falaj.adapters.memory.online import MemoryOnline
from falaj.core.codec import encode
from falaj.core.errors import Unavailable
from falaj.core.moments import millis
from falaj.core.recipe import Recipe
from falaj.inference.models import Live, Models
from falaj.inference.shadow import ROWS, TIMED_EVERY, Copied, Shadows
from falaj.ports.online import Stored
from falaj.stages.monitoring.shadow import report_of
from tests.kits.endpoint import AT, RECIPE, REQUEST, Installation

REVERSED = Recipe(RECIPE.columns[::-1], RECIPE.views, RECIPE.ttl_ms)
ROW = [700.0, 1.0, 50.0, 5.0]


class Kit:
    def __init__(self, folder: Path) -> None:
        self.place = Installation(folder)
        self.models = Models(self.place.blobs, checker(self.place.signer.public_key))
        self.lines: list[dict[str, Any]] = []
        self.online = MemoryOnline()
        self.online.put("weather_now", {"EWR": Stored(millis(AT), (50.0,))})
        self.shadows = Shadows("delay", self.online, self.take, lambda: AT, rows=100, rest=0.0)
        self.champion, self.shadow = self.live(1, "champion"), self.live(2, "shadow")

    def live(self, version: int, role: str, recipe: Recipe = RECIPE) -> Live:
        arms = [self.place.arm(1), self.place.arm(version, role, recipe=encode(recipe))][role == "champion" :]
        return self.models.open(self.place.wanted(*arms)).arms[-1]

    def take(self, lines: list[bytes]) -> None:
        self.lines += [orjson.loads(line) for line in lines]

    def copied(self, count: int = 1, **changes: Any) -> Copied:
        matrix = np.array([ROW] * count, np.float32)
        scores = self.champion.model.scores(self.champion.model.run(matrix))
        ids = [f"p0-{n}-0-0" for n in range(count)]
        return replace(Copied(self.shadow, self.champion, ids, scores, matrix, [AT] * count, 0.5, [REQUEST] * count), **changes)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    found = Kit(tmp_path)
    yield found
    found.shadows.close()


def test_a_copy_is_compared_with_its_answer_and_logged(kit: Kit) -> None:
    kit.shadows.offer([kit.copied()])
    assert kit.lines == []
    assert kit.shadows.run() == 1
    [line] = kit.lines
    assert line["of"] == "p0-0-0-0"
    assert (line["kind"], line["endpoint"], line["arm"]) == ("shadow", "delay", "champion")
    assert (line["model"], line["against"], line["digest"]) == ("model/delay@2", "model/delay@1", kit.shadow.arm.digest)
    assert line["diff"] == pytest.approx(line["score"] - line["answered"])
    assert line["score"] == pytest.approx(1 / (1 + np.exp(-0.002 * sum(ROW))), abs=1e-6)
    assert line["ms"] > 0
    assert kit.shadows.of(kit.shadow).compared == 1
    assert kit.shadows.of(kit.shadow).mean_size == pytest.approx(abs(line["diff"]))
    assert report_of(kit.lines, threshold=0.5)["rows"] == 1
    assert kit.shadows.run() == 0


def test_decisions_that_would_have_changed_are_counted(kit: Kit) -> None:
    answered = kit.copied().scores[0]
    kit.shadows.offer([kit.copied(threshold=answered + 1e-3), kit.copied(threshold=0.1)])
    kit.shadows.run()
    assert (kit.shadows.of(kit.shadow).compared, kit.shadows.of(kit.shadow).changed) == (2, 1)


def test_whatever_waits_shares_one_run_and_no_run_is_larger_than_it_may_be(kit: Kit) -> None:
    kit.shadows.offer([kit.copied(30), kit.copied(30), kit.copied(30)])
    assert [kit.shadows.run(), kit.shadows.run(), kit.shadows.run()] == [60, 30, 0]
    assert ROWS >= 60
    assert [line["of"] for line in kit.lines[:30]] == kit.copied(30).ids


def test_what_does_not_fit_the_queue_is_dropped_and_counted(kit: Kit) -> None:
    kit.shadows.offer([kit.copied(60), kit.copied(60), kit.copied(40)])
    assert kit.shadows.of(kit.shadow).dropped == 60
    while kit.shadows.run():
        pass
    assert kit.shadows.of(kit.shadow).compared == 100


def test_a_shadow_with_other_columns_looks_its_own_features_up(kit: Kit) -> None:
    other = kit.live(2, "shadow", REVERSED)
    kit.shadows.offer([kit.copied(2, shadow=other)])
    kit.shadows.run()
    assert kit.lines[0]["score"] == pytest.approx(1 / (1 + np.exp(-0.002 * sum(ROW))), abs=1e-6)


def test_a_stored_row_that_is_too_old_is_missing_for_the_shadow_too(kit: Kit) -> None:
    other = kit.live(2, "shadow", REVERSED)
    late = datetime.fromisoformat("2013-05-01T12:30:00.001+00:00")
    kit.shadows.offer([kit.copied(1, shadow=other, at=[late])])
    kit.shadows.run()
    assert kit.lines[0]["score"] == pytest.approx(1 / (1 + np.exp(-0.002 * (700.0 + 1.0 + 8.0))), abs=1e-6)


def test_a_tensor_with_other_columns_than_the_shadows_is_counted_as_unfit(kit: Kit) -> None:
    other = kit.live(2, "shadow", REVERSED)
    kit.shadows.offer([kit.copied(3, shadow=other, requests=())])
    assert kit.shadows.run() == 3
    assert kit.lines == []
    assert kit.shadows.of(kit.shadow).unfit == 3


def test_one_call_that_fails_takes_no_other_with_it(kit: Kit) -> None:
    kit.shadows.offer([kit.copied(2), kit.copied(2, matrix=np.zeros((2, 9), np.float32)), kit.copied(1)])
    kit.shadows.run()
    assert (kit.shadows.of(kit.shadow).compared, kit.shadows.of(kit.shadow).failed) == (3, 2)
    assert [line["code"] for line in kit.lines if "code" in line] == ["bug", "bug"]
    assert report_of(kit.lines, threshold=0.5)["failed"] == 2


def test_a_store_that_is_away_fails_the_shadow_alone(kit: Kit) -> None:
    class Away(MemoryOnline):
        def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
            raise Unavailable("The store is away.")

    kit.shadows.online = Away()
    kit.shadows.offer([kit.copied(1, shadow=kit.live(2, "shadow", REVERSED)), kit.copied(1)])
    while kit.shadows.run():
        pass
    assert [line.get("code") for line in kit.lines] == ["unavailable", None]


def test_the_model_that_answered_is_timed_on_the_same_rows_now_and_then(kit: Kit) -> None:
    for _ in range(2 * TIMED_EVERY):
        kit.shadows.offer([kit.copied()])
        kit.shadows.run()
    assert [line["usual_ms"] is not None for line in kit.lines].count(True) == 2


def test_its_thread_works_by_itself_until_it_is_closed(kit: Kit) -> None:
    seen = threading.Event()
    shadows = Shadows("delay", kit.online, lambda lines: (kit.take(lines), seen.set())[0], lambda: AT, rest=0.0)
    shadows.start()
    shadows.offer([kit.copied(5)])
    assert seen.wait(5)
    shadows.close()
    shadows.offer([kit.copied(5)])
    assert len(kit.lines) == 5
    shadows.close()
    assert shadows.of(kit.shadow).dropped == 5


def test_a_hand_over_that_fails_does_not_end_the_thread(kit: Kit) -> None:
    calls, seen = [], threading.Event()

    def refuse(lines: list[bytes]) -> None:
        calls.append(lines)
        if len(calls) > 1:
            seen.set()
        raise RuntimeError("the loop is closed")

    shadows = Shadows("delay", kit.online, refuse, lambda: AT, rest=0.0)
    shadows.start()
    shadows.offer([kit.copied()])
    while not calls:
        seen.wait(0.01)
    shadows.offer([kit.copied()])
    assert seen.wait(5)
    shadows.close()
