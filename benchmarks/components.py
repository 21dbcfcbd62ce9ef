"""Which heads, together: faithfulness, circuits and pruning, next to the peers.

    python benchmarks/components.py --minilm FOLDER --data DIR
    python benchmarks/components.py --planted
    python benchmarks/components.py --table

FOLDER is what `minilm_sentiment.py` makes. For every task, part of the heads kept and
number of ablations (5, 10 and 20 n), all methods see the same masks and values:

- R^2 of what they predict for masks that were not ablated for them;
- circuits of MIB's sizes (Mueller et al. 2025, arXiv 2504.13151), run: CPR, the area
  under f over the part of heads kept, heads in order of their scores (high is good);
  CMD, that under |1 - f|, in order of the scores' size (0 is best);
- pruning: f with 25, 50 and 75 % of the heads removed.

Ours takes for a circuit the subset with the largest value by its spectrum (exact
search), for CMD the one whose value is closest to the intact model's. What is spent on
running the circuits is the same for all and not counted. `ours, all sizes` learns from
as many masks of few heads as of many, at equal ablations; `ours, tried` does so, too,
but keeps two fifths back to run several proposals for each size (`spex.tried.trials`).
`--planted` counts seeds in which the planted pairs are among the three strongest
interactions.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from components_methods import (
    FRACTIONS,
    METHODS,
    OWN_MASKS,
    PRUNED,
    Found,
    Paid,
    by_scores,
)
from components_tasks import TASKS, Task, gradient_scores, make_task

import spex
from oracles import Ledger
from proxyspex import ProxySpex
from spex.faithfulness import r_squared

PACKAGES = ("numpy", "scikit-learn", "lightgbm", "torch", "transformers")
NUM_HELD_OUT = 200
PLANTED = {"induction": ("L0.H3", "L1.H5"), "backup": ("L1.H1", "L1.H4")}
Array = np.ndarray


def measured(found: Found, task: Task, held_out: Array) -> dict[str, Any]:
    """All scores of a method."""
    n = len(task.players)
    left = [round((1 - part) * n) for part in PRUNED]
    pruned = task.faithfulness(np.array([found.largest(s) for s in left]))
    row: dict[str, Any] = {"pruned": pruned.tolist(), "spent": found.spent}
    if found.closest is not None:
        sizes = [round(part * n) for part in FRACTIONS]
        largest = task.faithfulness(np.array([found.largest(s) for s in sizes]))
        closest = task.faithfulness(np.array([found.closest(s) for s in sizes]))
        row["curve"] = largest.tolist()
        row["cpr"] = float(np.trapezoid(largest, FRACTIONS))
        row["cmd"] = float(np.trapezoid(np.abs(1 - closest), FRACTIONS))
    if found.predict is not None:
        truth, guess = task(held_out), found.predict(held_out)
        row["r2"] = float(r_squared(truth[:, None], guess[:, None])[0])
    return row


def held_out_masks(keep: float, known: Array, seed: int) -> Array:
    """Masks that keep each head with a probability and are not among those known."""
    rng = np.random.default_rng((seed, 99))
    seen = {mask.tobytes() for mask in known}
    found: list[Array] = []
    for _ in range(100 * NUM_HELD_OUT):
        mask = rng.random(known.shape[1]) < keep
        if mask.tobytes() not in seen:
            seen.add(mask.tobytes())
            found.append(mask)
        if len(found) == NUM_HELD_OUT:
            break
    return np.array(found)


def measure(options: argparse.Namespace) -> None:
    """Run every cell that is not there yet."""
    versions = {name: version(name) for name in PACKAGES}
    print(json.dumps({**versions, "cores": os.cpu_count()}), flush=True)
    done = {key(row) for row in read_rows(options.results)}
    with Ledger(options.ledger) as ledger:
        for name in options.tasks:
            for seed in range(options.seeds):
                task = make_task(name, seed, options.minilm, options.data, ledger)
                for row in rows_of(task, seed, options, done):
                    row["versions"] = versions
                    with options.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    told = {k: v for k, v in row.items() if k not in TOO_LONG}
                    print(json.dumps(told), flush=True)


TOO_LONG = ("versions", "curve")


def rows_of(task: Task, seed: int, options: argparse.Namespace, done: set[Any]) -> Any:
    n = len(task.players)
    place = {"task": task.name, "seed": seed}
    first = {**place, "keep": 0.0, "times": 0}
    if any(key({**first, "method": name}) not in done for name in GRADIENT_NAMES):
        for name, (scores, spent) in gradient_scores(task).items():
            found = Found(None, *by_scores(scores), spent)
            yield {**first, "method": name, **measured(found, task, np.empty(0))}
    for keep in options.keeps:
        method = ProxySpex(keep=keep)
        most = max(options.times) * n
        whole = method.plan(n, most, np.random.default_rng(seed))
        held_out = held_out_masks(keep, whole.masks, seed)
        for times in options.times:
            plan = method.plan(n, times * n, np.random.default_rng(seed))
            paid = Paid(task, keep, plan, task(plan.masks))
            for name in options.methods:
                cell = {**place, "keep": keep, "times": times, "method": name}
                if key(cell) in done or (n > 30 and name == "LASSO order 2"):
                    continue
                started = time.perf_counter()
                found = METHODS[name](paid, seed)
                seconds = round(time.perf_counter() - started, 2)
                scores = measured(found, task, held_out)
                yield {**cell, **scores, "seconds": seconds}
    for times in options.times:
        paid = Paid(task, 0.0, None, np.empty(times * n))  # they pay themselves
        for name, make in OWN_MASKS.items():
            cell = {**place, "keep": 0.0, "times": times, "method": name}
            if key(cell) not in done:
                yield {**cell, **measured(make(paid, seed), task, np.empty(0))}


GRADIENT_NAMES = (
    "attribution patching",
    "EAP-IG, inputs",
    "EAP-IG, all heads",
    "EAP-IG, by layer",
)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("task", "seed", "keep", "times", "method"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [*{key(row): row for row in map(json.loads, lines)}.values()]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Tables: a line for a method, the budgets side by side."""
    names = (*OWN_MASKS, *METHODS, *GRADIENT_NAMES)
    tasks = [name for name in TASKS if any(row["task"] == name for row in rows)]
    for keep in sorted({row["keep"] for row in rows} - {0.0}):
        chosen = [row for row in rows if row["keep"] in (keep, 0.0)]
        times = sorted({row["times"] for row in chosen} - {0})
        for score in ("r2", "cpr", "cmd", "pruned"):
            print(f"\n**{score}**, keep {keep}, at {' / '.join(map(str, times))} n\n")
            print("| method | " + " | ".join(tasks) + " |")
            print("| --- " * (len(tasks) + 1) + "|")
            for name in names:
                own = [r for r in chosen if r["method"] == name and score in r]
                cells = [cell([r for r in own if r["task"] == t], score) for t in tasks]
                if own:
                    print(f"| {name} | " + " | ".join(cells) + " |")


def cell(rows: Sequence[dict[str, Any]], score: str) -> str:
    """Means over seeds at each budget."""
    parts = []
    for times in sorted({row["times"] for row in rows}):
        values = np.array([row[score] for row in rows if row["times"] == times])
        mean = np.atleast_1d(values.mean(axis=0))
        parts.append(
            ", ".join(f"{x:.3f}" if len(mean) < 2 else f"{x:.2f}" for x in mean)
        )
    return " / ".join(parts) or "-"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """R^2 by the budget at keep 0.8, and f by the part of heads kept at 10 n."""
    from matplotlib import color_sequences
    from matplotlib.figure import Figure

    tasks = [name for name in TASKS if any(row["task"] == name for row in rows)]
    figure = Figure(figsize=(4 * len(tasks), 7), layout="constrained")
    panels = figure.subplots(2, len(tasks), squeeze=False)
    for task, (above, below) in zip(tasks, panels.T, strict=True):
        for number, name in enumerate((*OWN_MASKS, *METHODS, *GRADIENT_NAMES)):
            own = [r for r in rows if (r["task"], r["method"]) == (task, name)]
            told = [r for r in own if r["keep"] == 0.8 and "r2" in r]
            style: dict[str, Any] = {"color": color_sequences["tab20"][number]}
            style |= {"lw": 2.5 if name.startswith("ours") else 1, "label": name}
            times = sorted({row["times"] for row in told})
            means = [np.mean([r["r2"] for r in told if r["times"] == t]) for t in times]
            above.plot(times, means, marker="o", **style)
            curves = [
                r["curve"]
                for r in own
                if "curve" in r and (r["times"], r["keep"]) in DRAWN
            ]
            if curves:
                below.plot(FRACTIONS, np.mean(curves, axis=0), **style)
        above.set(title=task, xlabel="ablations / n", ylabel="R²")
        below.set(xlabel="part of heads kept", ylabel="f", xscale="log")
    panels[1, 0].legend(fontsize=6)
    figure.savefig(path, dpi=110)


DRAWN = ((10, 0.8), (10, 0.0), (0, 0.0))  # budget, keep


def planted(options: argparse.Namespace) -> None:
    """Seeds, of prompts and masks, in which a planted pair is among the top three."""
    for name, pair in PLANTED.items():
        for keep in options.keeps:
            ranks = [rank_of(name, set(pair), keep, seed) for seed in range(20)]
            for which, found in zip(
                ("all sets", "pairs"), zip(*ranks, strict=True), strict=True
            ):
                within = sum(rank <= 3 for rank in found)
                print(
                    f"{name}, keep {keep}, among {which}: in the top 3 in {within} of "
                    f"{len(found)}, ranks {found}",
                    flush=True,
                )


def rank_of(name: str, pair: set[str], keep: float, seed: int) -> tuple[int, int]:
    """Of a pair among interactions of any size, and among pairs; 99 if not found."""
    task = make_task(name, seed, Path(), Path(), None)
    method = ProxySpex(keep=keep)
    e = spex.explain(
        task.oracle, method=method, budget=10 * len(task.players), seed=seed
    )
    found = [{e.players[i] for i in t.players} for t in e.top(99) if len(t.players) > 1]
    ranks = [
        some.index(pair) + 1 if pair in some else 99
        for some in (found, [names for names in found if len(names) == 2])
    ]
    return ranks[0], ranks[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    here = Path(__file__).with_name("results")
    add(
        "--data", type=Path, default=Path(os.environ.get("SPEX_DATA", "../shared/data"))
    )
    add("--minilm", type=Path, default=Path("minilm"), help="folder of the model")
    add("--results", type=Path, default=here / "components.jsonl")
    add("--ledger", type=Path, default=Path("components.sqlite"))
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    add("--keeps", type=float, nargs="+", default=[0.5, 0.8, 0.9])
    add("--times", type=int, nargs="+", default=[5, 10, 20], help="ablations / n")
    add("--seeds", type=int, default=3)
    add("--planted", action="store_true", help="only look for the planted pairs")
    add("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if options.planted:
        planted(options)
        return
    if not options.table:
        options.results.parent.mkdir(exist_ok=True)
        measure(options)
    rows = read_rows(options.results)
    show(rows)
    draw(rows, options.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
