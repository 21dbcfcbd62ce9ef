"""The page: one self-contained HTML file, no network, readable without scripts.

Everything that comes from the explanation is escaped: as markup in the body, and as
JSON whose angle brackets are written as \\u003c in the data the script reads. What the
script swaps when another output is chosen is markup made, and escaped, here.
"""

import json
import re
import sys
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from spex.components import KIND as COMPONENTS
from spex.explanation import Explanation
from spex.influence import KIND as DATA
from spex.interaction import Interaction
from spex.report import words
from spex.report.components import render_components
from spex.report.data import render_data
from spex.report.pieces import (
    answer,
    asset,
    facts,
    filled,
    meter,
    note,
    orders,
    policy,
    row,
    signed,
    widest_end,
)

CELL_HEIGHT = 720  # pixels of the frame in a notebook
LISTED = 60  # groups the script can show, all outputs together
SHADES = 8  # steps of colour in page.css, each way
ALWAYS = ' <span class="always">Grey text is always kept.</span>'
SCALES = ("log-odds", "log-probability")  # values the script shows as probability too


def render_html(explanation: Explanation, index: str = "BII", top: int = 10) -> str:
    """The page as a string.

    Args:
        explanation: what to show.
        index: interaction index of the list.
        top: groups and single players listed for each output; the script can show
            more of the groups.
    """
    if explanation.provenance.subject.get("kind") == COMPONENTS:
        return render_components(explanation, index, top)
    if explanation.provenance.subject.get("kind") == DATA:
        return render_data(explanation, index, top)
    script, style = asset("page.js"), asset("page.css")
    text = _text(explanation)
    parts = {
        "policy": policy(style, script),
        "style": style,
        "script": script,
        "data": _inert(_data(explanation, index, top)),
        "title": escape(words.question(explanation)),
        "status": explanation.status.name.lower(),
        "advice": escape(explanation.status.value),
        "outputs": _output_choice(explanation.outputs),
        "text": text,
        "always": ALWAYS if 'class="always"' in text else "",
        "facts": facts(explanation),
        "note": note(explanation.status),
        "index": escape(index),
        **_view(explanation, index, top, listed=top, output=0),
    }
    return filled("page.html", parts)


def render_cell(explanation: Explanation) -> str:
    """The page in a frame of its own, for a notebook's output."""
    page = escape(render_html(explanation), quote=True)
    return (
        f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" '
        f'height="{CELL_HEIGHT}" style="border:0"></iframe>'
    )


def influence(explanation: Explanation) -> list[list[float]]:
    """Banzhaf value of each player, for every output, (k, n)."""
    values = np.zeros((len(explanation.players), len(explanation.outputs)))
    for (player,), value in explanation.index("BV").items():
        values[player] = value
    return values.T.tolist()


def ranked(
    explanation: Explanation, index: str, output: int = 0
) -> tuple[list[Interaction], list[Interaction]]:
    """Groups of two or more players, and single players, strongest first."""
    found = explanation.top(sys.maxsize, index, output=output)
    groups = [interaction for interaction in found if len(interaction.players) > 1]
    return groups, [alone for alone in found if len(alone.players) == 1]


def _inert(data: Mapping[str, Any]) -> str:
    """JSON that no HTML parser can mistake for markup."""
    text = json.dumps(data, ensure_ascii=False)
    return re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _data(explanation: Explanation, index: str, top: int) -> dict[str, Any]:
    """What the script needs: the spectrum, and a view of each output."""
    num_outputs = len(explanation.outputs)
    listed = max(top, LISTED // num_outputs)
    value = explanation.provenance.subject.get("value")
    return {
        "supports": [list(support) for support in explanation.fourier.supports],
        "coefficients": explanation.fourier.coefficients.T.tolist(),
        "intact": explanation.intact.tolist(),
        "influence": influence(explanation),
        "scale": value if value in SCALES else None,
        "shades": SHADES,
        "top": top,
        "views": [
            _view(explanation, index, top, listed, output)
            for output in range(num_outputs)
        ],
    }


def _view(
    explanation: Explanation, index: str, top: int, listed: int, output: int
) -> dict[str, str]:
    """Markup of what differs from output to output, by the id it stands under."""
    groups, alone = ranked(explanation, index, output)
    groups, alone = groups[:listed], alone[:top]
    widest = widest_end(groups + alone)
    together, single = (
        "".join(row(found, words.reading(found, index), widest) for found in listed)
        for listed in (groups, alone)
    )
    return {
        "answer": escape(answer(explanation, groups, index)),
        "intact": escape(_intact(explanation, output)),
        "fit": meter(explanation, output),
        "together": together or "<li>Nothing: parts act by themselves.</li>",
        "alone": single or "<li>Nothing: the output does not vary.</li>",
        "orders": orders(explanation, output),
    }


def _intact(explanation: Explanation, output: int) -> str:
    subject = explanation.provenance.subject
    measured = signed(float(explanation.intact[output]))
    text = f"Measured with all kept: {explanation.outputs[output]} = {measured}"
    if "prediction" in subject:
        text += f"; the model says “{str(subject['prediction']).strip()}”"
    if "prediction_probability" in subject:
        text += f" ({subject['prediction_probability']:.1%})"
    return text + "."


def _output_choice(outputs: tuple[str, ...]) -> str:
    if len(outputs) == 1:
        return ""
    options = "".join(f"<option>{escape(name)}</option>" for name in outputs)
    return (
        f'<label class="choice">Output <select id="output">{options}</select></label>'
    )


def _text(explanation: Explanation) -> str:
    """The text with its segments marked, or the players as chips."""
    subject = explanation.provenance.subject
    values = influence(explanation)[0]
    largest = max(map(abs, values), default=0.0) or 1.0
    segments = [
        _segment(i, name, value, value / largest)
        for i, (name, value) in enumerate(zip(explanation.players, values, strict=True))
    ]
    if "text" not in subject:
        return '<span class="chips">' + " ".join(segments) + "</span>"
    text, end, parts = subject["text"], 0, []
    for (start, stop), segment in zip(subject["spans"], segments, strict=True):
        parts += [_between(text[end:start]), segment]
        end = stop
    parts.append(_between(text[end:]))
    before, after = words.always_kept(subject)
    return _kept(before) + "".join(parts) + _kept(after)


def _between(gap: str) -> str:
    """Text between segments: pinned, if it is more than white space and marks."""
    return _kept(gap) if words.is_told(gap) else escape(gap)


def _kept(text: str) -> str:
    """Text that is never ablated, if there is any."""
    return text and f'<span class="always">{escape(text)}</span>'


def _segment(number: int, name: str, value: float, part: float) -> str:
    shade = f"{'p' if part > 0 else 'm'}{round(abs(part) * SHADES)}"
    return (
        f'<span class="segment {shade}" data-player="{number}" '
        f'title="{signed(value)} on average when kept">{escape(name)}</span>'
    )
