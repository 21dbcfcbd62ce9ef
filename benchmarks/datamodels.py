"""Linear datamodeling scores: what methods say a model does after training on a subset.

    OMP_NUM_THREADS=1 python benchmarks/datamodels.py --data DIR
    python benchmarks/datamodels.py --table

The linear datamodeling score (LDS; Park et al. 2023, section 2) is Spearman's
correlation, over held-out subsets, of the predicted and the true margin of a test
point; here its mean over test points, with a 95 % interval. Held-out subsets keep each
example with probability 1/2 (large removals) or 0.95 (small ones), 200 of each; where
training is random, the margin is the mean of 20 seeds, while methods learn from one.

Two tasks: "text", 1,000 sentences of SST-2, MiniLM embeddings and a logistic head;
"digits", 500 of scikit-learn's digits and a network 64-32-10 trained from scratch.
Every example is a player. Methods that retrain learn from the same masks and values:

- spex, ProxySPEX through `spex.explain_values`: all terms ("full") and the largest, up
  to `--terms` for each example ("sparse");
- the same with first guesses that need no retraining (`spex.Guided`), with and without
  interactions ("order 1"): influence of the logistic head, or, for the network, TRAK's
  scores with damping 1, whose 20 trainings are taken off the masks, and KNN-Shapley
  with 10 neighbours; and ridge with the same guesses, which is ours, too, and says what
  they are worth by themselves;
- LASSO datamodels (Ilyas et al. 2022), ridge, least squares.

Without retraining: influence functions with the exact Hessian (text), TRAK, KNN-Shapley
and similarity of the features, TRAK by the packages traker and dattri and influence by
dattri; where these have a setting, the one that does best on the held-out subsets
counts. Every finished cell is a line of `--results`, and a run that was stopped goes on
where it was.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from datamodels_peers import (
    DAMPINGS,
    Predictor,
    fitted,
    influence_error,
    knn_shapley,
    retraining_free,
    trak,
)
from datamodels_tasks import NUM_CHECKPOINTS, Array, Task, drawn, make_task
from scipy.stats import rankdata

import spex
from proxyspex.method import ProxySpex

SUBSETS = 200
EVALUATED = (0.5, 0.95)
LEARNED = (("text", 0.5), ("digits", 0.5), ("text", 0.9), ("digits", 0.9))
PARTS = (0.5, 1, 2)  # retrainings, as a part of the examples
GUIDED = "ridge, guided"
LEADS = ("spex, full", "spex, guided")
LAST = "spex, sparse"
REGRESSIONS = ("ridge", "LASSO", "least squares")


def scores(predicted: Array, true: Array) -> Array:
    """Spearman's correlation of each column, (k,); 0 of one that does not vary."""
    first, second = (rankdata(table, axis=0) for table in (predicted, true))
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    size = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    products = (first * second).sum(axis=0)
    return np.divide(products, size, out=np.zeros_like(size), where=size > 0)


def ours(
    masks: Array, values: Array, terms: int, order: int, *guesses: Array
) -> spex.Explanation:
    """Of these trainings; `guesses`: what keeping each example adds, (n, k)."""
    method: Any = ProxySpex(max_order=order, num_terms=terms)
    if guesses:
        method = spex.Guided.additive(method, *guesses)
    return spex.explain_values(masks, values, method=method)


def guesses(task: Task) -> tuple[tuple[Array, ...], int]:
    """What keeping each example is guessed to add, (n, k) each; trainings it took."""
    if task.name == "text":
        return (task.oracle().influence(),), 0
    return (trak(task)[len(DAMPINGS) // 2], knn_shapley(task, 10)), NUM_CHECKPOINTS


def guided(
    task: Task, masks: Array, values: Array, terms: int, order: int = 5
) -> spex.Explanation:
    """Ours with the task's first guesses, their trainings counted."""
    effects, taken = guesses(task)
    count = len(masks) - taken
    return ours(masks[:count], values[:count], terms, order, *effects)


def ridge_guided(task: Task, masks: Array, values: Array) -> Predictor:
    """Ridge on what the first guesses miss: how far they go by themselves."""
    effects, taken = guesses(task)
    masks, values = masks[: len(masks) - taken], values[: len(masks) - taken]
    guessed = np.stack([masks @ each for each in effects], axis=2)  # (m, k, guesses)
    slopes = [
        np.linalg.lstsq(one - one.mean(axis=0), column - column.mean(), rcond=None)[0]
        for one, column in zip(guessed.swapaxes(0, 1), values.T, strict=True)
    ]
    total = sum(
        each * slope for each, slope in zip(effects, np.transpose(slopes), strict=True)
    )
    rest = fitted("ridge", masks, values - masks @ total)
    return lambda m: rest(m) + m @ total


def predictors(
    task: Task, masks: Array, values: Array, options: argparse.Namespace
) -> Iterator[tuple[str, Predictor, float]]:
    """Name, predictor, and seconds for each test point."""
    count, n = masks.shape
    per_point = values.shape[1]
    for name in REGRESSIONS:
        if name == "least squares" and count <= n + 1:
            continue
        started = time.perf_counter()
        predict = fitted(name, masks, values)
        yield name, predict, (time.perf_counter() - started) / per_point
    started = time.perf_counter()
    predict = ridge_guided(task, masks, values)
    yield GUIDED, predict, (time.perf_counter() - started) / per_point
    terms = round(options.terms * n) + 1
    started = time.perf_counter()
    found = guided(task, masks, values, terms)
    seconds = (time.perf_counter() - started) / per_point
    assert found.full is not None
    yield "spex, guided", found.full, seconds
    yield "spex, guided, sparse", found.fourier, seconds
    started = time.perf_counter()
    found = guided(task, masks, values, terms, order=1)
    seconds = (time.perf_counter() - started) / per_point
    assert found.full is not None
    yield "spex, guided, order 1", found.full, seconds
    started = time.perf_counter()
    found = ours(masks, values, terms, 5)
    seconds = (time.perf_counter() - started) / per_point
    assert found.full is not None
    yield "spex, full", found.full, seconds
    yield LAST, found.fourier, seconds


class Book:
    """Finished cells, a line each."""

    def __init__(self, path: Path, made: dict[str, str]) -> None:
        self.path, self._made = path, made
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def has(self, **cell: Any) -> bool:
        return any(cell.items() <= row.items() for row in self.rows)

    def add(self, found: Array, **cell: Any) -> None:
        row = {**cell, "scores": found.round(4).tolist(), **self._made}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(cell, f"LDS {found.mean():.3f} +- {half_width(found):.3f}", flush=True)


def half_width(found: Array) -> float:
    """Of the 95 % interval of the mean over test points."""
    return 1.96 * float(found.std(ddof=1)) / len(found) ** 0.5


def run(task: Task, book: Book, options: argparse.Namespace) -> None:
    """All cells of a task."""
    held_out = {p: drawn(task, p, options.subsets, seed=1) for p in EVALUATED}
    true = {p: task.truly(masks) for p, masks in held_out.items()}
    place = {"task": task.name, "points": len(task.right), "terms": options.terms}
    place["subsets"] = options.subsets
    if task.name == "text":
        print(f"influence misses leave-one-out by {influence_error(task):.1%} at most")
    for name, scored in retraining_free(task).items():
        cell = {**place, "learned": 0, "retrainings": 0, "method": name}
        missing = [p for p in held_out if not book.has(**cell, keep=p)]
        candidates = scored() if missing else []
        for p in missing:
            each = [scores(held_out[p] @ one, true[p]) for one in candidates]
            book.add(max(each, key=lambda lds: float(lds.mean())), **cell, keep=p)
    for of, learned in LEARNED:
        if of == task.name:
            for part in options.parts:
                cell = {**place, "learned": learned}
                cell |= {"retrainings": round(part * len(task.labels))}
                learn(task, cell, held_out, true, book, options)


def learn(
    task: Task,
    cell: dict[str, Any],
    held_out: dict[float, Array],
    true: dict[float, Array],
    book: Book,
    options: argparse.Namespace,
) -> None:
    """The cells of one budget and design."""
    if book.has(**cell, method=LAST, keep=EVALUATED[-1]):
        return
    masks = drawn(task, cell["learned"], cell["retrainings"], seed=0)
    values = task.trained(masks)
    for name, predict, seconds in predictors(task, masks, values, options):
        for p, some in held_out.items():
            if not book.has(**cell, method=name, keep=p):
                found = scores(predict(some), true[p])
                spent = round(seconds, 3)
                book.add(found, **cell, method=name, keep=p, seconds=spent)


def table(rows: list[dict[str, Any]]) -> str:
    """A table for each task, masks learned from and masks evaluated at."""
    text = []
    kinds = sorted({(r["task"], r["keep"], r["learned"]) for r in rows if r["learned"]})
    for task, keep, learned in kinds:
        of = [r for r in rows if r["task"] == task and r["keep"] == keep]
        budgets = sorted({r["retrainings"] for r in of if r["learned"] == learned})
        removed = f"{1 - keep:.0%} removed"
        text += [f"\n**{task}, {removed}, learned from masks keeping {learned:.0%}**\n"]
        text += ["| method | " + " | ".join(f"{b:,}" for b in budgets) + " |"]
        text += ["| --- " * (len(budgets) + 1) + "|"]
        for method in dict.fromkeys(r["method"] for r in of):
            cells = []
            for budget in budgets:
                found = [
                    np.array(r["scores"])
                    for r in of
                    if r["method"] == method
                    and (r["learned"], r["retrainings"]) in ((learned, budget), (0, 0))
                ]
                shown = [f"{f.mean():.3f} ± {half_width(f):.3f}" for f in found[:1]]
                cells += shown or ["-"]
            text.append(f"| {method} | " + " | ".join(cells) + " |")
        text += [paired(of, learned, budgets, start) for start in LEADS]
    return "\n".join(text)


def paired(
    rows: list[dict[str, Any]], learned: float, budgets: list[int], ours_is: str
) -> str:
    """How far ours is ahead of the best other method, over the same test points."""
    cells = []
    for budget in budgets:
        at = ((learned, budget), (0, 0))
        of = [r for r in rows if (r["learned"], r["retrainings"]) in at]
        own = [np.array(r["scores"]) for r in of if r["method"] == ours_is]
        others = [
            np.array(r["scores"])
            for r in of
            if not r["method"].startswith("spex") and r["method"] != GUIDED
        ]
        if not own:
            cells.append("-")
            continue
        ahead = own[0] - max(others, key=np.mean)
        cells.append(f"{ahead.mean():+.3f} ± {half_width(ahead):.3f}")
    return f"| {ours_is} less the best other | " + " | ".join(cells) + " |"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """LDS against retrainings, a panel for each task, removal and kind of masks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = sorted({(r["task"], r["learned"], r["keep"]) for r in rows if r["learned"]})
    columns = max(1, len(kinds) // 2)
    methods = sorted({r["method"] for r in rows})
    figure, axes = pyplot.subplots(
        2, columns, figsize=(4.2 * columns, 7), squeeze=False
    )
    for panel, (task, learned, keep) in zip(axes.flat, kinds, strict=False):
        of = [r for r in rows if r["task"] == task and r["keep"] == keep]
        budgets = sorted({r["retrainings"] for r in of if r["learned"] == learned})
        for number, method in enumerate(methods):
            means = {
                r["retrainings"]: float(np.mean(r["scores"]))
                for r in of
                if r["method"] == method and r["learned"] in (0, learned)
            }
            flat = means.get(0, np.nan)
            heights = [means.get(b, flat) for b in budgets]
            colour = pyplot.get_cmap("tab20")(number)
            style = "-" if method.startswith("spex") else ":"
            panel.plot(budgets, heights, style, color=colour, label=method)
        title = f"{task}, {1 - keep:.0%} removed, masks keep {learned:.0%}"
        panel.set(title=title, xlabel="retrainings", ylabel="LDS")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, ncol=6, loc="lower center")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.jsonl"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--results", type=Path, default=out)
    parser.add_argument("--tasks", nargs="+", default=["text", "digits"])
    parser.add_argument("--parts", type=float, nargs="+", default=PARTS)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--subsets", type=int, default=SUBSETS)
    parser.add_argument("--terms", type=float, default=3, help="for each example")
    parser.add_argument("--table", action="store_true", help="of results there are")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # LASSO paths that stop short
    packages = ("numpy", "scikit-learn", "torch", "lightgbm")
    made = {name: version(name) for name in packages}
    book = Book(options.results, made | {"python": platform.python_version()})
    if not options.table:
        print(json.dumps(made), "seeds: masks 0, held-out 1, recovery 0")
        for name in options.tasks:
            run(make_task(name, options.data, options.points), book, options)
    print(table(book.rows))
    plot(book.rows, options.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
