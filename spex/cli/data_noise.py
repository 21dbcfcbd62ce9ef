"""How far one training is from another on the same examples."""

import sys
from dataclasses import replace

import numpy as np

from oracles import Ledger, Oracle, StoppedRun, run
from spex.explanation import Explanation
from spex.tried.removals import NOISE_MASKS


def with_noise(
    again: Oracle, explanation: Explanation, ledger: Ledger | None
) -> Explanation:
    """With the noise of training, told by training again on subsets already paid for.

    Half the mean square of the differences between two values of a mask is the variance
    of one. Where nothing can be trained again it stays unknown, which is told on
    standard error.

    Args:
        again: the oracle explained, with other seeds, or workers that share it.
        explanation: of ablations that it holds.
        ledger: where ablations are kept.

    Raises:
        InterruptedRun: Ctrl-C; what the ledger has is kept.
    """
    known = explanation.ablations
    if known is None:
        return explanation
    some = np.flatnonzero(known.masks.any(axis=1))  # nothing is trained on nothing
    if not len(some):
        return explanation
    places = np.linspace(0, len(some) - 1, min(NOISE_MASKS, len(some)))
    rows = some[places.round().astype(int)]
    try:
        done = run(again, known.masks[rows], ledger=ledger, most_unanswered=1.0)
    except StoppedRun as error:
        print(f"spex: warning: the noise is not known: {error}", file=sys.stderr)
        return explanation
    noise = np.nanmean((done.values - known.values[rows]) ** 2, axis=0) / 2
    errors = explanation.standard_errors
    if not explanation.faithfulness.num_masks:
        # nothing was estimated, so that they are 0; but a coefficient is a mean
        errors = np.hypot(errors, np.sqrt(noise / len(known.masks)))
    return replace(explanation, noise_floor=noise, standard_errors=errors)


def without_noise(explanation: Explanation) -> Explanation:
    """Of training that is not random: its noise is 0."""
    none = np.zeros(len(explanation.outputs))
    return replace(explanation, noise_floor=none)
