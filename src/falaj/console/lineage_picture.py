"""Lineage as a picture: cards from left to right, one for each dataset, view, model and endpoint, columns as their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from falaj.console.charts import escape, text
from falaj.console.layers import Layout, layout
from falaj.core.errors import InvalidInput, Unavailable
from falaj.stages.governance.graph import Edge, Lineage, Node

GAP, MARGIN, HEAD, ROW, FOOT = 96.0, 28.0, 44.0, 19.0, 54.0
LETTER = 7.4
"""Pixels that a letter of 12.5 pixels takes at most, on the mean; what is longer than MOST letters is cut."""
MOST, MOST_ROWS, MOST_VERSIONS = 38, 60, 4
SURE = frozenset({"identity", "transformation", "aggregation", "loaded", "read", "rows", "registered", "served", "label"})
_LEGEND = (("sure", "its values"), ("aside", "decides which rows, or may be read"), ("served", "is served"))

STYLE = """
svg{--bg:#fff;--card:#fff;--ink:#1b1f24;--soft:#5b6570;--line:#d5dae0;--source:#6c7580;--dataset:#0072b2;--view:#9a6200;
--model:#9c4a7c;--endpoint:#007a59;font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
@media (prefers-color-scheme:dark){svg{--bg:#14171b;--card:#1a1e23;--ink:#e8ebee;--soft:#a4adb7;--line:#39414a;--source:#a4adb7;
--dataset:#56b4e9;--view:#f2b84b;--model:#e0a3c6;--endpoint:#3ec9a0}}
.ground{fill:var(--bg)}.card{fill:var(--card);stroke:var(--line)}.asked .card{stroke:var(--ink);stroke-width:2}
.bar.source{fill:var(--source)}.bar.dataset{fill:var(--dataset)}.bar.view{fill:var(--view)}
.bar.model,.bar.training,.bar.candidate{fill:var(--model)}.bar.endpoint{fill:var(--endpoint)}
text{font-size:12.5px;fill:var(--ink)}text.kind{font-size:10.5px;fill:var(--soft)}text.name{font-weight:600}
text.row{fill:var(--ink)}text.aside,text.key{fill:var(--soft)}text.key{font-size:11.5px}.rule{stroke:var(--line)}
.link{fill:none;stroke-width:1.4;stroke:var(--soft);opacity:.7}.link.aside{stroke-dasharray:4 4;opacity:.5}
.link.served{stroke:var(--endpoint);stroke-width:2.2;opacity:1}
"""

_COLOURS = {
    "source": "#6c7580", "dataset": "#0072b2", "view": "#9a6200", "model": "#9c4a7c", "training": "#9c4a7c",
    "candidate": "#9c4a7c", "endpoint": "#007a59",
}  # fmt: skip
_LINK = 'fill="none" stroke="#5b6570" stroke-width="1.4"'
_FALLBACK: Mapping[str, str] = {
    # the light colours once more, for what reads no variables of a style sheet; a style sheet that is read goes before them
    "ground": 'fill="#fff"', "card": 'fill="#fff" stroke="#d5dae0"', "rule": 'stroke="#d5dae0"',
    "kind": 'fill="#5b6570" font-size="10.5"', "name": 'fill="#1b1f24" font-size="12.5" font-weight="600"',
    "row": 'fill="#1b1f24" font-size="12.5"', "aside": 'fill="#5b6570" font-size="12.5"',
    "key": 'fill="#5b6570" font-size="11.5"',
    "link sure": f'{_LINK} opacity=".7"', "link aside": f'{_LINK} stroke-dasharray="4 4" opacity=".5"',
    "link served": 'fill="none" stroke="#007a59" stroke-width="2.2"',
    **{f"bar {kind}": f'fill="{colour}"' for kind, colour in _COLOURS.items()},
}  # fmt: skip
_CLASS = re.compile(r'class="([a-z ]+)"')


@dataclass(slots=True)
class Card:
    key: str
    kind: str
    title: str
    note: str = ""
    rows: list[Node] = field(default_factory=list)

    @property
    def shown(self) -> list[Node]:
        return self.rows[:MOST_ROWS]

    @property
    def size(self) -> tuple[float, float]:
        longest = max([len(cut(self.title)) * 1.08, *(len(cut(row.title)) for row in self.shown)])
        more = len(self.rows) > MOST_ROWS
        return max(longest * LETTER + 34, 96.0), HEAD + (ROW * (len(self.shown) + more) + 8 if self.rows else 0)


def write_picture(found: Lineage, path: Path) -> Path:
    """SVG for `.svg`, Mermaid for `.mmd`. Raises InvalidInput for another ending, Unavailable where it cannot be written."""
    drawn = {".svg": draw, ".mmd": mermaid}.get(path.suffix)
    if drawn is None:
        raise InvalidInput(f"{path.name} is no picture that falaj draws.", "end it with .svg or .mmd.")
    try:
        path.write_text(drawn(found), "utf-8")
    except OSError as exc:
        raise Unavailable(f"{path} cannot be written: {exc.strerror}.", "name another file with --to.") from exc
    return path


def draw(found: Lineage) -> str:
    """A whole SVG file, light and dark, with nothing loaded from elsewhere."""
    found = folded(found)
    cards, place = _cards(found)
    asked = {place[key][0] for key in found.starts if key in place} if found.about != "all" else set[str]()
    links = _links(found.edges, place)
    made = layout({card.key: card.size for card in cards.values()}, [(left[0], right[0]) for left, right, _ in links], GAP)
    width, height = max(made.width, 420.0) + 2 * MARGIN, made.height + 2 * MARGIN + FOOT
    told = f"{len(found.nodes)} things and {len(found.edges)} ways between them."
    parts = [_line(made, cards, link) for link in links]
    parts += [_card(made, card, card.key in asked) for card in cards.values()]
    title = "Lineage of the project" if found.about == "all" else f"Lineage of {found.about}"
    drawn = f"{''.join(parts)}{_legend(made.height + FOOT)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="system-ui,Roboto,Helvetica,Arial,sans-serif">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc><style>{STYLE}</style>"
        + _coloured(f'<rect class="ground" width="100%" height="100%"/><g transform="translate({MARGIN:g} {MARGIN:g})">{drawn}')
        + "</g></svg>\n"
    )


def folded(found: Lineage) -> Lineage:
    """Old versions of a model that nothing serves stand together as one, so that years of retraining stay readable."""
    going = {edge.above for edge in found.edges} | set(found.starts if found.about != "all" else ())
    versions: dict[str, list[str]] = {}
    for node in found.nodes:
        if node.kind == "model" and node.key not in going:
            versions.setdefault(node.key.partition("@")[0], []).append(node.key)
    one: dict[str, str] = {}
    names: dict[str, Node] = {}
    for name, keys in versions.items():
        old = sorted(keys, key=lambda key: int(key.rpartition("@")[2]) if key.rpartition("@")[2].isdecimal() else 0)[
            :-MOST_VERSIONS
        ]
        if len(old) > 1:
            one |= dict.fromkeys(old, f"{name}@older")
            names[f"{name}@older"] = Node(f"{name}@older", "model", f"{len(old)} older versions")
    read = {(edge.above, edge.below) for edge in found.edges if edge.kind == "read"}
    middle = {above for above, _ in read} & {below for _, below in read}
    edges = dict.fromkeys(
        replace(edge, below=one.get(edge.below, edge.below))
        for edge in found.edges
        # That the snapshots behind a view were trained on is told by the view's own lines.
        if not (edge.note and edge.kind == "rows" and any({(edge.above, v), (v, edge.below)} <= read for v in middle))
    )
    nodes = (*(node for node in found.nodes if node.key not in one), *names.values())
    return replace(found, nodes=nodes, edges=tuple(edges))


def _coloured(svg: str) -> str:
    """Each shape with its colours as attributes too. What somebody named holds no quotes here, so none of it is touched."""
    return _CLASS.sub(lambda found: " ".join(filter(None, (found[0], _FALLBACK.get(found[1], "")))), svg)


def cut(title: str) -> str:
    return title if len(title) <= MOST else title[: MOST // 2] + "…" + title[-(MOST // 2 - 1) :]


def _cards(found: Lineage) -> tuple[dict[str, Card], dict[str, tuple[str, int | None]]]:
    """The cards, and where each node is: its card, and its row there."""
    cards: dict[str, Card] = {}
    place: dict[str, tuple[str, int | None]] = {}
    for node in found.nodes:
        key = node.group or node.key
        kind, _, title = key.partition("/")
        card = cards.setdefault(key, Card(key, kind, title if node.group else node.title, node.note))
        place[node.key] = (key, min(len(card.rows), MOST_ROWS) if node.group else None)
        if node.group:
            card.rows.append(node)
    return cards, place


Link = tuple[tuple[str, int | None], tuple[str, int | None], Edge]


def _links(edges: Sequence[Edge], place: Mapping[str, tuple[str, int | None]]) -> list[Link]:
    """One line for each pair of places; of several ways between them, the surest is drawn. Within a card none is."""
    kept: dict[tuple[tuple[str, int | None], tuple[str, int | None]], Edge] = {}
    for edge in edges:
        ends = place[edge.above], place[edge.below]
        if ends[0][0] != ends[1][0] and (ends not in kept or kept[ends].kind not in SURE):
            kept[ends] = edge
    return [(left, right, edge) for (left, right), edge in kept.items()]


def _height(card: Card, row: int | None) -> float:
    """The middle of a row below the card's top; of the head where no row is meant."""
    return HEAD / 2 if row is None else HEAD + ROW * (row + 0.5)


def _line(made: Layout, cards: Mapping[str, Card], link: Link) -> str:
    (left, left_row), (right, right_row), edge = link
    one, other = made.spots[left], made.spots[right]
    x, y = one.x + one.width, one.y + _height(cards[left], left_row)
    path = f"M{x:.1f} {y:.1f}"
    for key in made.passing.get((left, right), ()):
        spot = made.spots[key]
        path += _curve(x, y, spot.x, spot.middle) + f"H{spot.x + spot.width:.1f}"
        x, y = spot.x + spot.width, spot.middle
    path += _curve(x, y, other.x, other.y + _height(cards[right], right_row))
    kind = "served" if edge.kind == "served" else "sure" if edge.kind in SURE else "aside"
    said = f"{edge.above} → {edge.below}: {edge.kind}" + (f", {edge.note}" if edge.note else "")
    return f'<path class="link {kind}" d="{path}"><title>{escape(said)}</title></path>'


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = max(abs(to_x - x) / 2, 20.0)
    return f"C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _card(made: Layout, card: Card, asked: bool) -> str:
    spot = made.spots[card.key]
    width, height = card.size
    said = escape(f"{card.key}" + (f": {card.note}" if card.note else ""))
    parts = [
        f'<g class="{"asked" if asked else ""}" transform="translate({spot.x:.1f} {spot.y:.1f})"><title>{said}</title>'
        f'<rect class="card" width="{width:.1f}" height="{height:.1f}" rx="7"/>'
        f'<rect class="bar {escape(card.kind)}" y="9" width="3" height="{HEAD - 18:g}" rx="1.5"/>',
        text(13, 18, card.kind, "kind"),
        text(13, 34, cut(card.title), "name"),
    ]
    if card.rows:
        parts.append(f'<line class="rule" x1="0" x2="{width:.1f}" y1="{HEAD - 1:g}" y2="{HEAD - 1:g}"/>')
    for place, row in enumerate(card.shown):
        parts.append(text(13, HEAD + ROW * place + 14, cut(row.title), "aside" if row.kind in ("rows", "any") else "row"))
    if len(card.rows) > MOST_ROWS:
        parts.append(text(13, HEAD + ROW * MOST_ROWS + 14, f"and {len(card.rows) - MOST_ROWS} more", "aside"))
    return "".join(parts) + "</g>"


def _legend(y: float) -> str:
    parts, x = [], 0.0
    for kind, told in _LEGEND:
        parts.append(f'<path class="link {kind}" d="M{x:.0f} {y - 4:.1f}h26"/>' + text(x + 34, y, told, "key"))
        x += 34 + len(told) * 6.6 + 26
    return "".join(parts)


def mermaid(found: Lineage) -> str:
    """The same as a Mermaid flowchart, for pages that draw it themselves. Names are quoted, so that none becomes syntax."""
    names = {node.key: f"n{place}" for place, node in enumerate(found.nodes)}
    lines = ["flowchart LR"]
    groups: dict[str, list[Node]] = {}
    for node in found.nodes:
        groups.setdefault(node.group, []).append(node)
    for place, (group, nodes) in enumerate(groups.items()):
        inside = [f'  {names[node.key]}["{_plain(node.title if group else node.key)}"]' for node in nodes]
        lines += [f'  subgraph g{place}["{_plain(group)}"]', *inside, "  end"] if group else inside
    lines += [f'  {names[edge.above]} -->|"{_plain(edge.note or edge.kind)}"| {names[edge.below]}' for edge in found.edges]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return "".join(f"#{ord(letter)};" if letter in '"#;<>&`\\' or ord(letter) < 32 else letter for letter in text)
