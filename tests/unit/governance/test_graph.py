"""Lineage: what stands above and below anything, by column, by version, at any time; as text and as a picture."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from falaj import Dataset, Derived, Endpoint, Training, View, WindowView, category, count, inputs, local, mean, number
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.console.layers import layout
from falaj.console.lineage_picture import MOST_ROWS, draw, mermaid
from falaj.console.lineage_text import render
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import digest_of, encode
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.contracts.origin import origin_of
from falaj.stages.contracts.spec import From
from falaj.stages.governance.graph import Declared, Edge, Lineage, Node, as_of, lineage

DAY = datetime(2013, 1, 1, tzinfo=UTC)
COLUMNS = {
    "raw": ("id", "Carrier", "origin", "arr", "sched", "known"),
    "flights": ("id", "carrier", "origin", "delay", "late", "at", "known", "landed"),
    "weather": ("origin", "seen", "temp"),
}
SQL = """
select id, upper(Carrier) as carrier, origin, arr - sched as delay, arr - sched > 15 as late, sched as "at", known, arr as landed
from raw where origin <> 'XXX'"""


def dataset(name: str, source: Any, time: str = "at") -> Dataset:
    return Dataset(name, f"{name}.odcs.yaml", source, time=time, known="known")


weather_now = View("weather_now", dataset="weather", entity="origin", features=("temp",), time="seen", ttl="3h")
carrier_delays = WindowView(
    "carrier_delays", dataset="flights", entity="carrier", time="landed", windows=("3h",), every="1h",
    aggregates=(mean("delay", "delay"), count("landed")),
)  # fmt: skip
recipe = inputs(
    weather_now.all(),
    carrier_delays.all(),
    category("carrier", ("UA", "AA")),
    number("miles"),
    local(zone="UTC", parts=("hour",)),
)
training = Training(
    "delay", model="delay", spine="flights", label="late", label_time="landed", recipe=recipe, fit=lambda context: None,  # type: ignore[arg-type,return-value]
    prepare=lambda frame: frame,
)  # fmt: skip


def declared(**changes: Any) -> Declared:
    known = Declared(
        {
            "raw": dataset("raw", From("csv", {"path": "inbox/raw.csv"})),
            "weather": dataset("weather", lambda since, until: None),
            "flights": dataset("flights", Derived(("raw",), sql=SQL)),
        },
        {"weather_now": weather_now, "carrier_delays": carrier_delays}, {"delay": training},
        {"delay": Endpoint("delay", "delay", unit="id")},
        lambda name: COLUMNS[name], lambda name: f"file/{name}.csv",
    )  # fmt: skip
    return replace(known, **changes)


class World:
    """A ledger with two models, one of them served."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger("falaj/test")
        self.day = 0
        self.write(("recipe", digest_of(encode(recipe)), recipe))
        self.snapshots = [Ref("dataset", "flights", str(n)) for n in (1, 2, 3)]
        for ref in self.snapshots:
            self.write(
                (
                    "asset",
                    str(ref),
                    Asset(ref, "sha256:" + "0" * 64, "x", labels={"rows": 9}, inputs=(Ref("dataset", "raw", "1"),)),
                )
            )
        self.model(1, 2)
        self.model(2, 3)

    def write(self, *changes: tuple[str, str, Any]) -> None:
        self.day += 1
        drafted = tuple(Change(kind, key, encode(body)) for kind, key, body in changes)
        with self.ledger.transaction() as tx:
            tx.append(Event("x.y", Ref("x", "y"), Actor("anna"), DAY + timedelta(days=self.day), {}, drafted))

    def model(self, version: int, seen: int) -> None:
        candidate = Ref("candidate", "delay", f"run-{version}")
        labels = {"recipe": digest_of(encode(recipe)), "training": "delay"}
        asset = Asset(
            candidate, "sha256:" + "0" * 64, "x", labels=labels, inputs=tuple(self.snapshots[:seen]), run=f"run-{version}"
        )
        model = {"ref": f"model/delay@{version}", "asset": asset, "candidate": candidate, "training": "delay", "run": asset.run}
        arm = {"model": f"model/delay@{version}", "role": "champion"}
        self.write(
            ("asset", str(candidate), asset),
            ("model", f"delay@{version}", model),
            ("endpoint", "delay", {"wanted": {"arms": [arm]}}),
        )

    def ask(self, about: str | None, **options: Any) -> Lineage:
        return lineage(declared(), self.ledger.find, Ref.parse(about) if about else None, **options)


@pytest.fixture
def world() -> World:
    return World()


def keys(found: Lineage) -> set[str]:
    return {node.key for node in found.nodes}


def test_which_models_read_a_column_and_which_file_did_it_come_from(world: World) -> None:
    down = world.ask("column/flights.delay", direction="down")
    assert {"feature/carrier_delays.delay_3h", "model/delay@1", "model/delay@2", "endpoint/delay"} <= keys(down)
    assert "feature/weather_now.temp" not in keys(down)
    up = world.ask("column/flights.delay", direction="up")
    assert {"column/raw.arr", "column/raw.sched", "source/file/raw.csv"} <= keys(up)
    kinds = {(edge.above, edge.kind) for edge in up.edges if edge.below == "column/flights.delay"}
    assert kinds == {("column/raw.arr", "transformation"), ("column/raw.sched", "transformation"), ("rows/flights", "indirect")}
    assert ("column/raw.origin", "indirect") in {(edge.above, edge.kind) for edge in up.edges if edge.below == "rows/flights"}


def test_a_column_is_found_however_its_letters_are_written(world: World) -> None:
    assert world.ask("column/raw.carrier").starts == ("column/raw.Carrier",)


def test_the_label_and_what_decides_the_rows_are_told_apart(world: World) -> None:
    up = world.ask("model/delay@1", direction="up", level="column")
    kinds = {edge.above: edge.kind for edge in up.edges if edge.below == "model/delay@1" and edge.note != "entity"}
    assert kinds["column/flights.late"] == "label"
    assert kinds["column/flights.landed"] == "indirect"
    assert kinds["column/flights.carrier"] == "transformation"
    assert kinds["feature/weather_now.temp"] == "identity"
    (made,) = [edge for edge in up.edges if edge.above == "any/flights"]
    assert made.note == "prepare makes miles", "a field that only `prepare` knows may have come of any column"


def test_datasets_views_models_and_endpoints_stand_in_order(world: World) -> None:
    found = world.ask("dataset/raw", direction="down")
    assert keys(found) == {
        "dataset/raw",
        "dataset/flights",
        "view/carrier_delays",
        "model/delay@1",
        "model/delay@2",
        "endpoint/delay",
    }
    told = {(edge.above, edge.below): edge.note for edge in found.edges if edge.kind == "rows" and edge.note}
    assert told[("dataset/flights", "model/delay@2")] == "versions 1 to 3"


def test_one_snapshot_knows_the_models_that_were_trained_on_it(world: World) -> None:
    found = world.ask("dataset/flights@3")
    assert keys(found) == {"dataset/flights@3", "dataset/raw@1", "model/delay@2", "endpoint/delay"}
    with pytest.raises(NotFound, match="dataset/flights@9"):
        world.ask("dataset/flights@9")


def test_it_can_be_asked_as_of_a_time(world: World) -> None:
    early = as_of(world.ledger.events(), DAY + timedelta(days=world.day - 1))
    found = lineage(declared(), early, Ref.parse("endpoint/delay"), direction="up")
    assert "model/delay@1" in keys(found)
    assert "model/delay@2" not in keys(found)


def test_a_project_without_a_model_shows_its_trainings() -> None:
    found = lineage(declared(), lambda kind: [], None)
    assert {"training/delay", "view/weather_now", "source/file/weather.csv"} <= keys(found)


def test_a_candidate_is_shown_where_it_is_asked_for(world: World) -> None:
    assert {"candidate/delay@run-1", "model/delay@1", "view/weather_now"} <= keys(world.ask("candidate/delay@run-1"))
    assert "candidate/delay@run-1" not in keys(world.ask(None))


def test_a_name_that_nothing_has_is_answered_with_the_nearest(world: World) -> None:
    with pytest.raises(NotFound, match="model/dealy@1") as told:
        world.ask("model/dealy@1")
    assert "model/delay@1" in told.value.hint


def test_a_step_in_python_may_have_read_everything() -> None:
    known = declared()
    step = dataset("flights", Derived(("raw",), function=lambda raw: raw))
    found = lineage(
        replace(known, datasets={**known.datasets, "flights": step}),
        lambda kind: [],
        Ref.parse("column/flights.delay"),
        direction="up",
    )
    assert {edge.kind for edge in found.edges if edge.below == "column/flights.delay"} == {"opaque"}
    assert {f"column/raw.{name}" for name in COLUMNS["raw"]} <= keys(found)


def test_the_tree_names_each_thing_once_in_full(world: World) -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(render(world.ask("column/flights.delay")))
    text = out.getvalue()
    assert "column/raw.arr  transformation" in text
    assert text.index("comes from") < text.index("source/file/raw.csv") < text.index("goes into") < text.index("endpoint/delay")
    out = io.StringIO()
    Console(file=out, width=120).print(render(world.ask("endpoint/delay")))
    assert "nothing that is known here" in out.getvalue()


def test_the_tree_of_a_dataset_by_column_shows_what_lies_outside_of_it(world: World) -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(render(world.ask("dataset/flights", level="column")))
    above, _, below = out.getvalue().partition("goes into")
    lines = [line.strip("│├└─ ") for line in below.splitlines()]
    assert "column/raw.arr  transformation" in above
    assert "column/flights.delay" in above
    # Each of its columns once, and only with what it goes into.
    own = [line for line in lines if line.startswith("column/flights.")]
    assert len(own) == len(set(own))
    assert "column/flights.id" not in own
    assert any(line.startswith("feature/carrier_delays.delay_3h  aggregation") for line in lines)
    assert not any("dataset/flights: (which rows)" in line for line in lines)


def test_a_picture_has_its_colours_without_a_style_sheet_too(world: World) -> None:
    svg = re.sub(r"<style>.*?</style>", "", draw(world.ask(None, level="column")), flags=re.DOTALL)
    assert "var(" not in svg
    for shape in ElementTree.fromstring(svg).iter():
        if shape.tag.rpartition("}")[2] in ("rect", "path", "text", "line"):
            assert shape.get("fill") or shape.get("stroke"), shape.attrib


def test_columns_are_named_as_the_contract_has_them(world: World) -> None:
    found = world.ask(None, level="column")
    assert {key for key in keys(found) if key.lower() == "column/flights.carrier"} == {"column/flights.carrier"}


def test_mermaid_quotes_what_somebody_named() -> None:
    found = Lineage(
        "all",
        "both",
        "dataset",
        (),
        (Node("dataset/a", "dataset", 'a"]; click'), Node("b", "model", "b")),
        (Edge("dataset/a", "b", "rows", "<b>"),),
    )
    text = mermaid(replace(found, nodes=(replace(found.nodes[0], group="g", title='a"]; click'), found.nodes[1])))
    assert text.startswith("flowchart LR\n")
    assert '"a#34;]#59; click"' in text
    assert "#60;b#62;" in text


def boxes(svg: str) -> Iterator[tuple[float, float, float, float]]:
    top = ElementTree.fromstring(svg)
    for card in top.iter("{http://www.w3.org/2000/svg}g"):
        rect = card.find("{http://www.w3.org/2000/svg}rect[@class='card']")
        at = re.fullmatch(r"translate\(([-\d.]+) ([-\d.]+)\)", card.get("transform", ""))
        if rect is not None and at:
            yield float(at[1]), float(at[2]), float(rect.get("width", 0)), float(rect.get("height", 0))


@pytest.mark.parametrize(("about", "level"), [(None, "dataset"), (None, "column"), ("model/delay@1", "column")])
def test_no_card_lies_on_another(world: World, about: str | None, level: Any) -> None:
    found = list(boxes(draw(world.ask(about, level=level))))
    assert len(found) >= 6
    for (x, y, w, h), (x2, y2, w2, h2) in combinations(found, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30),
    st.lists(st.floats(20, 300), min_size=12, max_size=12),
)
def test_cards_of_any_graph_stand_apart_and_follow_what_they_come_of(pairs: list[tuple[int, int]], heights: list[float]) -> None:
    links = [(str(min(pair)), str(max(pair))) for pair in pairs if pair[0] != pair[1]]
    made = layout({str(n): (100.0, heights[n]) for n in range(12)}, links, 90.0)
    for left, right in links:
        assert made.spots[left].x + made.spots[left].width < made.spots[right].x
    for one, other in combinations(made.spots.values(), 2):
        if one.layer == other.layer:
            assert one.y + one.height <= other.y + 1e-6 or other.y + other.height <= one.y + 1e-6


def test_a_circle_does_not_hang_the_picture() -> None:
    assert layout({"a": (10, 10), "b": (10, 10)}, [("a", "b"), ("b", "a"), ("a", "a")], 5.0).width > 0


def test_a_picture_holds_what_somebody_named_as_text_only() -> None:
    nasty = "<script>alert('x')</script>&\"'"
    found = Lineage(
        "all",
        "both",
        "dataset",
        (),
        (Node("a", "dataset", nasty, note=nasty), Node("b", "view", "b")),
        (Edge("a", "b", "read", nasty),),
    )
    assert "<script" not in draw(found)
    ElementTree.fromstring(draw(found))


def test_many_columns_and_many_versions_stay_readable() -> None:
    columns = tuple(Node(f"column/d.c{n}", "column", f"c{n}", "dataset/d") for n in range(500))
    models = tuple(Node(f"model/m@{n}", "model", f"m@{n}") for n in range(1, 60))
    edges = tuple(Edge(columns[n].key, models[n % 59].key, "identity") for n in range(500))
    svg = draw(Lineage("all", "both", "column", (), (*columns, *models), edges))
    assert f"and {500 - MOST_ROWS} more" in svg
    assert "55 older versions" in svg
    assert len(list(boxes(svg))) == 1 + 4 + 1


def test_an_origin_is_told_without_its_secrets() -> None:
    source = From("postgres", {"uri": "postgresql://falaj:geheim@db.example:5432/shop?password=geheim", "table": "public.orders"})
    found = origin_of(dataset("orders", source))
    assert (found.namespace, found.name) == ("postgresql://db.example:5432", "public.orders")
    assert origin_of(dataset("raw", From("csv", {"path": "in/raw.csv"}))).name == "in/raw.csv"
    assert origin_of(dataset("raw", dataset)).namespace == "python"
    contract = b"schema:\n  - name: raw\n    physicalName: raw.csv.zip\n"
    assert origin_of(dataset("raw", dataset), contract).name == "raw.csv.zip"
    assert origin_of(dataset("raw", dataset), b"{").namespace == "python"


def test_a_kind_without_lineage_is_refused() -> None:
    from falaj.operations.lineage import ABOUT

    assert ABOUT.read("column/flights.Arr_Delay") == Ref("column", "flights.arr_delay")
    with pytest.raises(InvalidInput, match="has no lineage"):
        ABOUT.read("alert/x@1")
