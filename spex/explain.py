"""The main path: plan masks, ablate, recover a spectrum, check it on held-out masks."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from oracles import (
    FunctionOracle,
    InputError,
    InterruptedRun,
    Ledger,
    Masks,
    Oracle,
    Progress,
    run,
)
from spex.errors import BudgetError, MethodError
from spex.explanation import Explanation, Provenance
from spex.faithfulness import estimate_faithfulness, exact_faithfulness
from spex.method import Method, Plan, Recovery
from spex.registry import choose, default_budget


def explain(
    oracle: Oracle | Callable[[Masks], Any],
    *,
    players: int | Sequence[str] | None = None,
    method: str | Method[Any] = "auto",
    budget: int | None = None,
    seed: int = 0,
    max_order: int = 5,
    ledger: str | Path | Ledger | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Find which players act together to make the oracle say what it says.

    Args:
        oracle: an `oracles.Oracle`, or a callable from bool masks (m, n), True = kept,
            to values (m,) or (m, k); a callable needs `players`.
        players: how many players, or their names; only with a callable.
        method: "auto", "spex", "proxyspex", "exact", another installed method's name,
            or an object as described by `spex.Method`. Where all 2^n masks fit in the
            budget, a method given by name is replaced by the exact transform, and the
            result says so.
        budget: most distinct ablations to ask the oracle for, everything included; by
            default 4 n log2 n within 100 and 5,000.
        seed: of the masks and of the recovery.
        max_order: the largest interaction looked for.
        ledger: where ablations are kept, so that none is ever paid for twice.
        progress: called as progress(done, total) after every batch.

    Raises:
        InputError: a callable without `players`, or `players` with an oracle.
        BudgetError: the budget is below what the method can use.
        MethodError: no such method, or a negative seed.
        InterruptedRun: Ctrl-C; it says what was kept.
        OracleError: the oracle or the ledger failed; see `oracles.errors`.

    >>> import numpy as np
    >>> e = explain(lambda masks: masks[:, 0] & masks[:, 1], players=3, budget=8)
    >>> {players: round(f, 3) for players, f in e.fourier.to_dict().items()}
    {(): 0.25, (0,): -0.25, (1,): -0.25, (0, 1): 0.25}
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise MethodError(f"seed={seed} must be a whole number of at least 0.")
    oracle = as_oracle(oracle, players)
    num_players = len(oracle.players)
    budget = default_budget(num_players) if budget is None else _checked_budget(budget)
    choice = choose(method, num_players, budget, max_order)
    planning, recovering = np.random.default_rng(seed).spawn(2)
    plan = choice.method.plan(num_players, budget, planning)
    _check_plan(plan, budget)
    with _opened(ledger) as book:
        done = run(oracle, plan.masks, ledger=book, progress=progress)
    started = time.perf_counter()
    try:
        recovery = choice.method.recover(plan, done.values, recovering)
    except KeyboardInterrupt:
        path = None if book is None else book.path
        raise InterruptedRun(done.spent, done.spent, path) from None
    return _explanation(
        oracle,
        plan,
        done.values,
        recovery,
        Provenance(
            method=choice.name,
            reason=f"{choice.reason}; {recovery.reason}",
            budget=budget,
            spent=done.spent,
            paid=done.paid,
            seed=seed,
            max_order=max_order,
            ablation_seconds=done.seconds,
            recovery_seconds=time.perf_counter() - started,
            subject=dict(oracle.description),
            versions={name: version(name) for name in ("spex-explain", "numpy")},
        ),
    )


def as_oracle(
    oracle: Oracle | Callable[[Masks], Any], players: int | Sequence[str] | None
) -> Oracle:
    """The oracle itself, or a callable wrapped as one.

    Raises:
        InputError: neither, or `players` missing or given where it must not be.
    """
    if isinstance(oracle, Oracle):
        if players is not None:
            raise InputError(
                "players was given, but this oracle names its own. Leave players out."
            )
        return oracle
    if not callable(oracle):
        raise InputError(
            f"{oracle!r} is neither an oracle nor a callable. Pass a function from "
            "boolean masks (m, n) to values, or an object as described by "
            "oracles.Oracle. For a text, use oracles.features.text_oracle(text)."
        )
    if players is None:
        raise InputError(
            "a callable does not say how many players it has. Pass players=n, or "
            "players=[name, ...]."
        )
    return FunctionOracle(oracle, players)


def _checked_budget(budget: int) -> int:
    if not isinstance(budget, Integral) or budget < 1:
        raise BudgetError(f"budget={budget} must be a whole number of at least 1.")
    return int(budget)


def _check_plan(plan: Plan, budget: int) -> None:
    distinct = len(np.unique(np.packbits(plan.masks, axis=1), axis=0))
    if distinct > budget:
        raise MethodError(
            f"the method planned {distinct} distinct ablations for a budget of "
            f"{budget}; nothing was run."
        )


def _opened(ledger: str | Path | Ledger | None) -> Any:
    if ledger is None or isinstance(ledger, Ledger):
        return nullcontext(ledger)
    return Ledger(ledger)


def _explanation(
    oracle: Oracle,
    plan: Plan,
    values: np.ndarray,
    recovery: Recovery,
    provenance: Provenance,
) -> Explanation:
    num_outputs = values.shape[1]
    outputs = tuple(oracle.outputs) or tuple(f"output {j}" for j in range(num_outputs))
    if len(recovery.held_out):
        measured = values[recovery.held_out]
        faithfulness = estimate_faithfulness(measured, recovery.held_out_predictions)
    else:
        faithfulness = exact_faithfulness(num_outputs)
    return Explanation(
        players=tuple(oracle.players),
        outputs=outputs,
        fourier=recovery.fourier,
        standard_errors=recovery.standard_errors,
        faithfulness=faithfulness,
        intact=values[int(np.argmax(plan.masks.sum(axis=1)))],
        provenance=provenance,
    )
