"""The page: one self-contained HTML file, no network, readable without scripts.

Everything that comes from the explanation is escaped: as markup in the body, and as
JSON whose angle brackets are written as \\u003c in the data the script reads. What the
script swaps when another output is chosen is markup made, and escaped, here.
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

import numpy as np

from spex.explanation import Explanation, Interaction, Status
from spex.faithfulness import LEVEL
from spex.report import words

CELL_HEIGHT = 720  # pixels of the frame in a notebook
NAME_WIDTH = 90  # characters of a segment's name in the list
LISTED = 60  # groups the script can show, all outputs together
SHADES = 8  # steps of colour in page.css, each way
SCALES = ("log-odds", "log-probability")  # values the script shows as probability too


def render_html(explanation: Explanation, index: str = "BII", top: int = 10) -> str:
    """The page as a string.

    Args:
        explanation: what to show.
        index: interaction index of the list.
        top: groups and single players listed for each output; the script can show
            more of the groups.
    """
    script, style = _asset("page.js"), _asset("page.css")
    parts = {
        "policy": _policy(script, style),
        "style": style,
        "script": script,
        "data": _inert(_data(explanation, index, top)),
        "title": escape(words.question(explanation)),
        "status": explanation.status.name.lower(),
        "advice": escape(explanation.status.value),
        "outputs": _output_choice(explanation.outputs),
        "text": _text(explanation),
        "always": _always(explanation.provenance.subject),
        "facts": _facts(explanation),
        "note": _note(explanation.status),
        "index": escape(index),
        **_view(explanation, index, top, listed=top, output=0),
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


def influence(explanation: Explanation) -> list[float]:
    """Banzhaf value of each player for the first output."""
    values = [0.0] * len(explanation.players)
    for (player,), value in explanation.index("BV").items():
        values[player] = float(np.atleast_1d(value)[0])
    return values


def signed(value: float) -> str:
    """A value with its sign, in plain digits where they show it.

    >>> signed(1.62789), signed(-0.00042), signed(2.5e7)
    ('+1.628', '-0.00042', '+2.5e+07')
    """
    is_plain = value == 0 or 0.01 <= abs(value) < 1e6
    return f"{value:+.3f}" if is_plain else f"{value:+.2g}"


def interval(found: Interaction) -> str:
    """Where the value lies, in digits that suit its wider end."""
    if found.low == found.high:
        return "exact"
    is_plain = 0.1 <= max(-found.low, found.high) < 1e6
    low, high = (
        f"{end:+.2f}" if is_plain else f"{end:+.2g}" for end in (found.low, found.high)
    )
    return f"{low} to {high}"


def answer(explanation: Explanation, groups: list[Interaction], index: str) -> str:
    """The strongest group that stands out from its error, in one sentence."""
    if explanation.status is Status.POOR:
        return "Too little is explained to name what acts together."
    if not groups:
        return "Nothing acts together: the effects of the parts just add up."
    found = next((group for group in groups if not _is_unsure(group)), None)
    if found is None:
        return "No group stands out from the error of the estimate."
    names = " + ".join(f"“{_shorten(name)}”" for name in found.names)
    return f"Strongest interaction: {names}, {words.reading(found, index)}."


def ranked(
    explanation: Explanation, index: str, output: int = 0
) -> tuple[list[Interaction], list[Interaction]]:
    """Groups of two or more players, and single players, strongest first."""
    found = explanation.top(sys.maxsize, index, output=output)
    groups = [interaction for interaction in found if len(interaction.players) > 1]
    return groups, [alone for alone in found if len(alone.players) == 1]


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
    num_outputs = len(explanation.outputs)
    listed = max(top, LISTED // num_outputs)
    value = explanation.provenance.subject.get("value")
    return {
        "supports": [list(support) for support in explanation.fourier.supports],
        "coefficients": explanation.fourier.coefficients.T.tolist(),
        "intact": explanation.intact.tolist(),
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
    ends = (abs(end) for found in groups + alone for end in (found.low, found.high))
    widest = max(ends, default=0.0) or 1.0
    together = "".join(_row(found, index, widest) for found in groups)
    single = "".join(_row(found, index, widest) for found in alone)
    return {
        "answer": escape(answer(explanation, groups, index)),
        "intact": escape(_intact(explanation, output)),
        "fit": _fit(explanation, output),
        "together": together or "<li>Nothing: parts act by themselves.</li>",
        "alone": single or "<li>Nothing: the output does not vary.</li>",
        "orders": _orders(explanation, output),
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


def _fit(explanation: Explanation, output: int) -> str:
    """Faithfulness as a meter with its interval, and in words."""
    fit = explanation.faithfulness
    level, low, high = (
        round(100 * min(max(end, 0.0), 1.0), 2) for end in (fit, fit.low, fit.high)
    )
    said = escape(words.faithfulness(explanation))
    if len(explanation.outputs) > 1:
        said += f" For this output R² {fit.per_output[output]:.3f}."
    kept = escape(words.kept(explanation))
    return (
        f'<p class="said">{said}</p>'
        '<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" '
        'aria-hidden="true"><rect class="track" width="100" height="10"/>'
        f'<rect class="level" width="{level}" height="10"/>'
        f'<rect class="spread" x="{low}" y="3.5" width="{high - low:.2f}" '
        'height="3"/></svg>' + (f"<p>{kept}</p>" if kept else "")
    )


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
    values = influence(explanation)
    largest = max(map(abs, values), default=0.0) or 1.0
    segments = [
        _segment(i, name, value, value / largest)
        for i, (name, value) in enumerate(zip(explanation.players, values, strict=True))
    ]
    if "text" not in subject:
        return '<span class="chips">' + " ".join(segments) + "</span>"
    text, end, parts = subject["text"], 0, []
    for (start, stop), segment in zip(subject["spans"], segments, strict=True):
        parts += [escape(text[end:start]), segment]
        end = stop
    parts.append(escape(text[end:]))
    before, after = (str(subject.get(key) or "") for key in ("prefix", "suffix"))
    return _kept(before, f"{before} ") + "".join(parts) + _kept(after, f" {after}")


def _kept(text: str, spaced: str) -> str:
    """Text that is never ablated, if there is any."""
    return text and f'<span class="always">{escape(spaced)}</span>'


def _always(subject: Mapping[str, Any]) -> str:
    if not (subject.get("prefix") or subject.get("suffix")):
        return ""
    return ' <span class="always">Grey text is always kept.</span>'


def _segment(number: int, name: str, value: float, part: float) -> str:
    shade = f"{'p' if part > 0 else 'm'}{round(abs(part) * SHADES)}"
    return (
        f'<span class="segment {shade}" data-player="{number}" '
        f'title="{signed(value)} on average when kept">{escape(name)}</span>'
    )


def _row(found: Interaction, index: str, widest: float) -> str:
    names = '<span class="plus">+</span>'.join(
        f'<span class="name">{escape(_shorten(name))}</span>' for name in found.names
    )
    sign = "p" if found.value > 0 else "m"
    doubt = " unsure" if _is_unsure(found) else ""
    if found.is_discovery:
        names += f'<span class="discovery" title="{escape(words.DISCOVERY)}">•</span>'
    return (
        f'<li class="interaction {sign}{doubt}" '
        f'data-players="{" ".join(map(str, found.players))}">'
        f'<div class="names">{names}</div>{_bar(found, widest)}'
        f'<div class="value">{signed(found.value)}</div>'
        f'<div class="reading">{escape(words.reading(found, index))}</div>'
        f'<div class="share">{_percent(found.share)} of variance</div>'
        f'<div class="interval">{interval(found)}</div></li>'
    )


def _bar(found: Interaction, widest: float) -> str:
    """The value from zero, with its interval as a whisker."""

    def place(value: float) -> float:
        return round(60 + 58 * value / widest, 2)

    zero, value = place(0.0), place(found.value)
    left, width = min(zero, value), round(abs(value - zero), 2)
    low, high = place(found.low), place(found.high)
    return (
        '<svg class="bar" viewBox="0 0 120 14" aria-hidden="true">'
        f'<line class="axis" x1="{zero}" x2="{zero}" y1="0" y2="14"/>'
        f'<rect x="{left}" y="4" width="{width}" height="6" rx="1"/>'
        f'<line class="whisker" x1="{low}" x2="{high}" y1="7" y2="7"/></svg>'
    )


def _is_unsure(found: Interaction) -> bool:
    return found.low <= 0 <= found.high


def _shorten(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share == 0 or share >= 0.0005 else "&lt;0.1%"


def _orders(explanation: Explanation, output: int) -> str:
    """The surrogate's variance by size of group, as bars."""
    energy = explanation.energy_by_order[1:, output]
    total = energy.sum()
    if total == 0:
        return ""
    names = {1: "single players", 2: "pairs"}
    rows = "".join(
        f"<span>{names.get(order, f'groups of {order}')}</span>"
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * share:.2f}" height="8"/></svg>'
        f"<span>{_percent(share)}</span>"
        for order, share in enumerate((energy / total).tolist(), start=1)
    )
    return f'<p>Where the variance lies:</p><div class="orders">{rows}</div>'


def _facts(explanation: Explanation) -> str:
    """Cost, method, subject and versions as a list of terms."""
    made = explanation.provenance
    skipped = ("kind", "text", "prefix", "suffix")
    subject = "; ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in made.subject.items()
        if isinstance(value, str | int | float) and key not in skipped
    )
    facts = {
        "Cost": words.cost(explanation),
        "Method": words.method(explanation),
        "Subject": subject,
        "Versions": ", ".join(f"{name} {v}" for name, v in made.versions.items()),
    }
    return "".join(
        f"<dt>{term}</dt><dd>{escape(said)}</dd>"
        for term, said in facts.items()
        if said
    )


def _note(status: Status) -> str:
    shares = (
        "“Of variance” is the part of the surrogate's variation that a group carries "
        "by itself."
    )
    if status is Status.EXACT:
        return shares
    return (
        f"Whiskers and ranges are approximate {LEVEL:.0%} intervals from the error on "
        "held-out ablations; a group in light type may be none, for its interval holds "
        f"zero. {shares}"
    )
