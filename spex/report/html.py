"""The page: one self-contained HTML file, no network, readable without scripts.

Everything that comes from the explanation is escaped: as markup in the body, and as
JSON whose angle brackets are written as \\u003c in the data the script reads.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from spex.explanation import Explanation, Interaction
from spex.report import words

CELL_HEIGHT = 720  # pixels of the frame in a notebook
MAX_CHARACTERS = 90  # of a segment's name in the list


def render_html(explanation: Explanation, index: str = "BII", top: int = 10) -> str:
    """The page as a string.

    Args:
        explanation: what to show.
        index: interaction index of the list.
        top: groups and single players listed for each output.
    """
    data = _data(explanation, index, top)
    script, style = _asset("page.js"), _asset("page.css")
    first = data["views"][0]
    parts = {
        "policy": _policy(script, style),
        "style": style,
        "script": script,
        "data": _inert(data),
        "title": escape(words.question(explanation)),
        "intact": escape(_intact(explanation)),
        "status": explanation.status.name.lower(),
        "advice": escape(explanation.status.value),
        "outputs": _output_choice(explanation.outputs),
        "text": _text(explanation, first["influence"]),
        **_lists(_strongest(explanation, index, top, output=0), index),
        "orders": escape(first["orders"]),
        "faithfulness": escape(words.faithfulness(explanation)),
        "cost": escape(words.cost(explanation)),
        "method": escape(words.method(explanation)),
        "index": escape(index),
    }
    # one pass, so that a prompt that contains a place-holder stays as it is
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("page.html"))


def render_cell(explanation: Explanation) -> str:
    """The page in a frame of its own, for a notebook's output."""
    page = escape(render_html(explanation), quote=True)
    return (
        f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" '
        f'height="{CELL_HEIGHT}" style="border:0"></iframe>'
    )


def _asset(name: str) -> str:
    return files("spex.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """A content security policy that runs our script and style and nothing else."""

    def source(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; script-src {source(script)}; style-src {source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _inert(data: Mapping[str, Any]) -> str:
    """JSON that no HTML parser can mistake for markup."""
    text = json.dumps(data, ensure_ascii=False)
    return re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _data(explanation: Explanation, index: str, top: int) -> dict[str, Any]:
    """What the script needs: the spectrum, and a view of each output."""
    subject = explanation.provenance.subject
    return {
        "outputs": list(explanation.outputs),
        "supports": [list(support) for support in explanation.fourier.supports],
        "coefficients": explanation.fourier.coefficients.T.tolist(),
        "intact": explanation.intact.tolist(),
        "isLogOdds": subject.get("value") == "log-odds",
        "views": [
            {
                "influence": _influence(explanation, output),
                "orders": _orders(explanation, output),
                "interactions": [
                    {
                        "players": list(found.players),
                        "value": found.value,
                        "low": found.low,
                        "high": found.high,
                        "share": found.share,
                        "names": [_short(name) for name in found.names],
                        "reading": words.reading(found, index),
                    }
                    for found in _strongest(explanation, index, top, output)
                ],
            }
            for output in range(len(explanation.outputs))
        ],
    }


def _influence(explanation: Explanation, output: int) -> list[float]:
    """Banzhaf value of each player."""
    influence = [0.0] * len(explanation.players)
    for single in explanation.top(len(influence), "BV", output=output):
        influence[single.players[0]] = single.value
    return influence


def _intact(explanation: Explanation) -> str:
    subject = explanation.provenance.subject
    text = f"{explanation.outputs[0]} is {explanation.intact[0]:+.3f} with all kept"
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


def _text(explanation: Explanation, influence: list[float]) -> str:
    """The text with a button for every segment, or the players as chips."""
    subject = explanation.provenance.subject
    largest = max(map(abs, influence), default=0.0) or 1.0
    buttons = [
        _segment(i, name, value, value / largest)
        for i, (name, value) in enumerate(
            zip(explanation.players, influence, strict=True)
        )
    ]
    if "text" not in subject:
        return '<span class="chips">' + " ".join(buttons) + "</span>"
    text, end, parts = subject["text"], 0, []
    for (start, stop), button in zip(subject["spans"], buttons, strict=True):
        parts += [escape(text[end:start]), button]
        end = stop
    parts.append(escape(text[end:]))
    if subject.get("suffix"):
        parts.append(f'<span class="always">{escape(" " + subject["suffix"])}</span>')
    return "".join(parts)


def _segment(number: int, name: str, value: float, part: float) -> str:
    shade = f"{'p' if part > 0 else 'm'}{round(abs(part) * 8)}"
    return (
        f'<span class="segment {shade}" data-player="{number}" role="button" '
        f'tabindex="0" aria-pressed="false" title="on average {value:+.3f} when kept">'
        f"{escape(name)}</span>"
    )


def _short(name: str) -> str:
    name = " ".join(name.split())
    if len(name) <= MAX_CHARACTERS:
        return name
    return name[: MAX_CHARACTERS - 1] + "…"


def _strongest(
    explanation: Explanation, index: str, top: int, output: int
) -> list[Interaction]:
    """The `top` strongest groups, then the `top` strongest single players."""
    ranked = explanation.top(sys.maxsize, index, output=output)
    groups = [found for found in ranked if len(found.players) > 1]
    return groups[:top] + [f for f in ranked if len(f.players) == 1][:top]


def _lists(strongest: list[Interaction], index: str) -> dict[str, str]:
    """Rows of groups and of single players, on one scale."""
    ends = (abs(end) for found in strongest for end in (found.low, found.high))
    widest = max(ends, default=0.0) or 1.0
    rows = [_row(i, found, index, widest) for i, found in enumerate(strongest)]
    groups = sum(len(found.players) > 1 for found in strongest)
    return {
        "together": "".join(rows[:groups])
        or "<li>Nothing: parts act by themselves.</li>",
        "alone": "".join(rows[groups:])
        or "<li>Nothing: the output does not vary.</li>",
    }


def _row(number: int, found: Interaction, index: str, widest: float) -> str:
    names = '<span class="plus">+</span>'.join(
        f'<span class="name">{escape(_short(name))}</span>' for name in found.names
    )
    sign = "p" if found.value > 0 else "m"
    return (
        f'<li class="interaction {sign}" data-row="{number}" tabindex="0">'
        f'<div class="names">{names}</div>'
        f'<div class="value">{found.value:+.3f}</div>'
        f'<div class="reading">{escape(words.reading(found, index))}</div>'
        f"{_bar(found, widest)}"
        f'<div class="share">{found.share:.1%} of variance</div></li>'
    )


def _bar(found: Interaction, widest: float) -> str:
    """The value from zero, with its interval as a whisker."""

    def place(value: float) -> float:
        return round(60 + 58 * value / widest, 2)

    zero, value = place(0.0), place(found.value)
    left, width = min(zero, value), abs(value - zero)
    low, high = place(found.low), place(found.high)
    label = f"{found.value:+.3f}, from {found.low:+.3f} to {found.high:+.3f}"
    return (
        f'<svg class="bar" viewBox="0 0 120 14" role="img" aria-label="{label}">'
        f'<line class="axis" x1="{zero}" x2="{zero}" y1="0" y2="14"/>'
        f'<rect x="{left}" y="4" width="{width}" height="6" rx="1"/>'
        f'<line class="whisker" x1="{low}" x2="{high}" y1="7" y2="7"/></svg>'
    )


def _orders(explanation: Explanation, output: int) -> str:
    """Share of the surrogate's variance at each order."""
    energy = explanation.fourier.energy_by_order()[1:, output]
    total = energy.sum()
    if total == 0:
        return ""
    parts = [
        f"order {order}: {share:.0%}"
        for order, share in enumerate(energy / total, start=1)
        if share >= 0.005
    ]
    return "Variance by order: " + ", ".join(parts) + "."
