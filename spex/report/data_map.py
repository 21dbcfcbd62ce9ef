"""A heat map of the strongest pairs: players by players, symmetric, as a table."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from oracles.data.table import shortened
from spex.explanation import Explanation
from spex.influence import indices
from spex.interaction import Interaction
from spex.reading import readings
from spex.report.data_words import Example
from spex.report.pieces import is_unsure, signed

ROUNDING = 1e-9  # of the largest effect
MOST_PLAYERS = 10  # in the map
SHADES = 8  # steps of colour in page.css, each way
HEAD, TITLE = 9, 90  # characters of a name in a column's head, and of a text on hover


@dataclass(frozen=True)
class PairMap:
    """The pairs among the players of the strongest ones.

    Attributes:
        players: of the strongest pairs, up to `MOST_PLAYERS`, increasing.
        pairs: (i, j), i < j, among these, that are not 0.
        kinds: of the same pairs, "redundant", "synergistic" or "additive".
    """

    players: tuple[int, ...]
    pairs: dict[tuple[int, int], Interaction]
    kinds: dict[tuple[int, int], str]

    @classmethod
    def of(
        cls, explanation: Explanation, output: int = 0, index: str = "BII"
    ) -> "PairMap":
        """By an interaction index; by "BII" if it is of single players.

        Raises:
            InteractionIndexError: no such output or index.
        """
        _, index = indices(index)
        ranked = explanation.top(sys.maxsize, index, output=output)
        dust = ROUNDING * max((abs(one.value) for one in ranked), default=0.0)
        found = [
            one for one in ranked if len(one.players) == 2 and abs(one.value) > dust
        ]
        chosen: set[int] = set()
        for pair in found:
            if len(chosen | {*pair.players}) <= MOST_PLAYERS:
                chosen |= {*pair.players}
        pairs = {
            (one.players[0], one.players[1]): one
            for one in found
            if chosen >= {*one.players}
        }
        read = readings(
            explanation.fourier, pairs, output=output, keep=explanation.basis.keep
        )
        kinds = dict(zip(pairs, (one.kind.value for one in read), strict=True))
        return cls(tuple(sorted(chosen)), pairs, kinds)


def pair_map(explanation: Explanation, found: PairMap) -> str:
    """The map and its legend as markup; "" if there are no pairs."""
    if not found.pairs:
        return ""
    shown = [Example.of(explanation, player) for player in found.players]
    largest = max(abs(pair.value) for pair in found.pairs.values())
    heads = "".join(
        f'<th scope="col" title="{_title(one)}">{escape(_head(one))}</th>'
        for one in shown
    )
    lines = "".join(
        f'<tr><th scope="row" title="{_title(one)}">{escape(_head(one))}</th>'
        f"{_line(found, player, largest)}</tr>"
        for player, one in zip(found.players, shown, strict=True)
    )
    return (
        f'<div class="wide"><table class="pairs"><thead><tr><td></td>{heads}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div>{_legend(largest)}"
    )


def _line(found: PairMap, row: int, largest: float) -> str:
    cells = []
    for column in found.players:
        key = (min(row, column), max(row, column))
        pair = found.pairs.get(key)
        if row == column:
            cells.append('<td class="same"></td>')
        elif pair is None:
            cells.append("<td></td>")
        else:
            cells.append(_cell(pair, found.kinds[key], largest))
    return "".join(cells)


def _cell(pair: Interaction, kind: str, largest: float) -> str:
    part = pair.value / largest
    doubt = " unsure" if is_unsure(pair) else ""
    names = " + ".join(escape(name) for name in pair.names)
    said = f"{names}: {signed(pair.value)}, {kind}"
    if doubt:
        said += "; may be none at all"
    return (
        f'<td class="{"p" if part > 0 else "m"}{round(abs(part) * SHADES)}{doubt}" '
        f'title="{said}">{_digits(pair.value, largest)}</td>'
    )


def _digits(value: float, largest: float) -> str:
    """In digits that suit the largest, short enough for a cell."""
    return f"{value:+.2f}" if 0.1 <= largest < 100 else f"{value:+.1g}"


def _legend(largest: float) -> str:
    scale = "".join(
        f'<span class="{sign}{step}"></span>'
        for sign, steps in (("m", (8, 5, 2)), ("p", (2, 5, 8)))
        for step in steps
    )
    return (
        f'<p class="legend"><span class="scale">{signed(-largest)} {scale} '
        f"{signed(largest)}</span> what two do together beyond what they do one by one;"
        " in grey what may be none. Hover over a name for its text.</p>"
    )


def _head(one: Example) -> str:
    return shortened(one.name, HEAD)


def _title(one: Example) -> str:
    said: Sequence[str] = (one.name, one.label, shortened(one.text, TITLE))
    return escape(" · ".join(filter(None, said)), quote=True)
