"""What is explained of an answer's log-probability, alone or among others.

The default is a logarithm, never the probability itself. Independent pieces of evidence
multiply odds, so on the logarithm their effects add up and what is left over is true
interaction; a probability saturates near 0 and 1, which turns additive effects into
interactions of every order, and hides changes there. For unlikely answers, as whole
sentences are, the log-probability is the log-odds; for likely ones it saturates at 0,
and the log-odds do not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oracles.base import Values
from oracles.errors import InputError

ANSWER_VALUES = ("log-probability", "log-odds", "probability")
CHOICE_VALUES = ("log-odds", "margin", "probability")
SMALLEST = float(np.finfo(np.float64).tiny)


def check_together(
    continuation: str | None,
    alternative: str | None,
    choices: Sequence[str],
    per_token: bool,
) -> None:
    """Refuse settings of what is scored that do not go together.

    Raises:
        InputError: choices beside anything else, fewer than two or equal ones, or
            single tokens of an answer that is compared with an alternative.
    """
    if choices and (continuation is not None or alternative is not None or per_token):
        raise InputError(
            "choices are explained each against the others, whole. Leave out "
            "continuation, alternative and per_token."
        )
    check_choices(choices)
    if per_token and alternative is not None:
        raise InputError(
            "an alternative is compared as a whole, and has tokens of its own. Leave "
            "out per_token, or the alternative."
        )


def check_choices(choices: Sequence[str]) -> None:
    """Refuse choices that leave nothing to choose.

    Raises:
        InputError: a single one, or the same twice.
    """
    if choices and (len(choices) < 2 or len(set(choices)) < len(choices)):
        raise InputError(
            f"choices={list(choices)!r} are not two or more different answers. Name "
            "all that can be chosen, or leave choices out."
        )


def checked_value(
    value: str | None, alternative: str | None, choices: Sequence[str]
) -> str:
    """The value to explain of a continuation or of choices, or the default.

    Raises:
        InputError: it is not known, or does not go with an alternative.
    """
    if alternative is not None and value not in (None, "log-odds"):
        raise InputError(
            f"value={value!r} does not go with an alternative, which is compared by "
            'log-odds. Leave value out, or use "log-odds".'
        )
    known = CHOICE_VALUES if choices else ANSWER_VALUES
    if value not in (None, *known):
        what = "choices" if choices else "a continuation"
        raise InputError(
            f"value={value!r} is not known for {what}. Choose from {', '.join(known)}."
        )
    default = "log-probability" if alternative is None and not choices else "log-odds"
    return value or default


def scaled(logs: Values, value: str, *, rounding: float = SMALLEST) -> Values:
    """Log-probabilities as log-probability, log-odds (log p / (1 - p)) or probability.

    Args:
        logs: natural logarithms, at most 0.
        value: a name in ANSWER_VALUES.
        rounding: what `logs` are known to, in nats, where they are near 0. Log-odds
            stay finite: those nearer to 0 than this count as if they were this far.
    """
    if value == "log-probability":
        return logs
    if value == "probability":
        return np.exp(logs)
    return logs - np.log(-np.expm1(np.minimum(logs, -rounding)))


def among(
    logs: Values, value: str, columns: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Of answers (m, k) of which exactly one is given: each against all others.

    Args:
        logs: their log-probabilities, up to a constant for each row.
        value: "log-odds", log p minus log of the sum of the others, p summing to one;
            "margin", log p minus that of the best other; or "probability".
        columns: those wanted; all by default.
    """
    join = np.maximum if value == "margin" else np.logaddexp
    found = []
    for column in range(logs.shape[1]) if columns is None else columns:
        others = join.reduce(np.delete(logs, column, axis=1), axis=1)
        found.append(logs[:, column] - others)
    odds = np.stack(found, axis=1)
    return np.exp(-np.logaddexp(0, -odds)) if value == "probability" else odds
