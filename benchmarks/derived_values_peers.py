"""Shapley values, k-SII and Banzhaf interactions of order 2, by shapiq 1.8.

    python3.12 -m venv peers && peers/bin/pip install "shapiq[proxy]==1.8.0"
    peers/bin/python benchmarks/derived_values_peers.py --data DIR

Stands alone, as shapiq 1.8 needs another Python than the rest: writes what each peer
says, for `derives_values.py` to score. Peers sample masks of their own, as their
weights ask for, with their defaults.
"""

import argparse
import contextlib
import io
import json
import os
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import shapiq

FAMILIES = (
    "sentiment_distilbert_14",
    "image_resnet18_14",
    "image_vit_16",
    "data_valuation_california_15",
    "data_valuation_adult_15",
)
PEERS = {
    "SV": {
        "OddSHAP": lambda n, s: shapiq.OddSHAP(n=n, random_state=s),
        "LeverageSHAP": lambda n, s: shapiq.LeverageSHAP(n=n, random_state=s),
        "ProxySHAP": lambda n, s: shapiq.ProxySHAP(
            n=n, index="SV", max_order=1, random_state=s
        ),
        "ProxySHAP, adjusted": lambda n, s: shapiq.ProxySHAP(
            n=n, index="SV", max_order=1, adjustment=True, random_state=s
        ),
        "RegressionMSR": lambda n, s: shapiq.RegressionMSR(
            n=n, index="SV", random_state=s
        ),
    },
    "k-SII": {
        "ProxySHAP": lambda n, s: shapiq.ProxySHAP(
            n=n, index="k-SII", max_order=2, random_state=s
        ),
        "ProxySHAP, adjusted": lambda n, s: shapiq.ProxySHAP(
            n=n, index="k-SII", max_order=2, adjustment=True, random_state=s
        ),
    },
    "BII": {
        "ProxySHAP": lambda n, s: shapiq.ProxySHAP(
            n=n, index="BII", max_order=2, random_state=s
        ),
        "ProxySHAP, adjusted": lambda n, s: shapiq.ProxySHAP(
            n=n, index="BII", max_order=2, adjustment=True, random_state=s
        ),
    },
}


def load(path: Path):
    stored = np.load(path)
    masks, values = stored["coalitions"].astype(bool), stored["values"]
    bits = 1 << np.arange(masks.shape[1])
    table = np.empty(len(values))
    table[masks @ bits] = values
    return masks.shape[1], lambda rows: table[np.asarray(rows).astype(int) @ bits]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.jsonl"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--results", type=Path, default=out)
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps({name: version(name) for name in ("shapiq", "numpy", "lightgbm")}))
    for family in FAMILIES:
        for path in sorted((options.data / "games" / family).glob("*.npz")):
            n, game = load(path)
            for index, peers in PEERS.items():
                for name, make in peers.items():
                    for budget in options.budgets:
                        for seed in range(options.seeds):
                            row = {"index": index, "method": f"shapiq {name}"}
                            row |= {"family": family, "game": path.stem}
                            row |= {"ablations": budget, "seed": seed}
                            row |= estimate(make, n, game, budget, seed)
                            with options.results.open("a") as file:
                                file.write(json.dumps(row) + "\n")
            print(family, path.stem, flush=True)


def estimate(make, n: int, game, budget: int, seed: int) -> dict:
    """{"values": [[players, value], ...]} of the highest order, or the failure."""
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = make(n, seed).approximate(budget, game)
    except Exception as error:  # whatever a peer raises is its result
        return {"failure": f"{type(error).__name__}: {str(error)[:90]}"}
    seconds = round(time.perf_counter() - started, 2)
    values = [
        [[int(p) for p in players], float(found.values[row])]
        for players, row in found.interaction_lookup.items()
        if len(players) in (1, 2)
    ]
    return {"values": values, "seconds": seconds}


if __name__ == "__main__":
    main()
