"""Whether intervals and rankings hold: coverage on fully tabulated value functions.

    python benchmarks/covers_the_truth.py --data DIR
    python benchmarks/covers_the_truth.py --table

For every game, budget and seed: is the true R^2 (over all 2^n masks) inside the
reported interval, how many of the ten strongest coefficients and of the Shapley values
are inside theirs, and of the ten strongest, how many are truly among the ten strongest,
next to how many the explanation expects to stay. Nominal coverage is 90 %. The
widening of the R^2 interval was fitted on seeds 0 to 5 of 100 and 400 ablations; by
default others are used here. Games as in explains_real_value_functions.py.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from explains_real_value_functions import FAMILIES, Game, load_game, parser_for

import spex
from proxyspex import ProxySpex

TOP = 10
METHODS: dict[str, Any] = {
    "proxyspex, shapley": ProxySpex(design="shapley", num_terms=1000)
}


def measure(
    game: Game,
    values: dict[Any, float],
    method: str,
    budget: int,
    seed: int,
    target: float | None,
) -> dict[str, Any]:
    setting = {"method": METHODS.get(method, method), "budget": budget, "seed": seed}
    if target is not None:
        setting["target_r2"] = target
    found = spex.explain(game, players=game.num_players, **setting)
    true_r2 = game.scores(found.fourier.to_dict())["r2"]
    fit = found.faithfulness
    order = np.argsort(-np.abs(np.r_[0.0, game.spectrum[1:]]))
    strongest = set(order[:TOP].tolist())
    top = found.top(TOP)
    places = [sum(1 << i for i in t.players) for t in top]
    inside = [
        t.low <= game.spectrum[p] <= t.high for t, p in zip(top, places, strict=True)
    ]
    every = found.top(game.num_players, index="SV")
    return {
        "r2": bool(fit.low <= true_r2 <= fit.high),
        "bias": float(fit) - true_r2,
        "is_above": bool(true_r2 >= (target or 0.0)),
        "stopped": bool(target is not None and fit.low > target),
        "spent": found.spent,
        "coefficients": float(np.mean(inside)),
        "shapley": float(
            np.mean([t.low <= values[t.players] <= t.high for t in every])
        ),
        "stayed": float(np.mean([p in strongest for p in places])),
        "expected": float(np.mean([t.stays for t in top])),
    }


def run(options: argparse.Namespace) -> None:
    for family in FAMILIES:
        for path in sorted((options.data / "games" / family).glob("*.npz")):
            game = load_game(path)
            values = game.exact("SV", 1)
            for method in options.methods:
                for budget in options.budgets:
                    for seed in range(
                        options.first_seed, options.first_seed + options.seeds
                    ):
                        row = {"method": method, "family": family, "game": path.stem}
                        row |= {"ablations": budget, "seed": seed}
                        row |= measure(
                            game, values, method, budget, seed, options.target_r2
                        )
                        with options.results.open("a") as file:
                            file.write(json.dumps(row) + "\n")
            print(family, path.stem, flush=True)


def show(path: Path) -> None:
    """Print a table: all families together, and each."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    cells = defaultdict(list)
    for row in rows:
        for family in ("all", row["family"]):
            cells[row["method"], family, row["ablations"]].append(row)
    print(
        "| method | family | ablations | runs | R² | coefficients | Shapley values "
        "| bias of R² | top 10 stayed | expected |\n" + "| --- " * 10 + "|"
    )
    for (method, family, budget), found in sorted(cells.items()):
        means = [
            f"{np.mean([row[name] for row in found]):.3f}"
            for name in ("r2", "coefficients", "shapley", "bias", "stayed", "expected")
        ]
        print(
            f"| {method} | {family} | {budget} | {len(found)} | {' | '.join(means)} |"
        )
    stopped = [row for row in rows if row.get("stopped")]
    if stopped:
        above = np.mean([row["is_above"] for row in stopped])
        inside = np.mean([row["r2"] for row in stopped])
        spent = np.median([row["spent"] for row in stopped])
        print(
            f"\n{len(stopped)} of {len(rows)} stopped at the target after a median of "
            f"{spent:.0f}; {above:.0%} truly above it, {inside:.0%} of intervals hold."
        )


def main() -> None:
    parser = parser_for(__doc__, "covers_the_truth.jsonl")
    add = parser.add_argument
    add("--methods", nargs="+", default=["proxyspex"])
    add("--budgets", type=int, nargs="+", default=[100, 200, 400])
    add("--seeds", type=int, default=6)
    add("--first-seed", type=int, default=100)
    add("--target-r2", type=float, help="stop at it, to see what that does to R²")
    add("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table:
        options.results.parent.mkdir(exist_ok=True)
        run(options)
    show(options.results)


if __name__ == "__main__":
    main()
