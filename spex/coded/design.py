"""The coded design: which masks SPEX ablates. A plan is a prefix of one sequence.

Group c has a binary matrix M_c (n, b). Its masks are x = M_c l + d_p + o_c (mod 2) for
every l in {0,1}^b and every delay d_p: the zero row and the rows of the BCH check
matrix. A Walsh-Hadamard transform over l adds up the coefficients with M_c^T k = j in
bin j, and each delay adds the sign bit <d_p, k> (Kang et al., "SPEX: Scaling Feature
Interaction Explanations for LLMs", ICML 2025, arXiv 2502.13870, section 4). The random
offsets o_c are ours: without them every design holds the empty coalition, which is
often an outlier, and all groups share a row; o_c turns F(k) into (-1)^<o_c, k> F(k).

Uniform masks, for checking and for the regression, are mixed in throughout. So a larger
budget holds every mask of a smaller one, and no part of a budget is left over.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from oracles import Masks, distinct_masks
from spex.coded.shapes import NUM_GROUPS, Shape, num_uniform, shapes
from spex.masks import uniform_masks


@dataclass(frozen=True, eq=False)
class Group:
    """One group of masks.

    Attributes:
        columns: of M_c, (b, n).
        offset: o_c, (n,).
        rows: of the plan's masks, for every delay and pattern l, (P, 2^b).
    """

    columns: NDArray[np.uint8]
    offset: NDArray[np.uint8]
    rows: NDArray[np.int64]

    @property
    def b(self) -> int:
        """log2 of the number of bins."""
        return len(self.columns)

    @cached_property
    def hashes(self) -> NDArray[np.int64]:
        """The bin of each player alone; that of a set is their XOR. (n,)"""
        return (1 << np.arange(self.b)) @ self.columns.astype(np.int64)


@dataclass(frozen=True, eq=False)
class CodedPlan:
    """Distinct masks: a coded design, the first of its next stage, and uniform ones.

    Attributes:
        masks: (m, n); row 0 is intact.
        shape: of the design.
        groups: of the design.
        uniform: rows of masks that were drawn uniformly and are in no group.
    """

    masks: Masks
    shape: Shape
    groups: tuple[Group, ...]
    uniform: NDArray[np.int64]

    @cached_property
    def uncoded(self) -> NDArray[np.int64]:
        """Rows in no group."""
        is_coded = np.zeros(len(self.masks), dtype=bool)
        for group in self.groups:
            is_coded[group.rows] = True
        return np.flatnonzero(~is_coded)


def coded_plan(
    num_players: int, max_order: int, budget: int, rng: Generator
) -> CodedPlan:
    """The intact mask and the first of the sequence, `budget` distinct ones in all.

    The budget is at least `smallest_budget`. Fewer only where the sequence ends, with
    all masks of a small n nearly used up.
    """
    seeds = rng.bit_generator.seed_seq.spawn(1 + NUM_GROUPS)  # type: ignore[attr-defined]
    length = budget - 1
    while True:
        sequence = _Sequence(num_players, max_order, length, seeds)
        first, place = distinct_masks(sequence.masks)
        if len(first) > budget:
            length = int(first[budget]) - 1  # up to the last mask before one too many
        elif len(first) == budget or sequence.is_whole:
            return sequence.plan(first, place)
        else:
            length *= 2


@dataclass(frozen=True)
class _Block:
    """Masks that a stage adds to a group: these delays with these patterns."""

    group: int
    delays: range
    patterns: range

    def __len__(self) -> int:
        return len(self.delays) * len(self.patterns)

    def pairs(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Delay and pattern of its first `count` masks."""
        number = np.arange(count)
        return (
            self.delays.start + number // len(self.patterns),
            self.patterns.start + number % len(self.patterns),
        )


@dataclass(frozen=True, eq=False)
class _Sequence:
    """The intact mask and the first `length` of the sequence that the seeds stand for.

    The first seed is of the uniform masks, the others are of the groups.
    """

    num_players: int
    max_order: int
    length: int
    seeds: list[SeedSequence]

    @cached_property
    def uniform(self) -> NDArray[np.int64]:
        """Rows of the uniform masks."""
        counts = np.array([num_uniform(i) for i in range(self.length + 1)])
        counts = np.minimum(counts, 2 ** min(self.num_players, 62) - 1)
        return 1 + np.flatnonzero(np.diff(counts))

    @cached_property
    def coded(self) -> NDArray[np.int64]:
        """Rows of the coded masks."""
        return np.setdiff1d(np.arange(1, self.length + 1), self.uniform)

    @cached_property
    def stages(self) -> list[Shape]:
        """Stages that are complete, and the one that is not, if there is one."""
        found = []
        for shape in shapes(self.num_players, self.max_order):
            found.append(shape)
            if shape.num_masks > len(self.coded):
                break
        return found

    @property
    def shape(self) -> Shape:
        """The last complete stage."""
        complete = [s for s in self.stages if s.num_masks <= len(self.coded)]
        return complete[-1]

    @property
    def is_whole(self) -> bool:
        """No longer sequence has more coded masks."""
        return self.stages[-1].num_masks <= len(self.coded)

    @cached_property
    def blocks(self) -> list[_Block]:
        """Blocks of all stages in order."""
        first = self.stages[0]
        found = [
            _Block(c, range(first.num_delays), range(2**b))
            for c, b in enumerate(first.bs)
        ]
        for before, after in pairwise(self.stages):
            for c, (b, grown) in enumerate(zip(before.bs, after.bs, strict=True)):
                if after.t > before.t:
                    delays = range(before.num_delays, after.num_delays)
                    found.append(_Block(c, delays, range(2**b)))
                elif grown > b:
                    patterns = range(2**b, 2**grown)
                    found.append(_Block(c, range(after.num_delays), patterns))
        return found

    @cached_property
    def matrices(self) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Offset (n,) and columns (b, n) of each group at the last stage."""
        return [
            _drawn(self.num_players, b, default_rng(seed))
            for b, seed in zip(self.stages[-1].bs, self.seeds[1:], strict=True)
        ]

    @cached_property
    def masks(self) -> Masks:
        """(length + 1, n), repeats included; rows of no block are dropped."""
        masks = np.ones((self.length + 1, self.num_players), dtype=bool)
        drawing = default_rng(self.seeds[0])
        masks[self.uniform] = uniform_masks(
            self.num_players, len(self.uniform), drawing
        )[1:]
        checks = self.stages[-1].code.checks
        delays = np.vstack([np.zeros_like(checks[:1]), checks])
        patterns = [_patterns(columns) for _, columns in self.matrices]
        for block, rows in self._placed():
            delay, pattern = block.pairs(len(rows))
            shifted = delays ^ self.matrices[block.group][0]
            masks[rows] = patterns[block.group][pattern] ^ shifted[delay]
        return masks

    def plan(self, first: NDArray[np.int64], place: NDArray[np.int64]) -> CodedPlan:
        """The plan of these masks, given their distinct rows and each one's place."""
        shape = self.shape
        tables = [np.empty((shape.num_delays, 2**b), dtype=np.int64) for b in shape.bs]
        for block, rows in self._placed():
            delay, pattern = block.pairs(len(rows))
            table = tables[block.group]
            if delay[-1] < len(table) and pattern[-1] < table.shape[1]:
                table[delay, pattern] = place[rows]
        groups = tuple(
            Group(columns[:b], offset, table)
            for b, (offset, columns), table in zip(
                shape.bs, self.matrices, tables, strict=True
            )
        )
        in_groups = np.concatenate([table.ravel() for table in tables])
        uniform = np.setdiff1d(place[self.uniform], in_groups)
        return CodedPlan(self.masks[first], shape, groups, uniform)

    def _placed(self) -> list[tuple[_Block, NDArray[np.int64]]]:
        """Blocks with their rows; the last may be cut off."""
        starts = np.cumsum([0, *map(len, self.blocks)])
        placed = [
            (block, self.coded[start : start + len(block)])
            for block, start in zip(self.blocks, starts[:-1], strict=True)
        ]
        return [(block, rows) for block, rows in placed if len(rows)]


def _drawn(
    num_players: int, b: int, rng: Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An offset (n,) and b independent columns (b, n), nested in b."""
    offset = rng.integers(0, 2, num_players, dtype=np.uint8)
    columns: list[NDArray[np.uint8]] = []
    pivots: dict[int, int] = {}
    while len(columns) < b:
        column = rng.integers(0, 2, num_players, dtype=np.uint8)
        rest = int.from_bytes(np.packbits(column).tobytes())
        while rest.bit_length() in pivots:
            rest ^= pivots[rest.bit_length()]
        if rest:  # not a sum of those before: bins hold equally many supports
            pivots[rest.bit_length()] = rest
            columns.append(column)
    return offset, np.array(columns, dtype=np.uint8).reshape(b, num_players)


def _patterns(columns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """M l for every l, bit r of l taking column r: (2^b, n)."""
    patterns = np.zeros((1, columns.shape[1]), dtype=np.uint8)
    for column in columns:
        patterns = np.concatenate([patterns, patterns ^ column])
    return patterns
