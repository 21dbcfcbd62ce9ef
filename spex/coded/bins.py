"""Bins: the values of a coded design, transformed group by group.

Bin j of group c holds, for every delay p, U[p] = sum of F(k) (-1)^<d_p + o_c, k> over
the supports k with M_c^T k = j. All groups' bins lie in one table, one after the other.
Supports are rows of players, (w, t), filled up with n (which stands for nobody).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from oracles import Values
from spex.coded.design import CodedPlan
from spex.exact import walsh_hadamard
from spex.spectrum import Support

Players = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bins:
    """All bins of a design; `table` is worked on in place.

    Attributes:
        plan: the design.
        table: U, shape (bins, P, k).
    """

    plan: CodedPlan
    table: NDArray[np.float64]

    @classmethod
    def of(cls, plan: CodedPlan, values: Values) -> Self:
        """The bins of values (m, k) of the plan's masks."""
        tables = []
        for group in plan.groups:
            by_pattern = np.moveaxis(values[group.rows], 1, 0)  # (2^b, P, k)
            tables.append(walsh_hadamard(by_pattern) / 2**group.b)
        return cls(plan, np.concatenate(tables))

    def copy(self) -> Self:
        """The same bins, to work on; what was worked out from the plan is shared."""
        copied = replace(self, table=self.table.copy())
        copied.__dict__.update(self.__dict__ | {"table": copied.table})
        return copied

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First bin of each group, and the number of bins: (C + 1,)."""
        return np.cumsum([0, *(2**group.b for group in self.plan.groups)])

    @cached_property
    def group_of(self) -> NDArray[np.int64]:
        """The group each bin is of: (bins,)."""
        return np.repeat(np.arange(len(self.plan.groups)), np.diff(self.starts))

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Masks averaged in a bin of each group, 2^b: (C,)."""
        return np.diff(self.starts).astype(float)

    def find(self, players: Players) -> NDArray[np.int64]:
        """The bin of each support in every group, (w, C)."""
        place = self._hashes[players[:, 0]]
        for column in players.T[1:]:
            place ^= self._hashes[column]
        return place + self.starts[:-1]

    def signs(self, players: Players) -> NDArray[np.float64]:
        """(-1)^<d_p + o_c, k> of each support, (w, C, P)."""
        in_groups = self._offsets.signs(players)
        return in_groups[:, :, None] * self._checks.signs(players)[:, None, :]

    def correlations(self, players: Players) -> NDArray[np.float64]:
        """Mean over delays of sign times bin content, (w, C, k)."""
        where, by_delay = self.find(players), self._checks.signs(players)
        num_delays = by_delay.shape[1]
        means = [
            np.einsum("wp,wpk->wk", by_delay, self.table[where[:, c]]) / num_delays
            for c in range(where.shape[1])
        ]
        return np.stack(means, axis=1) * self._offsets.signs(players)[:, :, None]

    def subtract(self, players: Players, coefficients: NDArray[np.float64]) -> None:
        """Take terms with coefficients (w, k) out of their bins in every group."""
        waves = self.signs(players)[..., None] * coefficients[:, None, None]
        np.subtract.at(self.table, self.find(players), waves)

    @cached_property
    def _hashes(self) -> NDArray[np.int64]:
        hashes = np.stack([group.hashes for group in self.plan.groups], axis=1)
        return np.pad(hashes, ((0, 1), (0, 0)))

    @cached_property
    def _checks(self) -> "_Bits":
        """Of each player in every delay, the zero delay first."""
        return _Bits.of(np.pad(self.plan.shape.code.checks.T, ((0, 0), (1, 0))))

    @cached_property
    def _offsets(self) -> "_Bits":
        """Of each player in every group."""
        offsets = [group.offset for group in self.plan.groups]
        return _Bits.of(np.stack(offsets, axis=1))


@dataclass(frozen=True, eq=False)
class _Bits:
    """Rows of bits for each player and for nobody, 64 to a word: (n + 1, words)."""

    words: NDArray[np.uint64]
    width: int

    @classmethod
    def of(cls, bits: NDArray[np.uint8]) -> Self:
        """Rows of bits (n, width), and zeros for nobody."""
        width = bits.shape[1]
        filled = np.pad(bits, ((0, 1), (0, -width % 64)))
        packed = np.ascontiguousarray(np.packbits(filled, axis=1))
        return cls(packed.view(np.uint64), width)

    def signs(self, players: Players) -> NDArray[np.float64]:
        """(-1)^(sum of each support's bits), (w, width)."""
        odd = self.words.take(players[:, 0], axis=0)
        for column in players.T[1:]:
            odd ^= self.words.take(column, axis=0)
        bits = np.unpackbits(odd.view(np.uint8), axis=1, count=self.width)
        return 1.0 - 2.0 * bits.astype(np.float64)


def as_players(
    supports: list[Support], num_players: int, width: int | None = None
) -> Players:
    """Supports as rows of players, filled up with n, by default to the longest."""
    if width is None:
        width = max(1, max((len(support) for support in supports), default=0))
    rows = np.full((len(supports), width), num_players)
    for row, support in zip(rows, supports, strict=True):
        row[: len(support)] = support
    return rows


def as_supports(players: Players, num_players: int) -> list[Support]:
    """The inverse of `as_players`."""
    return [tuple(i for i in row if i < num_players) for row in players.tolist()]
