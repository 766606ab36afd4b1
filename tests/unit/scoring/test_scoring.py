"""Whole tables are scored row for row as an endpoint would have, once, and whatever cannot be scored says why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.errors import Bug, Conflict, Denied, InvalidInput
from falaj.core.event import Change, Event
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.stages.scoring import rules, service
from falaj.stages.scoring.parts import PROGRESS, RECEIPT
from falaj.stages.scoring.service import Job, Scorer, Scoring, Table
from falaj.stages.training import onnx
from tests.kits.life import APPROVER, AT, RECIPE, SERVICE, Life, life, trips

CHUNK = 500


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Life, Ref]]:
    made = life(tmp_path_factory.mktemp("world"))
    return made, made.registered("release-1")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CHUNK", CHUNK)


def rows(count: int = 1200) -> pl.DataFrame:
    return trips().head(count).select("id", "at", "zone", "miles")


def job(made: Life, model: Ref, folder: Path, table: pl.DataFrame, **changes: Any) -> Job:
    held = made.registry.get(model)
    opened = onnx.session(made.blobs.get(held["asset"]["digest"]))

    def look(recipe: Recipe, frame: pl.DataFrame) -> Any:
        return made.features.training_frame(recipe, frame)[0], [None] * frame.height

    scorer = Scorer(
        RECIPE, lambda x: onnx.score(opened, x).astype(np.float64), held["asset"]["digest"],
        rules.Named("model/delay", str(model.version), 0.4),
    )  # fmt: skip
    content = Table(lambda: iter([table[:333], table[333:]]), f"sha256:{table.hash_rows().sum()}", (Ref("file", "trips", "1"),))
    return replace(Job(content, scorer, look, folder), **changes)


def score(made: Life, model: Ref, given: Job, run: str = "score-1") -> Ref:
    return Scoring(made.kernel, made.blobs).score(SERVICE, model, job=given, run_id=run)


def output(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])


def stopped(made: Life, change: Change) -> None:
    with made.kernel.ledger.transaction() as tx:
        tx.append(Event("test.change", Ref("test", "x"), SERVICE, AT, {}, (change,)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change("standing", "delay@{}", {"state": "quarantined"}), "is quarantined"),
        (Change("endpoint", "delay", {"wanted": {"killed": {"at": "now"}}}), "taken out of use"),
    ],
)
def test_scoring_ends_with_the_part_in_which_the_model_is_stopped_and_goes_on_there(
    world: tuple[Life, Ref], tmp_path: Path, change: Change, words: str
) -> None:
    made, model = world
    change = replace(change, key=change.key.format(model.version))
    table = rows()
    given = job(made, model, tmp_path / "out", table, endpoint="delay")
    looked = list[int]()

    def look(recipe: Recipe, frame: pl.DataFrame) -> Any:
        looked.append(frame.height)
        if len(looked) == 2:
            stopped(made, change)
        return made.features.training_frame(recipe, frame)[0], [None] * frame.height

    try:
        with pytest.raises(Conflict, match=words):
            score(made, model, replace(given, look=look))
        with pytest.raises(Conflict, match=words):
            score(made, model, replace(given, look=look))
        assert len(looked) == 2
    finally:
        stopped(made, replace(change, body=None))
    scores = score(made, model, replace(given, look=look))
    assert len(looked) == 3, "the first two parts were there"
    assert scores == score(made, model, given)
    assert output(tmp_path / "out").height == 1200


def test_every_row_has_the_score_that_the_recipe_and_the_model_give(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    table = rows()
    scores = score(made, model, job(made, model, tmp_path / "out", table))
    found = output(tmp_path / "out")
    vectors, _ = made.features.training_frame(RECIPE, table)
    wanted = onnx.score(onnx.session(made.blobs.get(made.registry.get(model)["asset"]["digest"])), vectors)
    np.testing.assert_array_equal(found["score"].to_numpy(), wanted.astype(np.float64))
    assert found.columns == ["id", "at", "_row", "score", "decision", "model", "version", "problem"]
    assert found["_row"].to_list() == list(range(1200))
    assert found["id"].to_list() == table["id"].to_list()
    assert (found["decision"] == (found["score"] >= 0.4)).all()
    assert found["problem"].null_count() == 1200
    assert set(found["model"]) == {"model/delay"}
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3
    asset = made.kernel.ledger.get("asset", str(scores))
    assert asset is not None
    assert (asset["labels"]["rows"], asset["labels"]["problems"]) == (1200, 0)
    assert {"model/delay@1", "file/trips@1"} <= set(asset["inputs"])
    run = made.kernel.ledger.get("run", "score-1")
    assert run is not None
    assert (run["step"], run["state"], run["outputs"]) == ("score", "succeeded", [str(scores)])


def test_the_same_again_changes_nothing_and_leaves_no_event(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    given = job(made, model, tmp_path / "out", rows(700))
    first = score(made, model, given, "score-again")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    count = len(list(made.kernel.ledger.events()))
    assert score(made, model, given, "score-again") == first
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert len(list(made.kernel.ledger.events())) == count


def test_what_was_cut_short_goes_on_where_it_stopped(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    table = rows()
    whole = job(made, model, tmp_path / "whole", table)
    score(made, model, whole, "score-whole")
    calls = []

    def look(recipe: Recipe, frame: pl.DataFrame) -> Any:
        calls.append(frame.height)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole.look(recipe, frame)

    cut = replace(whole, folder=tmp_path / "cut", look=look)
    with pytest.raises(KeyboardInterrupt):
        score(made, model, cut, "score-cut")
    assert (tmp_path / "cut" / PROGRESS).exists()
    score(made, model, cut, "score-cut")
    assert calls == [500, 500, 500, 200]
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes()


def test_a_part_that_was_lost_or_changed_is_made_again(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    given = job(made, model, tmp_path / "out", rows())
    score(made, model, given, "score-lost")
    second = tmp_path / "out" / "part-00001.parquet"
    before = second.read_bytes()
    second.write_bytes(before[:-9] + b"XXXXXXXXX")
    score(made, model, given, "score-lost")
    assert second.read_bytes() == before


def test_rows_that_cannot_be_scored_stay_and_say_why(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    table = rows(600).with_row_index("n").with_columns(
        pl.when(pl.col("n") == 3).then(None).otherwise(pl.col("at")).alias("at"),
        pl.when(pl.col("n") == 5).then(float("inf")).otherwise(pl.col("miles")).alias("miles"),
    ).drop("n")  # fmt: skip
    scores = score(made, model, job(made, model, tmp_path / "out", table), "score-bad")
    found = output(tmp_path / "out")
    assert found.height == 600
    assert found.filter(pl.col("problem").is_not_null())["problem"].to_list() == [
        "at is missing",
        "miles is beyond what FP32 can carry",
    ]
    assert found.filter(pl.col("score").is_null())["_row"].to_list() == [3, 5]
    assert found.filter(pl.col("decision").is_null())["_row"].to_list() == [3, 5]
    asset = made.kernel.ledger.get("asset", str(scores))
    assert asset is not None
    assert asset["labels"]["problems"] == 2


def test_a_row_that_the_model_fails_on_takes_no_other_with_it(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    given = job(made, model, tmp_path / "out", rows(600))
    run = given.scorer.run

    def fails(matrix: rules.Vectors) -> rules.Floats:
        found = run(matrix)
        if (matrix[:, 1] > 49.9).any():
            raise Bug("The model gave a score that is no number.")
        return found

    score(made, model, replace(given, scorer=replace(given.scorer, run=fails)), "score-nan")
    found = output(tmp_path / "out")
    assert (found["problem"].is_not_null() == (rows(600)["miles"].cast(pl.Float32) > 49.9)).all()


def test_a_file_of_vectors_is_scored_as_it_is(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    matrix, _ = made.features.training_frame(RECIPE, rows(50))
    table = pl.DataFrame({name: matrix[:, place] for place, name in enumerate(RECIPE.names)}).with_columns(key=pl.int_range(50))
    # `miles` and `zone` are names of both; what has no `at` is no request.
    score(made, model, job(made, model, tmp_path / "out", table), "score-vectors")
    found = output(tmp_path / "out")
    assert found.columns[0] == "key"
    assert found["score"].null_count() == 0
    score(made, model, job(made, model, tmp_path / "bare", table.drop("key")), "score-bare")
    assert output(tmp_path / "bare").columns == list(rules.ADDED)


def test_a_table_that_is_neither_is_refused_with_what_is_missing(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    with pytest.raises(InvalidInput, match="'zone'"):
        score(made, model, job(made, model, tmp_path / "out", rows(10).drop("zone")))
    naive = rows(10).with_columns(pl.col("at").dt.replace_time_zone(None))
    with pytest.raises(InvalidInput, match="times with a zone"):
        score(made, model, job(made, model, tmp_path / "other", naive))


def test_a_folder_with_anything_else_in_it_is_left_alone(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"notes\.txt"):
        score(made, model, job(made, model, tmp_path, rows(10)))
    score(made, model, job(made, model, tmp_path / "out", rows(10)), "score-own")
    with pytest.raises(Conflict):
        score(made, model, job(made, model, tmp_path / "out", rows(11)), "score-other")
    assert (tmp_path / "out" / RECEIPT).exists()


def test_two_scorings_do_not_write_into_one_folder_at_a_time(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    given = job(made, model, tmp_path / "out", rows(10))

    def look(recipe: Recipe, frame: pl.DataFrame) -> Any:
        with pytest.raises(Conflict, match="Another scoring"):
            score(made, model, given, "score-second")
        return given.look(recipe, frame)

    score(made, model, replace(given, look=look), "score-first")
    assert output(tmp_path / "out").height == 10


def test_other_features_or_another_threshold_are_another_scoring(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    given = job(made, model, tmp_path / "out", rows(10))
    others = [
        replace(given, state=(Ref("dataset", "sky", "9"),)),
        replace(given, scorer=replace(given.scorer, named=rules.Named("model/delay", "1", 0.5))),
        replace(given, carry=("id",)),
        replace(given, features="online", at="2013-05-01T00:00:00Z"),
    ]
    assert len({given.plan, *(other.plan for other in others)}) == 5


def test_a_model_that_no_gate_let_pass_and_a_person_who_may_not_score_nothing(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    with pytest.raises(Conflict, match="No gate"):
        score(made, model.at("99"), job(made, model, tmp_path / "out", rows(10)))
    with pytest.raises(Denied):
        Scoring(made.kernel, made.blobs).score(
            APPROVER, model, job=job(made, model, tmp_path / "out", rows(10)), run_id="score-9"
        )
    assert not (tmp_path / "out").exists()


def test_an_input_that_changed_meanwhile_is_no_scoring(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    given = job(made, model, tmp_path / "out", rows(10))
    with pytest.raises(Conflict, match="changed"):
        score(made, model, replace(given, table=replace(given.table, unchanged=lambda: False)), "score-moved")
    assert made.kernel.ledger.get("run", "score-moved") is None


@given(sizes=st.lists(st.integers(0, 30), max_size=8), chunk=st.integers(1, 25))
def test_parts_do_not_depend_on_how_the_rows_came(sizes: list[int], chunk: int) -> None:
    frame = pl.DataFrame({"n": range(sum(sizes))})
    starts = np.cumsum([0, *sizes]).tolist()
    chunks = list(rules.in_chunks((frame[a:b] for a, b in itertools.pairwise(starts)), chunk))
    assert [n for part in chunks for n in part["n"].to_list()] == list(range(sum(sizes)))
    assert all(part.height == chunk for part in chunks[:-1])


def test_no_label_or_feature_of_the_future_is_read(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    early = rows(50).with_columns(pl.lit(AT - timedelta(days=200)).cast(pl.Datetime("ms", "UTC")).alias("at"))
    score(made, model, job(made, model, tmp_path / "out", early), "score-early")
    vectors, _ = made.features.training_frame(RECIPE, early)
    assert np.isnan(vectors[:, RECIPE.names.index("sky_now.temp")]).all()


def test_policy_is_asked_about_the_rows_that_are_read_and_not_of_the_model_alone(world: tuple[Life, Ref], tmp_path: Path) -> None:
    made, model = world
    asked: list[str] = []

    class Kept:
        def decide(self, actor: Actor, verb: str, subject: Ref, labels: Any) -> Decision:
            asked.append(str(subject))
            return Decision(subject, "policy", "deny" if subject.name == "patients" else "allow", actor=actor)

    given = job(made, model, tmp_path / "out", rows(10))
    dear = replace(given, table=replace(given.table, inputs=(Ref("dataset", "patients", "3"), Ref("dataset", "patients", "4"))))
    with pytest.raises(Denied):
        Scoring(replace(made.kernel, policy=Kept()), made.blobs).score(SERVICE, model, job=dear, run_id="score-9")
    assert asked == [str(model), "dataset/patients"]
    assert not (tmp_path / "out").exists()
