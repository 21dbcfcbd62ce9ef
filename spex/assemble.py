"""An explanation from what was ablated and what a method recovered from it."""

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from oracles import Ablations, Masks, Oracle, Values, averaged
from spex.ends import Ends
from spex.explanation import Explanation
from spex.faithfulness import (
    Faithfulness,
    estimate_faithfulness,
    exact_faithfulness,
)
from spex.method import Recovery
from spex.provenance import Provenance


def assemble(
    oracle: Oracle, ablations: Ablations, recovery: Recovery, made: Provenance
) -> Explanation:
    """Names, faithfulness and provenance put to a spectrum."""
    mean = averaged(ablations.masks, ablations.values)
    masks, values = ablations.masks[mean.first], mean.means
    held_out = mean.place[recovery.held_out]
    outputs = tuple(oracle.outputs) or tuple(
        f"output {j}" for j in range(values.shape[1])
    )

    def fit(predictions: Values) -> Faithfulness:
        return estimate_faithfulness(
            values[held_out],
            predictions,
            weights=recovery.held_out_weights,
            is_cross_fitted=True,
        )

    is_exact = not len(recovery.held_out)
    full = recovery.full_predictions
    return Explanation(
        players=tuple(oracle.players),
        outputs=outputs,
        fourier=recovery.fourier,
        standard_errors=np.hypot(
            recovery.standard_errors, _measured_errors(oracle, recovery, len(values))
        ),
        faithfulness=(
            exact_faithfulness(len(outputs))
            if is_exact
            else fit(recovery.held_out_predictions)
        ),
        intact=_intact(masks, values, recovery),
        provenance=made,
        discoveries=recovery.discoveries,
        full=recovery.full,
        full_faithfulness=None if full is None else fit(full),
        noise_floor=_noise_floor(oracle, recovery),
        ends=None if is_exact else Ends.of(masks, values),
        ablations=ablations,
        basis=recovery.basis,
    )


def _noise_floor(oracle: Oracle, recovery: Recovery) -> NDArray[np.float64] | None:
    """Variance of a value: told by repeated masks, or by an oracle of means itself."""
    if recovery.noise_floor is not None:
        return recovery.noise_floor
    error = getattr(oracle, "noise", None)  # standard errors of its values, (k,)
    return None if error is None else np.asarray(error, dtype=np.float64) ** 2


def _measured_errors(
    oracle: Oracle, recovery: Recovery, num_masks: int
) -> NDArray[np.float64]:
    """What an oracle's own noise adds to exact coefficients, (k,); else it is in them.

    A coefficient is a mean over all masks, and values vary independently.
    """
    noise = _noise_floor(oracle, recovery)
    if len(recovery.held_out) or recovery.noise_floor is not None or noise is None:
        return np.zeros(recovery.fourier.num_outputs)
    return np.asarray(np.sqrt(noise / num_masks))


def _intact(masks: Masks, values: Values, recovery: Recovery) -> NDArray[np.float64]:
    """The value with every player kept, or, if it was not measured, as predicted."""
    everyone = np.flatnonzero(masks.all(axis=1))
    if len(everyone):
        return np.asarray(values[everyone[0]])
    return recovery.fourier(np.ones((1, masks.shape[1]), dtype=bool))[0]


def versions() -> dict[str, str]:
    """Of the packages that matter."""
    return {name: version(name) for name in ("spex-explain", "numpy")}
