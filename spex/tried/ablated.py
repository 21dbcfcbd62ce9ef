"""Ablations of single sets, beside those that an explanation was made of."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oracles import (
    Ablations,
    InputError,
    Ledger,
    Masks,
    Oracle,
    Progress,
    UnansweredError,
    run,
)
from spex.explanation import Explanation
from spex.spectrum import Support


@runtime_checkable
class Noisy(Protocol):
    """An oracle that measures its own noise, as `oracles.data.DataOracle` does."""

    def noise_floor(self, masks: Masks, draws: int = 2) -> NDArray[np.float64]:
        """Variance of each output (k,) at the same mask, 0 if it has none."""


def masks_without(sets: Sequence[Support], num_players: int) -> Masks:
    """Masks (m, n) that keep all but the players of each set."""
    masks = np.ones((len(sets), num_players), dtype=bool)
    for row, players in enumerate(sets):
        masks[row, list(players)] = False
    return masks


def known_ablations(explanation: Explanation, fingerprint: str) -> Ablations:
    """What the explanation holds, which is the full input if nothing else."""
    masks = masks_without([()], len(explanation.players))
    values = explanation.intact[None]
    if explanation.ablations is not None:
        masks = np.concatenate([explanation.ablations.masks, masks])
        values = np.concatenate([explanation.ablations.values, values])
    return Ablations(masks, values, fingerprint)


def check_same(oracle: Oracle, explanation: Explanation) -> None:
    """Refuse another oracle than the one explained.

    Raises:
        InputError: it has other players, or another fingerprint if that is known.
    """
    known = explanation.ablations
    is_other = known is not None and known.fingerprint != oracle.fingerprint
    if is_other or tuple(oracle.players) != explanation.players:
        raise InputError(
            "the explanation is of another oracle. Pass the oracle it was made with."
        )


def values_without(
    oracle: Oracle,
    explanation: Explanation,
    sets: Sequence[Support],
    *,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Values (m, k) without the players of each set; NaN where there are none.

    What the ledger or the explanation holds is not asked for again.

    Raises:
        InputError: another oracle than the one explained.
        OracleError: it failed; see `oracles.errors`.
    """
    check_same(oracle, explanation)
    if not sets:
        return np.empty((0, len(explanation.outputs)))
    # the full input is among them, so that all sets may be without a value
    done = run(
        oracle,
        masks_without([*sets, ()], len(explanation.players)),
        ledger=ledger,
        earlier=known_ablations(explanation, oracle.fingerprint),
        most_unanswered=1.0,
        progress=progress,
    )
    return done.values[:-1]


def noise_without(
    oracle: Oracle, explanation: Explanation, sets: Sequence[Support]
) -> NDArray[np.float64] | None:
    """Standard deviation of a single value, (k,); None if it is not known.

    An oracle that measures its own noise does so without the players of each set.
    """
    if explanation.noise_floor is not None:
        return np.sqrt(explanation.noise_floor)
    if not isinstance(oracle, Noisy) or not sets:
        return None
    try:
        masks = masks_without(sets, len(explanation.players))
        return np.sqrt(oracle.noise_floor(masks))
    except UnansweredError:  # with another seed one of them has no value
        return None
