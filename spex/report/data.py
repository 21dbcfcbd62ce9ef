"""The page of training examples: for each test point who helps, harms, acts together.

It has no script: what is shown on hover are titles, and test points are linked to.
"""

from collections.abc import Mapping
from dataclasses import replace
from html import escape

from oracles.data.table import shortened
from spex.explanation import Explanation, Status
from spex.influence import MARGIN, Influence, indices, measured
from spex.interaction import Interaction
from spex.reading import Reading
from spex.report import data_words, words
from spex.report.data_map import PairMap, pair_map
from spex.report.data_words import Example, Point
from spex.report.pieces import (
    asset,
    bar,
    facts,
    filled,
    interval,
    is_unsure,
    meter,
    note,
    orders,
    percent,
    policy,
    signed,
    widest_end,
)
from spex.spectrum import Support
from spex.tried.removals import FLIP, SUBSET, Removal, has_flipped, kept_of, removals_of

IN_A_GROUP, IN_A_ROW = 110, 90  # characters of a text in a group, and in the table
TOLD = ("players_are", "examples", "seed", "repeats")  # of the subject, with training's


def render_data(explanation: Explanation, index: str, top: int) -> str:
    """The page as a string; see `spex.report.html.render_html`."""
    style = asset("page.css") + asset("data.css")
    removals = _of_kind(explanation, FLIP)
    subsets = _of_kind(explanation, SUBSET)
    parts = {
        "policy": policy(style),
        "style": style,
        "title": escape(data_words.question(explanation)),
        "measured": escape(data_words.measure(explanation)),
        "status": explanation.status.name.lower(),
        # the mean over test points: the table has that of each
        "fit": meter(replace(explanation, outputs=("every test point",))),
        "advice": escape(data_words.advice(explanation)),
        "overview": _overview(explanation, removals),
        "points": "".join(
            _point(
                explanation,
                output,
                _removal(explanation, output, removals.get(output))
                + _subset(explanation, subsets.get(output)),
                index,
                top,
            )
            for output in range(len(explanation.outputs))
        ),
        "orders": orders(explanation),
        "facts": facts(_of_training(explanation)),
        "note": f"{note(explanation.status)} {escape(data_words.ALONE)} "
        f"{escape(words.TOGETHER)}",
    }
    return filled("data.html", parts)


def _of_kind(explanation: Explanation, kind: str) -> dict[int, Removal]:
    """Removals of one kind by output."""
    noted = removals_of(explanation)
    return {found.output: found for found in noted if found.kind == kind}


def _of_training(explanation: Explanation) -> Explanation:
    """With the parts of the subject that say something to a reader."""
    subject = explanation.provenance.subject
    shown = {key: subject[key] for key in TOLD if key in subject}
    training = {k: v for k, v in subject.get("training", {}).items() if k != "digest"}
    made = replace(explanation.provenance, subject=shown | training)
    return replace(explanation, provenance=made)


def _overview(explanation: Explanation, removals: Mapping[int, Removal]) -> str:
    """All test points in a table, if there are several."""
    if len(explanation.outputs) == 1:
        return ""
    rows = "".join(
        _overview_row(explanation, output, removals.get(output))
        for output in range(len(explanation.outputs))
    )
    numbers = ("trained on all", "R²", "removed", "predicted", "trained again")
    heads = "".join(f'<th scope="col" class="number">{name}</th>' for name in numbers)
    return (
        '<section aria-label="Test points"><h2>Test points</h2><div class="wide">'
        '<table class="points"><thead><tr><th scope="col">test point</th>'
        f'<th scope="col">label</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        '</div><p class="note">Removed: how many are to be left out to take the margin '
        "across 0, which flips the prediction of one of two classes; predicted by the "
        "surrogate, and measured where it was trained again, once for each set tried, "
        "beyond the budget. None: by the surrogate none takes it clearly beyond 0."
        "</p></section>"
    )


def _overview_row(
    explanation: Explanation, output: int, removal: Removal | None
) -> str:
    point = Point.of(explanation, output)
    fit = explanation.faithfulness.per_output[output]
    is_shown = removal is not None and removal.is_decided
    cells = [
        ("trained on all", signed(float(explanation.intact[output])), ""),
        ("R²", "" if explanation.status is Status.EXACT else f"{fit:.3f}", ""),
        ("removed", _count(explanation, output, removal), ""),
        ("predicted", signed(removal.predicted) if removal and is_shown else "", ""),
        ("trained again", *_measured(explanation, removal)),
    ]
    numbers = "".join(
        f'<td class="number{verdict}" data-name="{name}">{said}</td>'
        for name, said, verdict in cells
    )
    text = f" {escape(shortened(point.text, IN_A_ROW))}" if point.text else ""
    return (
        f'<tr><td class="who"><a href="#point-{output}">{escape(point.name)}</a>{text}'
        f"</td><td>{_label(point.label)}</td>{numbers}</tr>"
    )


def _count(explanation: Explanation, output: int, removal: Removal | None) -> str:
    """How many are removed, none or not decided; "" of what is no margin."""
    if removal is not None:
        return str(len(removal.players)) if removal.is_decided else "not decided"
    return "none" if measured(explanation, output) == MARGIN else ""


def _measured(explanation: Explanation, removal: Removal | None) -> tuple[str, str]:
    """What a removal measured, and the class of its cell."""
    if removal is None or removal.measured is None:
        return "", ""
    flipped = has_flipped(explanation, removal)
    return signed(removal.measured), " reached" if flipped else " missed"


def _point(
    explanation: Explanation,
    output: int,
    sets: str,
    index: str,
    top: int,
) -> str:
    """The section of a test point; `sets` is what is said of removals and subsets."""
    point = Point.of(explanation, output)
    found = Influence.of(explanation, output, top=top, index=index)
    kind = measured(explanation, output)
    of_one, of_groups = indices(index)
    widest = widest_end([*found.helpful, *found.harmful])
    lists = "".join(
        _list(
            f"{name} {data_words.players(explanation)}",
            "".join(_row(explanation, one, widest) for one in listed),
            data_words.adds(kind, len(listed)),
            of_one,
        )
        for name, listed in (("Helpful", found.helpful), ("Harmful", found.harmful))
    )
    drawn = pair_map(explanation, PairMap.of(explanation, output, index))
    heat = f"<section><h3>The strongest pairs</h3>{drawn}</section>" if drawn else ""
    together = _together(explanation, found, of_groups)
    return (
        f'<article id="point-{output}"><h2>{escape(point.name)}</h2>'
        f"{_quoted(point)}<p>{escape(data_words.intact(explanation, output))}</p>"
        f'{sets}<div class="pair">{lists}</div><div class="pair">'
        f"{together}{heat}</div></article>"
    )


def _together(explanation: Explanation, found: Influence, index: str) -> str:
    """The groups that stand out from the error."""
    sure = [
        (one, read)
        for one, read in zip(found.together, found.readings, strict=True)
        if not is_unsure(one)
    ]
    widest = widest_end([one for one, _ in sure])
    rows = "".join(_group(explanation, one, read, widest) for one, read in sure)
    return _list("Acting together", rows, data_words.groups(len(sure)), index)


def _quoted(point: Point) -> str:
    text = f"<q>{escape(shortened(point.text))}</q>" if point.text else ""
    return f'<p class="quoted">{text} {_label(point.label)}</p>' if text else ""


def _removal(explanation: Explanation, output: int, removal: Removal | None) -> str:
    """What flips the prediction, and who that is."""
    if measured(explanation, output) != MARGIN:
        return ""
    said = escape(data_words.removal(explanation, removal))
    if removal is None or not removal.is_decided:
        return f'<p class="flip">{said}</p>'
    return _set(explanation, said, "What is removed", removal.players)


def _subset(explanation: Explanation, found: Removal | None) -> str:
    """What to train on alone."""
    if found is None:
        return ""
    said = escape(data_words.subset(explanation, found))
    return _set(explanation, said, "What is trained on", kept_of(explanation, found))


def _set(explanation: Explanation, said: str, head: str, players: Support) -> str:
    members = "".join(f"<li>{_example(explanation, i)}</li>" for i in players)
    return (
        f'<div class="flip"><p>{said}</p><details><summary>{head}</summary>'
        f"<ul>{members}</ul></details></div>"
    )


def _list(head: str, rows: str, said: str, index: str) -> str:
    listed = f'<ol class="interactions">{rows}</ol>' if rows else ""
    return (
        f'<section><h3>{escape(head)} <span class="index">{escape(index)}</span></h3>'
        f'<p class="about">{escape(said)}</p>{listed}</section>'
    )


def _row(explanation: Explanation, one: Interaction, widest: float) -> str:
    """A single player: who it is, and what it does."""
    return _entry(one, _example(explanation, one.players[0]), "", widest)


def _group(
    explanation: Explanation, one: Interaction, read: Reading, widest: float
) -> str:
    members = "".join(
        f"<div>{_example(explanation, player, IN_A_GROUP)}</div>"
        for player in one.players
    )
    return _entry(one, members, data_words.together(read), widest)


def _entry(one: Interaction, who: str, said: str, widest: float) -> str:
    """An entry of a list, laid out as `spex.report.pieces.row`."""
    sign = "p" if one.value > 0 else "m"
    doubt = " unsure" if is_unsure(one) else ""
    reading = f'<div class="reading">{escape(said)}</div>' if said else ""
    return (
        f'<li class="interaction {sign}{doubt}"><div class="names">{who}</div>'
        f'{bar(one, widest)}<div class="value">{signed(one.value)}</div>{reading}'
        f'<div class="share">{percent(one.share)} of variance</div>'
        f'<div class="interval">{interval(one)}</div></li>'
    )


def _example(explanation: Explanation, player: int, width: int | None = None) -> str:
    """A player's name, label and text."""
    one = Example.of(explanation, player)
    text = one.text if width is None else shortened(one.text, width)
    return (
        f'<span class="name">{escape(one.name)}</span> {_label(one.label)} '
        f'<span class="example">{escape(text)}</span>'
    )


def _label(label: str) -> str:
    return f'<span class="tag">{escape(label)}</span>' if label else ""
