"""The report is one page that loads nothing, runs nothing and shows nothing unescaped."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.console.report import page_of, write_report
from falaj.console.story import story
from falaj.console.summary import summary

if TYPE_CHECKING:
    from tests.unit.console.conftest import World

VOID = {"meta", "br", "link", "img"}


class Tags(HTMLParser):
    """Every tag must be closed by its own end, and nothing may come from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.references += [
            f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "style") or name.startswith("on")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def page(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(world, tmp_path_factory.mktemp("report") / "new" / "report.html").read_text()


def test_every_tag_is_closed_and_nothing_is_loaded_or_run(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.references == []
    assert not tags.seen & {"script", "link", "img", "iframe", "object", "embed", "form"}
    assert not re.search(r"https?:|url\(|@import|javascript:", page)


def test_the_page_forbids_itself_everything_but_its_own_style(page: str) -> None:
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    hashed = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{hashed}'" in page


def test_what_somebody_wrote_into_the_ledger_is_shown_as_text(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page


def test_every_chart_is_well_formed_and_says_in_words_what_it_shows(page: str) -> None:
    drawn = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    assert len(drawn) > 15
    for text in drawn:
        root = ET.fromstring(text)
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert root.get("role") == "img"
        assert "nan" not in text.lower().replace("finance", "")


@pytest.mark.parametrize(
    "said",
    [
        "What happened on delay",
        "Rollouts, by their evidence",
        "Taken back after",
        "How the models did",
        "How far the inputs moved",
        "Traffic and the machine",
        "Alerts and their lives",
        "What the gates said",
        "not registered",
        "1 slices that every model passed",
        "Data that came in",
        "too late: 2",
        "Verified: it is whole.",
    ],
)
def test_it_tells_the_whole_story(page: str, said: str) -> None:
    assert said in page


def test_it_is_readable_wide_narrow_dark_and_on_paper(page: str) -> None:
    assert all(
        rule in page for rule in ("prefers-color-scheme:dark", "@media print", "@media (max-width:820px)", 'class="narrow"')
    )


def test_a_report_replaces_the_one_before_and_leaves_nothing_else(world: World, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    assert write_report(world, path) == path
    assert path.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_ledger_makes_a_page_too() -> None:
    class Nothing:
        ledger, blobs = MemoryLedger(), MemoryBlobs()

    tags = Tags()
    tags.feed(made := page_of(story(Nothing())))
    assert tags.open == []
    assert "Nothing is served yet." in made


def test_the_summary_says_the_same_on_a_terminal(world: World) -> None:
    console = Console(width=150)
    with console.capture() as captured:
        console.print(summary(world))
    text = captured.get()
    assert "3 new models tried on delay: 1 promoted, 1 taken back, 1 under way." in text
    assert "delay@2: Taken back after" in text
    assert "<script>alert('x')</script>" in text
