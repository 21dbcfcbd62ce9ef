"""Derived values against the truth: Shapley values, k-SII and Banzhaf interactions.

    peers/bin/python benchmarks/derived_values_peers.py --data DIR   (see there)
    python benchmarks/derives_values.py --data DIR

Mean squared error over all players or pairs, as a part of the mean square of the true
values (so 1 is what zeros reach), at equal ablations, averaged over games and seeds
by its logarithm. Ours from uniform masks, with and without the unbiased correction, and
from the design for Shapley values; the peers sample masks as their weights ask for.
"""

import argparse
import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from explains_real_value_functions import FAMILIES, Game, load_game, parser_for

import spex
from proxyspex import ProxySpex

ORDERS = {"SV": 1, "k-SII": 2, "BII": 2}
OURS = {
    "proxyspex": ProxySpex(),
    "proxyspex, unbiased": ProxySpex(is_unbiased=True),
    "proxyspex, shapley": ProxySpex(design="shapley"),
    "proxyspex, shapley, 1,000 terms": ProxySpex(design="shapley", num_terms=1000),
}
Values = dict[tuple[int, ...], float]


def error(true: Values, found: Values, num_players: int, order: int) -> float:
    """Over all sets of that order; one that is missing is 0."""
    sets = list(combinations(range(num_players), order))
    truth = np.array([true.get(s, 0.0) for s in sets])
    guess = np.array([found.get(s, 0.0) for s in sets])
    return float(((guess - truth) ** 2).mean() / (truth**2).mean())


def ours(
    game: Game, row: dict[str, Any], truth: dict[str, Values]
) -> list[dict[str, Any]]:
    found = spex.explain(
        game,
        players=game.num_players,
        method=OURS[row["method"]],
        budget=row["ablations"],
        seed=row["seed"],
    )
    return [
        {**row, "index": index, "mse": score(game, truth, index, found.index(index))}
        for index in ORDERS
    ]


def score(game: Game, truth: dict[str, Values], index: str, found: Any) -> float:
    return error(truth[index], found, game.num_players, ORDERS[index])


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    peers = defaultdict(list)
    for line in options.peers.read_text().splitlines():
        row = json.loads(line)
        peers[row["family"], row["game"]].append(row)
    rows, first = [], options.first_seed
    for family in FAMILIES:
        for path in sorted((options.data / "games" / family).glob("*.npz")):
            game = load_game(path)
            truth = {index: game.exact(index, order) for index, order in ORDERS.items()}
            where = {"family": family, "game": path.stem}
            for method in OURS:
                for budget in options.budgets:
                    for seed in range(first, first + options.seeds):
                        cell = {"method": method, "ablations": budget, "seed": seed}
                        rows += ours(game, {**where, **cell}, truth)
            for row in peers[family, path.stem]:
                if "values" in row:
                    said = {tuple(players): value for players, value in row["values"]}
                    mse = score(game, truth, row["index"], said)
                    kept = {k: row[k] for k in ("method", "ablations", "seed", "index")}
                    rows.append({**where, **kept, "mse": mse})
            print(family, path.stem, flush=True)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Geometric mean of the errors, by index, method and family."""
    cells = defaultdict(list)
    for row in rows:
        place = (row["index"], row["method"], row["family"], row["ablations"])
        cells[place].append(np.log(row["mse"] + 1e-12))
    budgets = sorted({row["ablations"] for row in rows})
    for index in ORDERS:
        print(f"\n**{index}** at {' / '.join(map(str, budgets))} ablations\n")
        print("| method | " + " | ".join(FAMILIES) + " |")
        print("| --- " * (len(FAMILIES) + 1) + "|")
        for method in dict.fromkeys(row["method"] for row in rows):
            line = []
            for family in FAMILIES:
                found = [cells[index, method, family, b] for b in budgets]
                means = [f"{np.exp(np.mean(x)):.3f}" if x else "-" for x in found]
                line.append(" / ".join(means))
            if any(part.strip(" -/") for part in line):
                print(f"| {method} | " + " | ".join(line) + " |")


def main() -> None:
    parser = parser_for(__doc__, "derives_values.json")
    add = parser.add_argument
    peers = Path(__file__).with_name("results") / "derived_values_peers.jsonl"
    add("--peers", type=Path, default=peers)
    add("--budgets", type=int, nargs="+", default=[100, 200, 400, 800])
    add("--seeds", type=int, default=2)
    add("--first-seed", type=int, default=10, help="of ours; 0 and 1 chose the design")
    options = parser.parse_args()
    rows = measure(options)
    options.results.write_text(json.dumps(rows))
    show(rows)


if __name__ == "__main__":
    main()
