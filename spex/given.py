"""Explain from masks and values that are there already: no oracle is asked."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from oracles import (
    Ablations,
    FunctionOracle,
    InputError,
    Masks,
    Values,
    check_masks,
    distinct_masks,
)
from oracles.run import check_values
from spex.assemble import assemble, versions
from spex.explain import checked_seed
from spex.explanation import GIVEN, Explanation
from spex.method import Method
from spex.provenance import Provenance
from spex.registry import choose_learner


def explain_values(
    masks: Any,
    values: Any,
    *,
    players: Sequence[str] | None = None,
    outputs: Sequence[str] = (),
    method: str | Method[Any] = "proxyspex",
    seed: int = 0,
    max_order: int = 5,
) -> Explanation:
    """Find which players act together from ablations made elsewhere.

    Masks may be of any design. One that comes more than once, each time with a value of
    its own, tells the noise of a stochastic system: its values are averaged, and
    `noise_floor` is reported. Faithfulness is over masks like those given. Where they
    keep another part of the players than half, but all alike, as in training subsets,
    so are coefficients and Banzhaf values (see `spex.basis`).

    Args:
        masks: bool or 0/1, shape (m, n), True or 1 = kept.
        values: shape (m,) or (m, k), finite.
        players: n names; by default "player 0" and so on.
        outputs: k names, if they have any.
        method: "proxyspex", or another method's name, or an object, that learns from
            any masks. All 2^n masks are always transformed exactly.
        seed: of the recovery.
        max_order: the largest interaction looked for, if `method` is a name.

    Raises:
        InputError: masks that are no table, or values that are no real numbers.
        MaskError: masks of other entries than 0 and 1, or not a column for each name.
        OracleValueError: values that are not finite, or not one for each mask.
        BudgetError: fewer distinct masks than the method can learn from.
        MethodError: no such method, or one that needs masks of its own.
    """
    masks = _as_masks(masks)
    names = masks.shape[1] if players is None else players
    oracle = FunctionOracle(_not_asked, names, outputs=outputs)
    masks = check_masks(masks, len(oracle.players))
    values = check_values(_as_values(values), masks, oracle)
    seed = checked_seed(seed)
    spent = len(distinct_masks(masks)[0])
    learner, name, reason = choose_learner(method, masks.shape[1], spent, max_order)
    generator = np.random.default_rng(seed)
    started = time.perf_counter()
    recovery = learner.recover(learner.given(masks), values, generator)
    made = Provenance(
        method=name,
        reason=f"{reason}; {recovery.reason}",
        budget=spent,
        spent=spent,
        paid=0,
        seed=seed,
        max_order=max_order,
        ablation_seconds=0.0,
        recovery_seconds=time.perf_counter() - started,
        subject={"kind": GIVEN},
        versions=versions(),
    )
    return assemble(oracle, Ablations(masks, values, ""), recovery, made)


def _as_masks(masks: Any) -> Masks:
    """0 and 1 as booleans; anything else is left for `check_masks` to refuse."""
    masks = _as_array("masks", masks)
    if masks.ndim != 2:
        raise InputError(
            f"masks have shape {masks.shape}; expected (m, n): a row for each "
            "ablation and a column for each player."
        )
    is_binary = masks.dtype != np.bool_ and np.isin(masks, (0, 1)).all()
    return masks.astype(bool) if is_binary else masks


def _as_values(values: Any) -> Values:
    """Real numbers, one column if there is no other."""
    values = _as_array("values", values)
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"values are of type {values.dtype}; expected real numbers, (m,) or (m, k)."
        )
    values = values.astype(np.float64)
    return values[:, None] if values.ndim == 1 else values


def _as_array(name: str, given: Any) -> Any:
    try:
        return np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name} are no table ({error}).") from error


def _not_asked(masks: Masks) -> Values:
    raise InputError("values were given for some masks only; there are no others.")
