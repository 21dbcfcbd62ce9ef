"""Counterfactual brittleness: whose removal sets flip predictions after retraining.

    OMP_NUM_THREADS=1 python benchmarks/datamodels_flips.py --data DIR

Of test points that a model trained on everything gets right, each method proposes the
training examples to leave out: spex by searching its spectrum (`spex.search`), with and
without interactions; every other method takes those it scores highest, as Ilyas et al.
2022 (section 4.1) do. The model is then trained again without them, with seeds that
none of the methods has seen, and the table says how many test points are wrong. Tasks,
methods and their settings are those of `datamodels.py`; the seeds are, too.

All methods that retrain have the same number of trainings. "spex, searched on" learns
from half of them, TRAK's trainings included, and spends the other half, and those that
tell the noise, on the search of `spex.tried.flips`, with the first guesses of "spex,
guided" and similarity as rankings beside its own. Every finished row is in `--results`,
and a run that was stopped goes on where it was.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from datamodels import REGRESSIONS, guesses, guided, ours
from datamodels_peers import coefficients, fitted, retraining_free, similarity
from datamodels_tasks import Array, Task, drawn, make_task

import spex
from oracles import FunctionOracle
from spex.search import best_subset
from spex.tried.flips import FlipSearch
from spex.tried.removals import has_flipped

NOISE_MASKS = 10  # trained on again, to tell how far one training is from another
LEAST = 1e-3  # a margin
CONTENDERS = 2  # settings of a method that are measured with all seeds
SIZES = (5, 10, 20, 40, 60, 80, 100)
Row = Callable[[], list[int]]
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


def searched_on(task: Task, masks: Array, values: Array, terms: int) -> list[Array]:
    """Masks (k, n) for each of the sizes: half of the trainings are learned from, and
    the search has as many as the other half."""
    count = len(masks) // 2
    budget = len(masks) - count - 1  # and once on everything
    explained = guided(task, masks[:count], values[:count], terms)
    subject = {"kind": "data", "measured": ["margin"]}
    made = replace(explained.provenance, subject=subject)
    whole = task.trained(np.ones((1, masks.shape[1]), dtype=bool))[0]
    intact = np.maximum(whole, LEAST)  # they are right on average, and so chosen
    explained = replace(explained, provenance=made, intact=intact)
    if task.repeats > 1:
        noise = task.oracle().noise_floor(masks[:NOISE_MASKS])
        explained = replace(explained, noise_floor=noise)
        budget -= 2 * NOISE_MASKS
    effects, _ = guesses(task)
    oracle = FunctionOracle(task.trained, explained.players, outputs=explained.outputs)
    search = FlipSearch(oracle, explained, guesses=[*effects, similarity(task)])
    search.run(budget)
    told = [one for one in search.removals() if has_flipped(explained, one)]
    sizes = sorted(len(one.players) for one in told)
    print(f"{search.spent} of {budget} trainings flip {len(told)}, by {sizes}\n")
    found = []
    for size in SIZES:
        kept = np.ones((len(explained.outputs), masks.shape[1]), dtype=bool)
        for output in search.outputs:
            kept[output, list(search.of_size(output, size))] = False
        found.append(kept)
    return found


def highest(scores: Array, size: int) -> Array:
    """Masks (k, n) without the examples of the highest scores (n, k)."""
    masks = np.ones(scores.T.shape, dtype=bool)
    order = np.argsort(-scores.T, axis=1, kind="stable")[:, :size]
    np.put_along_axis(masks, order, False, axis=1)
    return masks


def flipped(task: Task, proposed: list[Array]) -> list[int]:
    """How many test points are wrong, each without its own examples, by size."""
    return [int((np.diag(task.truly(masks)) <= 0).sum()) for masks in proposed]


def best_of(task: Task, candidates: list[Array]) -> list[int]:
    """Of the scores (n, k) that flip most; all but a few are told by one seed."""
    proposed = [[highest(one, size) for size in SIZES] for one in candidates]
    if len(candidates) > CONTENDERS:
        quick = replace(task, repeats=1)
        proposed.sort(key=lambda one: -sum(flipped(quick, one)))
    return max((flipped(task, one) for one in proposed[:CONTENDERS]), key=sum)


def rows(task: Task, options: argparse.Namespace) -> dict[str, Row]:
    """What counts the flips of each method, for each of the sizes."""
    n = len(task.labels)
    masks = drawn(task, options.keep, round(options.part * n), seed=0)
    values = task.trained(masks)
    terms = round(options.terms * n) + 1

    def alone(found: spex.Explanation) -> list[int]:
        return flipped(task, [searched(found, s, options.seconds) for s in SIZES])

    def regressed(name: str) -> list[int]:
        scores = coefficients(fitted(name, masks, values), n)
        return best_of(task, [scores])

    made: dict[str, Row] = {
        "spex, searched on": lambda: flipped(
            task, searched_on(task, masks, values, terms)
        )
    }
    for name, scored in retraining_free(task).items():
        made[name] = lambda scored=scored: best_of(task, scored())
    for name in REGRESSIONS:
        if name != "least squares" or len(masks) > n + 1:
            made[name] = partial(regressed, name)
    made["spex, guided"] = lambda: alone(guided(task, masks, values, terms))
    made["spex, order 1"] = lambda: alone(ours(masks, values, terms, 1))
    made["spex"] = lambda: alone(ours(masks, values, terms, 5))
    return made


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
    results: dict[str, Any] = {"versions": {name: version(name) for name in packages}}
    results["settings"] = {
        "part": options.part,
        "keep": options.keep,
        "terms": options.terms,
        "points": options.points,
    }
    earlier = (
        json.loads(options.results.read_text()) if options.results.exists() else {}
    )
    if earlier and earlier["settings"] != results["settings"]:
        raise SystemExit(f"{options.results} is of other settings: name another file")
    results = earlier | results
    print(json.dumps(results))
    for name in options.tasks:
        task = make_task(name, options.data, POOL).right_ones(options.points)
        print(f"\n**{name}, {len(task.right)} test points, examples left out**\n")
        print("| method | " + " | ".join(map(str, SIZES)) + " |")
        print("| --- " * (len(SIZES) + 1) + "|")
        started = time.perf_counter()
        before = earlier.get(name, {"flips": {}, "seconds": 0})
        found = before["flips"]
        results[name] = {"flips": found, "sizes": list(SIZES)}
        for method, count in rows(task, options).items():
            if method not in found:
                found[method] = count()
            cells = [method, *map(str, found[method])]
            print("| " + " | ".join(cells) + " |", flush=True)
            seconds = before["seconds"] + time.perf_counter() - started
            results[name]["seconds"] = round(seconds)
            options.results.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
