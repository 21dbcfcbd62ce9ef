"""The published sentiment study at our scale: faithfulness by length of the review.

    python benchmarks/minilm_sentiment.py --data DIR --out FOLDER/minilm
    export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
    python benchmarks/explains_reviews.py --data DIR --cache FOLDER --estimate
    python benchmarks/explains_reviews.py --data DIR --cache FOLDER \
        --models sentiment FOLDER/minilm --budgets-b 4 6
    python benchmarks/explains_reviews.py --table

After section 5 of the SPEX paper (arXiv 2502.13870): 160 reviews of 8 to 2,047 words,
20 in each bucket; the players are the words; the value is the log-odds of "positive",
and R^2 is taken on `--test` fresh uniform masks. As pipelines do, the tokenizer cuts
off what exceeds the model's window (512 tokens): with whole words deleted, later ones
move up into it. Every method gets the ablations that the published design takes, 3 x
2^b x (1 + BCH parity bits), t = 5, of the same oracle: ours; LIME (kernel weights of
width 25 on the cosine distance, by the package itself: pip install --no-deps lime),
ridge and LASSO of order 1 on uniform masks; shapiq's ProxySPEX; shapiq's SPEX through
the sparse_transform it wraps, with shapiq's arguments, as its Moebius coefficients are
exponentially many in the order found. Where all 2^n masks fit in the budget, ours is
exact.

Every ablation is kept in one ledger per review under `--cache`, and every finished cell
(model, bucket, review, b, method) is a line of `--results`: a run that was stopped goes
on where it was, and several may run at once on different buckets. DIR holds the reviews
as spex_sentiment/sentiment.csv, from basics-lab/spectral-explain (MIT).
"""

import argparse
import contextlib
import csv
import io
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import spex
from oracles import Ledger, run
from oracles.base import fingerprint_of
from oracles.features import LoadedModel, load_model, split
from oracles.features.passes.batching import score_in_batches
from oracles.features.prompts.removal import make_ablator
from proxyspex import ProxySpex
from spex.spectrum import characters

BUCKETS = tuple(f"{2**i}-{2 ** (i + 1) - 1}" for i in range(3, 11))
MAX_ORDER = 5
LARGEST_B = 10
UNIFORM = ["proxyspex", "LIME", "Banzhaf", "LASSO"]  # on the same masks
BATCH_TOKENS = 2048
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Review:
    """One review, its bucket, and its number in the bucket."""

    bucket: str
    number: int
    text: str


Task = tuple[Review, list[dict[str, Any]]]
"""A review and its cells that are not done."""


def load_reviews(path: Path) -> list[Review]:
    """The reviews, 20 to a bucket in order, without the quotes around each."""
    with path.open(newline="") as file:
        texts = [row["review"][1:-1] for row in csv.DictReader(file)]
    return [
        Review(BUCKETS[len(text.split()).bit_length() - 4], i % 20, text)
        for i, text in enumerate(texts)
    ]


class ReviewOracle:
    """Log-odds of "positive" when words are removed, cut to the model's window."""

    def __init__(self, text: str, loaded: LoadedModel, removal: str) -> None:
        words = split(text, "word")
        self.players = tuple(word.of(text) for word in words)
        self.outputs = ("log-odds of positive",)
        self._loaded = loaded
        self._ablator = make_ablator(text, words, removal, loaded.tokenizer)
        self.description = {"text": text, "removal": removal, "weights": loaded.digest}
        self.fingerprint = fingerprint_of(self.description)

    def evaluate(self, masks: np.ndarray) -> np.ndarray:
        """Values (m, 1)."""
        model, window = self._loaded.model, self._loaded.max_tokens
        texts = self._ablator.write_all(masks)
        tokenizer = self._loaded.tokenizer
        ids = tokenizer(texts, truncation=True, max_length=window)["input_ids"]

        def score(batch: Any, attended: Any) -> Any:
            return model(input_ids=batch, attention_mask=attended).logits.float()

        size = max(1, BATCH_TOKENS // max(map(len, ids)))
        logits = score_in_batches(ids, score, size, 0, model.device)
        positive = model.config.label2id["positive"]
        return logits[:, [positive]] - logits[:, [1 - positive]]


@dataclass
class Study:
    """One review's oracle and ledger, and the seconds spent on ablations."""

    oracle: ReviewOracle
    n: int
    ledger: Ledger
    seed: int
    waited: float = 0.0

    def values(self, masks: np.ndarray) -> np.ndarray:
        done = run(self.oracle, masks, ledger=self.ledger)
        self.waited += done.seconds
        return done.values[:, 0]

    def uniform(self, b: int) -> tuple[np.ndarray, np.ndarray]:
        """The intact mask and uniform ones, those proxyspex asks for, and values."""
        rng = np.random.default_rng(self.seed).spawn(2)[0]
        masks = ProxySpex().plan(self.n, ablations(self.n, b), rng).masks
        return masks, self.values(masks)


@cache
def ablations(n: int, b: int) -> int:
    """What the published design takes for n players."""
    from sparse_transform.qsft.codes.BCH import BCH

    length, dimension = BCH.parameter_search(n, MAX_ORDER)
    return int(3 * 2**b * (length - dimension + 1))


def ours(method: str, study: Study, b: int) -> Predict:
    budget = ablations(study.n, b)
    setting = {"seed": study.seed, "ledger": study.ledger}
    found = spex.explain(study.oracle, method=method, budget=budget, **setting)
    study.waited += found.provenance.ablation_seconds
    assert found.spent <= budget
    return found.predict


def lime(study: Study, b: int) -> Predict:
    from lime.lime_base import LimeBase
    from sklearn.metrics import pairwise_distances

    masks, values = study.uniform(b)
    kept = masks.astype(float)
    distances = pairwise_distances(kept, kept[:1], metric="cosine").ravel()
    # both as in LimeTextExplainer: weights of width 25, on the cosine distance
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 25**2)), random_state=study.seed)
    intercept, weights, *_ = base.explain_instance_with_data(
        kept, values[:, None], distances, label=0, num_features=study.n
    )
    effects = np.zeros(study.n)
    for player, weight in weights:
        effects[player] = weight
    return lambda rows: intercept + rows @ effects


def banzhaf(study: Study, b: int) -> Predict:
    from sklearn.linear_model import RidgeCV

    masks, values = study.uniform(b)
    model = RidgeCV(np.logspace(-3, 5, 33)).fit(1.0 - 2.0 * masks, values)
    return lambda rows: model.predict(1.0 - 2.0 * rows)


def lasso(study: Study, b: int) -> Predict:
    from sklearn.linear_model import LassoCV

    masks, values = study.uniform(b)
    model = LassoCV(random_state=study.seed).fit(1.0 - 2.0 * masks, values)
    return lambda rows: model.predict(1.0 - 2.0 * rows)


def shapiq_proxyspex(study: Study, b: int) -> Predict:
    import shapiq

    n, game = study.n, lambda rows: study.values(np.asarray(rows).astype(bool))
    peer = shapiq.ProxySPEX(n=n, index="FBII", max_order=n, random_state=study.seed)
    found = peer.approximate(ablations(n, b), game)
    moebius = [(list(s), found.values[i]) for s, i in found.interaction_lookup.items()]

    def predict(rows: np.ndarray) -> np.ndarray:
        return sum(value * rows[:, s].all(axis=1) for s, value in moebius)

    return predict


def shapiq_spex(study: Study, b: int) -> Predict:
    import shapiq
    from sparse_transform.qsft.qsft import transform
    from sparse_transform.qsft.signals.input_signal_subsampled import SubsampledSignal

    class NestedSignal(SubsampledSignal):
        """Where a larger b asks for the ablations of a smaller one again."""

        def _set_Ms_and_Ds_qsft(self) -> None:
            super()._set_Ms_and_Ds_qsft()
            rng = np.random.default_rng(study.seed)
            drawn = rng.integers(2, size=(len(self.Ms), self.n, LARGEST_B))
            self.Ms = list(drawn[:, :, : self.b])

    np.random.seed(study.seed)  # noqa: NPY002  (it draws from the global generator)
    n, game = study.n, lambda rows: study.values(np.asarray(rows).astype(bool))
    peer = shapiq.SPEX(n=n, index="FBII", max_order=n, random_state=study.seed)
    arguments = {**peer.query_args, "b": b}
    signal = NestedSignal(func=game, n=n, q=2, query_args=arguments)
    terms = transform(signal, **{**peer.decoder_args, "b": b})
    supports = [tuple(np.flatnonzero(key).tolist()) for key in terms]
    coefficients = np.real(np.array(list(terms.values())))
    return lambda rows: characters(rows, supports) @ coefficients


METHODS: dict[str, Callable[[Study, int], Predict]] = {
    "spex": partial(ours, "spex"),
    "proxyspex": partial(ours, "proxyspex"),
    "LIME": lime,
    "Banzhaf": banzhaf,
    "LASSO": lasso,
    "shapiq-SPEX": shapiq_spex,
    "shapiq-ProxySPEX": shapiq_proxyspex,
}


def score(study: Study, b: int, method: str, test: np.ndarray) -> dict[str, Any]:
    """R^2 on the test masks, or None if the method fails; seconds without ablations."""
    truth = study.values(test)
    started, waited = time.perf_counter(), study.waited
    r2, failure = None, None
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            error = METHODS[method](study, b)(test) - truth
        r2 = float(1 - (error**2).mean() / truth.var())
    except (ValueError, AssertionError, IndexError, KeyError, TypeError) as problem:
        failure = f"{type(problem).__name__}: {str(problem)[:90]}"
    seconds = time.perf_counter() - started - (study.waited - waited)
    return {"r2": r2, "seconds": round(seconds, 2), "failure": failure}


def cell_key(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("model", "removal", "dtype", "seed", "bucket", "review", "b", "method")
    return tuple(row[name] for name in names)


def read_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def unfinished(model: str, options: argparse.Namespace) -> list[Task]:
    """Every review that has cells to be done, with these."""
    finished = {cell_key(row) for row in read_rows(options.results)}
    setting = {"model": Path(model).name, "removal": options.removal}
    setting |= {"dtype": options.dtype, "seed": options.seed}
    todo = []
    for review in load_reviews(options.data / "spex_sentiment" / "sentiment.csv"):
        if review.bucket not in options.buckets or review.number >= options.per_bucket:
            continue
        where = {**setting, "bucket": review.bucket, "review": review.number}
        pairs = product(options.budgets_b, options.methods)
        cells = [{**where, "b": b, "method": method} for b, method in pairs]
        cells = [cell for cell in cells if cell_key(cell) not in finished]
        if cells:
            todo.append((review, cells))
    return todo


def needed(task: Task, num_test: int) -> int:
    """How many distinct ablations a task takes: each design is nested in b."""
    review, cells = task
    n = len(review.text.split())
    total = num_test
    for designs in (["spex"], UNIFORM, ["shapiq-SPEX"], ["shapiq-ProxySPEX"]):
        bs = [cell["b"] for cell in cells if cell["method"] in designs]
        total += ablations(n, max(bs)) if bs else 0
    return min(2**n, total)


def estimate(todo: list[Task], loaded: LoadedModel, options: Any) -> None:
    """Print, for each bucket, how long the ablations of what is left will take."""
    total = 0.0
    for bucket in dict.fromkeys(review.bucket for review, _ in todo):
        inside = [task for task in todo if task[0].bucket == bucket]
        text = inside[len(inside) // 2][0].text
        oracle = ReviewOracle(text, loaded, options.removal)
        masks = np.random.default_rng(2).random((64, len(oracle.players))) < 0.5
        oracle.evaluate(masks[:32])
        started = time.perf_counter()
        oracle.evaluate(masks[32:])
        rate = 32 / (time.perf_counter() - started)
        count = sum(needed(task, options.test) for task in inside)
        total += count / rate / 3600
        print(f"{bucket}: {count} at {rate:.0f} a second, {count / rate / 3600:.2f} h")
    print(f"{total:.1f} h of ablations, less those known; fits come on top", flush=True)


def work(task: Task, loaded: LoadedModel, options: argparse.Namespace) -> None:
    """Finish a review's cells; each is written down as soon as it is there."""
    review, cells = task
    folder = options.cache / f"{Path(loaded.name).name}-{options.removal}"
    folder.mkdir(parents=True, exist_ok=True)
    oracle = ReviewOracle(review.text, loaded, options.removal)
    n = len(oracle.players)
    test = np.random.default_rng([options.seed, 1]).random((options.test, n)) < 0.5
    with Ledger(folder / f"{review.bucket}-{review.number}.sqlite") as ledger:
        study = Study(oracle, n, ledger, options.seed)
        for cell in cells:
            found = score(study, cell["b"], cell["method"], test)
            row = {**cell, "n": n, "ablations": ablations(n, cell["b"]), **found}
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def cells_of(rows: list[dict[str, Any]]) -> dict[tuple[int, str, str], list[float]]:
    """(b, method, bucket) -> R^2 of the reviews that all methods there have."""
    grouped: dict[tuple[int, str], dict[str, dict[Any, float]]] = {}
    for row in rows:
        if row["r2"] is not None:
            methods = grouped.setdefault((row["b"], row["bucket"]), {})
            scores = methods.setdefault(row["method"], {})
            scores[row["seed"], row["review"]] = row["r2"]
    found = {}
    for (b, bucket), methods in grouped.items():
        common = set.intersection(*map(set, methods.values()))
        for method, scores in methods.items():
            found[b, method, bucket] = [scores[number] for number in sorted(common)]
    return found


def show(rows: list[dict[str, Any]], name: str, path: Path) -> None:
    """Print one model's table, and draw it."""
    cells = cells_of(rows)
    bs = sorted({b for b, _, _ in cells})
    print(f"\n**{name}**: mean R^2 ± its standard error (reviews)\n")
    print("| method | b | " + " | ".join(BUCKETS) + " |")
    print("| --- " * (len(BUCKETS) + 2) + "|")
    for b in bs:
        for method in METHODS:
            row = [summary(cells.get((b, method, bucket), [])) for bucket in BUCKETS]
            print(f"| {method} | {b} | " + " | ".join(row) + " |")
    draw(cells, bs, name, path)


def summary(scores: list[float]) -> str:
    if not scores:
        return "-"
    error = np.std(scores, ddof=1) / len(scores) ** 0.5 if len(scores) > 1 else np.nan
    return f"{np.mean(scores):.3f} ± {error:.3f} ({len(scores)})"


def draw(cells: dict[Any, list[float]], bs: list[int], name: str, path: Path) -> None:
    """R^2 against the bucket, one panel for each b."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(bs), 4), layout="constrained")
    panels = figure.subplots(1, len(bs), sharey=True, squeeze=False)[0]
    for b, panel in zip(bs, panels, strict=True):
        for method in METHODS:
            present = [k for k in BUCKETS if cells.get((b, method, k))]
            means = [np.mean(cells[b, method, bucket]) for bucket in present]
            places = [BUCKETS.index(bucket) for bucket in present]
            panel.plot(places, means, marker="o", label=method)
        panel.set_xticks(range(len(BUCKETS)), BUCKETS, rotation=45)
        panel.set(title=f"{name}, b = {b}", xlabel="words", ylim=(-0.1, 1))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("R² on fresh uniform masks")
    panels[-1].legend()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    out = Path(__file__).with_name("results") / f"{Path(__file__).stem}.jsonl"
    add = parser.add_argument
    add("--data", type=Path, default=default)
    add("--cache", type=Path, help="folder for ledgers; needed unless --table")
    add("--results", type=Path, default=out)
    add("--models", nargs="+", default=["sentiment"], help="names or folders")
    add("--removal", choices=("delete", "mask"), default="delete")
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--buckets", nargs="+", choices=BUCKETS, default=list(BUCKETS))
    add("--per-bucket", type=int, default=20)
    add("--budgets-b", type=int, nargs="+", default=[4], help="from 3")
    add("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    add("--test", type=int, default=1000, help="fresh masks R^2 is taken on")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    add("--estimate", action="store_true", help="only say how long it would take")
    add("--table", action="store_true", help="only print and draw what is there")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.table:
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in read_rows(options.results):
            name = f"{row['model']}-{row['removal']}-{row['dtype']}"
            groups.setdefault(name, []).append(row)
        for name, rows in groups.items():
            show(rows, name, options.results.with_name(f"explains_reviews_{name}.png"))
        return
    import torch

    torch.set_num_threads(options.threads)
    options.results.parent.mkdir(exist_ok=True)
    for model in options.models:
        loaded = load_model(model, dtype=options.dtype)
        todo = unfinished(model, options)
        print(f"{model}: {sum(len(cells) for _, cells in todo)} cells", flush=True)
        estimate(todo, loaded, options)
        for task in [] if options.estimate else todo:
            work(task, loaded, options)


if __name__ == "__main__":
    main()
