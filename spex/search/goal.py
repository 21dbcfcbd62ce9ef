"""What a search makes large: one output as a function of who may be removed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spex.errors import SearchError
from spex.spectrum import SparseFourier, Support, check_supports

DUST = 1e-12  # terms below this part of the largest are rounding
TOLERANCE = 1e-6  # of the largest coefficient: what the solver can tell apart

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Goal:
    """A gain that is to be large: an output, or minus it, with some players kept.

    Attributes:
        num_players: n.
        free: the players that may be removed, increasing; all others are kept.
        supports: of one free player or more, by their rank in `free`.
        coefficients: of the supports, (terms,).
        constant: the mean gain over uniform masks.
        sign: 1, or -1 where the output is to be small.
    """

    num_players: int
    free: NDArray[np.int64]
    supports: Sequence[Support]
    coefficients: Array
    constant: float
    sign: int = 1

    @classmethod
    def of(
        cls, fourier: SparseFourier, output: int, removable: Collection[int] | None
    ) -> "Goal":
        """One output of a spectrum.

        Raises:
            SearchError: no such output.
            SupportError: no such player.
        """
        n, k = fourier.num_players, fourier.num_outputs
        if not 0 <= output < k:
            raise SearchError(f"output={output} does not exist. Pass 0 to {k - 1}.")
        free = sorted(set(range(n) if removable is None else removable))
        check_supports([(player,) for player in free], n)
        rank = {player: place for place, player in enumerate(free)}
        rest = fourier.restrict({i: True for i in range(n) if i not in rank})
        column = rest.coefficients[:, output].tolist()
        terms = dict(zip(rest.supports, column, strict=True))
        constant = terms.pop((), 0.0)
        above = DUST * max(map(abs, terms.values()), default=0.0)
        terms = {s: c for s, c in terms.items() if abs(c) > above}
        return cls(
            num_players=n,
            free=np.array(free, dtype=np.int64),
            supports=[tuple(rank[i] for i in support) for support in terms],
            coefficients=np.array([*terms.values()]),
            constant=constant,
        )

    def reversed(self) -> "Goal":
        """Small where this is large."""
        return replace(
            self,
            coefficients=-self.coefficients,
            constant=-self.constant,
            sign=-self.sign,
        )

    @property
    def num_free(self) -> int:
        """How many players may be removed."""
        return len(self.free)

    @property
    def is_additive(self) -> bool:
        """Whether there are no interactions."""
        return max(map(len, self.supports), default=0) <= 1

    @cached_property
    def scale(self) -> float:
        """The largest coefficient's size; 1 if there is none."""
        return float(np.abs(self.coefficients).max(initial=0.0)) or 1.0

    @property
    def slack(self) -> float:
        """Gains closer than this count as equal."""
        return TOLERANCE * self.scale

    @cached_property
    def members(self) -> sparse.csr_array:
        """Indicator of player in support, (terms, free)."""
        starts = np.cumsum([0, *map(len, self.supports)])
        players = np.fromiter((p for s in self.supports for p in s), dtype=np.int64)
        shape = (len(self.supports), self.num_free)
        return sparse.csr_array((np.ones(len(players)), players, starts), shape)

    def terms(self, mask: Bools) -> Array:
        """F(S) chi_S(x) for a mask of the free players, (free,)."""
        return self.coefficients * (1 - 2 * (self.members @ mask.astype(float) % 2))

    def gain(self, mask: Bools) -> float:
        """The gain at a mask of the free players, (free,)."""
        return self.constant + float(self.terms(mask).sum())
