"""Seconds from values to explanation, and memory: proxyspex next to shapiq's ProxySPEX.

    OMP_NUM_THREADS=2 python benchmarks/times_proxies.py [--skip-peer]

Each cell runs in a process of its own. Both methods explain the same planted
hierarchical function from as many ablations (whose 0.05 s are in the peer's time, too).
Spectra: 60 terms that grow out of smaller ones, |F| = rank^-0.7, noise of 0.1.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CELLS = [  # players, ablations, outputs, whether the peer runs
    (14, 1600, 1, True),
    (131, 2000, 1, True),
    (50, 500, 100, False),
    (1000, 5000, 1, False),
    (10000, 20000, 1, False),
]
NUM_TERMS = 60


def hierarchical(num_players: int, seed: int) -> list[tuple[tuple[int, ...], float]]:
    """Terms that grow out of smaller ones."""
    rng = np.random.default_rng(seed)
    supports: list[tuple[int, ...]] = []
    while len(supports) < NUM_TERMS:
        base = (
            supports[rng.integers(len(supports))]
            if rng.random() < 0.6 and supports
            else ()
        )
        support = tuple(sorted({*base, int(rng.integers(num_players))}))
        if support not in supports and len(support) <= 4:
            supports.append(support)
    sizes = rng.choice([-1.0, 1.0], NUM_TERMS) / np.arange(1, NUM_TERMS + 1) ** 0.7
    return list(zip(supports, sizes.tolist(), strict=True))


def game_of(num_players: int, num_outputs: int) -> Any:
    from spex.spectrum import SparseFourier

    spectra = [
        SparseFourier.from_dict(num_players, dict(hierarchical(num_players, seed)))
        for seed in range(num_outputs)
    ]
    rng = np.random.default_rng(1)

    def values(masks: np.ndarray) -> np.ndarray:
        clean = np.hstack([spectrum(masks) for spectrum in spectra])
        return clean + 0.1 * rng.normal(size=clean.shape)

    return values, spectra


def cell(method: str, n: int, m: int, k: int, queue: Any) -> None:
    values, spectra = game_of(n, k)
    test = np.random.default_rng(9).random((2000, n)) < 0.5
    truth = np.hstack([spectrum(test) for spectrum in spectra])
    if method == "proxyspex":
        import spex

        found = spex.explain(values, players=n, method="proxyspex", budget=m)
        seconds = found.provenance.recovery_seconds
        guess = found.predict(test).reshape(len(test), k)
    else:
        import shapiq
        from explains_real_value_functions import fourier_of

        from spex.spectrum import SparseFourier

        peer = shapiq.ProxySPEX(n=n, index="FBII", max_order=5, random_state=0)
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            said = peer.approximate(
                m, lambda x: values(np.asarray(x).astype(bool))[:, 0]
            )
        seconds = time.perf_counter() - started
        moebius = {s: said.values[row] for s, row in said.interaction_lookup.items()}
        guess = SparseFourier.from_dict(n, fourier_of(moebius))(test)
    r2 = 1 - ((guess - truth) ** 2).mean() / truth.var(axis=0).mean()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    queue.put(
        {"seconds": round(seconds, 2), "r2": float(r2), "peak_gib": round(peak, 2)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.json"
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--players", type=int, nargs="+", help="only cells of so many")
    parser.add_argument("--json", type=Path, default=out)
    options = parser.parse_args()
    packages = ("numpy", "lightgbm", "shapiq")
    made = {name: version(name) for name in packages}
    made |= {"python": platform.python_version(), "cores": str(os.cpu_count())}
    print(json.dumps(made))
    context = multiprocessing.get_context("spawn")
    rows = []
    for n, m, k, has_peer in CELLS:
        if options.players and n not in options.players:
            continue
        for method in ("proxyspex", "shapiq ProxySPEX"):
            if method != "proxyspex" and (options.skip_peer or not has_peer):
                continue
            queue = context.Queue()
            worker = context.Process(target=cell, args=(method, n, m, k, queue))
            worker.start()
            row = {"method": method, "players": n, "ablations": m, "outputs": k}
            rows.append({**row, **queue.get()})
            worker.join()
            print(json.dumps(rows[-1]), flush=True)
            options.json.write_text(json.dumps({**made, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
