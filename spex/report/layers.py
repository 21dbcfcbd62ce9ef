"""Where components stand: a row for each layer, a column for each place in it."""

from dataclasses import dataclass

from oracles.components import Component

MOST_COLUMNS, MOST_CELLS = 128, 8192
NAMES = {"head": "H", "neuron": "N", "direction": "D"}


@dataclass(frozen=True)
class Grid:
    """Players of a layer-by-place map.

    Attributes:
        rows: names of layers, the first at the top.
        columns: names of places; MLPs stand last.
        cells: (row, column) -> player.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[int, int], int]

    @classmethod
    def of(cls, components: dict[int, Component]) -> "Grid | None":
        """Where these players stand; None if they are none, or too many to draw.

        >>> Grid.of({4: Component("L2.H0", "head", 2, 0)}).cells
        {(0, 0): 4}
        """
        every = components.values()
        rows = sorted({one.layer for one in every})
        columns = sorted({_place(one) for one in every})
        count = len(columns)
        if not 0 < count <= MOST_COLUMNS or count * len(rows) > MOST_CELLS:
            return None
        layers = {layer: row for row, layer in enumerate(rows)}
        places = {place: column for column, place in enumerate(columns)}
        cells = {
            (layers[one.layer], places[_place(one)]): player
            for player, one in components.items()
        }
        return cls(
            rows=tuple(f"L{layer}" for layer in rows),
            columns=tuple(map(_column, columns)),
            cells=cells,
        )


def _place(one: Component) -> tuple[bool, int, str]:
    """What components of one column have in common, and the order of columns."""
    return one.kind == "mlp", one.place, one.kind


def _column(place: tuple[bool, int, str]) -> str:
    _, number, kind = place
    return f"{NAMES[kind]}{number}" if kind in NAMES else kind.replace("mlp", "MLP")
