"""The terminal report of a model's components: the map as a grid, tables, circuits."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spex.components import MOST_OUTPUTS, Effects, Group, components_of
from spex.explanation import Explanation
from spex.report import components_words, words
from spex.report.layers import Grid
from spex.report.pieces import answer, interval, is_unsure, signed
from spex.report.terminal import named, plain, print_trust, shade
from spex.tried.circuits import CIRCUIT, Circuit, circuits_of

OTHER_COLUMNS = 58  # characters of the table beside the names
LABEL = 4  # characters of a layer's name and a space
NUMBER = 7  # characters of a cell with its value
BLOCKS = "·░▒▓█"  # of a cell without room for it, from nothing to the largest


def print_components(
    explanation: Explanation, console: Console, index: str = "BII", top: int = 10
) -> None:
    """Print map, strongest interactions, circuits, faithfulness and cost.

    Several outputs, such as one for each prompt, follow one another.

    Args:
        explanation: of a component oracle, or of a mixed one.
        console: where; without colour where it has none.
        index: interaction index of the table.
        top: single players and groups of each kind in the table.
    """
    explanation = replace(explanation, players=words.told_apart(explanation.players))
    shown = [
        Effects.of(explanation, output, top=top, index=index)
        for output in range(min(len(explanation.outputs), MOST_OUTPUTS))
    ]
    console.print(Text(plain(words.question(explanation)), style="bold"))
    several = components_words.outputs(explanation)
    console.print(Text(several or _answer(explanation, shown[0], index)))
    console.print(Text(plain(components_words.behaviour(explanation))))
    for output, effects in enumerate(shown):
        if several:
            name = plain(explanation.outputs[output])
            console.print(Text(f"\n{name}", style="bold"))
            if prompt := components_words.prompt(explanation, output):
                console.print(Text(plain(prompt)))
            console.print(Text(_answer(explanation, effects, index)))
        _print_output(explanation, output, effects, console, index, top)
    print_trust(explanation, console)


def _answer(explanation: Explanation, effects: Effects, index: str) -> str:
    groups = [group.found for group in effects.groups]
    return plain(answer(explanation, groups, index))


def _print_output(
    explanation: Explanation,
    output: int,
    effects: Effects,
    console: Console,
    index: str,
    top: int,
) -> None:
    """Print value, map, interactions and circuits of an output."""
    console.print(Text(f"{components_words.intact(explanation, output)}\n"))
    _print_map(explanation, effects, console)
    name = plain(explanation.outputs[output])
    _print_groups(effects, console, f"{index} on {name}", index, top)
    if circuits := [c for c in circuits_of(explanation) if c.output == output]:
        console.print(_circuits(explanation, circuits))
        console.print(Text(components_words.checks(circuits), style="dim"))


def _print_map(explanation: Explanation, effects: Effects, console: Console) -> None:
    components = components_of(explanation)
    largest = max(map(abs, effects.values), default=0.0) or 1.0
    segments = Text()
    for player, value in enumerate(effects.values):
        if player not in components:
            name = plain(explanation.players[player])
            segments.append(name, shade(value / largest)).append(" ")
    if segments:
        console.print(segments)
    grid = Grid.of(components)
    if grid is None or LABEL + len(grid.columns) > console.width:
        return
    console.print(_grid(grid, effects.values, largest, console.width), no_wrap=True)
    console.print(
        Text("What keeping each does, on average over what else is kept.\n", "dim")
    )


def _grid(grid: Grid, values: Sequence[float], largest: float, width: int) -> Text:
    """A line for each layer; numbers where there is room, else blocks."""
    room = (width - LABEL) // len(grid.columns)
    wide = min(room, NUMBER) if room >= NUMBER else max(min(room, 2), 1)
    drawn = Text(" " * LABEL)
    if wide > 2:
        drawn.append("".join(name.rjust(wide) for name in grid.columns), "dim")
    for row, name in enumerate(grid.rows):
        drawn.append("\n" + name.ljust(LABEL), "dim")
        for column in range(len(grid.columns)):
            player = grid.cells.get((row, column))
            value = 0.0 if player is None else values[player]
            told = "" if player is None else _cell(value, value / largest, wide)
            drawn.append(told.rjust(wide), shade(value / largest))
    return drawn.append("\n")


def _cell(value: float, part: float, wide: int) -> str:
    if wide > 2:
        return f"{value:+.2f}" if abs(value) < 100 else f"{value:+.1e}"
    block = BLOCKS[round(abs(part) * (len(BLOCKS) - 1))]
    sign = " " if block == BLOCKS[0] else "+" if part > 0 else "-"
    return (sign + block)[-wide:]


def _print_groups(
    effects: Effects, console: Console, what: str, index: str, top: int
) -> None:
    """The strongest groups that stand out, wherever they stand."""
    sure = [group for group in effects.groups if not is_unsure(group.found)][:top]
    if not sure:
        console.print("No group of components stands out.")
        return
    title = Text(f"What acts together, {what}", "italic")
    table = Table(title=title, title_justify="left")
    table.add_column("players", overflow="fold", ratio=1)
    table.add_column(index, justify="right", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("one by one, at once", no_wrap=True)
    for group in sure:
        table.add_row(*_row(group, console.width - OTHER_COLUMNS))
    console.print(table)
    console.print(Text(words.TOGETHER, style="dim"))


def _row(group: Group, room: int) -> tuple[Text, Text, str, str]:
    found, read = group.found, group.reading
    style = "dodger_blue1" if found.value > 0 else "dark_orange3"
    return (
        named(found, room),
        Text(signed(found.value), style=style),
        interval(found),
        f"{read.kind.value} {read.alone:+.2f}, {read.together:+.2f}",
    )


def _circuits(explanation: Explanation, circuits: Sequence[Circuit]) -> Table:
    table = Table(title=Text(components_words.ENOUGH, "italic"), title_justify="left")
    table.add_column("asked", overflow="fold")
    table.add_column("working", overflow="fold", ratio=1)
    for name in ("predicted", "measured", "faithful"):
        table.add_column(name, justify="right", no_wrap=True)
    for found in circuits:
        measured = "none" if found.measured is None else signed(found.measured)
        part = "none" if found.faithfulness is None else f"{found.faithfulness:.1%}"
        colour = "" if found.kind != CIRCUIT else "green" if found.is_reached else "red"
        table.add_row(
            components_words.circuit(explanation, found),
            Text(plain(components_words.working(explanation, found))),
            signed(found.predicted),
            measured,
            Text(part, style=colour),
        )
    return table
