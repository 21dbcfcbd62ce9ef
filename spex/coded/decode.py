"""Decoding: from the bins of a coded design to supports and their coefficients.

In a bin that holds one coefficient F(k) the signs of U[p] / U[0] are the syndrome of k.
Bins that hold several, or noise, are decoded to a list: the sign patterns nearest to
what was measured, in order of the summed ranks of the reliabilities of what they flip
(Duffy, An & Médard, "Ordered reliability bits GRAND", IEEE TSP 2022), each decoded
beyond that by the code. Of the supports that belong in the bin the one that explains
most of it is its candidate. What is found is subtracted in every group and the bins it
was in are decoded again (peeling; Kang et al. 2025, section 4).

Where several terms stay together in every bin they are in, bins are added up over the
groups: in a sum of bins that share one term, it is the largest (`look_jointly`).

Deviations from Kang et al.: all bins and patterns are decoded at once, and only bins
that changed; the k outputs are decoded together; a bin counts as empty, or as holding
one coefficient, by a noise level estimated from all bins; the purest bins are peeled
first; what is peeled must lower the energy of all its bins together, which a wrong
support, being in the wrong bins of the other groups, does not; and sums of bins are
decoded, too.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from spex.coded.bins import Bins, Players
from spex.coded.significance import JOINT, least_explained

LIST_WORDS = 1 << 15  # sign patterns decoded together
LIST_SIZES = (64, 512)  # least and most for each bin
PURITY = (0.6, 0.3, 0.2)  # what is as pure is peeled together, purest first
LIKELY, POSSIBLE = PURITY[0], PURITY[-1]  # from which a candidate may be peeled
ALL_PURE = 0.98  # a hard decision that explains this much is not questioned
JOINT_BINS = 64  # of each group, the fullest, of which sums are looked at
JOINT_PATTERNS = 128  # sign patterns tried for a sum
JOINT_PARTS = (1, 8)  # of all patterns a list may have: one in 8, then all
QUIET_ROUNDS = 4  # of peeling in a row that find no new support
QUIET_PART = 0.25  # of the bins tell the noise level


@dataclass(eq=False)
class Decoded:
    """What was found.

    Attributes:
        players: supports (w, t), distinct, in the order they were found.
        coefficients: first estimates, (w, k).
        group: in whose bin each was found first, (w,); `JOINT` if in a sum over all
            groups.
        num_tried: distinct supports that were candidates, taken or not.
    """

    players: Players
    coefficients: NDArray[np.float64]
    group: NDArray[np.int64]
    num_tried: int


def decode(
    bins: Bins, empty: float, list_words: int = LIST_WORDS, purity: float = POSSIBLE
) -> Decoded:
    """Peel the bins until nothing more is found; they keep what is left.

    Args:
        bins: of outputs scaled to one another.
        empty: energy of a bin, summed over delays and outputs, that is rounding.
        list_words: sign patterns tried for all unsure bins together, within
            `LIST_SIZES` for each.
        purity: part of a bin's energy that a candidate must explain, unless all
            groups agree on it.
    """
    search = _Search(bins, empty, list_words, purity)
    search.look(np.arange(len(bins.table)))
    while search.num_quiet < QUIET_ROUNDS:
        chosen, level = search.acceptable()
        if level < PURITY[0] and len(unsure := search.unsure()):
            search.look_closely(unsure)
        elif len(chosen):
            search.peel(chosen)
        elif len(waiting := search.waiting()):
            search.look(waiting)
        elif not search.look_jointly():
            break
    return search.result()


class _Search:
    """The candidate of every bin, and what was peeled so far."""

    def __init__(self, bins: Bins, empty: float, list_words: int, least: float) -> None:
        num_bins, _, num_outputs = bins.table.shape
        code = bins.plan.shape.code
        self.bins, self.code, self.empty = bins, code, empty
        self.list_words, self.least = list_words, least
        self.players = np.full((num_bins, code.t), code.num_players)
        self.coefficients = np.zeros((num_bins, num_outputs))
        self.energy = np.zeros(num_bins)
        self.purity = np.zeros(num_bins)
        self.is_decoded = np.zeros(num_bins, dtype=bool)
        self.is_listed = np.zeros(num_bins, dtype=bool)
        self.is_joint = np.zeros(num_bins, dtype=bool)
        self.weights = bins.weights[bins.group_of]
        samples = bins.table.shape[1] * len(bins.weights)
        self.certain = least_explained(code.num_players, code.t, samples)
        self.joint_parts = list(JOINT_PARTS)  # that are still to be tried
        self.num_quiet = 0
        self.peeled: dict[bytes, int] = {}
        self.found = Decoded(
            np.zeros((0, code.t), dtype=np.int64),
            np.zeros((0, num_outputs)),
            np.zeros(0, dtype=np.int64),
            0,
        )
        self.tried: set[bytes] = set()

    def look(self, changed: NDArray[np.int64]) -> None:
        """Decode these bins anew, as their signs are."""
        self.purity[changed] = 0.0
        self.energy[changed] = (self.bins.table[changed] ** 2).sum(axis=(1, 2))
        occupied = changed[(self.energy > self._empty_energy())[changed]]
        self.is_decoded[changed] = False
        self.is_decoded[occupied] = True
        self._decode(self._alone(occupied), self.bins.table[occupied], 1)
        self.is_listed[changed] = False
        self.joint_parts = list(JOINT_PARTS)

    def unsure(self) -> NDArray[np.int64]:
        """Bins whose candidate explains little, if only their signs were tried."""
        tried = self.is_decoded & ~self.is_listed
        return np.flatnonzero(tried & (self.purity < ALL_PURE))

    def look_closely(self, unsure: NDArray[np.int64]) -> None:
        """Decode these bins to lists."""
        self.is_listed[unsure] = True
        low, high = LIST_SIZES
        size = min(max(self.list_words // len(unsure), low), high)
        step = max(1, LIST_WORDS // size)
        for start in range(0, len(unsure), step):
            part = unsure[start : start + step]
            self._decode(self._alone(part), self.bins.table[part], size)

    def look_jointly(self) -> bool:
        """Decode sums over the groups of the bins that are most alike.

        First some of them, later more; False if all were tried since bins changed, or
        nothing is in them.
        """
        if not self.joint_parts or (self.energy <= self.empty).all():
            return False
        words = self.list_words // self.joint_parts.pop()
        full = [self._fullest(c) for c in range(len(self.bins.weights))]
        content = [self.bins.table[where] for where in full]
        places, signs = _most_alike(content, max(1, words // JOINT_PATTERNS))
        owners = np.stack([w[i] for w, i in zip(full, places.T, strict=True)], axis=1)
        sums = sum(
            sign[:, None, None] * table[i]
            for sign, table, i in zip(signs.T, content, places.T, strict=True)
        )
        self._decode(owners, sums, JOINT_PATTERNS)
        return True

    def waiting(self) -> NDArray[np.int64]:
        """Bins passed over as empty that stand out now that the rest is quieter."""
        stands_out = self.energy > self._empty_energy()
        return np.flatnonzero(stands_out & ~self.is_decoded)

    def acceptable(self) -> tuple[NDArray[np.int64], float]:
        """Bins whose candidates to peel now, each support once, and their purity.

        A candidate that leaves no more than noise counts as pure.
        """
        candidates = np.flatnonzero(self.purity >= self.least)
        candidates = candidates[np.argsort(-self.purity[candidates], kind="stable")]
        _, first = np.unique(self.players[candidates], axis=0, return_index=True)
        candidates = candidates[np.sort(first)]
        self.tried.update(row.tobytes() for row in self.players[candidates])
        if not len(candidates):
            return candidates, 0.0
        wanted = self.coefficients[candidates][:, None]
        found = self.bins.correlations(self.players[candidates])
        gain = (wanted * (2 * found - wanted)).sum(axis=(1, 2))
        self.purity[candidates[gain <= 0]] = 0.0
        candidates = candidates[gain > 0]
        pure = np.where(self._is_single(candidates), 1.0, self.purity[candidates])
        for level in PURITY:
            if (pure >= level).any():
                return candidates[pure >= level], level
        return candidates[:0], 0.0

    def peel(self, chosen: NDArray[np.int64]) -> None:
        """Subtract the candidates of these bins, and look again where they were."""
        players, coefficients = self.players[chosen], self.coefficients[chosen]
        self.bins.subtract(players, coefficients)
        group = np.where(self.is_joint[chosen], JOINT, self.bins.group_of[chosen])
        self._keep(players, coefficients, group)
        self.look(np.unique(self.bins.find(players)))

    def result(self) -> Decoded:
        """What was peeled; a support peeled several times counts once, with its sum."""
        self.found.num_tried = len(self.tried)
        return self.found

    def _keep(
        self,
        players: Players,
        coefficients: NDArray[np.float64],
        group: NDArray[np.int64],
    ) -> None:
        keys = [row.tobytes() for row in players]
        known = np.array([key in self.peeled for key in keys], dtype=bool)
        again = [self.peeled[key] for key in keys if key in self.peeled]
        np.add.at(self.found.coefficients, again, coefficients[known])
        self.num_quiet = self.num_quiet + 1 if known.all() else 0
        for key in keys:
            self.peeled.setdefault(key, len(self.peeled))
        found = self.found
        found.players = np.concatenate([found.players, players[~known]])
        found.coefficients = np.concatenate([found.coefficients, coefficients[~known]])
        found.group = np.concatenate([found.group, group[~known]])

    def _alone(self, where: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each bin as the owner of what is in it, (w, C); see `_decode`."""
        owners = np.full((len(where), len(self.bins.weights)), -1)
        owners[np.arange(len(where)), self.bins.group_of[where]] = where
        return owners

    def _fullest(self, group: int) -> NDArray[np.int64]:
        """The bins of a group that hold the most energy."""
        start, end = self.bins.starts[group : group + 2]
        order = np.argsort(-self.energy[start:end], kind="stable")
        return start + order[:JOINT_BINS]

    def _decode(
        self, owners: NDArray[np.int64], content: NDArray[np.float64], size: int
    ) -> None:
        """Make the best of `size` sign patterns the candidate of each owner.

        Args:
            owners: bins that a support must be in, one of each group, (w, C); -1 where
                any will do. The last of them keeps the candidate.
            content: their sum, (w, P, k).
            size: patterns.
        """
        if not len(owners):
            return
        tried = _patterns(_direction(content), size)
        players, is_decoded = self.code.decode(tried.reshape(-1, tried.shape[2]))
        words = np.flatnonzero(is_decoded)
        owners, players = owners[words // tried.shape[1]], players[words]
        fits = ((self.bins.find(players) == owners) | (owners < 0)).all(axis=1)
        owners, players = owners[fits], players[fits]
        counts = owners >= 0
        coefficients = np.einsum("wck,wc->wk", self.bins.correlations(players), counts)
        coefficients /= counts.sum(axis=1)[:, None]
        energy = np.maximum((self.energy[owners] * counts).sum(axis=1), 1e-300)
        explained = (coefficients**2).sum(axis=1) * counts.sum(axis=1) / energy
        explained *= content.shape[1]
        self._offer(owners.max(axis=1), players, coefficients, explained, counts)

    def _offer(
        self,
        where: NDArray[np.int64],
        players: Players,
        coefficients: NDArray[np.float64],
        explained: NDArray[np.float64],
        counts: NDArray[np.bool_],
    ) -> None:
        """Keep each bin's purest candidate; what no chance explains is pure enough."""
        is_joint = np.asarray(counts.all(axis=1))
        orders = (players < self.code.num_players).sum(axis=1)
        is_certain = is_joint & (explained >= self.certain[orders])
        explained = np.where(is_certain, np.maximum(explained, self.least), explained)
        explained[is_joint & ~is_certain] = 0.0
        best = np.lexsort((-explained, where))
        bins, first = np.unique(where[best], return_index=True)
        best = best[first]
        better = explained[best] > self.purity[bins]
        bins, best = bins[better], best[better]
        self.players[bins] = players[best]
        self.coefficients[bins] = coefficients[best]
        self.purity[bins] = explained[best]
        self.is_joint[bins] = is_joint[best]

    def _noise(self) -> NDArray[np.float64]:
        """Energy of noise in each bin: what candidates leave of the quieter bins.

        Bins of a larger group average more masks, and hold so much less noise.
        """
        left = self.energy * (1 - self.purity) * self.weights
        place = int(QUIET_PART * (len(left) - 1))
        return np.asarray(np.partition(left, place)[place] / self.weights)

    def _spread(self) -> float:
        """Relative spread of the energy of noise, 3 standard deviations."""
        samples = self.bins.table.shape[1] * self.bins.table.shape[2]
        return float(3 * np.sqrt(2 / samples))

    def _empty_energy(self) -> NDArray[np.float64]:
        return np.maximum(self.empty, self._noise())

    def _is_single(self, where: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether candidates leave no more in their bins than noise."""
        left = self.energy[where] * (1 - self.purity[where])
        noise = self._noise()[where]
        return np.asarray(left <= noise * (1 + self._spread()) + self.empty)


def _direction(content: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sign-like factor over delays of bins (w, P, k): (w, P).

    Outputs share the signs of a coefficient; three power iterations find the direction
    among outputs in which the bin is largest.
    """
    if content.shape[2] == 1:
        return content[:, :, 0]
    largest = (content**2).sum(axis=2).argmax(axis=1)
    axis = content[np.arange(len(content)), largest]
    for _ in range(3):
        along = np.einsum("wpk,wk->wp", content, axis)
        axis = np.einsum("wpk,wp->wk", content, along)
        axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-300)
    return np.einsum("wpk,wk->wp", content, axis)


def _most_alike(
    content: list[NDArray[np.float64]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choices of a bin of each group, and their signs, whose contents agree the most.

    Args:
        content: of bins of three groups, (w_c, P, k).
        count: how many.

    Returns:
        Places in the three lists and signs, both (count, 3) or fewer rows.
    """
    flat = [x.reshape(len(x), -1) for x in content]
    unit = [
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in flat
    ]
    xy, xz, yz = (unit[a] @ unit[b].T for a, b in ((0, 1), (0, 2), (1, 2)))
    signs = np.array([(1, y, z) for y in (1, -1) for z in (1, -1)], dtype=float)
    alike = np.stack(
        [
            y * xy[:, :, None] + z * xz[:, None, :] + y * z * yz[None, :, :]
            for _, y, z in signs
        ]
    )
    order = alike.ravel()
    chosen = np.argpartition(-order, min(count, order.size) - 1)[:count]
    chosen = chosen[np.argsort(-order[chosen], kind="stable")]
    sign, *places = np.unravel_index(chosen, alike.shape)
    return np.stack(places, axis=1), signs[sign]


def _patterns(content: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The `size` likeliest syndromes of bins (w, P): (w, size, P - 1).

    A flipped sign of the zero delay flips all the others relative to it.
    """
    flips = _flips(content.shape[1], size)
    rank = np.abs(content).argsort(axis=1).argsort(axis=1)
    bits = (content < 0).astype(np.uint8)[:, None] ^ np.moveaxis(flips[:, rank], 0, 1)
    return bits[:, :, 1:] ^ bits[:, :, :1]


@lru_cache(maxsize=64)
def _flips(width: int, size: int) -> NDArray[np.uint8]:
    """The first `size` sets of ranks to flip, by their sum: (size, width)."""
    flips = np.zeros((size, width), dtype=np.uint8)
    row = 0
    for total in count():
        for ranks in _distinct_parts(total, width):
            flips[row, [rank - 1 for rank in ranks]] = 1
            row += 1
            if row == size or row == 2**width:
                return flips[:row]
    raise AssertionError


def _distinct_parts(total: int, largest: int) -> list[tuple[int, ...]]:
    """All sets of different numbers from 1 to `largest` that add up to `total`."""
    if total == 0:
        return [()]
    return [
        (part, *rest)
        for part in range(min(total, largest), 0, -1)
        for rest in _distinct_parts(total - part, part - 1)
    ]
