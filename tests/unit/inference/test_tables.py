"""Looking rows up in tables gives what walking through the trees gives, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.inference.models.ensemble import from_onnx
from falaj.inference.models.forest import Forest, beside, grown, to_onnx
from falaj.inference.models.lightgbm import read
from falaj.inference.models.model import Stored, program
from falaj.inference.models.onnx import Graph, Trees, faster
from falaj.inference.models.tables import TOGETHER, Tables, tables
from tests.kits.stored import COLUMNS, lightgbm_booster, rows

_NUMBERS = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, 2.0, np.inf, -np.inf])


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    """Up to four trees of up to 40 leaves on three columns, grown by splitting leaves at random; any cuts."""
    parts: list[list[Any]] = []
    roots = []
    for _ in range(draw(st.integers(1, 4))):
        start = len(parts)
        roots.append(start)
        parts.append([-1, 0.0, 0, 0, False, draw(st.floats(-8, 8, width=32))])
        leaves = [start]
        for _ in range(draw(st.integers(0, 39))):
            split = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
            children = [len(parts), len(parts) + 1]
            parts += [[-1, 0.0, 0, 0, False, draw(st.floats(-8, 8, width=32))] for _ in children]
            parts[split] = [draw(st.integers(0, 2)), draw(_NUMBERS), *children, draw(st.booleans()), 0.0]
            leaves += children
    feature, cut, yes, no, missing, value = (np.array(column) for column in zip(*parts, strict=True))
    one = np.zeros(len(roots), np.int64)
    return grown(
        Forest(
            3,
            feature,
            cut.astype(np.float32),
            yes,
            no,
            missing,
            value.astype(np.float32),
            np.array(roots),
            one,
            (0.0,),
            "identity",
        )
    )


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(forest=forests(), count=st.integers(1, 2 * TOGETHER + 1), seed=st.integers(0, 2**32))
def test_tables_answer_as_the_graph_does(forest: Forest, count: int, seed: int) -> None:
    looked = tables(forest)
    if looked is None:
        assert forest.is_leaf.all()
        return
    chance = np.random.default_rng(seed)
    cuts = forest.cut[~forest.is_leaf]
    near = np.concatenate([cuts, beside(cuts, np.inf), beside(cuts, -np.inf)])
    x = chance.choice(np.append(near, np.float32([np.nan, np.inf, -np.inf, 0.0])), (count, 3)).astype(np.float32)
    assert np.array_equal(looked.margins(x), Graph(to_onnx(forest)).run(x)[0])


@pytest.mark.parametrize("leaves", [4, 15, 31, 64])
def test_every_width_of_word_answers_as_the_graph_does(leaves: int) -> None:
    forest = read(lightgbm_booster(30, num_leaves=leaves, min_data_in_leaf=2).model_to_string().encode())
    looked = tables(forest)
    assert looked is not None
    graph = Graph(to_onnx(forest))
    for count in (1, 2, 63, 64, 65, 129, 1000):
        x = rows(count, seed=count)
        (expected,) = graph.run(x)
        assert np.array_equal(_through(looked, forest, x), expected)


def _through(looked: Tables, forest: Forest, x: Any) -> Any:
    from falaj.inference.models.forest import link_onnx

    return Graph(link_onnx(forest)).run(looked.margins(x))[0]


def test_cuts_that_lie_close_together_are_told_apart() -> None:
    """All cuts but one within a thousandth of the range: buckets of equal width would hold hundreds."""
    forest = read(lightgbm_booster(30).model_to_string().encode())
    first = np.flatnonzero(forest.feature == 0)
    forest.cut[first] = np.linspace(-1e-3, 1e-3, len(first), dtype=np.float32)
    forest.cut[first[0]] = 1e6
    x = rows(missing=0.05)
    x[:, 0] *= 1e-3
    x[:5, 0] = (1e6, 2e6, -2e6, np.inf, np.nan)
    looked = tables(forest)
    assert looked is not None
    assert looked._search._close
    assert np.array_equal(_through(looked, forest, x), Graph(to_onnx(forest)).run(x)[0])


def test_more_leaves_than_a_word_has_bits_are_left_to_the_graph() -> None:
    forest = read(lightgbm_booster(3, num_leaves=80, min_data_in_leaf=2).model_to_string().encode())
    assert tables(forest) is None
    assert isinstance(faster(Graph(to_onnx(forest)), forest), Graph)


def test_several_targets_are_left_to_the_graph() -> None:
    assert tables(read(lightgbm_booster(3, objective="multiclass", num_class=3).model_to_string().encode())) is None


def test_a_graph_gives_its_trees_back() -> None:
    forest = read(lightgbm_booster(30).model_to_string().encode())
    found = from_onnx(to_onnx(forest))
    assert found is not None
    for name in ("feature", "cut", "yes", "no", "missing", "value", "roots"):
        assert np.array_equal(getattr(found, name), getattr(forest, name)), name


def test_a_row_has_the_same_score_in_every_batch() -> None:
    """Whatever was measured to be faster: the same numbers come out."""
    data = lightgbm_booster(60, num_leaves=31).model_to_string().encode()
    loaded = program(data, Stored("lightgbm", COLUMNS))
    forest = read(data)
    looked = tables(forest)
    assert looked is not None
    trees = Trees(Graph(to_onnx(forest)), forest, looked, 2)
    x = rows(300, seed=9)
    alone = np.concatenate([loaded.run(x[place : place + 1])[0] for place in range(len(x))])
    assert np.array_equal(trees.run(x)[0], alone)
    assert np.array_equal(loaded.run(x)[0], alone)


def test_a_matrix_of_another_width_is_refused_by_many_rows_as_by_few() -> None:
    from falaj.core.errors import Bug

    forest = read(lightgbm_booster(30).model_to_string().encode())
    looked = tables(forest)
    assert looked is not None
    trees = Trees(Graph(to_onnx(forest)), forest, looked, 8)
    for count in (1, 64):
        with pytest.raises(Bug):
            trees.run(np.zeros((count, COLUMNS + 1), np.float32))
