"""The terminal report and progress bar."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from spex.explanation import Explanation, Interaction, Status
from spex.faithfulness import LEVEL
from spex.report import words

MAX_TEXT_LINES = 40
MAX_NAME = 28
STRONG = 0.35  # of the strongest influence: drawn bold


def print_explanation(
    explanation: Explanation, console: Console, index: str = "BII", top: int = 10
) -> None:
    """Print text, strongest interactions, faithfulness and cost of the first output.

    Args:
        explanation: what to print.
        console: where; without colour where it has none.
        index: interaction index of the table.
        top: rows of the table.
    """
    console.print(Text(words.question(explanation), style="bold"))
    intact = ", ".join(
        f"{name} = {value:.3f}"
        for name, value in zip(explanation.outputs, explanation.intact, strict=True)
    )
    console.print(Text(f"Intact: {intact}"))
    console.print()
    console.print(_elided(_coloured(explanation), console))
    console.print()
    found = explanation.top(top, index=index)
    if found:
        console.print(_table(found, explanation.outputs[0], index))
    else:
        console.print("No interactions: the output does not vary with the players.")
    style = {Status.POOR: "bold red", Status.PARTIAL: "yellow"}
    console.print(Text(words.faithfulness(explanation)))
    status = explanation.status
    console.print(Text(status.value, style=style.get(status, "green")))
    console.print(Text(words.cost(explanation)))
    console.print(Text(words.method(explanation), style="dim"))


def _coloured(explanation: Explanation) -> Text:
    """The text with each segment in the colour of its influence."""
    subject = explanation.provenance.subject
    influence = [0.0] * len(explanation.players)
    for single in explanation.top(len(explanation.players), "BV"):
        influence[single.players[0]] = single.value
    largest = max(map(abs, influence), default=0.0) or 1.0
    if "text" not in subject:
        drawn = Text()
        for name, value in zip(explanation.players, influence, strict=True):
            drawn.append(name, style=_style(value / largest)).append("  ")
        return drawn
    drawn = Text(subject["text"])
    for (start, end), value in zip(subject["spans"], influence, strict=True):
        drawn.stylize(_style(value / largest), start, end)
    if subject.get("suffix"):
        drawn.append(" " + subject["suffix"].lstrip(), style="dim italic")
    return drawn


def _style(part: float) -> str:
    if abs(part) < 0.05:
        return "default"
    colour = "dark_orange3" if part < 0 else "dodger_blue2"
    return f"bold {colour}" if abs(part) > STRONG else colour


def _elided(text: Text, console: Console) -> Text:
    lines = text.wrap(console, console.width)
    if len(lines) <= MAX_TEXT_LINES:
        return text
    shown = Text("\n").join(lines[:MAX_TEXT_LINES])
    return shown.append(f"\n... {len(lines) - MAX_TEXT_LINES} more lines", style="dim")


def _table(found: list[Interaction], output: str, index: str) -> Table:
    table = Table(title=f"Strongest interactions, {index} on {output}", expand=False)
    table.title_justify = "left"
    table.add_column("#", justify="right", style="dim")
    table.add_column("segments", overflow="fold", ratio=1)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(f"{LEVEL:.0%} interval", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    for rank, interaction in enumerate(found, start=1):
        style = "dodger_blue2" if interaction.value > 0 else "dark_orange3"
        table.add_row(
            str(rank),
            Text(" + ".join(_shortened(name) for name in interaction.names)),
            Text(f"{interaction.value:+.3f}", style=style),
            _interval(interaction),
            f"{interaction.share:.1%}",
        )
    return table


def _interval(interaction: Interaction) -> str:
    if interaction.low == interaction.high:
        return "exact"
    return f"{interaction.low:+.2f} to {interaction.high:+.2f}"


def _shortened(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


class ProgressBar:
    """A bar on standard error; call it as `bar(done, total)`.

    Nothing is drawn where standard error is not a terminal.

    >>> with ProgressBar() as bar:
    ...     bar(10, 10)
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("ablations"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("ablations", total=None, rate="")

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` ablations are known."""
        self._progress.start()  # only now, so that an error before it stands alone
        speed = None if not self._progress.tasks else self._progress.tasks[0].speed
        rate = "" if speed is None else f"{speed:.0f} per second"
        self._progress.update(self._task, completed=done, total=total, rate=rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
