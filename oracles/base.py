"""The oracle protocol: a system seen as a set function over masks.

A mask is a boolean row over the n players; **True means the player is kept**, False
that it is ablated. The intact input is the row of all True.
"""

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oracles.errors import MaskError

Masks = NDArray[np.bool_]
"""Boolean array of shape (m, n): m masks over n players, True = kept."""

Values = NDArray[np.float64]
"""Float array of shape (m, k): k named outputs for each of m masks."""


@runtime_checkable
class Oracle(Protocol):
    """A set function v: {0,1}^n -> R^k that costs something to evaluate.

    Any object with these five members is an oracle; there is nothing to inherit. One
    that pays for its ablations one by one is better a `PaidOracle`. A complete one:

    >>> import numpy as np
    >>> class Majority:
    ...     players = ("a", "b", "c")
    ...     outputs = ("majority",)
    ...     fingerprint = "majority-of-3"
    ...     description = {"kind": "example"}
    ...     def evaluate(self, masks):
    ...         return (masks.sum(axis=1, keepdims=True) >= 2).astype(float)
    >>> isinstance(Majority(), Oracle)
    True
    """

    @property
    def players(self) -> Sequence[str]:
        """Names of the n players, in mask order; need not be distinct."""

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the k outputs in column order; empty if they have no names."""

    @property
    def fingerprint(self) -> str:
        """Identity of system, input and settings: equal only if v is the same v."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What is being explained, as JSON-ready data for records and reports.

        Feature oracles give `text` and `spans` (one [start, end) pair of character
        offsets per player), which the report uses to draw the text.
        """

    def evaluate(self, masks: Masks) -> Values:
        """Values of shape (m, k) for masks of shape (m, n); each row is paid for."""


@runtime_checkable
class PaidOracle(Protocol):
    """An oracle whose ablations are paid for one by one, as a remote model's are.

    With these two members beside an oracle's five, the runner asks for nothing that
    cannot be afforded, and commits every value as it comes: nothing paid for is lost
    when the model fails or the user presses Ctrl-C, and only what is under way when the
    process is killed. An oracle that wraps another should have them if the other has.
    """

    def check_affordable(self, masks: Masks) -> None:
        """Called before the first of these ablations (m, n) is asked for.

        Raises:
            InputError: they cost more than this oracle may spend.
        """

    def evaluate_each(
        self, masks: Masks
    ) -> Generator[tuple[Sequence[int], Values], None, None]:
        """Rows of `masks` and their values, (r,) and (r, k), as they are answered.

        When something fails, KeyboardInterrupt thrown in included, it yields what has
        been answered meanwhile before it raises.

        Raises:
            ModelError: the model failed for good.
        """


@dataclass(frozen=True, eq=False)
class Ablations:
    """What was paid for: masks and what the oracle said.

    Attributes:
        masks: shape (m, n).
        values: shape (m, k).
        fingerprint: of the oracle; "" if it has none.
    """

    masks: Masks
    values: Values
    fingerprint: str


def check_masks(masks: Masks, num_players: int) -> Masks:
    """Return `masks` if it is a boolean (m, num_players) array.

    Raises:
        MaskError: wrong type, number of dimensions, or number of columns.
    """
    masks = np.asarray(masks)
    if masks.dtype != np.bool_:
        raise MaskError(
            f"masks have dtype {masks.dtype}; masks are boolean, True = kept. "
            "Convert with masks.astype(bool)."
        )
    if masks.ndim != 2 or masks.shape[1] != num_players:
        raise MaskError(
            f"masks have shape {masks.shape}; expected (m, {num_players}), one column "
            "for each player."
        )
    return masks


def distinct_masks(masks: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (d,) where each distinct mask comes first, in order, and each row's place.

    So masks[first][place] are the masks again.
    """
    packed = np.packbits(masks, axis=1)
    whole = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.ravel()]


@dataclass(frozen=True, eq=False)
class Averaged:
    """Distinct masks and the means of their values.

    Attributes:
        first: where each comes first among those given, (d,).
        place: each given one's place among them, (m,).
        counts: how often each comes, (d,).
        means: shape (d, k).
        noise: variance of a single value around its mask's mean, (k,); None if no mask
            comes twice.
    """

    first: NDArray[np.int64]
    place: NDArray[np.int64]
    counts: NDArray[np.int64]
    means: Values
    noise: NDArray[np.float64] | None


def averaged(masks: Masks, values: Values) -> Averaged:
    """Average the values (m, k) of masks (m, n) that repeat."""
    first, place = distinct_masks(masks)
    counts = np.bincount(place)
    sums = np.zeros((len(first), values.shape[1]))
    np.add.at(sums, place, values)
    means = sums / counts[:, None]
    noise = None
    if len(first) < len(masks):
        squares = ((values - means[place]) ** 2).sum(axis=0)
        noise = squares / (len(masks) - len(first))
    return Averaged(first, place, counts, means, noise)


def fingerprint_of(description: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of JSON-ready data, independent of key order."""
    canonical = json.dumps(description, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
