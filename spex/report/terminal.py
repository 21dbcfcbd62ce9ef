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

from spex.explanation import Explanation, Status
from spex.faithfulness import LEVEL
from spex.interaction import Interaction
from spex.outlook import Outlook
from spex.report import words
from spex.report.html import influence, ranked
from spex.report.pieces import answer, interval, signed

MAX_TEXT_LINES = 40
MAX_NAME = 28  # characters, unless there is room for more
OTHER_COLUMNS = 42  # characters of the table beside the names
DISCOVERY = "•"
OTHERS = "Of the first output; the HTML report shows all."
MAX_OUTPUTS = 5  # whose intact values are listed
KEPT = "dim italic"  # style of what is never ablated
STRONG = 0.35  # of the strongest influence: drawn bold

# as pictures, so that no text can steer the terminal; new lines and tabs stay
PICTURES: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
    ord("\r"): None,
}


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
    groups, _ = ranked(explanation, index)
    console.print(Text(plain(words.question(explanation)), style="bold"))
    console.print(Text(plain(answer(explanation, groups, index))))
    console.print(Text(plain(_intact(explanation))))
    console.print()
    console.print(_elided(_coloured(explanation), console))
    console.print()
    found = explanation.top(top, index=index)
    if found:
        console.print(_table(found, explanation.outputs[0], index, console.width))
        if any(interaction.is_discovery for interaction in found):
            console.print(Text(f"{DISCOVERY} {words.DISCOVERY}", style="dim"))
    else:
        console.print("No interactions: the output does not vary with the players.")
    if len(explanation.outputs) > 1:
        console.print(Text(OTHERS, style="dim"))
    print_trust(explanation, console)


def print_trust(
    explanation: Explanation, console: Console, advice: str | None = None
) -> None:
    """Print how faithful it is, what it cost and how it was made.

    The advice is the status's, if no other is given.
    """
    style = {Status.POOR: "bold red", Status.PARTIAL: "yellow"}
    console.print(Text(words.faithfulness(explanation)))
    status = explanation.status
    said = advice or status.value
    console.print(Text(said, style=style.get(status, "green")))
    if kept := words.kept(explanation):
        console.print(Text(kept, style="dim"))
    if noise := words.noise(explanation):
        console.print(Text(noise))
    console.print(Text(words.cost(explanation)))
    console.print(Text(plain(words.method(explanation)), style="dim"))


def print_plan(view: Outlook, console: Console) -> None:
    """Print what a budget buys, and the next larger ones."""
    console.print(
        f"{view.num_players} players, {view.budget} ablations, interactions up to "
        f"order {view.max_order}"
    )
    console.print(f"auto takes {view.method}: {view.reason}")
    if view.method == "exact":
        return
    if not view.coded:
        console.print("The budget is below that of the smallest coded design.")
        return
    table = Table(title=Text("What SPEX makes of it", "italic"), title_justify="left")
    heads = ["budget", "bins", "delays", "order", "uniform", "terms"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in view.coded:
        table.add_row(
            str(row.budget),
            " + ".join(str(2**b) for b in row.shape.bs),
            str(row.shape.num_delays),
            str(row.shape.t),
            str(row.num_uniform),
            str(row.num_terms),
        )
    console.print(table)
    console.print(
        "terms: as many can be told apart where there is no noise",
        style="dim",
    )


def plain(text: str) -> str:
    """Text that cannot steer the terminal."""
    return text.translate(PICTURES)


def _intact(explanation: Explanation) -> str:
    """The measured values, each on a line of its own if there are several."""
    shown = [
        f"{name} = {signed(value)}"
        for name, value in zip(
            explanation.outputs[:MAX_OUTPUTS], explanation.intact.tolist(), strict=False
        )
    ]
    if len(explanation.outputs) == 1:
        return f"Intact: {shown[0]}"
    more = len(explanation.outputs) - len(shown)
    lines = ["Intact:", *shown] + ([f"and {more} more"] if more else [])
    return "\n  ".join(lines)


def _coloured(explanation: Explanation) -> Text:
    """The text with each segment in the colour of its influence."""
    subject = explanation.provenance.subject
    values = influence(explanation)[0]
    largest = max(map(abs, values), default=0.0) or 1.0
    styles = [shade(value / largest) for value in values]
    drawn = Text()
    if "text" not in subject:
        for name, style in zip(explanation.players, styles, strict=True):
            drawn.append(plain(name), style).append("  ")
        return drawn
    text, end = subject["text"], 0
    before, after = words.always_kept(subject)
    drawn.append(plain(before), KEPT)
    for (start, stop), style in zip(subject["spans"], styles, strict=True):
        gap = text[end:start]
        drawn.append(plain(gap), KEPT if words.is_told(gap) else "")
        drawn.append(plain(text[start:stop]), style)
        end = stop
    drawn.append(plain(text[end:]), KEPT if words.is_told(text[end:]) else "")
    drawn.append(plain(after), KEPT)
    drawn.rstrip()
    return drawn


def shade(part: float) -> str:
    """The colour of a part, -1 to 1, of the strongest influence."""
    if abs(part) < 0.05:
        return "default"
    colour = "dark_orange3" if part < 0 else "dodger_blue1"
    return f"bold {colour}" if abs(part) > STRONG else colour


def _elided(text: Text, console: Console) -> Text:
    lines = text.wrap(console, console.width)
    if len(lines) <= MAX_TEXT_LINES:
        return text
    shown = Text("\n").join(lines[:MAX_TEXT_LINES])
    return shown.append(f"\n... {len(lines) - MAX_TEXT_LINES} more lines", style="dim")


def _table(
    found: list[Interaction], output: str, index: str, console_width: int
) -> Table:
    title = Text(f"Strongest interactions, {index} on {plain(output)}", "italic")
    table = Table(title=title, expand=False)
    table.title_justify = "left"
    table.add_column("#", justify="right", style="dim")
    table.add_column("segments", overflow="fold", ratio=1)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(f"{LEVEL:.0%} interval", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    for rank, interaction in enumerate(found, start=1):
        style = "dodger_blue1" if interaction.value > 0 else "dark_orange3"
        table.add_row(
            str(rank),
            named(interaction, console_width - OTHER_COLUMNS),
            Text(signed(interaction.value), style=style),
            interval(interaction),
            f"{interaction.share:.1%}",
        )
    return table


def named(interaction: Interaction, room: int) -> Text:
    """Names side by side if they are two; each at least as long as MAX_NAME allows."""
    width = max(MAX_NAME, room // min(len(interaction.names), 2) - 5)
    names = " + ".join(f"“{_shortened(name, width)}”" for name in interaction.names)
    return Text(f"{names} {DISCOVERY}" if interaction.is_discovery else names)


def _shortened(name: str, width: int) -> str:
    name = plain(" ".join(name.split()))
    return name if len(name) <= width else name[: width - 1] + "…"


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
        self._progress.update(self._task, completed=done, total=total)
        # without a task the bar is off
        speed = next((task.speed for task in self._progress.tasks), None)
        if speed:
            self._progress.update(self._task, rate=f"{speed:.3g} per second")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
