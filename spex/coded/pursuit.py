"""Pursuit: alternate between decoding, screening low orders, and a joint fit.

Decoding finds supports of any order whose bins it can tell apart; a correlation with
all coded masks finds weaker ones, but only among supports that are listed: all of low
order, and supersets of what was found. Each round fits everything found so far and
searches what is left over: at first only for what explains most of a bin, then for
less.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from spex.coded.bins import Bins, Players, as_players, as_supports
from spex.coded.decode import LIKELY, LIST_WORDS, POSSIBLE, decode
from spex.coded.normal import gram, moments, strongest_players
from spex.coded.shapes import MOST_TERMS
from spex.coded.significance import LISTED, discoveries, p_values
from spex.spectrum import Support

MAX_ROUNDS = 8
SHORT_LISTS = 1 << 12  # sign patterns tried in later rounds
SCREENED = 1 << 16  # supports tested,
PROMISING = 1 << 12  # and so many of them again in later rounds
EXACT = 1e2  # times the energy of rounding
RIDGE = 1e-9  # of a support's own weight, for supports alike on these masks;
REFINED = 2  # solutions of what is left make up for it


@dataclass(frozen=True, eq=False)
class Pursued:
    """What was found.

    Attributes:
        supports: discoveries.
        num_decoded: supports that decoding took, discoveries or not.
        is_exact: nothing is left but rounding.
    """

    supports: list[Support]
    coefficients: NDArray[np.float64]
    num_decoded: int
    is_exact: bool


def pursue(bins: Bins, empty: float, max_order: int) -> Pursued:
    """Decode, screen and fit until nothing more is found.

    Args:
        bins: of centred outputs scaled to one another; left as they are.
        empty: energy of a bin, over delays and outputs, that is rounding.
        max_order: largest support looked for.
    """
    search = _Pursuit(bins, empty, max_order)
    for _ in range(MAX_ROUNDS):
        if not search.decode(LIKELY) or search.is_exact:
            break
    for _ in range(MAX_ROUNDS):
        if search.is_exact or not search.screen() + search.decode():
            break
    if not search.is_exact:
        search.prune()
    return search.result()


class _Pursuit:
    """Supports found so far, their joint fit, and what it leaves in the bins."""

    def __init__(self, bins: Bins, empty: float, max_order: int) -> None:
        self.bins, self.empty, self.max_order = bins, empty, max_order
        self.num_players = bins.plan.shape.code.num_players
        self.room = 1 + min(MOST_TERMS, bins.plan.shape.num_masks // 2)
        self.group: dict[Support, int] = {(): LISTED}  # that decoded it
        self.coefficients = np.zeros((1, bins.table.shape[2]))
        self.left = bins
        self.is_exact = False
        self.num_decoded = 0
        self.num_decoding_tests = 0
        self.neighbours: set[Support] = set()  # that were tested
        self._promising: Players | None = None

    @property
    def supports(self) -> list[Support]:
        """What was found, the empty support first."""
        return list(self.group)

    def decode(self, purity: float = POSSIBLE) -> int:
        """Decode what is left; how many discoveries were added."""
        left = self.left.copy()
        again = self.num_decoded > 0  # most of what a long list gives was tried
        words = SHORT_LISTS if again else LIST_WORDS
        found = decode(left, self.empty, words, purity)
        supports = as_supports(found.players, self.num_players)
        self.num_decoded += len(supports)
        if self._is_nothing(left):
            everything = np.ones(len(supports), dtype=bool)
            return self._add(supports, found.group, np.zeros(len(supports)), everything)
        self.num_decoding_tests += found.num_tried
        p = p_values(left, found.players, found.coefficients, found.group)
        fits = np.array([len(s) <= self.max_order for s in supports], dtype=bool)
        kept = discoveries(p, found.num_tried) & fits
        return self._add(supports, found.group, p, kept)

    def screen(self) -> int:
        """Test supports of low order and neighbours; how many were added."""
        neighbours = self._neighbours()
        num_tests = len(self._low) + len(neighbours)
        self.neighbours.update(as_supports(neighbours, self.num_players))
        if self._promising is None:  # few others rise later
            p = self._test(self._low)
            self._promising = self._low[np.argsort(p, kind="stable")[:PROMISING]]
        p = np.concatenate([self._test(self._promising), self._test(neighbours)])
        found = np.flatnonzero(discoveries(p, num_tests))
        players = np.concatenate([self._promising, neighbours])[found]
        supports = as_supports(players, self.num_players)
        nobody, kept = np.full(len(found), LISTED), np.ones(len(found), dtype=bool)
        return self._add(supports, nobody, p[found], kept)

    def prune(self) -> None:
        """Drop what is no discovery beside everything else, all tests together."""
        supports = self.supports[1:]
        if not supports:
            return
        players = as_players(supports, self.num_players)
        group = np.array([self.group[s] for s in supports])
        p = p_values(self.left, players, self.coefficients[1:], group)
        listed = len(self._low) + len(self.neighbours)
        kept = discoveries(p, listed + self.num_decoding_tests)
        for support, keep in zip(supports, kept, strict=True):
            if not keep:
                del self.group[support]
        self._fit()

    def result(self) -> Pursued:
        """What was found."""
        return Pursued(
            self.supports, self.coefficients, self.num_decoded, self.is_exact
        )

    def _add(
        self,
        supports: list[Support],
        group: NDArray[np.int64],
        p: NDArray[np.float64],
        kept: NDArray[np.bool_],
    ) -> int:
        """Add those kept, surest first while there is room, and fit all anew."""
        before = len(self.group)
        for i in np.argsort(p, kind="stable"):
            if kept[i] and len(self.group) < self.room:
                self.group.setdefault(supports[i], int(group[i]))
        if len(self.group) > before:
            self._fit()
        return len(self.group) - before

    def _fit(self) -> None:
        """Least squares on the coded masks."""
        players = as_players(self.supports, self.num_players)
        matrix = gram(self.bins, players)
        matrix[np.diag_indices_from(matrix)] *= 1 + RIDGE
        factor = cho_factor(matrix)
        self.left, self.coefficients = self.bins.copy(), np.zeros((1, 1))
        for _ in range(REFINED):
            step = cho_solve(factor, moments(self.left, players))
            self.left.subtract(players, step)
            self.coefficients = self.coefficients + step
        self.is_exact = self._is_nothing(self.left)

    def _is_nothing(self, left: Bins) -> bool:
        energy = (left.table**2).sum(axis=(1, 2)).max(initial=0.0)
        return bool(energy <= EXACT * self.empty)

    def _test(self, players: Players) -> NDArray[np.float64]:
        """p-values of supports that are not in the fit."""
        nothing = np.zeros((len(players), self.coefficients.shape[1]))
        return p_values(self.left, players, nothing)

    @cached_property
    def _low(self) -> Players:
        """Supports of low order: all singles, then those of the strongest players."""
        pool = strongest_players(self.bins)
        width, room = min(self.max_order, self.num_players), SCREENED
        listed = []
        for order in range(1, width + 1):
            size = max(p for p in range(len(pool) + 1) if comb(p, order) <= room)
            if size < min(2 * order, len(pool)):
                break
            chosen = np.array(list(combinations(sorted(pool[:size]), order)))
            padding = ((0, 0), (0, width - order))
            listed.append(np.pad(chosen, padding, constant_values=self.num_players))
            room -= len(chosen)
        return np.concatenate(listed)

    def _neighbours(self) -> Players:
        """What was found with one more player of those involved."""
        found = [s for s in self.group if 2 <= len(s) < self.max_order]
        involved = sorted({player for support in self.group for player in support})
        listed = {
            tuple(sorted((*support, player)))
            for support in found[: SCREENED // max(1, len(involved))]
            for player in involved
            if player not in support
        }
        return as_players(sorted(listed), self.num_players, self._low.shape[1])
