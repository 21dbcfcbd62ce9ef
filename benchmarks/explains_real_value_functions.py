"""Faithfulness on real, fully tabulated value functions, next to the peers.

    python benchmarks/explains_real_value_functions.py --data DIR

For every game all 2^n values are known, so R^2 is exact: over the whole table, for
the explanation each method makes from m ablations. Peers run with their defaults, in
this process, on as many ablations of the same games with the same seeds: shapiq
(SPEX and ProxySPEX) and spectralexplain (ProxySPEX), ridge regression of order 1 and 2.
Where a peer refuses the budget or fails, the cell says so. The games were published in
the repository mmschlk/shapiq (MIT licence); DIR holds them as games/FAMILY/ID.npz.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np

import spex
from spex.spectrum import characters

FAMILIES = (
    "sentiment_distilbert_14",
    "image_resnet18_14",
    "image_vit_16",
    "data_valuation_california_15",
    "data_valuation_adult_15",
)
Game = Callable[[np.ndarray], np.ndarray]


def load_game(path: Path) -> tuple[np.ndarray, np.ndarray, Game]:
    """Masks (2^n, n), values (2^n,), and the game as a function of masks."""
    stored = np.load(path)
    masks, values = stored["coalitions"].astype(bool), stored["values"]
    bits = 1 << np.arange(masks.shape[1])
    table = np.empty(len(values))
    table[masks @ bits] = values
    return masks, values, lambda rows: table[np.asarray(rows).astype(int) @ bits]


def ours(method: str) -> Callable[..., np.ndarray]:
    def predict(game: Game, masks: np.ndarray, budget: int, seed: int) -> np.ndarray:
        found = spex.explain(
            game, players=masks.shape[1], method=method, budget=budget, seed=seed
        )
        assert found.spent <= budget
        return found.predict(masks)

    return predict


def shapiq_sparse(name: str) -> Callable[..., np.ndarray]:
    def predict(game: Game, masks: np.ndarray, budget: int, seed: int) -> np.ndarray:
        import shapiq

        n = masks.shape[1]
        approximator = getattr(shapiq, name)(
            n=n, index="FBII", max_order=n, random_state=seed
        )
        found = approximator.approximate(budget, game)
        prediction = np.zeros(len(masks))  # FBII of order n is the Moebius transform
        for players, row in found.interaction_lookup.items():
            prediction += found.values[row] * masks[:, list(players)].all(axis=1)
        return prediction

    return predict


def spectralexplain_proxy(
    game: Game, masks: np.ndarray, budget: int, seed: int
) -> np.ndarray:
    import spectralexplain

    np.random.seed(seed)  # noqa: NPY002  (it draws from the global generator)
    explainer = spectralexplain.Explainer(
        lambda rows: game(rows).tolist(),
        masks.shape[1],
        sample_budget=budget,
        algorithm="proxyspex",
    )
    terms = explainer.fourier_transform
    supports = [tuple(np.flatnonzero(key).tolist()) for key in terms]
    return characters(masks, supports) @ np.array(list(terms.values()), dtype=float)


def ridge(order: int) -> Callable[..., np.ndarray]:
    def predict(game: Game, masks: np.ndarray, budget: int, seed: int) -> np.ndarray:
        from sklearn.linear_model import RidgeCV

        n = masks.shape[1]
        supports = [s for r in range(1, order + 1) for s in combinations(range(n), r)]
        rows = np.random.default_rng(seed).choice(len(masks), budget, replace=False)
        model = RidgeCV(np.logspace(-3, 4, 30))
        model.fit(characters(masks[rows], supports), game(masks[rows]))
        return model.predict(characters(masks, supports))

    return predict


METHODS = {
    "spex proxyspex": ours("proxyspex"),
    "spex spex": ours("spex"),
    "shapiq ProxySPEX": shapiq_sparse("ProxySPEX"),
    "shapiq SPEX": shapiq_sparse("SPEX"),
    "spectralexplain ProxySPEX": spectralexplain_proxy,
    "ridge order 1": ridge(1),
    "ridge order 2": ridge(2),
}


def score(
    predict: Callable[..., np.ndarray], path: Path, budget: int, seed: int
) -> tuple[float | None, float]:
    """R^2 over the whole table, or None if the method refuses or fails; seconds."""
    masks, values, game = load_game(path)
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prediction = predict(game, masks, budget, seed)
    except (ValueError, AssertionError, IndexError, KeyError, TypeError) as error:
        print(f"    {path.stem}: {type(error).__name__}: {str(error)[:90]}", flush=True)
        return None, time.perf_counter() - started
    error = ((prediction - values) ** 2).mean() / values.var()
    return float(1 - error), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 400, 1600])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.json"
    parser.add_argument("--json", type=Path, default=out)
    options = parser.parse_args()
    packages = ("numpy", "lightgbm", "scikit-learn", "shapiq", "spectralexplain")
    provenance = {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seeds": options.seeds,
    }
    print(json.dumps(provenance))
    rows = []
    for family in options.families:
        paths = sorted((options.data / "games" / family).glob("*.npz"))
        for name in options.methods:
            for budget in options.budgets:
                cells = [
                    score(METHODS[name], path, budget, seed)
                    for path in paths
                    for seed in range(options.seeds)
                ]
                scores = [r2 for r2, _ in cells if r2 is not None]
                row = {
                    "family": family,
                    "method": name,
                    "ablations": budget,
                    "r2": float(np.mean(scores)) if scores else None,
                    "worst": min(scores, default=None),
                    "failed": len(cells) - len(scores),
                    "seconds": float(np.mean([seconds for _, seconds in cells])),
                }
                rows.append(row)
                print(describe(row), flush=True)
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_text(json.dumps({**provenance, "rows": rows}, indent=1))


def describe(row: dict[str, object]) -> str:
    """One row as a line of the table."""
    r2 = "refused" if row["r2"] is None else f"{row['r2']:7.3f}"
    failed = f"  ({row['failed']} failed)" if row["failed"] else ""
    return (
        f"| {row['family']:29} | {row['method']:26} | {row['ablations']:5} | {r2:>8} "
        f"| {row['seconds']:7.2f} s |{failed}"
    )


if __name__ == "__main__":
    main()
