"""How long decoding takes, and how much memory, next to the decoder behind shapiq.

    python benchmarks/times_decoding.py [--parts first decode large scaling] [--quick]

The functions are those of `recovers_planted_spectra`, whose docstring says what "flat"
and "hierarchical" are and how sparse-transform, the peer, is called. Every measurement
runs in a process of its own, on one thread, within limits of time and memory. `--quick`
takes few and small problems, and has a results file of its own; the peer compiles for
half a minute in every process.

first: one-line programs in a new Python, from its start to its end.

decode: spex and the peer on the same functions, with as many ablations (with 1,000
players the peer has no b for 39,168; b = 8, the nearest, is 43,008). In a new process:
"decode", `recovery_seconds` of spex, and the peer's `transform` and what it compiles,
on a signal that another process has sampled; "other", what `spex.explain` does besides,
apart from ablating: tables, masks, the explanation; "new", both and the import. "warm"
is the median of later decodes there, "of" so many, each of another function. Ratios are
to spex: 10 is ten times as long. Quality is the mean over what all methods decoded.

large: many players; also with a linear term for each, normal, a tenth of the variance
of the planted ones, of which alone recall is. "total" has the ablations, too; memory
is in MiB. `--peer-large` tries the peer: ten minutes to sample, and ten to decode.

scaling: spex against the number of players (b = 5) and against that of ablations (300
players), with a term for every four bins and noise at 20 dB; warm, and memory above
that of a process that has explained something small; slopes are of logarithms.
"""

import argparse
import importlib
import itertools
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recovers_planted_spectra import (
    ORDER,
    RESULTS,
    SPECTRA,
    Cell,
    Function,
    Planted,
    Worker,
    line,
    peer_ablations,
    peer_signal,
    peer_transform,
    provenance,
    quality,
    save,
    warm_up,
)

Rows = Iterator[tuple[Cell, Any]]  # what is shown, and what is kept besides
LINEAR = "flat + linear"
LINEAR_PART = 0.1  # of the variance of the planted terms
COUNTS = {"spex": (6, 1, 1), "peer": (4,)}  # decodes of each new process
COMPARED = ("spex", "peer soft", "peer hard")
MODULES = {"spex": "spex", "peer": "sparse_transform.qsft.utils.query"}
SCORES = ("recall", "precision", "r2")
NOISY = ("hierarchical", 30, 10)  # where a ridge regression is needed as well
DECODED = [  # players, b, spectrum, terms, SNR in dB
    (*size, *spectrum)
    for *size, flat, other in ((131, 4, 16, 30), (131, 6, 60, 60), (1000, 8, 200, 60))
    for spectrum in (("flat", flat, None), ("hierarchical", other, 20))
] + [(131, b, *NOISY) for b in (4, 6)]
CALLS = {
    "import numpy": "import numpy",
    "import spex": "import spex",
    "spex": "import spex; spex.explain(lambda m: m[:, 0] & m[:, 1], players=20, "
    f"method='spex', budget={peer_ablations(20, 3)})",
    "peer soft": "from recovers_planted_spectra import Planted, recover; "
    "recover('peer soft', Planted(20, {(0, 1): 1.0}), 20, 3, 0, 0.0)",
}


def draw(cell: Cell, seed: int) -> tuple[Planted, Any, Function]:
    """What is planted, the terms of it to be found, and what is ablated."""
    n, k, snr = cell["n"], cell["k"], cell["snr"]
    rng = np.random.default_rng([seed, n, k])
    spectrum = "flat" if cell["spectrum"] == LINEAR else cell["spectrum"]
    planted = SPECTRA[spectrum](n, k, rng)
    wanted, variance = planted.terms, sum(f**2 for f in planted.terms.values())
    if cell["spectrum"] == LINEAR:
        small = rng.normal(0, (LINEAR_PART * variance / n) ** 0.5, n).tolist()
        linear = {(player,): f for player, f in enumerate(small)}
        planted = Planted(n, linear | wanted)
    sd = 0.0 if snr is None else (variance / 10 ** (snr / 10)) ** 0.5
    drawing = np.random.default_rng([seed, 1])

    def value(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        return planted(masks) + drawing.normal(0, sd, len(masks))

    return planted, wanted, value


def by_spex(cell: Cell, value: Function, seed: int) -> tuple[Any, Cell]:
    """What spex finds, and its times."""
    import spex

    n, budget = cell["n"], peer_ablations(cell["n"], cell["b"])
    started = time.perf_counter()
    found = spex.explain(
        value, players=n, method="spex", budget=budget, max_order=ORDER, seed=seed
    )
    total, by = time.perf_counter() - started, found.provenance
    assert by.spent <= budget
    times = {"decode": by.recovery_seconds, "total": total}
    times["other"] = total - by.recovery_seconds - by.ablation_seconds
    return found.fourier.to_dict(), times


def by_peer(cell: Cell, value: Function, seed: int) -> tuple[Any, Cell]:
    """What the peer finds, and its times; the first signal was sampled elsewhere."""
    if seed == 0:
        signal = pickle.loads(Path(cell["signal"]).read_bytes())
    else:
        signal = peer_signal(value, cell["n"], cell["b"], seed)
    np.random.seed(seed)  # noqa: NPY002  (transform shuffles the groups with it)
    started = time.perf_counter()
    found = peer_transform(signal, cell["method"].split()[1], 0.0, False)
    return found, {"decode": time.perf_counter() - started, "other": 0.0}


def sample(cell: Cell) -> Cell:
    """Write the peer's signal of the first seed to a file, without the masks."""
    signal = peer_signal(draw(cell, 0)[2], cell["n"], cell["b"], 0)
    signal.func, signal.all_queries = None, []
    return {"bytes": Path(cell["signal"]).write_bytes(pickle.dumps(signal))}


def decode(cell: Cell, seed: int) -> Cell:
    """One decode in this process: its times, memory in MiB, its quality."""
    family, started = cell["method"].split()[0], time.perf_counter()
    importlib.import_module(MODULES[family])
    imported = time.perf_counter() - started
    if cell.get("warm_up"):
        warm_up(cell["method"], 20)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    planted, wanted, value = draw(cell, seed)
    found, times = (by_spex if family == "spex" else by_peer)(cell, value, seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = {"peak": peak, "above start": max(1.0, peak - start)}
    memory["masks"] = cell["ablations"] * cell["n"] / 2**20
    times |= {"import": imported, "new": imported + times["other"] + times["decode"]}
    return {**times, **memory, **quality(planted, found, wanted, seed)}


def in_new_process(tasks: list[Any], options: argparse.Namespace) -> Cell:
    """Results of tasks in one process, up to the first that met a limit."""
    worker, run = Worker(options.memory_gib), {"decodes": [], "failed": ""}
    for task in tasks:
        result = worker.call(options.timeout, *task)
        if "failed" in result:
            run |= result
            break
        run["decodes"].append(result)
    worker.close()
    return run


def measure(cell: Cell, options: argparse.Namespace, *counts: int) -> list[Cell]:
    """Runs of one method in new processes, with so many decodes each."""
    with tempfile.TemporaryDirectory() as folder:
        cell = {**cell, "signal": f"{folder}/signal.pickle"}
        if cell["method"] != "spex":
            sampled = in_new_process([(sample, cell)], options)
            if sampled["failed"]:
                return [{**sampled, "failed": f"sampling: {sampled['failed']}"}]
        tasks = [[(decode, cell, seed) for seed in range(x)] for x in counts]
        return [in_new_process(x, options) for x in tasks]


def problem(n: int, b: int, spectrum: str, k: int, snr: float | None) -> Cell:
    sizes = {"n": n, "b": b, "ablations": peer_ablations(n, b)}
    return {**sizes, "spectrum": spectrum, "k": k, "snr": snr}


def part_first(options: argparse.Namespace) -> Rows:
    """Seconds of one-line programs, each in a new Python."""
    for name, code in CALLS.items():
        command, seconds = [sys.executable, "-W", "ignore", "-c", code], []
        for _ in range(1 if options.quick else 6):
            started = time.perf_counter()
            subprocess.run(command, check=True, cwd=Path(__file__).parent)
            seconds.append(time.perf_counter() - started)
        kept = seconds[1:] or seconds  # the first reads files from the disk
        row = {"python -c": name, "median": middle(kept), "fastest": min(kept)}
        yield {**row, "of": len(kept)}, seconds


def part_decode(options: argparse.Namespace) -> Rows:
    """A row for each problem and method."""
    for sizes in DECODED[1:2] if options.quick else DECODED:
        cell, runs = problem(*sizes), {}
        for method in COMPARED[: 2 if options.quick else None]:
            counts = (3,) if options.quick else COUNTS[method.split()[0]]
            runs[method] = measure({**cell, "method": method}, options, *counts)
        decoded = [len(new[0]["decodes"]) for new in runs.values()]
        common, ours = min(filter(None, decoded), default=0), {}
        for method, new in runs.items():
            row = medians(new, common)
            ours = ours or row
            for x in ("new", "warm"):
                both = row[x], ours[x]
                row[f"{x} ratio"] = both[0] / both[1] if all(both) else None
            yield {**cell, "method": method, **row, "note": new[0]["failed"]}, new


def medians(new: list[Cell], common: int) -> Cell:
    """Seconds in new processes, and warm in the first; quality of its first decodes."""
    firsts, decodes = [d for run in new for d in run["decodes"][:1]], new[0]["decodes"]
    names, warm = ("import", "other", "decode", "new"), decodes[1:]
    return {
        **{x: middle([d[x] for d in firsts]) for x in names},
        "warm": middle([d["decode"] for d in warm]),
        "of": len(warm),
        **{x: middle([d[x] for d in decodes[:common]], np.mean) for x in SCORES},
    }


def part_large(options: argparse.Namespace) -> Rows:
    """Spex, and the peer if asked, with many players."""
    methods = COMPARED[: 2 if options.peer_large else 1]
    for spectrum, method in itertools.product(("flat", LINEAR), methods):
        n, b = (1000, 6) if options.quick else (10000, 8)
        cell = {**problem(n, b, spectrum, 100, None), "method": method}
        (run,) = measure(cell, options, 1)
        found = next(iter(run["decodes"]), {})
        names = ("decode", "total", "peak", "masks", *SCORES, "terms")
        yield {**cell, **{x: found.get(x) for x in names}, "note": run["failed"]}, run


def part_scaling(options: argparse.Namespace) -> Rows:
    """Spex against players and against ablations."""
    players = (100, 300) if options.quick else (100, 300, 1000, 3000, 10000)
    sizes = [("n", n, 5) for n in players]
    sizes += [("ablations", 300, b) for b in range(3, 5 if options.quick else 10)]
    for against, n, b in sizes:
        cell = {"against": against, **problem(n, b, "flat", 3 * 2**b // 4, 20)}
        spex = {**cell, "method": "spex", "warm_up": True}
        (run,) = measure(spex, options, 2 if options.quick else 4)
        first, warm = run["decodes"][:1], run["decodes"][1:]
        names = ("peak", "above start", "masks")
        row = {"warm": middle([d["decode"] for d in warm])}
        row |= {x: middle([d[x] for d in first]) for x in names}
        row["r2"] = middle([d["r2"] for d in first + warm], np.mean)
        yield {**cell, **row, "note": run["failed"]}, run


def slopes_and_plot(rows: list[Cell], path: Path) -> None:
    """Print slopes of logarithms, and draw time and memory with lines of slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="tight")
    left, right = figure.subplots(1, 2)
    panels = (left, "warm", "seconds"), (right, "above start", "MiB")
    fixed = ("n", "b = 5"), ("ablations", "n = 300")
    print()
    for (panel, name, unit), (against, size) in itertools.product(panels, fixed):
        kept = [r for r in rows if r["against"] == against and r[name]]
        if len(kept) < 2:
            continue
        x, y = (np.array([r[key] for r in kept]) for key in (against, name))
        logs = np.log([x, y])
        every, last = (np.polyfit(*logs[:, s:], 1)[0] for s in (0, -2))
        print(f"{name} against {against}: slope {every:.2f}, last two {last:.2f}")
        (drawn,) = panel.loglog(x, y, "o-", label=f"{against} ({size}): {every:.2f}")
        panel.loglog(x, y[0] * x / x[0], "--", color=drawn.get_color(), label="1")
        panel.set(title=f"spex: {name}", xlabel="n, or ablations", ylabel=unit)
        panel.legend(title="against: slope", fontsize=8)
    figure.savefig(path.with_suffix(".png"), dpi=110)


def middle(values: list[float], by: Callable[..., Any] = np.median) -> float | None:
    return float(by(values)) if values else None


def shown(value: Any) -> str:
    """Three digits of a fraction; whole numbers and words as they are."""
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


PARTS = {x.__name__[5:]: x for x in (part_first, part_decode, part_large, part_scaling)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    add("--quick", action="store_true", help="small problems, few repeats")
    add("--peer-large", action="store_true", help="try the peer with many players")
    add("--timeout", type=float, default=600, help="seconds for a decode")
    add("--memory-gib", type=float, default=20)
    add("--json", type=Path, help="where results are kept, and the figure next to it")
    options = parser.parse_args()
    name = Path(__file__).stem + ("_quick" if options.quick else "")
    options.json = options.json or RESULTS / f"{name}.json"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= {f"{x}_NUM_THREADS": "1" for x in "OMP OPENBLAS MKL NUMBA".split()}
    print(json.dumps(provenance(options)))
    for part in options.parts:
        rows: list[Cell] = []
        print(f"\n{part}\n")
        for row, runs in PARTS[part](options):
            if not rows:
                line([*row])
                line(["---"] * len(row))
            line([*map(shown, row.values())])
            rows.append({**row, "runs": runs})
            save(options.json, part, options, rows)
        if part == "scaling":
            slopes_and_plot(rows, options.json)


if __name__ == "__main__":
    main()
