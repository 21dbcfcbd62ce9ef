"""The layer-by-place map as SVG, with the strongest pairs drawn on it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from spex.components import Group
from spex.report import words
from spex.report.layers import Grid
from spex.report.pieces import is_unsure, signed

LINES = 8  # pairs drawn
WIDEST = 736  # of the cells together
LARGE, LEAST = 46, 16  # width of a cell
ABOVE = 46  # room for lines over the first row
LABEL = 40  # width of the layers' names
CHIP, CHARACTERS, MOST_CHIPS = 28, 22, 200  # height of a segment's, length, how many
NARROWEST = 520  # where there are segments


@dataclass(frozen=True)
class Box:
    """A rectangle of the drawing."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> float:
        """Its middle from left to right."""
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        """Where the line of a text in it stands."""
        return self.y + self.height / 2 + 4


def layer_map(
    grid: Grid,
    names: Sequence[str],
    values: Sequence[float],
    groups: Sequence[Group],
    framed: Sequence[int] = (),
) -> str:
    """The map as markup.

    Args:
        grid: where components stand.
        names: of all n players; those that are not on the grid are segments of a
            prompt, and stand above it.
        values: of each player, (n,), which its colour shows.
        groups: of which the strongest pairs are drawn as lines.
        framed: players with a frame.
    """
    pairs = [g for g in groups if len(g.found.players) == 2 and not is_unsure(g.found)]
    pairs = pairs[:LINES]
    layout = Layout.of(grid, names, pairs)
    boxes, largest = layout.boxes, max(map(abs, values), default=0.0) or 1.0
    components = set(grid.cells.values())
    drawn = [
        _shape(names[player], box, values[player], largest)
        for player, box in boxes.items()
    ]
    told = [
        _brief(values[player], largest, box)
        if player in components
        else _words(box.centre, box.middle, _short(names[player]), "number")
        for player, box in boxes.items()
    ]
    frames = [_frame(boxes[player]) for player in framed if player in boxes]
    lines = [_line(g, boxes, pairs[0]) for g in pairs]
    return (
        f'<svg class="map" viewBox="0 0 {layout.width:g} {layout.bottom + 26:g}" '
        f'width="{layout.width:g}" role="img" '
        'aria-label="Map of layers and their components">'
        + "".join([*_labels(grid, layout), *drawn, *frames, *lines, *told])
        + "</svg>"
    )


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Attributes:
        boxes: player -> rectangle.
        cell: width of a component's column.
        width: of the drawing.
        bottom: lower end of the last layer.
    """

    boxes: dict[int, Box]
    cell: int
    width: float
    bottom: float

    @classmethod
    def of(cls, grid: Grid, names: Sequence[str], pairs: Sequence[Group]) -> "Layout":
        """Segments in lines as in a text, if they are not too many, and the grid."""
        components = set(grid.cells.values())
        segments = [player for player in range(len(names)) if player not in components]
        cell = min(max(WIDEST // len(grid.columns), LEAST), LARGE)
        width = float(LABEL + cell * len(grid.columns) + 8)
        boxes: dict[int, Box] = {}
        if segments and len(segments) <= MOST_CHIPS:
            width = max(width, NARROWEST)
            boxes = _chips(segments, names, width)
        top = max((box.y + CHIP for box in boxes.values()), default=0.0)
        top += ABOVE if boxes or _has_arcs(grid, pairs) else 4
        height, pitch = _heights(len(grid.rows), cell)
        for (row, column), player in grid.cells.items():
            x, y = LABEL + column * cell, top + row * pitch
            boxes[player] = Box(x + 1, y, cell - 2, height)
        return cls(boxes, cell, width, top + pitch * (len(grid.rows) - 1) + height)


def _has_arcs(grid: Grid, pairs: Sequence[Group]) -> bool:
    """Whether a line goes over the first row."""
    first = {player for (row, _), player in grid.cells.items() if row == 0}
    return any(first.issuperset(pair.found.players) for pair in pairs)


def _heights(rows: int, cell: int) -> tuple[int, int]:
    """Height of a cell, and from one to the next; lines need room between them."""
    height = 34 if cell > 30 else min(cell, 24)
    gap = 46 if rows <= 3 else 20 if rows <= 12 else 4
    return height, height + gap


def _labels(grid: Grid, layout: Layout) -> list[str]:
    """Layers at the left, places at the bottom."""
    every = 1 if layout.cell > 26 else 4
    middles = {row: layout.boxes[p].middle for (row, _), p in grid.cells.items()}
    return [
        _words(LABEL - 8, middles[row], name, "label row")
        for row, name in enumerate(grid.rows)
    ] + [
        _words(LABEL + (column + 0.5) * layout.cell, layout.bottom + 18, name, "label")
        for column, name in enumerate(grid.columns)
        if column % every == 0
    ]


def _words(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _chips(
    segments: Sequence[int], names: Sequence[str], width: float
) -> dict[int, Box]:
    """Segments side by side in lines, as in a text."""
    boxes, x, y = {}, 2.0, 30.0
    for player in segments:
        long = 14 + 7.6 * _columns(_short(names[player]))
        if x + long > width - 2:
            x, y = 2.0, y + CHIP + 22
        boxes[player] = Box(x, y, long, CHIP)
        x += long + 5
    return boxes


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= CHARACTERS else name[: CHARACTERS - 1] + "…"


def _columns(text: str) -> int:
    """Width in letters, of which Chinese ones are two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _shape(name: str, box: Box, value: float, largest: float) -> str:
    """A player's rectangle, with its name and value on hover."""
    part = abs(value) / largest
    sign = "p" if value > 0 else "m"
    return (
        f'<g class="part"><title>{escape(name)}: {signed(value)}</title>'
        f'<rect class="ground" {_rect(box)}/>'
        f'<rect class="{sign}" fill-opacity="{0.8 * part:.2f}" {_rect(box)}/></g>'
    )


def _brief(value: float, largest: float, box: Box) -> str:
    """A value in its cell, if it fits and is not next to nothing; else ""."""
    if box.width < LARGE - 2 or abs(value) < 0.05 * largest:
        return ""
    digits = 2 if abs(value) < 10 else 1
    is_plain = 0.005 <= abs(value) < 1000
    text = f"{value:+.{digits}f}" if is_plain else f"{value:+.0e}"
    return _words(box.centre, box.middle, text, "number")


def _rect(box: Box) -> str:
    return (
        f'x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
        'rx="4"'
    )


def _frame(box: Box) -> str:
    return f'<rect class="frame" {_rect(box)}/>'


def _line(group: Group, boxes: dict[int, Box], strongest: Group) -> str:
    """From one player to the other: over a row, or from row to row."""
    if not all(player in boxes for player in group.found.players):
        return ""
    value, most = group.found.value, strongest.found.value
    thick = 1.4 + 2.8 * min(abs(value / most), 1.0)
    sign = "p" if value > 0 else "m"
    path = _path(*(boxes[player] for player in group.found.players))
    said = f"{' + '.join(group.found.names)}: {signed(value)}, "
    said += words.together(group.reading)
    return (
        f'<g class="link {sign}"><title>{escape(said)}</title>'
        f'<path class="halo" stroke-width="{thick + 4:.1f}" d="{path}"/>'
        f'<path class="stroke" stroke-width="{thick:.1f}" d="{path}"/></g>'
    )


def _path(a: Box, b: Box) -> str:
    if a.y == b.y:
        rise = min(44.0, 14 + 0.09 * abs(a.centre - b.centre))
        top = a.y - rise
        return (
            f"M{a.centre:g},{a.y:g} C{a.centre:g},{top:g} "
            f"{b.centre:g},{top:g} {b.centre:g},{b.y:g}"
        )
    if a.y > b.y:
        a, b = b, a
    start, end = a.y + a.height, b.y
    bend = (end - start) * 0.5
    return (
        f"M{a.centre:g},{start:g} C{a.centre:g},{start + bend:g} "
        f"{b.centre:g},{end - bend:g} {b.centre:g},{end:g}"
    )
