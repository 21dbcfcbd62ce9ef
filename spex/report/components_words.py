"""Sentences of both reports of a model's components."""

from collections.abc import Sequence

from oracles.components import BEHAVIOURS
from spex.components import MOST_OUTPUTS
from spex.explanation import Explanation
from spex.report import words
from spex.report.pieces import signed
from spex.tried.circuits import PRUNED, Circuit

ENOUGH = "What is enough: measured is what counts"
MAX_NAMES = 60  # of a circuit
MAX_PROMPT = 300  # characters


def behaviour(explanation: Explanation) -> str:
    """What was measured of a model's components, and how they were ablated."""
    subject = explanation.provenance.subject
    name = str(subject.get("behaviour", ""))
    meaning = BEHAVIOURS[name].meaning if name in BEHAVIOURS else name
    count = len(subject.get("prompts", ()))
    each = "of each of" if subject.get("per_prompt") else "mean over"
    over = f", {each} {count} prompts" if count > 1 else ""
    how = {
        "zero": "by 0",
        "mean": "by its mean over the reference texts"
        if subject.get("reference")
        else "by its mean over the prompts",
        "resample": "by what it is in the corrupted prompt",
    }.get(str(subject.get("ablation")), "")
    asked = ""
    if answer := subject.get("answer"):
        asked = f" {_answer(str(answer), subject.get('wrong'))}"
    return (
        f"Measured: {name}, the {meaning}{over}.{asked} The output of an ablated "
        f"component is replaced {how}."
    )


def outputs(explanation: Explanation) -> str:
    """How many outputs there are, and how many are left out; "" of one."""
    count = len(explanation.outputs)
    if count == 1:
        return ""
    more = count - MOST_OUTPUTS
    left = f" The first {MOST_OUTPUTS} are shown, {more} left out." if more > 0 else ""
    return f"{count} outputs, each explained by itself.{left}"


def intact(explanation: Explanation, output: int) -> str:
    """The measured value of an output, of several with how much is explained of it."""
    value = signed(float(explanation.intact[output]))
    said = f"With everything working it is {value}."
    if len(explanation.outputs) > 1:
        fit = explanation.faithfulness.per_output[output]
        said += f" R² of this output {fit:.3f}."
    return said


def prompt(explanation: Explanation, output: int) -> str:
    """The prompt an output is of, with its answer; "" if it is not of a single one."""
    subject = explanation.provenance.subject
    prompts = subject.get("prompts", ())
    if not subject.get("per_prompt") or output >= len(prompts):
        return ""
    told = prompts[output]
    text = " ".join(str(told.get("text", "")).split())
    if not text:
        return ""
    if len(text) > MAX_PROMPT:
        text = f"…{text[1 - MAX_PROMPT :]}"  # the answer follows its end
    said = f"“{text}”"
    if answer := told.get("answer"):
        said += f" {_answer(str(answer), told.get('wrong'))}"
    return said


def _answer(answer: str, wrong: object) -> str:
    return f"The answer is “{answer}”" + (f", not “{wrong}”." if wrong else ".")


def circuit(explanation: Explanation, found: Circuit) -> str:
    """What was asked of a circuit, or a pruned model, and what is known of it."""
    if found.kind == PRUNED:
        return f"{found.asked:.0%} of the {words.components(explanation)} removed"
    smallest = "smallest by the surrogate" if found.is_smallest else "found"
    part = "player" if "segments" in explanation.provenance.subject else "component"
    minimal = f"; no {part} of it can be left out" if found.is_minimal else ""
    return f"{smallest} for {found.asked:.0%} of the behaviour{minimal}"


def working(explanation: Explanation, found: Circuit) -> str:
    """Which players work, or which do not where these are fewer."""
    names = explanation.players
    removed = sorted(set(range(len(names))) - set(found.players))
    if not removed:
        return "everything"
    if len(removed) < len(found.players):
        return f"all but {_listed([names[i] for i in removed])}"
    return _listed([names[i] for i in found.players])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    said = ", ".join(names[:MAX_NAMES])
    return f"{said} and {more} more" if more > 0 else said


def checks(circuits: Sequence[Circuit]) -> str:
    """What checking circuits took, and what it tells of them."""
    count = sum(found.tried for found in circuits)
    said = [
        f"Each was run: at most {count} {'ablations' if count > 1 else 'ablation'} "
        "beyond the budget, those already known being free.",
        "Sets are chosen for what is predicted of them, so that predictions are "
        "optimistic, the more the lower R² is: what was measured counts.",
        "Faithfulness is (m(circuit) - m(none)) / (m(all) - m(none)) of what was "
        "measured.",
    ]
    if any(found.is_smallest and found.kind != PRUNED for found in circuits):
        said.append(
            "Smallest by the surrogate: that no smaller set is enough is proven of the "
            "surrogate, not of the model."
        )
    if any(found.is_minimal for found in circuits):
        said.append(
            "That nothing can be left out of a set was measured: without any one of "
            "its parts it falls short."
        )
    return " ".join(said)
