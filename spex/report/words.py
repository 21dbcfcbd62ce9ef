"""Sentences that both reports share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from spex.components import KIND as COMPONENTS
from spex.explanation import GIVEN, Explanation, Status
from spex.faithfulness import LEVEL
from spex.interaction import Interaction
from spex.reading import Reading

TOGETHER = (
    "One by one: what the players change when each alone is put in, summed; at once: "
    "when all are. Redundant ones do less at once than one by one, synergistic ones "
    "more, both on average over what else is kept."
)
DISCOVERY = "stands out on its own; of those marked, 10 % at most are false on average"

MAX_NOISES = 5  # outputs whose noise is told
PLURALS = {"json": "JSON fields"}  # of kinds of segments; of others an s is added
UNITS = {
    "head": "heads",
    "mlp": "MLPs",
    "head+mlp": "heads and MLPs",
    "layer": "layers",
    "neuron": "neurons",
    "direction": "directions",
}
"""Unit -> what several components are called."""


def question(explanation: Explanation) -> str:
    """The question the explanation answers, in one sentence."""
    subject = explanation.provenance.subject
    kinds = _plural(str(subject.get("segments", "player")))
    if subject.get("kind") == COMPONENTS:
        parts = components(explanation)
        both = f"{kinds} and {parts}" if "segments" in subject else parts
        return f"Which {both}, together, make {subject.get('model')} do this?"
    if subject.get("kind") == "text-classifier":
        says = ", ".join(subject.get("targets", ()))
        return f"Which {kinds}, together, made {subject.get('model')} say {says}?"
    if subject.get("kind") == "causal-lm":
        says = str(subject.get("continuation", "")).strip()
        return (
            f"Which {kinds}, together, made {subject.get('model')} continue “{says}”?"
        )
    if "act" in subject:
        model = subject.get("model")
        return f"Which {kinds}, together, made {model} {subject['act']}?"
    return "Which players, together, made the function say what it says?"


def _plural(kind: str) -> str:
    """What several segments are called, of a kind as descriptions name it."""
    name, colon, pattern = kind.partition(":")
    if colon:
        return f"matches of {pattern}" if name == "regex" else "pieces"
    return "parts" if "," in kind or kind == "spans" else PLURALS.get(kind, f"{kind}s")


def always_kept(subject: Mapping[str, Any]) -> tuple[str, str]:
    """What stands before and after the text that is ablated, and is never ablated."""
    question, before, after = (
        str(subject.get(name) or "") for name in ("question", "prefix", "suffix")
    )
    return (f"{question}\n" if question else "") + (f"{before} " if before else ""), (
        f" {after}" if after else ""
    )


def is_told(gap: str) -> bool:
    """Whether text between segments says something, and so is shown as always kept."""
    return any(character.isalnum() for character in gap)


def reading(interaction: Interaction, index: str) -> str:
    """What one value means, for the indices that have a plain reading."""
    size, value = len(interaction.players), abs(interaction.value)
    rises = interaction.value > 0
    if index not in ("BII", "BV"):
        return f"{index} of order {size}"
    if size == 1:
        return f"keeping it {'raises' if rises else 'lowers'} the output by {value:.3g}"
    if size == 2:
        more = "more" if rises else "less"
        return f"together {value:.3g} {more} than their separate effects add up to"
    return f"all {size} together {'add' if rises else 'take away'} another {value:.3g}"


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names with small numbers where several players have the same.

    >>> told_apart(["cup", "oil", "cup"])
    ('cup₁', 'oil', 'cup₂')
    """
    counts = Counter(names)
    seen: Counter[str] = Counter()
    told = []
    for name in names:
        seen[name] += 1
        told.append(name + (_small(seen[name]) if counts[name] > 1 else ""))
    return tuple(told)


def _small(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))


def together(group: Reading) -> str:
    """How a group acts together, in a sentence.

    >>> from spex.reading import Kind
    >>> together(Reading((0, 1), (3.0, 4.0), 4.5, Kind.REDUNDANT))
    'redundant: +7 one by one, +4.5 at once'
    """
    alone, joint = f"{group.alone:+.3g}", f"{group.together:+.3g}"
    return f"{group.kind.value}: {alone} one by one, {joint} at once"


def components(explanation: Explanation) -> str:
    """What the components are called, such as heads."""
    unit = str(explanation.provenance.subject.get("unit"))
    return UNITS.get(unit, "components")


def faithfulness(explanation: Explanation) -> str:
    """How much of the variation is explained, with its interval."""
    fit = explanation.faithfulness
    if explanation.status is Status.EXACT:
        return "Explains all of the variation: every mask was ablated."
    share = f"{max(fit, 0.0):.0%}" if fit < 0.985 else f"{int(fit * 1000) / 10}%"
    return (
        f"Explains {share} of the variation (R² {fit:.3f}, {LEVEL:.0%} "
        f"interval {fit.low:.3f} to {fit.high:.3f}) on {fit.num_masks} ablations it "
        "was not fitted to."
    )


def kept(explanation: Explanation) -> str:
    """What leaving out small terms cost, and how hierarchical the rest is; "" if
    there is neither."""
    said = []
    full = explanation.full_faithfulness
    if full is not None:
        count = len(explanation.fourier.supports)
        said.append(f"Keeps the {count} largest terms; with all, R² is {full:.3f}.")
    share = explanation.hierarchy
    if not isnan(share):
        said.append(
            f"Of the sets with a player less than an interaction has, {share:.0%} are "
            "terms, too."
        )
    return " ".join(said)


def noise(explanation: Explanation) -> str:
    """How far a value is from what it would be asked again; "" if it is not known."""
    floor = explanation.noise_floor
    if floor is None or not floor.any():
        return ""
    said = [f"{error:.2g}" for error in np.sqrt(floor).tolist()]
    shown = ", ".join(said[:MAX_NOISES]) + (", ..." if said[MAX_NOISES:] else "")
    return f"Values vary from draw to draw: their standard error is {shown}."


def cost(explanation: Explanation) -> str:
    """Ablations, time and method."""
    made = explanation.provenance
    if made.subject.get("kind") == GIVEN:
        return (
            f"{made.spent} ablations, made elsewhere; {made.recovery_seconds:.1f} s to "
            "explain."
        )
    known = made.spent - made.paid
    from_ledger = f", {known} of them from the ledger" if known else ""
    return (
        f"{made.spent} ablations of a budget of {made.budget}{from_ledger}; "
        f"{made.ablation_seconds:.1f} s to run them and {made.recovery_seconds:.1f} s "
        f"to explain."
    )


def method(explanation: Explanation) -> str:
    """The method and why it was chosen."""
    made = explanation.provenance
    return f"Method {made.method}: {made.reason}. Seed {made.seed}."
