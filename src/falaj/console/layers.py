"""Where the cards of a layered picture stand: left to right by what comes of what, few crossings, no overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

AIR = 22.0
"""Between two cards of a layer."""
LANE = 14.0
"""The height that a line takes which passes through a layer."""
SWEEPS = 12


@dataclass(slots=True)
class Spot:
    """One card, or the place where a long line passes through a layer. `y` is its top."""

    key: str
    layer: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(slots=True)
class Layout:
    spots: dict[str, Spot]
    passing: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(card, card) → the spots that its line passes through, left to right."""
    width: float = 0.0
    height: float = 0.0


def layout(sizes: Mapping[str, tuple[float, float]], links: Iterable[tuple[str, str]], gap: float) -> Layout:
    """`sizes`: card → width, height. `links`: (left, right). A link of a card to itself, or in a circle, moves nothing."""
    pairs = [pair for pair in dict.fromkeys(links) if pair[0] != pair[1]]
    depth = _depths(sizes, pairs)
    made = Layout({key: Spot(key, depth[key], *sizes[key]) for key in sizes})
    steps: list[tuple[str, str]] = []
    for left, right in pairs:
        through = [f"{left}\0{right}\0{layer}" for layer in range(depth[left] + 1, depth[right])]
        for place, key in enumerate(through):
            made.spots[key] = Spot(key, depth[left] + 1 + place, 0.0, LANE)
        made.passing[left, right] = through
        steps += zip([left, *through], [*through, right], strict=True)
    layers = _ordered(made, steps)
    _place(made, layers, steps, gap)
    return made


def _depths(sizes: Mapping[str, tuple[float, float]], pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way from the left; what has nothing on its left stands right before what it goes into."""
    depth = dict.fromkeys(sizes, 0)
    for _ in range(len(sizes)):
        moved = False
        for left, right in pairs:
            if depth[right] < depth[left] + 1 <= len(sizes):
                depth[right], moved = depth[left] + 1, True
        if not moved:
            break
    has_left = {right for _, right in pairs}
    for key in sizes:
        after = [depth[right] for left, right in pairs if left == key]
        if key not in has_left and after:
            depth[key] = max(min(after) - 1, 0)
    return depth


def _ordered(made: Layout, steps: Sequence[tuple[str, str]]) -> list[list[str]]:
    """By the mean place of the neighbours, swept to and fro."""
    layers: list[list[str]] = [[] for _ in range(max((spot.layer for spot in made.spots.values()), default=0) + 1)]
    for key in sorted(made.spots):
        layers[made.spots[key].layer].append(key)
    near = _near(steps)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, steps)
    for sweep in range(SWEEPS):
        side = sweep % 2
        for layer in layers if side == 0 else reversed(layers):
            place = {key: at for row in layers for at, key in enumerate(row)}
            layer.sort(key=lambda key: (_mean([place[other] for other in near[side].get(key, ())], place[key]), key))
        if (crossed := _crossings(layers, steps)) < fewest:
            best, fewest = [list(layer) for layer in layers], crossed
    return best


def _crossings(layers: Sequence[Sequence[str]], steps: Sequence[tuple[str, str]]) -> int:
    place = {key: at for row in layers for at, key in enumerate(row)}
    layer_of = {key: at for at, row in enumerate(layers) for key in row}
    by_layer: dict[int, list[tuple[int, int]]] = {}
    for left, right in steps:
        by_layer.setdefault(layer_of[left], []).append((place[left], place[right]))
    return sum(
        (a - c) * (b - d) < 0
        for lines in by_layer.values()
        for at, (a, b) in enumerate(lines[:400])
        for c, d in lines[at + 1 : 400]
    )


def _place(made: Layout, layers: Sequence[Sequence[str]], steps: Sequence[tuple[str, str]], gap: float) -> None:
    near = _near(steps)
    x = 0.0
    for layer in layers:
        wide = max((made.spots[key].width for key in layer), default=0.0)
        y = 0.0
        for key in layer:
            spot = made.spots[key]
            spot.x, spot.y = x, y
            spot.width = spot.width or wide
            y += spot.height + AIR
        x += wide + gap
    for sweep in range(SWEEPS):
        side = sweep % 2
        for layer in layers if side == 0 else reversed(layers):
            _settle([made.spots[key] for key in layer], [
                _mean([made.spots[other].middle for other in near[side].get(key, ())], made.spots[key].middle) for key in layer
            ])  # fmt: skip
    top = min((spot.y for spot in made.spots.values()), default=0.0)
    for spot in made.spots.values():
        spot.y -= top
    made.width = x - gap if layers else 0.0
    made.height = max((spot.y + spot.height for spot in made.spots.values()), default=0.0)


def _settle(spots: Sequence[Spot], wanted: Sequence[float]) -> None:
    """Each as near to where it wants to be as its neighbours in the layer allow, in their order."""
    blocks: list[tuple[float, float, list[Spot]]] = []
    for spot, middle in zip(spots, wanted, strict=True):
        top, tall, held = middle - spot.height / 2, spot.height, [spot]
        while blocks and blocks[-1][0] + blocks[-1][1] + AIR > top:
            before_top, before_tall, before = blocks.pop()
            # Together they want the mean of what each wanted; the later block's wish counts from where it would start.
            shift = top - (before_tall + AIR)
            top = (before_top * len(before) + shift * len(held)) / (len(before) + len(held))
            tall, held = before_tall + AIR + tall, before + held
        blocks.append((top, tall, held))
    for top, _, held in blocks:
        y = top
        for spot in held:
            spot.y = y
            y += spot.height + AIR


def _near(steps: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Neighbours on the left, neighbours on the right."""
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for one, other in steps:
        left.setdefault(other, []).append(one)
        right.setdefault(one, []).append(other)
    return left, right


def _mean(values: Sequence[float], else_: float) -> float:
    return sum(values) / len(values) if values else else_
