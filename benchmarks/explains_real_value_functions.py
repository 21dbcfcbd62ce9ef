"""Faithfulness on real, fully tabulated value functions, next to the peers.

    python benchmarks/explains_real_value_functions.py --data DIR
    python benchmarks/explains_real_value_functions.py --table

For every game all 2^n values are known, so everything is scored against the truth: R^2
over the whole table; precision@10 of the strongest interactions (|F| of order 2 and
more; FSII of order 2, pairs); the share of the 20 strongest pairs whose sign is right
(one that is missing is not). Peers run with their defaults, in this process, on as
many ablations of the same games with the same seeds: shapiq (SPEX and ProxySPEX),
spectralexplain (ProxySPEX), and linear baselines: ridge regression and LASSO of order
1, ridge of order 2. Where a peer refuses the budget or fails, the cell says so. The
games were published in the repository mmschlk/shapiq (MIT licence); DIR holds them as
games/FAMILY/ID.npz.

Every finished cell (method, game, ablations, seed) is a line of `--results`, with the
versions it was made with: a run that was stopped goes on where it was.
"""

import argparse
import contextlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import spex
from spex.exact import every_mask, walsh_hadamard
from spex.indices import convert
from spex.spectrum import SparseFourier, Support, characters

FAMILIES = (
    "sentiment_distilbert_14",
    "image_resnet18_14",
    "image_vit_16",
    "data_valuation_california_15",
    "data_valuation_adult_15",
)
PACKAGES = ("numpy", "lightgbm", "scikit-learn", "shapiq", "spectralexplain")
SCORES = ("r2", "p10", "p10_fsii", "sign20")
Terms = dict[Support, float]


@dataclass(frozen=True, eq=False)
class Game:
    """A value function with its table, values by the mask's binary number, player i
    in bit i, and its whole spectrum in the same order."""

    num_players: int
    table: np.ndarray
    spectrum: np.ndarray

    def exact(self, index: str, order: int) -> Terms:
        """The true values of an interaction index."""
        n = self.num_players
        supports = [tuple(np.flatnonzero(mask).tolist()) for mask in every_mask(n)]
        whole = SparseFourier.from_terms(n, supports, self.spectrum[:, None])
        return derived(whole, index, order)

    @cached_property
    def pairs(self) -> Terms:
        """True FSII of pairs."""
        return only_pairs(self.exact("FSII", 2))

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        bits = 1 << np.arange(self.num_players)
        return self.table[np.asarray(masks).astype(int) @ bits]

    def scores(self, terms: Terms) -> dict[str, float]:
        """All of `SCORES` for a spectrum."""
        n = self.num_players
        found = np.zeros(2**n)
        for support, value in terms.items():
            found[sum(1 << i for i in support)] = value
        error = ((self.spectrum - found) ** 2).sum()  # Parseval
        sizes = np.bitwise_count(np.arange(2**n))
        pairs = np.flatnonzero(sizes == 2)
        strongest = pairs[np.argsort(-np.abs(self.spectrum[pairs]))][:20]
        signs = np.sign(found[strongest]) == np.sign(self.spectrum[strongest])
        guess = SparseFourier.from_dict(n, terms or {(): 0.0})
        estimated = only_pairs(derived(guess, "FSII", 2))
        return {
            "r2": float(1 - error / (self.spectrum[1:] ** 2).sum()),
            "p10": precision(
                dict(enumerate(np.where(sizes >= 2, self.spectrum, 0).tolist())),
                dict(enumerate(np.where(sizes >= 2, found, 0).tolist())),
            ),
            "p10_fsii": precision(self.pairs, estimated),
            "sign20": float(signs.mean()),
            "terms": len(terms),
        }


@lru_cache(maxsize=1)
def load_game(path: Path) -> Game:
    stored = np.load(path)
    masks, values = stored["coalitions"].astype(bool), stored["values"]
    n = masks.shape[1]
    table = np.empty(len(values))
    table[masks @ (1 << np.arange(n))] = values
    spectrum = walsh_hadamard(table) / len(table)
    return Game(n, table, spectrum)


def derived(spectrum: SparseFourier, index: str, order: int) -> Terms:
    """An interaction index of a spectrum with one output."""
    sets, values, _ = convert(spectrum, index, order)
    return dict(zip(sets, values[:, 0].tolist(), strict=True))


def only_pairs(values: Terms) -> Terms:
    return {players: value for players, value in values.items() if len(players) == 2}


def precision(true: dict[Any, float], found: dict[Any, float], top: int = 10) -> float:
    """Share of the `top` largest in size that are among those found to be largest."""

    def largest(values: dict[Any, float]) -> set[Any]:
        present = [key for key, value in values.items() if value]
        return set(sorted(present, key=lambda key: -abs(values[key]))[:top])

    return len(largest(true) & largest(found)) / top


def ours(method: str) -> Callable[[Game, int, int], Terms]:
    def explain(game: Game, budget: int, seed: int) -> Terms:
        setting = {"method": method, "budget": budget, "seed": seed}
        found = spex.explain(game, players=game.num_players, **setting)
        assert found.spent <= budget
        assert method != "proxyspex" or len(found.fourier.supports) <= 200
        return found.fourier.to_dict()

    return explain


def shapiq_sparse(name: str) -> Callable[[Game, int, int], Terms]:
    def explain(game: Game, budget: int, seed: int) -> Terms:
        import shapiq

        n = game.num_players
        approximator = getattr(shapiq, name)(
            n=n, index="FBII", max_order=n, random_state=seed
        )
        found = approximator.approximate(budget, game)
        # FBII of order n is the Moebius transform
        moebius = {s: found.values[row] for s, row in found.interaction_lookup.items()}
        return fourier_of(moebius)

    return explain


def fourier_of(moebius: Terms) -> Terms:
    """F(S) = (-1)^|S| sum of m(T) / 2^|T| over T containing S."""
    terms: Terms = {}
    for players, value in moebius.items():
        part = float(value) / 2 ** len(players)
        for size in range(len(players) + 1):
            for support in combinations(sorted(map(int, players)), size):
                terms[support] = terms.get(support, 0.0) + (-1) ** size * part
    return terms


def spectralexplain_proxy(game: Game, budget: int, seed: int) -> Terms:
    import spectralexplain

    np.random.seed(seed)  # noqa: NPY002  (it draws from the global generator)
    explainer = spectralexplain.Explainer(
        lambda rows: game(rows).tolist(),
        game.num_players,
        sample_budget=budget,
        algorithm="proxyspex",
    )
    return {
        tuple(np.flatnonzero(key).tolist()): float(value)
        for key, value in explainer.fourier_transform.items()
    }


def linear(order: int, *, lasso: bool = False) -> Callable[[Game, int, int], Terms]:
    def explain(game: Game, budget: int, seed: int) -> Terms:
        from sklearn.linear_model import LassoCV, RidgeCV

        n = game.num_players
        supports = [s for r in range(1, order + 1) for s in combinations(range(n), r)]
        drawn = np.random.default_rng(seed).choice(2**n, budget, replace=False)
        masks = (drawn[:, None] >> np.arange(n)) & 1 == 1
        model = LassoCV() if lasso else RidgeCV(np.logspace(-3, 4, 30))
        model.fit(characters(masks, supports), game(masks))
        terms = dict(zip(supports, model.coef_.tolist(), strict=True))
        return {(): float(model.intercept_), **terms}

    return explain


METHODS: dict[str, Callable[[Game, int, int], Terms]] = {
    "proxyspex": ours("proxyspex"),
    "spex": ours("spex"),
    "shapiq ProxySPEX": shapiq_sparse("ProxySPEX"),
    "shapiq SPEX": shapiq_sparse("SPEX"),
    "spectralexplain ProxySPEX": spectralexplain_proxy,
    "ridge order 1": linear(1),
    "LASSO order 1": linear(1, lasso=True),
    "ridge order 2": linear(2),
}


def score(method: str, path: Path, budget: int, seed: int) -> dict[str, Any]:
    """Scores against the truth, or the reason of a failure; seconds."""
    game = load_game(path)
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            terms = METHODS[method](game, budget, seed)
    except (ValueError, AssertionError, IndexError, KeyError, TypeError) as error:
        return {"failure": f"{type(error).__name__}: {str(error)[:90]}"}
    seconds = round(time.perf_counter() - started, 2)
    return {**game.scores(terms), "seconds": seconds}


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("method", "family", "game", "ablations", "seed"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [*{key(row): row for row in map(json.loads, lines)}.values()]


def measure(options: argparse.Namespace) -> None:
    """Run every cell that is not there yet."""
    versions = {name: version(name) for name in PACKAGES}
    print(json.dumps({**versions, "cores": os.cpu_count()}), flush=True)
    done = set() if options.again else {key(row) for row in read_rows(options.results)}
    options.results.parent.mkdir(exist_ok=True)
    for method in options.methods:
        for family in options.families:
            paths = sorted((options.data / "games" / family).glob("*.npz"))
            for path in paths[: options.games]:
                for budget in options.budgets:
                    for seed in range(options.seeds):
                        row = {"method": method, "family": family, "game": path.stem}
                        row |= {"ablations": budget, "seed": seed}
                        if key(row) in done:
                            continue
                        row |= score(method, path, budget, seed)
                        row["versions"] = versions
                        with options.results.open("a") as file:
                            file.write(json.dumps(row) + "\n")
                        shown = {k: v for k, v in row.items() if k != "versions"}
                        print(json.dumps(shown), flush=True)


def mean_scores(
    rows: list[dict[str, Any]], measure: str
) -> dict[tuple[str, str, int], tuple[float, float, int]]:
    """(family, method, ablations) -> mean, smallest, and how many failed."""
    cells: dict[tuple[str, str, int], list[float | None]] = {}
    for row in rows:
        place = (row["family"], row["method"], row["ablations"])
        cells.setdefault(place, []).append(row.get(measure))
    means = {}
    for place, scores in cells.items():
        present = [s for s in scores if s is not None]
        if present:
            missing = len(scores) - len(present)
            means[place] = (float(np.mean(present)), min(present), missing)
    return means


def show(rows: list[dict[str, Any]], path: Path) -> None:
    """Print a table for each score, and draw R^2 against ablations."""
    methods = [m for m in METHODS if any(row["method"] == m for row in rows)]
    budgets = sorted({row["ablations"] for row in rows})
    for measure in (*SCORES, "seconds"):
        means = mean_scores(rows, measure)
        print(f"\n**{measure}** at {' / '.join(map(str, budgets))} ablations\n")
        print("| method | " + " | ".join(FAMILIES) + " |")
        print("| --- " * (len(FAMILIES) + 1) + "|")
        for method in methods:
            line = [
                " / ".join(cell(means.get((family, method, b))) for b in budgets)
                for family in FAMILIES
            ]
            print(f"| {method} | " + " | ".join(line) + " |")
    draw(mean_scores(rows, "r2"), methods, path)


def cell(found: tuple[float, float, int] | None) -> str:
    if found is None:
        return "-"
    mean, _, failed = found
    return f"{mean:.3f}" + (f" ({failed} failed)" if failed else "")


def draw(means: dict[Any, Any], methods: list[str], path: Path) -> None:
    """R^2 against ablations, one panel for each family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(FAMILIES), 4), layout="constrained")
    panels = figure.subplots(1, len(FAMILIES))
    for family, panel in zip(FAMILIES, panels, strict=True):
        for method in methods:
            found = {
                b: r2 for (f, m, b), r2 in means.items() if (f, m) == (family, method)
            }
            budgets = sorted(found)
            heights = [max(found[b][0], -0.2) for b in budgets]
            own = method in ("spex", "proxyspex")
            panel.plot(budgets, heights, marker="o", lw=2.5 if own else 1, label=method)
        panel.set(title=family, xlabel="ablations", xscale="log", ylim=(-0.2, 1))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("R² over all masks")
    panels[-1].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def parser_for(doc: str, results: str) -> argparse.ArgumentParser:
    """With the arguments of every script that runs on these games."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    data = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    out = Path(__file__).with_name("results") / results
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--results", type=Path, default=out)
    return parser


def main() -> None:
    parser = parser_for(__doc__, "explains_real_value_functions.jsonl")
    add = parser.add_argument
    add("--budgets", type=int, nargs="+", default=[100, 200, 400, 512, 800, 1600])
    add("--seeds", type=int, default=1)
    add("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    add("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    add("--games", type=int, help="of each family; by default all")
    add("--again", action="store_true", help="run cells again that are there")
    add("--table", action="store_true", help="only print and draw what is there")
    options = parser.parse_args()
    if not options.table:
        measure(options)
    show(read_rows(options.results), options.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
