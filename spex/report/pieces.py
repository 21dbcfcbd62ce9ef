"""Pieces that the pages share: markup of rows, bars, meters and facts, all escaped."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from spex.explanation import Explanation, Status
from spex.faithfulness import LEVEL
from spex.interaction import Interaction
from spex.report import words

NAME_WIDTH = 120  # characters of a group's names in the list
LEAST_WIDTH = 32  # of each of them


def signed(value: float) -> str:
    """A value with its sign, in plain digits where they show it.

    >>> signed(1.62789), signed(-0.00042), signed(2.5e7)
    ('+1.628', '-0.00042', '+2.5e+07')
    """
    value += 0.0  # no zero has a minus
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


def answer(explanation: Explanation, groups: Sequence[Interaction], index: str) -> str:
    """The strongest group that stands out from its error, in one sentence."""
    if explanation.status is Status.POOR:
        return "Too little is explained to name what acts together."
    if not groups:
        return "Nothing acts together: the effects of the parts just add up."
    found = next((group for group in groups if not is_unsure(group)), None)
    if found is None:
        return "No group stands out from the error of the estimate."
    names = " + ".join(f"“{name}”" for name in shortened(found.names))
    return f"Strongest interaction: {names}, {words.reading(found, index)}."


def asset(name: str) -> str:
    """A file of this folder, as text."""
    return files("spex.report").joinpath(name).read_text(encoding="utf-8")


def filled(template: str, parts: Mapping[str, str]) -> str:
    """An asset with its place-holders filled with markup.

    In one pass, so that a prompt that contains a place-holder stays as it is.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], asset(template))


def policy(style: str, script: str = "") -> str:
    """A content security policy that runs our script and style and nothing else."""

    def source(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'" if text else "'none'"

    return (
        f"default-src 'none'; script-src {source(script)}; style-src {source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def meter(explanation: Explanation, output: int = 0) -> str:
    """Faithfulness as a meter with its interval, and in words."""
    fit = explanation.faithfulness
    level, low, high = (
        round(100 * min(max(end, 0.0), 1.0), 2) for end in (fit, fit.low, fit.high)
    )
    said = escape(words.faithfulness(explanation))
    if len(explanation.outputs) > 1 and explanation.status is not Status.EXACT:
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


def widest_end(listed: Sequence[Interaction]) -> float:
    """The largest end of any interval, to draw them on one scale."""
    ends = (abs(end) for found in listed for end in (found.low, found.high))
    return max(ends, default=0.0) or 1.0


def row(found: Interaction, said: str, widest: float) -> str:
    """One entry of a list: names, value with its interval, and what it means."""
    names = '<span class="plus">+</span>'.join(
        f'<span class="name">{escape(name)}</span>' for name in shortened(found.names)
    )
    sign = "p" if found.value > 0 else "m"
    doubt = " unsure" if is_unsure(found) else ""
    if found.is_discovery:
        names += f'<span class="discovery" title="{escape(words.DISCOVERY)}">•</span>'
    return (
        f'<li class="interaction {sign}{doubt}" '
        f'data-players="{" ".join(map(str, found.players))}">'
        f'<div class="names">{names}</div>{bar(found, widest)}'
        f'<div class="value">{signed(found.value)}</div>'
        f'<div class="reading">{escape(said)}</div>'
        f'<div class="share">{percent(found.share)} of variance</div>'
        f'<div class="interval">{interval(found)}</div></li>'
    )


def bar(found: Interaction, widest: float) -> str:
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


def is_unsure(found: Interaction) -> bool:
    """Whether it may be none at all."""
    return found.low <= 0 <= found.high


def shortened(names: Sequence[str]) -> list[str]:
    """Names on one line, each the shorter the more there are."""
    width = max(NAME_WIDTH // max(len(names), 1), LEAST_WIDTH)
    lines = [" ".join(name.split()) for name in names]
    return [n if len(n) <= width else n[: width - 1] + "…" for n in lines]


def percent(share: float) -> str:
    """A part of the whole, as markup."""
    return f"{share:.1%}" if share == 0 or share >= 0.0005 else "&lt;0.1%"


def orders(explanation: Explanation, output: int = 0) -> str:
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
        f"<span>{percent(share)}</span>"
        for order, share in enumerate((energy / total).tolist(), start=1)
    )
    return f'<p>Where the variance lies:</p><div class="orders">{rows}</div>'


def facts(explanation: Explanation) -> str:
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
        "Noise": words.noise(explanation),
        "Method": words.method(explanation),
        "Subject": subject,
        "Versions": ", ".join(f"{name} {v}" for name, v in made.versions.items()),
    }
    return "".join(
        f"<dt>{term}</dt><dd>{escape(said)}</dd>"
        for term, said in facts.items()
        if said
    )


def note(status: Status) -> str:
    """How to read intervals and shares."""
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
