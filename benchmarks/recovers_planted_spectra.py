"""Planted spectra, recovered: exactly without noise, and as far as noise allows.

    python benchmarks/recovers_planted_spectra.py [--parts noise] [--seeds 5]

spex next to sparse-transform, the decoder behind shapiq's SPEX, called as shapiq 1.4.1
calls it, on the same functions and seeds, with as many ablations: the peer's sizes,
3 2^b times its delays. Every method runs in a process of its own, on one thread, within
limits of time and memory; a cell is left after a run that met one, or took too long.

exactness: k terms of orders uniform in 1 to 5, |F| uniform in [0.5, 2], no noise. A run
succeeds if the terms with |F| above the tolerance are those planted and every value is
within it. b: the smallest with 3 2^b >= 0.8 k, 1.2 k (peeling alone needs 1.22 k), 2 k
and 4 k.

noise: Gaussian, drawn anew for every ablation. Recall and precision are of the terms
that a method claims: all of the peer's, and the `discoveries` of spex, which keeps
other terms where they help to predict; "all" are of all its terms; "top k" is the
recall of the k largest terms; R^2 is on 5,000 fresh uniform masks without noise. "flat"
spectra are those above; "hierarchical" ones have |F| = 1 / rank, low orders first,
larger supports being smaller ones and a player. The peer is also told the noise
(`noise_sd`), and given the regression that shapiq asks for and that the peer leaves out
unless `report` is set.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDER = 5
TOLERANCES = (1e-8, 1e-6, 1e-3)
NUM_FRESH = 5000
CHUNK_ENTRIES = 1 << 22
PACKAGES = "spex-explain sparse-transform galois scikit-learn numpy scipy".split()
RESULTS = Path(__file__).with_name("results")
METHODS = {  # the peer's decoder, whether it is told the noise, whether it regresses
    "spex": ("", False, False),
    "peer soft": ("soft", False, False),
    "peer hard": ("hard", False, False),
    "peer soft, told": ("soft", True, False),
    "peer hard, told": ("hard", True, False),
    "peer soft, told, lasso": ("soft", True, True),
}
MEASURED = {
    "exactness": [*(f"{x:g}" for x in TOLERANCES), "recall", "precision"],
    "noise": ["recall", "precision", "all recall", "all precision", "top k", "r2"],
}
QUERY = {  # shapiq 1.4.1, approximator/sparse/base.py
    "query_method": "complex",
    "num_subsample": 3,
    "delays_method_source": "joint-coded",
    "subsampling_method": "qsft",
    "delays_method_channel": "identity-siso",
    "num_repeat": 1,
    "t": ORDER,
}
Support = tuple[int, ...]
Found = dict[Support, float]
Cell = dict[str, Any]
Function = Callable[[NDArray[np.bool_]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Planted:
    """A function with a known spectrum, fast for many players and masks."""

    num_players: int
    terms: Found

    def __call__(self, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        used, slots = self._slots
        coefficients = np.array(list(self.terms.values()))
        values = np.empty(len(masks))
        step = max(1, CHUNK_ENTRIES // max(1, len(slots)))
        for start in range(0, len(masks), step):
            part = masks[start : start + step, used].T
            kept = np.where(used[:, None] < 0, False, part)
            odd = kept[slots[:, 0]]
            for column in slots.T[1:]:
                odd ^= kept[column]
            values[start : start + step] = coefficients @ (1 - 2.0 * odd)
        return values

    @cached_property
    def _slots(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Players in any term, -1 for nobody, and where those of each term are."""
        width = max(map(len, self.terms), default=0) + 1
        rows = [support + (-1,) * (width - len(support)) for support in self.terms]
        table = np.array(rows, dtype=np.int64).reshape(-1, width)
        used, slots = np.unique(table, return_inverse=True)
        return used, slots.reshape(-1, width)


def flat(n: int, k: int, rng: np.random.Generator) -> Planted:
    """k distinct supports of random order, with sizes in [0.5, 2]."""
    supports: dict[Support, None] = {}
    while len(supports) < k:
        order = rng.integers(1, ORDER + 1)
        supports[tuple(sorted(rng.choice(n, order, replace=False).tolist()))] = None
    sizes = rng.uniform(0.5, 2, k) * rng.choice([-1, 1], k)
    return Planted(n, dict(zip(supports, sizes.tolist(), strict=True)))


def hierarchical(n: int, k: int, rng: np.random.Generator) -> Planted:
    """k distinct supports that grow from smaller ones, with sizes 1 / rank."""
    supports: dict[Support, None] = {}
    while len(supports) < k:
        known = [(), *supports] if rng.random() < 0.5 else [()]
        base = known[rng.integers(len(known))]
        support = tuple(sorted({*base, int(rng.integers(n))}))
        if len(support) <= ORDER:
            supports[support] = None
    sizes = rng.choice([-1.0, 1.0], k) / np.arange(1, k + 1)
    return Planted(n, dict(zip(supports, sizes.tolist(), strict=True)))


SPECTRA = {"flat": flat, "hierarchical": hierarchical}


def peer_ablations(n: int, b: int) -> int:
    """3 2^b (1 + checks of the shortest BCH code whose dimension is at least n)."""
    q, checks = 3, 2**3
    while 2**q - 1 - checks < n:
        q += 1
        orbits = [[i * 2**j % (2**q - 1) for j in range(q)] for i in range(1, 11)]
        checks = len({element for orbit in orbits for element in orbit})
    return 3 * 2**b * (1 + checks)


def recover(
    method: str, value: Function, n: int, b: int, seed: int, noise_sd: float
) -> tuple[Found, set[Support]]:
    """The spectrum found with the peer's number of ablations, and what is claimed."""
    budget = peer_ablations(n, b)
    if method == "spex":
        import spex

        found = spex.explain(
            value, players=n, method="spex", budget=budget, max_order=ORDER, seed=seed
        )
        assert found.spent <= budget
        return found.fourier.to_dict(), set(found.discoveries)
    decoder, told, lasso = METHODS[method]
    signal = peer_signal(value, n, b, seed)
    assert sum(map(np.size, signal.all_samples)) == budget
    terms = peer_transform(signal, decoder, noise_sd if told else 0.0, lasso)
    return terms, {support for support, f in terms.items() if f}


def peer_signal(value: Function, n: int, b: int, seed: int) -> Any:
    from sparse_transform.qsft.signals.input_signal_subsampled import SubsampledSignal

    np.random.seed(seed)  # noqa: NPY002  (it draws from the global generator)
    ablate = lambda rows: value(rows.astype(bool))  # noqa: E731
    return SubsampledSignal(func=ablate, n=n, q=2, query_args={**QUERY, "b": b})


def peer_transform(signal: Any, decoder: str, noise_sd: float, lasso: bool) -> Found:
    from sparse_transform.qsft.qsft import transform

    found = transform(
        signal,
        b=signal.b,
        num_subsample=3,
        num_repeat=1,
        reconstruct_method_source="coded",
        reconstruct_method_channel="identity-siso" if decoder == "soft" else "identity",
        regress="lasso",
        report=lasso,
        noise_sd=noise_sd,
        source_decoder=peer_decoder(signal.n, decoder),
    )
    terms = found["transform"] if lasso else found
    return {tuple(np.flatnonzero(k).tolist()): float(f.real) for k, f in terms.items()}


@lru_cache(maxsize=2)
def peer_decoder(n: int, decoder: str) -> Any:
    from sparse_transform.qsft.utils.query import get_bch_decoder

    return get_bch_decoder(n, ORDER, decoder)


@lru_cache(maxsize=1)
def warm_up(method: str, n: int) -> None:
    """Import and compile, so that no run is charged for it."""
    recover(method, Planted(n, {(): 1.0}), n, 2, 0, 0.0)


def planted_run(method: str, cell: Cell, seed: int) -> dict[str, Any]:
    """How well one method recovers one spectrum."""
    n, k, snr = cell["n"], cell["k"], cell["snr"]
    planted = SPECTRA[cell["spectrum"]](n, k, np.random.default_rng([seed, n, k]))
    wanted, variance = planted.terms, sum(f**2 for f in planted.terms.values())
    sd = 0.0 if snr is None else (variance / 10 ** (snr / 10)) ** 0.5
    drawing = np.random.default_rng([seed, 1])

    def value(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        return planted(masks) + drawing.normal(0, sd, len(masks))

    started = time.perf_counter()
    found, claimed = recover(method, value, n, cell["b"], seed, sd)
    seconds = time.perf_counter() - started
    supports = wanted.keys() | found
    error = max(abs(found.get(s, 0.0) - wanted.get(s, 0.0)) for s in supports)
    success = {
        f"{limit:g}": error <= limit
        and wanted.keys() == {s for s, f in found.items() if abs(f) > limit}
        for limit in TOLERANCES
    }
    scores = quality(planted, found, wanted, seed)
    scores |= {f"all {name}": scores.pop(name) for name in ("recall", "precision")}
    scores |= hits(claimed - {()}, wanted)
    return {**success, **scores, "error": error, "seconds": seconds}


def hits(supports: set[Support], wanted: Found) -> dict[str, float]:
    """Recall, and precision unless nothing is claimed."""
    right = len(supports & wanted.keys())
    precision = {"precision": right / len(supports)} if supports else {}
    return {"recall": right / len(wanted), **precision}


def quality(planted: Planted, found: Found, wanted: Found, seed: int) -> dict[str, Any]:
    """Recall of what is wanted, precision, R^2; () does not count."""
    ranked = sorted(filter(None, found), key=lambda s: -abs(found[s]))
    supports, top = {s for s in ranked if found[s]}, set(ranked[: len(wanted)])
    shape = NUM_FRESH, planted.num_players
    masks = np.random.default_rng([seed, 2]).random(shape, np.float32) < 0.5
    truth, guess = planted(masks), Planted(planted.num_players, found)(masks)
    return {
        "recall": len(supports & wanted.keys()) / len(wanted),
        "precision": len(supports & planted.terms.keys()) / max(1, len(supports)),
        "top k": len(top & wanted.keys()) / len(wanted),
        "r2": float(1 - ((guess - truth) ** 2).mean() / truth.var()),
        "terms": len(supports),
    }


class Worker:
    """A process that runs tasks one by one, on one thread, within limits."""

    def __init__(self, memory_gib: float) -> None:
        for library in "OMP OPENBLAS MKL NUMBA".split():
            os.environ[f"{library}_NUM_THREADS"] = "1"
        os.environ["PYTHONWARNINGS"] = "ignore"
        self.memory_gib, self.pool = memory_gib, None

    def call(self, limit: float, task: Callable[..., Any], *args: Any) -> Any:
        """The task's result, or {"failed": why}; a process that dies times out."""
        if self.pool is None:
            context: Any = multiprocessing.get_context("spawn")
            limits = resource.RLIMIT_AS, (int(self.memory_gib * 2**30),) * 2
            self.pool = context.Pool(1, resource.setrlimit, limits)
        try:
            return self.pool.apply_async(task, args).get(limit)
        except multiprocessing.TimeoutError:
            self.close()
            return {"failed": f"timeout after {limit:.0f} s"}
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"[:120]}

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self.pool is not None:
            self.pool.terminate()
            self.pool.join()
        self.pool = None


def cells(part: str, options: argparse.Namespace) -> Iterator[Cell]:
    """What is measured, without the method."""
    if part == "exactness":
        sizes = itertools.product(options.players, options.terms, (0.8, 1.2, 2, 4))
        logs = [(n, k, int(np.ceil(np.log2(x * k / 3)))) for n, k, x in sizes]
        chosen = [("flat", *size, None) for size in dict.fromkeys(logs)]
    else:
        sizes = itertools.product(SPECTRA, options.noise_b, options.snr)
        chosen = [(s, *options.noise_size, b, snr) for s, b, snr in sizes]
    for spectrum, n, k, b, snr in chosen:
        sized = {"n": n, "k": k, "b": b, "ablations": peer_ablations(n, b)}
        yield {"spectrum": spectrum, **sized, "snr": snr}


def run_part(part: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each method and cell, printed as they come."""
    rows: list[dict[str, Any]] = []
    names, methods = [*MEASURED[part], "seconds"], list(METHODS)
    for method in options.methods or methods[: 3 if part == "exactness" else None]:
        worker = Worker(options.memory_gib)
        for cell in cells(part, options):
            runs = list(runs_of(worker, options, method, cell))
            results = {name: [r[name] for r in runs if name in r] for name in names}
            if not rows:
                line([*cell, "method", "runs", *names, "note"])
                line(["---"] * (len(cell) + len(names) + 3))
            note = next((run["failed"] for run in runs if "failed" in run), "")
            shown = [describe(x, len(runs)) for x in results.values()]
            line([*cell.values(), method, len(runs), *shown, note])
            means = {name: interval(x) for name, x in results.items() if x}
            rows.append({**cell, "method": method, **means, "runs": runs})
        worker.close()
    return rows


def runs_of(
    worker: Worker, options: argparse.Namespace, method: str, cell: Cell
) -> Iterator[dict[str, Any]]:
    """Results for one seed after the other, up to the first that met a limit."""
    end = time.monotonic() + options.cell_seconds
    for seed in range(options.seeds):
        if seed and time.monotonic() > end:
            return
        worker.call(600, warm_up, method, cell["n"])
        run = worker.call(options.peer_timeout, planted_run, method, cell, seed)
        yield {"seed": seed, **run}
        if worker.pool is None or "MemoryError" in run.get("failed", ""):
            return


def interval(values: list[float]) -> tuple[float, float, float]:
    """The mean and, from its standard error over seeds, its 90% interval."""
    mean, count = float(np.mean(values)), len(values)
    error = 1.645 * float(np.std(values, ddof=1)) / count**0.5 if count > 1 else 0.0
    return mean, mean - error, mean + error


def describe(values: list[float], num_runs: int) -> str:
    if not values:
        return "-"
    if isinstance(values[0], bool):
        return f"{sum(values)}/{num_runs}"
    return "{:.3f} ({:.3f} to {:.3f})".format(*interval(values))


def line(values: list[Any]) -> None:
    print("| " + " | ".join(map(str, values)) + " |", flush=True)


def save(path: Path, part: str, options: argparse.Namespace, rows: list[Cell]) -> None:
    """Write one part of a results file; the others stay."""
    parts = json.loads(path.read_text()) if path.exists() else {}
    parts[part] = {**provenance(options), "rows": rows}
    path.write_text(json.dumps(parts, indent=1) + "\n")


def provenance(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "machine": f"{os.cpu_count()} cores, one used; Python {python_version()}",
        "options": {
            name: value.name if isinstance(value, Path) else str(value)
            for name, value in vars(options).items()
        },
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """What was measured against SNR: a figure for each b."""
    from matplotlib.figure import Figure

    for b in {row["b"] for row in rows}:
        figure = Figure(figsize=(26, 8), layout="tight")
        panels = iter(figure.subplots(2, 6).ravel())
        for spectrum, name in itertools.product(SPECTRA, MEASURED["noise"]):
            panel = next(panels)
            panel.set(title=spectrum, xlabel="SNR in dB", ylabel=name)
            for method in METHODS:
                cell = {"b": b, "spectrum": spectrum, "method": method}
                points = [r for r in rows if name in r and cell.items() <= r.items()]
                if not points:
                    continue
                mean, low, high = np.reshape([r[name] for r in points], (-1, 3)).T
                bars, snr = (mean - low, high - mean), [r["snr"] for r in points]
                panel.errorbar(snr, mean, bars, capsize=2, label=method)
            panel.set_ylim(-0.5 if name == "r2" else -0.03, 1.03)
        panel.legend(fontsize=8)
        size = f"n = {rows[0]['n']}, {rows[0]['k']} terms, b = {b}"
        figure.suptitle(f"{size}; means and 90% intervals over seeds")
        figure.savefig(path.with_name(f"{path.stem}_noise_b{b}.png"), dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--parts", nargs="+", default=list(MEASURED), choices=MEASURED)
    add("--methods", nargs="+", choices=METHODS)
    add("--seeds", type=int, default=20)
    add("--players", type=int, nargs="+", default=[20, 100, 1000, 10000])
    add("--terms", type=int, nargs="+", default=[10, 100, 1000])
    add("--noise-size", type=int, nargs=2, default=[100, 30], help="players, terms")
    add("--noise-b", type=int, nargs="+", default=[4, 6])
    add("--snr", type=float, nargs="+", default=list(range(-5, 31, 5)))
    add("--peer-timeout", type=float, default=120, help="seconds for a run, ours too")
    add("--cell-seconds", type=float, default=900, help="no run is begun after these")
    add("--memory-gib", type=float, default=16)
    add("--json", type=Path, default=RESULTS / f"{Path(__file__).stem}.json")
    options = parser.parse_args()
    print(json.dumps(provenance(options)))
    for part in options.parts:
        save(options.json, part, options, rows := run_part(part, options))
        if part == "noise":
            plot(rows, options.json)


if __name__ == "__main__":
    main()
