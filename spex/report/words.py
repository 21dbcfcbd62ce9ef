"""Sentences that both reports share."""

from math import isnan

from spex.explanation import GIVEN, Explanation, Interaction, Status
from spex.faithfulness import LEVEL

DISCOVERY = "stands out on its own; of those marked, 10 % at most are false on average"


def question(explanation: Explanation) -> str:
    """The question the explanation answers, in one sentence."""
    subject = explanation.provenance.subject
    kind = subject.get("segments", "player")
    if subject.get("kind") == "text-classifier":
        says = ", ".join(subject.get("targets", ()))
        return f"Which {kind}s, together, made {subject.get('model')} say {says}?"
    if subject.get("kind") == "causal-lm":
        says = str(subject.get("continuation", "")).strip()
        return (
            f"Which {kind}s, together, made {subject.get('model')} continue “{says}”?"
        )
    if "act" in subject:
        model = subject.get("model")
        return f"Which {kind}s, together, made {model} {subject['act']}?"
    return "Which players, together, made the function say what it says?"


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
