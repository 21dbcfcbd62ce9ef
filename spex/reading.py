"""How a group of players acts together: redundant, synergistic or additive.

Putting player i into a coalition R changes the value by v(R + i) - v(R), and putting
in all of a group G by v(R + G) - v(R). With R a random subset of the players outside G
that holds each with probability p, and mu = 1 - 2 p,

    effect of i = E[v(R + i) - v(R)] = -2 sum over S containing i of F(S) mu^|S - G|
    together    = E[v(R + G) - v(R)] = -2 sum over odd |S & G|    of F(S) mu^|S - G|

as chi_S(R + T) = (-1)^|S & T| chi_{S - G}(R), and the mean of chi_A(R) is mu^|A|. For
p = 1/2 only the terms inside G are left.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from spex.errors import InteractionIndexError
from spex.spectrum import SparseFourier, Support, check_supports

TOLERANCE = 0.05  # part of the effects: a smaller difference is additive
ROUNDING = 1e-12  # part of the coefficients


class Kind(Enum):
    """How what a group does together compares with what its players do alone."""

    REDUNDANT = "redundant"
    SYNERGISTIC = "synergistic"
    ADDITIVE = "additive"


@dataclass(frozen=True)
class Reading:
    """How a group of players acts together.

    Attributes:
        players: the group, increasing.
        effects: what each player changes when it alone of the group is put in.
        together: what all of them change, put in at once.
        kind: additive if `together` differs from the sum of the effects by no more than
            `tolerance` times the larger of |together| and the sum of |effects|;
            otherwise redundant if it is smaller in size than the sum, synergistic if
            not. Effects of opposite sign cancel in the sum, so that a group whose
            players alone pull in different directions is synergistic as soon as
            together they do more than what is left.
    """

    players: Support
    effects: tuple[float, ...]
    together: float
    kind: Kind

    @property
    def alone(self) -> float:
        """The sum of the effects."""
        return sum(self.effects)


def reading(
    fourier: SparseFourier,
    players: Iterable[int],
    *,
    output: int = 0,
    keep: float = 0.5,
    tolerance: float = TOLERANCE,
) -> Reading:
    """How one group acts together; see `readings`.

    >>> either = SparseFourier.from_dict(  # 1 if a player or the other is kept
    ...     2, {(): 0.75, (0,): -0.25, (1,): -0.25, (0, 1): -0.25}
    ... )
    >>> group = reading(either, (0, 1))
    >>> group.alone, group.together, group.kind.value
    (2.0, 1.0, 'redundant')
    """
    (found,) = readings(
        fourier, [players], output=output, keep=keep, tolerance=tolerance
    )
    return found


def readings(
    fourier: SparseFourier,
    groups: Iterable[Iterable[int]],
    *,
    output: int = 0,
    keep: float = 0.5,
    tolerance: float = TOLERANCE,
) -> list[Reading]:
    """How groups act together, in closed form from the spectrum.

    The work for a group is proportional to the terms that share a player with it.

    Args:
        fourier: the surrogate.
        groups: sets of players, in any order.
        output: which of the k outputs.
        keep: probability that a player outside the group is kept, 0 to 1.
        tolerance: part of the effects within which a difference is additive.

    Raises:
        InteractionIndexError: no such output, or `keep` is not a probability.
        SupportError: a group names a player twice, or one there is not.
    """
    if not 0 <= output < fourier.num_outputs:
        raise InteractionIndexError(
            f"output={output} does not exist. Pass 0 to {fourier.num_outputs - 1}."
        )
    if not 0 <= keep <= 1:
        raise InteractionIndexError(
            f"keep={keep} is not a probability. Pass 0 to 1; 0.5 is the default."
        )
    reader = _Reader(fourier, output, 1 - 2 * keep, tolerance)
    return [reader.read(tuple(sorted(group))) for group in groups]


class _Reader:
    """Terms by player."""

    def __init__(
        self, fourier: SparseFourier, output: int, mean: float, tolerance: float
    ) -> None:
        self._num_players = fourier.num_players
        self._coefficients = fourier.coefficients[:, output]
        self._sizes = np.array([len(s) for s in fourier.supports], dtype=np.int64)
        self._mean, self._tolerance = mean, tolerance
        self._rounding = ROUNDING * float(np.abs(self._coefficients).sum())
        terms: dict[int, list[int]] = {}
        for row, support in enumerate(fourier.supports):
            for player in support:
                terms.setdefault(player, []).append(row)
        self._terms = terms

    def read(self, players: Support) -> Reading:
        check_supports([players], self._num_players)
        terms = [np.array(self._terms.get(i, []), dtype=np.int64) for i in players]
        together = np.concatenate([np.zeros(0, dtype=np.int64), *terms])
        rows, inside = np.unique(together, return_counts=True)
        outside = self._sizes[rows] - inside
        changes = -2 * self._coefficients[rows] * self._mean**outside
        effects = np.array([changes[np.searchsorted(rows, own)].sum() for own in terms])
        joint = float(changes[inside % 2 == 1].sum())
        kind = self._kind(effects, joint)
        return Reading(players, tuple(effects.tolist()), joint, kind)

    def _kind(self, effects: NDArray[np.float64], together: float) -> Kind:
        alone, size = effects.sum(), max(abs(together), np.abs(effects).sum())
        if abs(together - alone) <= self._tolerance * size + self._rounding:
            return Kind.ADDITIVE
        return Kind.REDUNDANT if abs(together) < abs(alone) else Kind.SYNERGISTIC
