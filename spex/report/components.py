"""The page of a model's components: a layer-by-head map, circuits and interactions.

It has no script: what is shown on hover are titles, and the map is there as a table.
Several outputs, such as one for each prompt, follow one another.
"""

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from spex.components import MOST_OUTPUTS, Effects, Group, Where, components_of
from spex.explanation import Explanation
from spex.report import components_words, words
from spex.report.layer_map import layer_map
from spex.report.layers import Grid
from spex.report.pieces import (
    answer,
    asset,
    facts,
    filled,
    is_unsure,
    meter,
    note,
    orders,
    policy,
    row,
    signed,
    widest_end,
)
from spex.tried.circuits import CIRCUIT, Circuit, circuits_of

HEADS = {
    Where.MIXED: "Which words act through which components",
    Where.ACROSS: "What acts together across layers",
    Where.WITHIN: "What acts together within a layer",
    Where.SEGMENTS: "Which words act together",
}
"""Heads of the lists, in the order of the page."""

NONE = "<li>Nothing that stands out from the error of the estimate.</li>"


def render_components(explanation: Explanation, index: str, top: int) -> str:
    """The page as a string; see `spex.report.html.render_html`."""
    explanation = replace(explanation, players=words.told_apart(explanation.players))
    style = asset("page.css") + asset("map.css")
    count = len(explanation.outputs)
    shown = [
        Effects.of(explanation, output, top=top, index=index)
        for output in range(min(count, MOST_OUTPUTS))
    ]
    told = escape(components_words.behaviour(explanation))
    is_one = count == 1
    parts = {
        "policy": policy(style),
        "style": style,
        "title": escape(words.question(explanation)),
        "answer": escape(components_words.outputs(explanation))
        or _answer(explanation, shown[0], index),
        "intact": f"{told} {_intact(explanation, 0)}" if is_one else told,
        "status": explanation.status.name.lower(),
        "fit": meter(explanation)
        if is_one
        else f'<p class="said">{escape(words.faithfulness(explanation))}</p>',
        "advice": escape(explanation.status.value),
        "outputs": "".join(
            _found(explanation, output, effects, index)
            if is_one
            else _output(explanation, output, effects, index)
            for output, effects in enumerate(shown)
        ),
        "orders": orders(explanation) if is_one else "",
        "facts": facts(explanation),
        "note": f"{note(explanation.status)} {escape(words.TOGETHER)}",
    }
    return filled("components.html", parts)


def _answer(explanation: Explanation, effects: Effects, index: str) -> str:
    groups = [group.found for group in effects.groups]
    return escape(answer(explanation, groups, index))


def _intact(explanation: Explanation, output: int) -> str:
    return escape(components_words.intact(explanation, output))


def _output(explanation: Explanation, output: int, effects: Effects, index: str) -> str:
    """One of several outputs, under its name."""
    name = escape(explanation.outputs[output])
    prompt = escape(components_words.prompt(explanation, output))
    asked = f"<p>{prompt}</p>" if prompt else ""
    return (
        f'<section class="output" aria-label="{name}"><h1>{name}</h1>{asked}'
        f'<p class="answer">{_answer(explanation, effects, index)}</p>'
        f'<p class="intact">{_intact(explanation, output)}</p>'
        f"{_found(explanation, output, effects, index)}"
        f"{orders(explanation, output)}</section>"
    )


def _found(explanation: Explanation, output: int, effects: Effects, index: str) -> str:
    """Map, circuits and lists of an output."""
    circuits = [one for one in circuits_of(explanation) if one.output == output]
    groups = [group.found for group in effects.groups]
    widest = widest_end([*groups, *effects.alone])
    listed = "".join(
        _groups(where, head, effects.groups, index, widest)
        for where, head in HEADS.items()
    )
    alone = "".join(
        row(found, words.reading(found, "BV"), widest)
        for found in effects.alone
        if not is_unsure(found)
    )
    return (
        f"{_map(explanation, effects, circuits)}{_circuits(explanation, circuits)}"
        f'<div class="lists">{listed}<section aria-label="What acts alone">'
        '<h2>What acts alone <span class="index">Banzhaf value</span></h2>'
        f'<ol class="interactions">{alone or NONE}</ol></section></div>'
    )


def _map(
    explanation: Explanation, effects: Effects, circuits: Sequence[Circuit]
) -> str:
    """The map, how to read it, and the same as a table."""
    grid = Grid.of(components_of(explanation))
    if grid is None:
        return ""
    names, values = explanation.players, effects.values
    framed = max(
        (found for found in circuits if found.kind == CIRCUIT),
        key=lambda found: found.asked,
        default=None,
    )
    drawn = layer_map(
        grid, names, values, effects.groups, framed.players if framed else ()
    )
    shades = {
        sign: "".join(f'<span class="{sign}{step}"></span>' for step in steps)
        for sign, steps in (("m", (8, 5, 2)), ("p", (2, 5, 8)))
    }
    largest = max(map(abs, values), default=0.0)
    frame = ""
    if framed:
        told = components_words.circuit(explanation, framed)
        frame = f' <span class="framed"></span> {escape(told)}.'
    return (
        '<section aria-label="Map"><h2>Where it happens</h2>'
        f'<div class="wide">{drawn}</div><p class="legend"><span class="scale">'
        f"{signed(-largest)} {shades['m']}{shades['p']} {signed(largest)}</span> what "
        "keeping a part does, on average over what else is kept (Banzhaf value). "
        'Lines join the strongest pairs: <span class="sample"></span> together more '
        'than one by one, <span class="sample m"></span> less.'
        f"{frame}</p>{_table(grid, values)}</section>"
    )


def _table(grid: Grid, values: Sequence[float]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in grid.columns)
    lines = []
    for number, name in enumerate(grid.rows):
        players = [grid.cells.get((number, i)) for i in range(len(grid.columns))]
        cells = ("" if p is None else signed(values[p]) for p in players)
        line = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{line}</tr>')
    return (
        '<details><summary>The map as a table</summary><div class="wide"><table>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div></details>"
    )


def _circuits(explanation: Explanation, circuits: Sequence[Circuit]) -> str:
    """What works alone, predicted next to measured."""
    if not circuits:
        return ""
    rows = "".join(_circuit(explanation, found) for found in circuits)
    return (
        f'<section aria-label="Circuits"><h2>{escape(components_words.ENOUGH)}</h2>'
        '<div class="wide">'
        '<table class="circuits"><thead><tr><th scope="col">asked</th>'
        '<th scope="col">working</th>'
        '<th scope="col" class="number">count</th>'
        '<th scope="col" class="number">predicted</th>'
        '<th scope="col" class="number">measured</th>'
        '<th scope="col" class="number">faithfulness</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">'
        f"{escape(components_words.checks(circuits))}</p></section>"
    )


def _circuit(explanation: Explanation, found: Circuit) -> str:
    measured = "none" if found.measured is None else signed(found.measured)
    part = "none" if found.faithfulness is None else f"{found.faithfulness:.1%}"
    kind = ""
    if found.kind == CIRCUIT:
        kind = " reached" if found.is_reached else " missed"
    asked = components_words.circuit(explanation, found)
    who = components_words.working(explanation, found)
    return (
        f'<tr><td class="asked">{escape(asked)}</td>'
        f'<td class="who">{escape(who)}</td>'
        f'<td class="number" data-name="count">{len(found.players)} of '
        f'{len(explanation.players)}</td><td class="number" data-name="predicted">'
        f'{signed(found.predicted)}</td><td class="number" data-name="measured">'
        f'{measured}</td><td class="number{kind}" data-name="faithfulness">{part}'
        "</td></tr>"
    )


def _groups(
    where: Where, head: str, groups: Sequence[Group], index: str, widest: float
) -> str:
    """A list of the groups of a kind that stand out, if there are any of that kind."""
    found = [group for group in groups if group.where is where]
    sure = [group for group in found if not is_unsure(group.found)]
    if not found:
        return ""
    rows = "".join(
        row(group.found, words.together(group.reading), widest) for group in sure
    )
    return (
        f'<section aria-label="{head}"><h2>{head} <span class="index">{escape(index)}'
        f'</span></h2><ol class="interactions">{rows or NONE}</ol></section>'
    )
