"""Sentences and names that both reports of training examples share."""

from dataclasses import dataclass
from math import exp
from typing import Any

from spex.explanation import Explanation, Status
from spex.influence import LOSS, MARGIN, measured
from spex.reading import Kind, Reading
from spex.report.pieces import signed
from spex.tried.removals import Removal, has_flipped

PLAYERS = {
    "examples": "training examples",
    "groups": "groups of training examples",
    "clusters": "clusters of training examples",
}
MEANINGS = {
    "margin": "the log-odds of the right class",
    "loss": "minus the logarithm of the right class's probability",
    "accuracy": "the share of test points that are right",
}
RIDGE = {
    "margin": "the right class's score less the largest other one",
    "loss": "the squared error of the scores",
}
"""What a ridge head, which has no probabilities, measures in their place."""

KINDS = {
    Kind.REDUNDANT: "redundant: each does the other's work, so that together they do "
    "less than one by one",
    Kind.SYNERGISTIC: "synergistic: together they do more than one by one",
    Kind.ADDITIVE: "additive: what they do just adds up",
}
HALF = 0.6  # masks that keep no more tell little of removals of a few players
SMALL = 0.25  # part of the players that is a few
UNCHECKED = "Not checked by retraining"
POOR = (
    "Not faithful: less than half of the model's variation is explained. Do not rely "
    "on this; raise the budget or leave out larger groups or clusters of examples."
)
ALONE = (
    "Helpful examples make the prediction better when they are trained on, harmful "
    "ones worse: by so much, on average over which others are. BV is the Banzhaf "
    "value, over subsets like those trained on, SV the Shapley value."
)


@dataclass(frozen=True)
class Point:
    """A test point, as reports show it.

    Attributes:
        name: of the output, such as the point's id.
        text, label: "" if they are not known.
    """

    name: str
    text: str = ""
    label: str = ""

    @classmethod
    def of(cls, explanation: Explanation, output: int) -> "Point":
        """What an output is measured at; just its name if that is no test point."""
        subject = explanation.provenance.subject
        name, kind = explanation.outputs[output], measured(explanation, output)
        ids = [str(one) for one in subject.get("test_ids", ())]
        number = name.removeprefix(f"{kind} of ")
        if number not in ids:
            return cls(name)
        place = ids.index(number)
        told = (_at(subject.get(f"test_{what}"), place) for what in ("texts", "labels"))
        return cls(name, *told)


@dataclass(frozen=True)
class Example:
    """A player, as reports show it.

    Attributes:
        name: its id, or its group's.
        text, label: of a group of some of its examples, or "" if they are not known.
    """

    name: str
    text: str = ""
    label: str = ""

    @classmethod
    def of(cls, explanation: Explanation, player: int) -> "Example":
        """One of the explanation's players."""
        subject = explanation.provenance.subject
        what = ("player_texts", "player_labels")
        told = (_at(subject.get(one), player) for one in what)
        return cls(explanation.players[player], *told)


def _at(listed: Any, place: int) -> str:
    is_there = isinstance(listed, list | tuple) and place < len(listed)
    return str(listed[place]) if is_there else ""


def question(explanation: Explanation) -> str:
    """The question the explanation answers, in one sentence."""
    trainer = _trainer(explanation)
    article = "an" if trainer[0] in "aeiou" else "a"
    return f"Which {players(explanation)}, together, made {article} {trainer} say this?"


def players(explanation: Explanation) -> str:
    """What several players are called."""
    subject = explanation.provenance.subject
    return PLAYERS.get(str(subject.get("players_are")), PLAYERS["examples"])


def measure(explanation: Explanation) -> str:
    """What was measured, and after what."""
    subject = explanation.provenance.subject
    meanings = MEANINGS | (RIDGE if _is_ridge(explanation) else {})
    kinds = [str(kind) for kind in subject.get("measured", ())]
    said = " and ".join(f"{kind}, {meanings.get(kind, kind)}" for kind in kinds)
    after = "after training on the examples that are kept, and no others"
    return f"Measured: {said}, {after}." if said else f"Measured {after}."


def intact(explanation: Explanation, output: int) -> str:
    """What the model trained on everything says of a test point."""
    kind, value = measured(explanation, output), float(explanation.intact[output])
    text = f"Trained on everything: {kind or 'value'} {signed(value)}"
    if kind != MARGIN or _is_ridge(explanation):
        return f"{text}."
    chance = 1 / (1 + exp(-max(min(value, 700), -700)))
    text += f", the right class has a probability of {chance:.0%}"
    if _num_classes(explanation) == 2:
        text += f": predicted {'right' if value > 0 else 'wrong'}"
    return f"{text}."


def adds(kind: str, count: int) -> str:
    """What stands above a list of so many single players."""
    if not count:
        return "There are none."
    return (
        f"What training on one adds to the {kind or 'value'}, on average over which "
        "others are kept."
    )


def groups(count: int) -> str:
    """What stands above a list of so many groups."""
    if not count:
        return "No group stands out from the error of the estimate."
    return "What they do at once, beyond what they do one by one."


def together(reading: Reading) -> str:
    """How a group acts together, in a sentence."""
    alone, joint = f"{reading.alone:+.3g}", f"{reading.together:+.3g}"
    return f"{KINDS[reading.kind]} ({alone} one by one, {joint} at once)"


def removal(explanation: Explanation, found: Removal | None) -> str:
    """The removal that takes a margin across 0, and what came of it."""
    if found is None:
        return "No removal is predicted to take the margin clearly beyond 0."
    if not found.is_decided:
        return "Which removal takes the margin across 0 was not decided in time."
    count, every = len(found.players), len(explanation.players)
    least = ", the fewest that the surrogate knows of," if found.is_smallest else ""
    before = signed(float(explanation.intact[found.output]))
    return (
        f"Without {count} of the {every} {players(explanation)}{least} the margin is "
        f"predicted to go from {before} to {signed(found.predicted)}. "
        f"{outcome(explanation, found)}{reach(explanation, found)}"
    )


def reach(explanation: Explanation, found: Removal) -> str:
    """That masks that keep half tell little of a small removal, where it matters."""
    is_small = len(found.players) <= SMALL * len(explanation.players)
    is_half = explanation.basis.keep <= HALF and explanation.status is not Status.EXACT
    if not (is_small and is_half) or has_flipped(explanation, found):
        return ""
    return (
        f" The subsets trained on keep {explanation.basis.keep:.0%}; --keep 0.8 tells "
        "more of small removals."
    )


def subset(explanation: Explanation, found: Removal) -> str:
    """The players to train on alone, and what came of it."""
    kind = measured(explanation, found.output)
    every = len(explanation.players)
    size = every - len(found.players)
    most = "smallest" if kind == LOSS else "largest"
    proven = f", the {most} that the surrogate knows of" if found.is_smallest else ""
    return (
        f"Trained on {size} of the {every} {players(explanation)} alone, the "
        f"{kind or 'value'} is predicted to be {signed(found.predicted)}{proven}. "
        f"{trained_again(found)}."
    )


def trained_again(found: Removal) -> str:
    """What retraining measured, without a full stop."""
    if found.measured is None:
        has_failed = found.tried > 0
        return "Trained again, it has no value" if has_failed else UNCHECKED
    noise = f" (its standard error is {found.noise:.2g})" if found.noise else ""
    if found.noise is None:
        noise = " (how far that varies with the seed is not known)"
    return f"Trained again, it is {signed(found.measured)}{noise}"


def advice(explanation: Explanation) -> str:
    """How far to trust it: there are no segments here that could be coarser."""
    status = explanation.status
    return POOR if status is Status.POOR else status.value


def outcome(explanation: Explanation, found: Removal) -> str:
    """What retraining said of a removal."""
    flipped = has_flipped(explanation, found)
    if flipped is None:
        return f"{trained_again(found)}."
    if _num_classes(explanation) == 2:
        verdict = "the prediction flipped" if flipped else "it did not flip"
    else:
        verdict = "it is across 0" if flipped else "it is not across 0"
    tries = ""
    if found.tried > 1:
        tries = (
            f" It is the best of {found.tried} sets that were tried for this output, "
            "and of all others trained without."
        )
    return f"{trained_again(found)}: {verdict}.{tries}"


def _trainer(explanation: Explanation) -> str:
    training = explanation.provenance.subject.get("training", {})
    told = training.get("estimator") or training.get("trainer")
    name = str(told or "model")
    return f"fine-tuned {training['model']}" if name == "fine-tuning" else name


def _is_ridge(explanation: Explanation) -> bool:
    training = explanation.provenance.subject.get("training", {})
    return str(training.get("trainer")).startswith("ridge")


def _num_classes(explanation: Explanation) -> int:
    training = explanation.provenance.subject.get("training", {})
    return len(training.get("classes", ()))
