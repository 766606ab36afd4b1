"""Every code block of the README and of the guides runs as it stands there.

A `python` block is executed; a `console` block's `$ falaj …` lines are run and must end well; a block with a title is a file.
Blocks of one page share a folder and their names. A block under `<!-- not run: reason -->` is left out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
SHOWN = frozenset({"contracts.md"})
"""Pages that show what a command prints, as it prints it."""
_BLOCK = re.compile(
    r"(?P<skip><!-- not run: .+? -->\n)?"
    r"```(?P<kind>python|console|yaml|toml|csv)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)```",
    re.DOTALL,
)


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    for found in _BLOCK.finditer(page.read_text("utf-8")):
        if not found["skip"]:
            yield found["kind"], found["title"] or "", found["body"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    names: dict[str, object] = {"__name__": page.stem}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")}
    for kind, title, body in blocks(page):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(body, "utf-8")
        elif kind == "python":
            exec(compile(body, str(page), "exec"), names)  # the page's own code
        else:
            for words, printed in _commands(body):
                argv = [sys.executable, "-m", "falaj", *words]
                done = subprocess.run(
                    argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
                )
                assert done.returncode in (0, 1, 9), f"falaj {shlex.join(words)}\n{done.stderr}"
                if page.name in SHOWN:
                    assert printed in done.stdout, f"falaj {shlex.join(words)}\n{done.stdout}"


def _commands(body: str) -> Iterator[tuple[list[str], str]]:
    """The falaj commands of a console block, with what stands below; what else is typed there sets up a machine."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE):
        line, _, printed = part.partition("\n")
        if line.startswith("falaj "):
            yield shlex.split(line[6:], comments=True), printed


def test_every_link_of_the_pages_leads_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken
