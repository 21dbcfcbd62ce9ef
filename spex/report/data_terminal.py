"""The terminal report of training examples: a table for each of a few test points."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from oracles.data.table import shortened
from spex.explanation import Explanation
from spex.influence import MARGIN, Influence, indices, measured
from spex.interaction import Interaction
from spex.report import data_words, words
from spex.report.data_words import Example, Point
from spex.report.pieces import interval, is_unsure, signed
from spex.report.terminal import plain, print_trust
from spex.spectrum import Support
from spex.tried.removals import SUBSET, kept_of, removals_of

MAX_POINTS = 3  # test points shown
LISTED = 12  # players of a removal, or of a subset, that are named
NAME = 14  # characters of a name, and of a label
LEAST = 8  # characters of a text
BORDERS = 16  # characters of a table beside its columns


def print_data(
    explanation: Explanation, console: Console, index: str = "BII", top: int = 10
) -> None:
    """Print the strongest examples and groups, removals, faithfulness and cost.

    Args:
        explanation: of a data oracle.
        console: where; without colour where it has none.
        index: interaction index of groups, or value of single players.
        top: examples and groups of each kind.
    """
    console.print(Text(plain(data_words.question(explanation)), style="bold"))
    console.print(Text(plain(data_words.measure(explanation))))
    for output in range(min(len(explanation.outputs), MAX_POINTS)):
        console.print()
        _print_point(explanation, output, console, index, top)
    more = len(explanation.outputs) - MAX_POINTS
    if more > 0:
        said = f"\nThe HTML report (--out) shows the other {more}, too."
        console.print(Text(said, style="dim"))
    console.print()
    print_trust(explanation, console, data_words.advice(explanation))


def _print_point(
    explanation: Explanation, output: int, console: Console, index: str, top: int
) -> None:
    point = Point.of(explanation, output)
    title = Text(plain(point.name), style="bold")
    if point.text:
        label = f" [{point.label}]" if point.label else ""
        title.append(plain(f"  “{point.text}”{label}"), style="not bold")
    console.print(title)
    console.print(Text(plain(data_words.intact(explanation, output))))
    found = Influence.of(explanation, output, top=top, index=index)
    of_one, of_groups = indices(index)
    for name, listed in (("helps", found.helpful), ("harms", found.harmful)):
        if listed:
            console.print(_table(explanation, name, of_one, listed, console.width))
    _print_groups(found, of_groups, console)
    _print_removal(explanation, output, console)
    _print_subset(explanation, output, console)


def _table(
    explanation: Explanation,
    name: str,
    index: str,
    listed: tuple[Interaction, ...],
    width: int,
) -> Table:
    """One line for each, its text cut to what the others leave."""
    examples = [Example.of(explanation, one.players[0]) for one in listed]
    rows = [
        [
            shortened(plain(example.name), NAME),
            shortened(plain(example.label), NAME),
            signed(one.value),
            interval(one),
        ]
        for example, one in zip(examples, listed, strict=True)
    ]
    heads = (name, "label", index, "interval")
    widest = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    room = max(width - sum(widest) - BORDERS, LEAST)
    table = Table()
    for head in (name, "label", "text"):
        table.add_column(head, overflow="fold")
    for head in (index, "interval"):
        table.add_column(head, justify="right", no_wrap=True)
    for example, one, row in zip(examples, listed, rows, strict=True):
        text = shortened(plain(example.text), room)
        table.add_row(Text(row[0]), Text(row[1]), Text(text), _value(one), row[3])
    return table


def _value(one: Interaction) -> Text:
    colour = "dodger_blue1" if one.value > 0 else "dark_orange3"
    return Text(signed(one.value), style="dim" if is_unsure(one) else colour)


def _print_groups(found: Influence, index: str, console: Console) -> None:
    """Groups that stand out, with their readings."""
    sure = [
        (one, read)
        for one, read in zip(found.together, found.readings, strict=True)
        if not is_unsure(one)
    ]
    if not sure:
        console.print(data_words.groups(0))
        return
    table = Table()
    table.add_column("together", overflow="fold", ratio=1)
    table.add_column(index, justify="right", no_wrap=True)
    table.add_column("one by one, at once", no_wrap=True)
    for one, read in sure:
        said = f"{read.kind.value} {read.alone:+.2f}, {read.together:+.2f}"
        table.add_row(Text(plain(" + ".join(one.names))), _value(one), said)
    console.print(table)
    console.print(Text(words.TOGETHER, style="dim"))


def _print_removal(explanation: Explanation, output: int, console: Console) -> None:
    if measured(explanation, output) != MARGIN:
        return
    noted = [one for one in removals_of(explanation) if one.kind != SUBSET]
    found = next((one for one in noted if one.output == output), None)
    said = data_words.removal(explanation, found)
    if found is not None and found.is_decided:
        said += f" Left out: {_listed(explanation, found.players)}"
    console.print(Text(plain(said)))


def _print_subset(explanation: Explanation, output: int, console: Console) -> None:
    for found in removals_of(explanation):
        if found.kind == SUBSET and found.output == output:
            said = data_words.subset(explanation, found)
            said += f" Trained on: {_listed(explanation, kept_of(explanation, found))}"
            console.print(Text(plain(said)))


def _listed(explanation: Explanation, players: Support) -> str:
    names = [explanation.players[player] for player in players[:LISTED]]
    more = len(players) - len(names)
    return ", ".join(names) + (f" and {more} more." * (more > 0))
