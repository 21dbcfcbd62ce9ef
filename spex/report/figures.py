"""Numbers and names that both reports share."""

import sys

from spex.explanation import Explanation, Interaction


def influence(explanation: Explanation, output: int) -> list[float]:
    """Banzhaf value of each player, BV(i) = -2 F({i})."""
    coefficients = explanation.fourier.coefficients[:, output]
    values = [0.0] * len(explanation.players)
    for support, row in explanation.fourier.position.items():
        if len(support) == 1:
            values[support[0]] = -2 * float(coefficients[row])
    return values


def ranked(
    explanation: Explanation, index: str, output: int
) -> tuple[list[Interaction], list[Interaction]]:
    """Groups of two or more players and single players, strongest first."""
    found = explanation.top(sys.maxsize, index, output=output)
    groups = [interaction for interaction in found if len(interaction.players) > 1]
    return groups, [alone for alone in found if len(alone.players) == 1]


def signed(value: float, digits: int = 3) -> str:
    """A value with its sign, in plain digits where they show it.

    >>> signed(1.62789), signed(-0.00042), signed(2.5e7)
    ('+1.628', '-0.00042', '+2.5e+07')
    """
    is_plain = value == 0 or 10 ** (1 - digits) <= abs(value) < 1e6
    return f"{value:+.{digits}f}" if is_plain else f"{value:+.2g}"


def interval(interaction: Interaction) -> str:
    """The interval's ends, or that there is nothing to estimate."""
    if interaction.low == interaction.high:
        return "exact"
    return f"{signed(interaction.low, 2)} to {signed(interaction.high, 2)}"


def shorten(name: str, width: int) -> str:
    """A name on one line, cut to a width.

    >>> shorten("a sentence in two lines", 10)
    'a sentenc…'
    """
    name = " ".join(name.split())
    return name if len(name) <= width else name[: width - 1] + "…"
