"""The coded design: which masks SPEX ablates.

Group c draws a random binary matrix M_c (n, b). Its masks are x = M_c l + d_p + o
(mod 2) for every l in {0,1}^b and every delay d_p: the zero row and the rows of the BCH
check matrix. A Walsh-Hadamard transform over l adds up the coefficients with
M_c^T k = j in bin j, and each delay adds the sign bit <d_p, k> (Kang et al., "SPEX:
Scaling Feature Interaction Explanations for LLMs", ICML 2025, arXiv 2502.13870,
section 4). The random offset o is ours: without it every design holds the empty
coalition, which is often an outlier; it turns F(k) into (-1)^<o, k> F(k).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracles import Masks
from spex.coded.codes import Code
from spex.masks import uniform_masks

UNIFORM_PART = 0.1  # of the budget, at least, goes to uniform masks
MIN_UNIFORM = 16
GROUPS = (3, 2)
SMALLEST_B = 2


@dataclass(frozen=True)
class Shape:
    """Size of a coded design: C groups of 2^b masks for each of 1 + q t delays."""

    num_groups: int
    b: int
    code: Code

    @property
    def num_delays(self) -> int:
        """The zero delay and one for each check."""
        return 1 + self.code.num_checks

    @property
    def num_masks(self) -> int:
        """Masks of the coded part, repeats included."""
        return self.num_groups * self.num_delays * 2**self.b


@dataclass(frozen=True, eq=False)
class CodedPlan:
    """Masks of a coded design followed by uniform ones.

    Attributes:
        masks: (m, n); row 0 is intact, then the coded masks ordered by group, delay
            and l, then uniform masks to the end.
        shape: of the coded part.
        hashes: the matrices M_c, (C, n, b).
        offset: o, (n,).
    """

    masks: Masks
    shape: Shape
    hashes: NDArray[np.int64]
    offset: NDArray[np.int64]

    @property
    def coded(self) -> slice:
        """Rows of the coded masks."""
        return slice(1, 1 + self.shape.num_masks)

    @property
    def uniform(self) -> NDArray[np.int64]:
        """Rows of the uniform masks."""
        return np.arange(1 + self.shape.num_masks, len(self.masks))


def shapes(num_players: int, max_order: int) -> Iterator[Shape]:
    """All designs, those that tell the largest interactions apart first."""
    highest = min(max_order, num_players)
    for t in range(highest, 0, -1):
        code = Code(num_players, t)
        for b in range(min(num_players, 24), SMALLEST_B - 1, -1):
            for groups in GROUPS:
                yield Shape(groups, b, code)


def smallest_budget(num_players: int, max_order: int) -> int:
    """The smallest budget that pays for a design of order 1 and its uniform masks."""
    costs = (shape.num_masks for shape in shapes(num_players, min(1, max_order)))
    return 1 + min(costs, default=2**num_players) + MIN_UNIFORM


def largest_shape(num_players: int, max_order: int, budget: int) -> Shape:
    """The design with the most bins the budget pays for, at the highest order."""
    uniform = max(MIN_UNIFORM, int(UNIFORM_PART * budget))
    affordable = (
        shape
        for shape in shapes(num_players, max_order)
        if 1 + shape.num_masks + uniform <= budget
    )
    first = next(affordable)
    same_order = [first, *(s for s in affordable if s.code.t == first.code.t)]
    return max(same_order, key=lambda shape: shape.num_groups * 2**shape.b)


def coded_plan(
    num_players: int, max_order: int, budget: int, rng: np.random.Generator
) -> CodedPlan:
    """A coded design, filled up to the budget with uniform masks."""
    hashing, drawing = rng.spawn(2)
    shape = largest_shape(num_players, max_order, budget)
    hashes = _hashes(num_players, shape, hashing)
    offset = hashing.integers(0, 2, num_players)
    delays = np.vstack([np.zeros(num_players, dtype=np.int64), shape.code.checks])
    grid = (np.arange(2**shape.b)[:, None] >> np.arange(shape.b)) & 1
    patterns = grid @ hashes.transpose(0, 2, 1)  # (C, 2^b, n)
    coded = (patterns[:, None] + delays[:, None] + offset) % 2 == 1
    masks = np.concatenate(
        [np.ones((1, num_players), dtype=bool), coded.reshape(-1, num_players)]
    )
    spent = len(np.unique(np.packbits(masks, axis=1), axis=0))
    uniform = _fresh(masks, budget - spent, drawing)
    return CodedPlan(np.concatenate([masks, uniform]), shape, hashes, offset)


def _hashes(
    num_players: int, shape: Shape, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Random M_c of full column rank for every group, so that bins are balanced."""
    drawn: list[NDArray[np.int64]] = []
    while len(drawn) < shape.num_groups:
        matrix = rng.integers(0, 2, (num_players, shape.b))
        grid = (np.arange(1, 2**shape.b)[:, None] >> np.arange(shape.b)) & 1
        if (grid @ matrix.T % 2).any(axis=1).all():
            drawn.append(matrix)
    return np.array(drawn)


def _fresh(masks: Masks, count: int, rng: np.random.Generator) -> Masks:
    """`count` uniform masks that are not among `masks`."""
    known = {row.tobytes() for row in np.packbits(masks, axis=1)}
    drawn = uniform_masks(masks.shape[1], count + len(known), rng)[1:]
    packed = np.packbits(drawn, axis=1)
    fresh = [i for i, row in enumerate(packed) if row.tobytes() not in known]
    return drawn[fresh[:count]]
