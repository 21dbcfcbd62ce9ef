"""Counterfactual brittleness: whose removal sets flip predictions after retraining.

    OMP_NUM_THREADS=1 python benchmarks/datamodels_flips.py --data DIR

Of test points that a model trained on everything gets right, each method proposes the
training examples to leave out: spex by searching its spectrum (`spex.search`), with and
without interactions; every other method takes those it scores highest, as Ilyas et al.
2022 (section 4.1) do. The model is then trained again without them, with seeds that
none of the methods has seen, and the table says how many test points are wrong. Tasks,
methods and their settings are those of `datamodels.py`; the seeds are, too.
"""

import argparse
import json
import os
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from datamodels import REGRESSIONS, guided, ours
from datamodels_peers import coefficients, fitted, retraining_free
from datamodels_tasks import Array, Task, drawn, make_task

import spex
from spex.search import best_subset

SIZES = (5, 10, 20, 40, 60, 80, 100)
POOL = 200  # test points that those predicted right are taken from


def searched(found: spex.Explanation, size: int, seconds: float) -> Array:
    """Masks (k, n) of the most harmful removal of `size` examples for each output."""
    n = len(found.players)
    masks = np.zeros((len(found.outputs), n), dtype=bool)
    for output, mask in enumerate(masks):
        best = best_subset(
            found.fourier, n - size, output=output, largest=False, time_limit=seconds
        )
        mask[list(best.kept)] = True
    return masks


def highest(scores: Array, size: int) -> Array:
    """Masks (k, n) without the examples of the highest scores (n, k)."""
    masks = np.ones(scores.T.shape, dtype=bool)
    order = np.argsort(-scores.T, axis=1, kind="stable")[:, :size]
    np.put_along_axis(masks, order, False, axis=1)
    return masks


def flipped(task: Task, masks: Array) -> int:
    """How many test points are wrong, each without its own examples."""
    return int((np.diag(task.truly(masks)) <= 0).sum())


def run(task: Task, options: argparse.Namespace) -> dict[str, list[int]]:
    """Flips by method, for each of the sizes."""
    n = len(task.labels)
    masks = drawn(task, options.keep, round(options.part * n), seed=0)
    values = task.trained(masks)
    found: dict[str, list[int]] = {}

    def note(name: str, flips: list[int]) -> None:
        found[name] = flips
        print(f"| {name} | " + " | ".join(map(str, flips)) + " |", flush=True)

    for name, candidates in retraining_free(task).items():
        each = [[flipped(task, highest(one, s)) for s in SIZES] for one in candidates]
        note(name, max(each, key=sum))
    for name in REGRESSIONS:
        if name != "least squares" or len(masks) > n + 1:
            scores = coefficients(fitted(name, masks, values), n)
            note(name, [flipped(task, highest(scores, s)) for s in SIZES])
    terms = round(options.terms * n) + 1
    explanations = {
        "spex, order 1": lambda: ours(masks, values, terms, 1),
        "spex": lambda: ours(masks, values, terms, 5),
        "spex, guided": lambda: guided(task, masks, values, terms),
    }
    for name, explain in explanations.items():
        explained = explain()
        each = [searched(explained, s, options.seconds) for s in SIZES]
        note(name, [flipped(task, one) for one in each])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.json"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--results", type=Path, default=out)
    parser.add_argument("--tasks", nargs="+", default=["text", "digits"])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--part", type=float, default=2, help="retrainings by examples")
    parser.add_argument("--keep", type=float, default=0.9, help="of masks learned from")
    parser.add_argument("--terms", type=float, default=3, help="for each example")
    parser.add_argument("--seconds", type=float, default=2, help="of each search")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    packages = ("numpy", "scikit-learn", "torch", "lightgbm")
    results = {"versions": {name: version(name) for name in packages}}
    results["settings"] = {
        "part": options.part,
        "keep": options.keep,
        "terms": options.terms,
    }
    print(json.dumps(results))
    for name in options.tasks:
        task = make_task(name, options.data, POOL).right_ones(options.points)
        print(f"\n**{name}, {len(task.right)} test points, examples left out**\n")
        print("| method | " + " | ".join(map(str, SIZES)) + " |")
        print("| --- " * (len(SIZES) + 1) + "|")
        started = time.perf_counter()
        results[name] = {"flips": run(task, options), "sizes": list(SIZES)}
        results[name]["seconds"] = round(time.perf_counter() - started)
        options.results.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
