"""The main path: plan masks, ablate, recover a spectrum, check it on held-out masks."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from oracles import (
    Ablations,
    FunctionOracle,
    InputError,
    InterruptedRun,
    Ledger,
    Masks,
    Oracle,
    Progress,
    distinct_masks,
    run,
)
from spex.anytime import ANYTIME, Stages
from spex.assemble import assemble, versions
from spex.errors import BudgetError, MethodError
from spex.explanation import Explanation
from spex.method import Extensible, Method, Plan, Sparing
from spex.provenance import Provenance
from spex.registry import Choice, choose, continued, default_budget, least_budget

MOST_UNANSWERED = 0.1
"""Part of the ablations that may have no value before the oracle is at fault."""


def explain(
    oracle: Oracle | Callable[[Masks], Any],
    *,
    players: int | Sequence[str] | None = None,
    method: str | Method[Any] = "auto",
    budget: int | None = None,
    seed: int | None = None,
    max_order: int | None = None,
    ledger: str | Path | Ledger | None = None,
    earlier: Explanation | None = None,
    target_r2: float | None = None,
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
            default 4 n log2 n within 100 and 5,000, or twice that of `earlier`.
        seed: of the masks and of the recovery; by default 0.
        max_order: the largest interaction looked for; by default 5.
        ledger: where ablations are kept, so that none is ever paid for twice.
        earlier: an explanation of the same oracle to go on from: its method, seed and
            max_order become the defaults, its ablations are used again, and as every
            method's masks are nested in the budget, only the difference is paid for
            (another method, seed or max_order has other masks). Callables without a
            fingerprint are told apart by name and players only.
        target_r2: stop as soon as the whole interval of the faithfulness lies above
            it, or more ablations no longer help; "auto" is then proxyspex. By default
            the whole budget is spent.
        progress: called as progress(done, total) after every batch.

    Ablations that a ledger or `earlier` holds beyond those planned are learned from,
    too, by methods that can (proxyspex), and not counted as spent. These can do without
    up to a tenth of the ablations, too: masks an oracle has no value for whatever it
    tries, such as a training subset that diverges, are left out, and the provenance's
    reason says how many.

    Raises:
        InputError: a callable without `players`, `players` with an oracle, or an
            `earlier` of another oracle, or one whose ablations are nowhere.
        BudgetError: the budget is below what the method can use.
        MethodError: no such method, a negative seed, or a target that is no R^2.
        InterruptedRun: Ctrl-C; it says what was kept.
        OracleError: the oracle or the ledger failed; see `oracles.errors`.

    >>> import numpy as np
    >>> e = explain(lambda masks: masks[:, 0] & masks[:, 1], players=3, budget=8)
    >>> {players: round(f, 3) for players, f in e.fourier.to_dict().items()}
    {(): 0.25, (0,): -0.25, (1,): -0.25, (0, 1): 0.25}
    """
    oracle = as_oracle(oracle, players)
    num_players = len(oracle.players)
    if earlier is not None:
        _check_earlier(earlier, oracle, ledger)
        method = continued(method, earlier.provenance.method)
    budget = _checked_budget(_first(budget, _default_budget(num_players, earlier)))
    seed, max_order = _settings(seed, max_order, earlier)
    if target_r2 is not None and method == "auto":
        method = ANYTIME
    choose(method, num_players, budget, max_order)  # refuses before anything is paid
    smallest = 0 if earlier is None else earlier.provenance.spent
    if target_r2 is not None:
        smallest = max(smallest, least_budget(method, num_players, max_order))
    with _opened(ledger) as book:
        known = None if earlier is None else earlier.ablations
        before = _known_masks(oracle, book, known)
        job = _Job(oracle, seed, max_order, book, before, progress)
        stages = Stages(target_r2, budget, smallest)
        while True:
            choice = choose(method, num_players, stages.current, max_order)
            found = job.explained(choice, stages.current, known)
            stages.note(found)
            if stages.is_over:
                return stages.explained(found)
            known = found.ablations


@dataclass(frozen=True, eq=False)
class _Job:
    """What is the same for every budget."""

    oracle: Oracle
    seed: int
    max_order: int
    book: Ledger | None
    before: Masks  # whose values were known before
    progress: Progress | None

    def explained(
        self, choice: Choice, budget: int, known: Ablations | None
    ) -> Explanation:
        """Plan, ablate, recover."""
        planning, recovering = np.random.default_rng(self.seed).spawn(2)
        plan: Plan = choice.method.plan(len(self.oracle.players), budget, planning)
        spent = _checked_cost(plan, budget)
        if isinstance(choice.method, Extensible):
            more = _without(self.before, plan.masks)
            plan = choice.method.extended(plan, more)
        sparing = _sparing(choice.method)
        done = run(
            self.oracle,
            plan.masks,
            ledger=self.book,
            earlier=known,
            most_unanswered=0.0 if sparing is None else MOST_UNANSWERED,
            progress=self.progress,
        )
        values = np.delete(done.values, done.unanswered, axis=0)
        if sparing is not None and len(done.unanswered):
            plan = sparing.without(plan, done.unanswered)
        started = time.perf_counter()
        try:
            recovery = choice.method.recover(plan, values, recovering)
        except KeyboardInterrupt:
            path = None if self.book is None else self.book.path
            raise InterruptedRun(done.spent, done.spent, path) from None
        reasons = choice.reason, recovery.reason, done.statement
        made = Provenance(
            method=choice.name,
            reason="; ".join(filter(None, reasons)),
            budget=budget,
            spent=spent,
            paid=done.paid,
            seed=self.seed,
            max_order=self.max_order,
            ablation_seconds=done.seconds,
            recovery_seconds=time.perf_counter() - started,
            subject=dict(self.oracle.description),
            versions=versions(),
        )
        ablations = Ablations(plan.masks, values, self.oracle.fingerprint)
        return assemble(self.oracle, ablations, recovery, made)


def _sparing(method: Method[Any]) -> Sparing | None:
    return method if isinstance(method, Sparing) else None


def _known_masks(oracle: Oracle, book: Ledger | None, known: Ablations | None) -> Masks:
    """Masks whose values were known before this call, (m, n)."""
    found = [np.zeros((0, len(oracle.players)), dtype=bool)]
    if book is not None and oracle.fingerprint:
        found.append(book.masks(oracle.fingerprint, len(oracle.players)))
    if known is not None:
        found.append(known.masks)
    return np.concatenate(found)


def _without(masks: Masks, others: Masks) -> Masks:
    """The distinct masks that are not among the others."""
    first, _ = distinct_masks(np.concatenate([others, masks]))
    return masks[first[first >= len(others)] - len(others)]


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


def _check_earlier(
    earlier: Explanation, oracle: Oracle, ledger: str | Path | Ledger | None
) -> None:
    """Raise InputError unless `earlier` can be gone on from."""
    known = earlier.ablations
    fingerprint = oracle.fingerprint if known is None else known.fingerprint
    subjects = earlier.provenance.subject, oracle.description
    said, says = (json.dumps(dict(x), sort_keys=True) for x in subjects)
    same = fingerprint == oracle.fingerprint and said == says
    if earlier.players != tuple(oracle.players) or not same:
        raise InputError(
            "earlier explains another oracle. Pass one of the same model, text and "
            "settings, or leave earlier out."
        )
    if known is None and ledger is None:
        raise InputError(
            "earlier was read from a file, which holds no ablations. Pass the ledger "
            "it was made with."
        )


def _first(given: int | None, default: int) -> int:
    return default if given is None else given


def _default_budget(num_players: int, earlier: Explanation | None) -> int:
    if earlier is None:
        return default_budget(num_players)
    return 2 * earlier.provenance.budget


def _settings(
    seed: int | None, max_order: int | None, earlier: Explanation | None
) -> tuple[int, int]:
    """Seed and largest order: as given, as earlier, or the defaults."""
    past = None if earlier is None else earlier.provenance
    seed = _first(seed, 0 if past is None else past.seed)
    return checked_seed(seed), _first(max_order, 5 if past is None else past.max_order)


def checked_seed(seed: int) -> int:
    """The seed, if it is one; else MethodError."""
    if not isinstance(seed, Integral) or seed < 0:
        raise MethodError(f"seed={seed} must be a whole number of at least 0.")
    return int(seed)


def _checked_budget(budget: int) -> int:
    if not isinstance(budget, Integral) or budget < 1:
        raise BudgetError(f"budget={budget} must be a whole number of at least 1.")
    return int(budget)


def _checked_cost(plan: Plan, budget: int) -> int:
    """How many distinct ablations the plan takes."""
    distinct = len(distinct_masks(plan.masks)[0])
    if distinct > budget:
        raise MethodError(
            f"the method planned {distinct} distinct ablations for a budget of "
            f"{budget}; nothing was run."
        )
    return distinct


def _opened(ledger: str | Path | Ledger | None) -> Any:
    if ledger is None or isinstance(ledger, Ledger):
        return nullcontext(ledger)
    return Ledger(ledger)
