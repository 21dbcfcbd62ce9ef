"""The sparse Fourier (parity) spectrum of a set function.

    v(x) = sum_S F(S) chi_S(x),   chi_S(x) = (-1)^|S & x|,   x_i = 1: player i is kept

so F(empty) is the mean of v over uniform masks, and F({i}) < 0 means that keeping
player i raises v.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from oracles import Masks, Values, check_masks
from spex.errors import SupportError

Support = tuple[int, ...]
"""A set of players as an increasing tuple of indices; () is the empty set."""

CHUNK_ENTRIES = 1 << 24  # characters held at a time: 64 MiB of float32
DENSE_ENTRIES = 1 << 22  # below this many terms x players, BLAS beats a sparse product


@dataclass(frozen=True, eq=False)
class SparseFourier:
    """A spectrum with few nonzero coefficients, for k outputs at once.

    Attributes:
        num_players: n.
        supports: the sets S, distinct, ordered by size and then by index.
        coefficients: shape (terms, k), F(S) for each support and output.

    >>> spectrum = SparseFourier.from_dict(3, {(): 1.0, (0, 2): -0.5})
    >>> spectrum(np.array([[True, True, False]]))
    array([[1.5]])
    """

    num_players: int
    supports: tuple[Support, ...]
    coefficients: NDArray[np.float64]

    @classmethod
    def from_terms(
        cls, num_players: int, supports: Iterable[Support], coefficients: Values
    ) -> Self:
        """Build from supports in any order and coefficients of shape (terms, k).

        Raises:
            SupportError: a support is not an increasing tuple of players, or comes
                twice.
        """
        supports = list(supports)
        check_supports(supports, num_players)
        order = sorted(range(len(supports)), key=lambda t: _by_size(supports[t]))
        return cls(
            num_players,
            tuple(supports[t] for t in order),
            np.asarray(coefficients, dtype=np.float64)[order],
        )

    @classmethod
    def from_dict(
        cls, num_players: int, terms: Mapping[Support, float | NDArray[np.float64]]
    ) -> Self:
        """Build from {support: coefficient}, the inverse of `to_dict`.

        Raises:
            SupportError: a support is not an increasing tuple of players.
        """
        values = [np.atleast_1d(np.asarray(c, dtype=float)) for c in terms.values()]
        table = np.stack(values) if values else np.zeros((0, 1))
        return cls.from_terms(num_players, terms.keys(), table)

    def to_dict(self) -> dict[Support, float | NDArray[np.float64]]:
        """{support: F(S)}: a float for one output, else an array of length k."""
        return as_dict(self.supports, self.coefficients)

    @property
    def num_outputs(self) -> int:
        """k."""
        return self.coefficients.shape[1]

    @cached_property
    def position(self) -> dict[Support, int]:
        """{support: row of `coefficients`}."""
        return {support: row for row, support in enumerate(self.supports)}

    def __call__(self, masks: Masks) -> Values:
        """Values of shape (m, k) for masks of shape (m, n).

        Raises:
            MaskError: masks are not boolean (m, n).
        """
        masks = check_masks(masks, self.num_players)
        values = np.empty((len(masks), self.num_outputs))
        step = max(1, CHUNK_ENTRIES // max(1, len(self.supports)))
        for start in range(0, len(masks), step):
            rows = slice(start, start + step)
            values[rows] = characters(masks[rows], self.supports) @ self.coefficients
        return values

    def restrict(self, fixed: Mapping[int, bool]) -> Self:
        """The spectrum on the sub-cube where some players are held kept or ablated.

        Fixed players appear in no support afterwards; n stays the same. Held kept, a
        player flips the sign of every term it is in; held ablated, it drops out.

        Raises:
            SupportError: `fixed` names a player there is not.
        """
        check_supports([(player,) for player in fixed], self.num_players)
        terms: dict[Support, NDArray[np.float64]] = {}
        for support, coefficient in zip(self.supports, self.coefficients, strict=True):
            flips = sum(fixed.get(player, False) for player in support)
            free = tuple(player for player in support if player not in fixed)
            terms[free] = terms.get(free, 0.0) + (-1.0) ** flips * coefficient
        return type(self).from_terms(
            self.num_players,
            terms,
            np.reshape([*terms.values()], (-1, self.num_outputs)),
        )

    def hierarchy(self) -> float:
        """Mean share of each interaction's sets with a player less that are terms, too.

        Over terms of two or more players; NaN if there are none.
        """
        return hierarchy(self.supports)

    def energy_by_order(self) -> NDArray[np.float64]:
        """Sum of F(S)^2 over the supports of each size: (max order + 1, k).

        By Parseval, rows 1 and up sum to the variance of v over uniform masks.
        """
        return energy_by_order(self.supports, self.coefficients)


def hierarchy(supports: Sequence[Support]) -> float:
    """See `SparseFourier.hierarchy`."""
    known = set(supports)
    shares = [
        np.mean([part in known for part in combinations(s, len(s) - 1)])
        for s in supports
        if len(s) > 1
    ]
    return float(np.mean(shares)) if shares else float("nan")


def energy_by_order(
    supports: Sequence[Support], coefficients: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum of squared coefficients (terms, k) over the supports of each size."""
    sizes = np.array([len(support) for support in supports], dtype=int)
    energy = np.zeros((sizes.max(initial=0) + 1, coefficients.shape[1]))
    np.add.at(energy, sizes, coefficients**2)
    return energy


def characters(masks: Masks, supports: Iterable[Support]) -> NDArray[np.float32]:
    """chi_S(x) as a float32 array of shape (m, terms) with entries +1 and -1."""
    return 1 - 2 * (overlaps(masks, supports).astype(np.int32) & 1).astype(np.float32)


def overlaps(masks: Masks, supports: Iterable[Support]) -> NDArray[np.float32]:
    """How many players of each support every mask keeps, whole numbers (m, terms)."""
    supports = list(supports)
    num_players = masks.shape[1]
    members = _membership(supports, num_players)
    if len(supports) * num_players <= DENSE_ENTRIES:
        return np.asarray(masks.astype(np.float32) @ members.toarray().T)
    return np.asarray((members @ masks.T.astype(np.float32)).T)


def _membership(supports: list[Support], num_players: int) -> sparse.csr_array:
    """Indicator of player in support, (terms, n)."""
    starts = np.cumsum([0, *map(len, supports)])
    players = np.fromiter((p for s in supports for p in s), dtype=np.int64)
    ones = np.ones(len(players), dtype=np.float32)
    return sparse.csr_array((ones, players, starts), (len(supports), num_players))


def check_supports(supports: list[Support], num_players: int) -> None:
    """Check that supports are distinct increasing tuples of players.

    Raises:
        SupportError: naming the first that is not.
    """
    if len(set(supports)) != len(supports):
        twice = next(s for s in supports if supports.count(s) > 1)
        raise SupportError(f"support {twice} comes twice; add its coefficients up.")
    for support in supports:
        increasing = all(a < b for a, b in pairwise(support))
        inside = not support or (support[0] >= 0 and support[-1] < num_players)
        if not (increasing and inside):
            raise SupportError(
                f"support {support} is not an increasing tuple of players 0 to "
                f"{num_players - 1}."
            )


def as_dict(
    supports: Iterable[Support], table: NDArray[np.float64]
) -> dict[Support, float | NDArray[np.float64]]:
    """{support: row of table}, with floats where the table has one column."""
    if table.shape[1] == 1:
        return dict(zip(supports, table[:, 0].tolist(), strict=True))
    return dict(zip(supports, table, strict=True))


def _by_size(support: Support) -> tuple[int, Support]:
    return len(support), support
