"""Trains the embedded language model `facts`, which answers questions about stories.

    python -m oracles.embedded.recipes.facts --data DIR --out DIR --seed 0

A GPT-NeoX of 1.4 million parameters learns from scratch, in three stages of longer
and longer stories (`oracles/embedded/facts_world.py`), with ordinary English mixed in.
Who works where changes with each story, so nothing but reading can lead to the answer.
To make learning fast, each story carries several questions that cannot see each other,
and inner layers are told where to look: the loss of answers is 0.5 after 900 steps,
while without that it was 1.3 after 1,700, little better than a guess. Sentences and
words are deleted at random, upon which the right answer may become "unknown".

Progress goes to the terminal, the model and its card to --out. torch.compile needs a
C++ compiler. Data: WikiText-2 (Merity et al. 2016, CC BY-SA), as `wikitext2/valid.txt`
(trained on) and `wikitext2/test.txt` (scored on) in the folder --data.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

from oracles.embedded.recipes.facts_batches import BatchMaker, Stage
from oracles.embedded.recipes.facts_card import Measured, card
from oracles.embedded.recipes.facts_scores import SIZES, score, text_nats
from oracles.embedded.recipes.facts_text import read_paragraphs, train_tokenizer
from oracles.embedded.recipes.facts_training import (
    compile_backbone,
    make_model,
    train_stage,
)

STAGES = (
    Stage(
        steps=1500,
        rows=24,
        length=152,
        questions=4,
        chains=(2, 3),
        fillers=(0, 0),
        text_rows=2,
        ablated=0.1,
        learning_rate=1e-3,
        final_rate=1e-3,
        hint_weight=0.5,
    ),
    Stage(
        steps=1600,
        rows=16,
        length=320,
        questions=6,
        chains=(2, 5),
        fillers=(0, 8),
        text_rows=2,
        ablated=0.5,
        learning_rate=1e-3,
        final_rate=5e-4,
        hint_weight=0.2,
    ),
    Stage(
        steps=500,
        rows=4,
        length=1024,
        questions=8,
        chains=(2, 6),
        fillers=(4, 60),
        text_rows=1,
        ablated=0.5,
        learning_rate=5e-4,
        final_rate=0.0,
        hint_weight=0.1,
    ),
)
"""Short stories until the words are bound, then what the product is used on."""

NUM_STORIES = 400
"""Stories behind each accuracy of the model card."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("SPEX_DATA", "../shared/data")
    out = Path(__file__).parents[1] / "facts"
    parser.add_argument("--data", type=Path, default=Path(data), help="data folder")
    parser.add_argument("--out", type=Path, default=out, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--checkpoints", type=Path, help="folder of finished stages")
    return parser.parse_args()


def measure(folder: Path, held_out: list[list[str]], minutes: float) -> Measured:
    """Score the saved model, loaded as a user loads it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    for size in SIZES:
        scores.append(score(model, tokenizer, size, NUM_STORIES, seed=1))
        print(scores[-1], flush=True)
    return Measured(
        scores=scores,
        num_stories=NUM_STORIES,
        num_parameters=model.num_parameters(),
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        vocabulary=len(tokenizer),
        nats=text_nats(model, tokenizer, held_out),
        minutes=minutes,
    )


def make(
    tokenizer: PreTrainedTokenizerFast,
    paragraphs: list[list[str]],
    checkpoints: Path | None,
    seed: int,
) -> tuple[GPTNeoXForCausalLM, float]:
    """Train the model; return it and the minutes its stages took.

    Stages found in `checkpoints` are read from there, with the minutes they took.
    """
    torch.manual_seed(seed)
    model = make_model(tokenizer)
    backbone = compile_backbone(model)
    minutes = 0.0
    for number, stage in enumerate(STAGES):
        saved = checkpoints / f"stage-{number}.pt" if checkpoints else None
        print(f"stage {number}", flush=True)
        if saved is not None and saved.exists():
            finished = torch.load(saved)
            model.load_state_dict(finished["weights"])
            minutes += finished["minutes"]
            continue
        start = time.perf_counter()
        # A generator of its own, so that a resumed stage draws the same batches.
        rng = np.random.default_rng([seed, number])
        train_stage(model, backbone, BatchMaker(tokenizer, paragraphs, rng), stage)
        took = (time.perf_counter() - start) / 60
        minutes += took
        if saved is not None:
            saved.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"weights": model.state_dict(), "minutes": took}, saved)
    return model, minutes


def main() -> None:
    """Train, save, score and describe the model."""
    arguments = parse()
    folder = arguments.data / "wikitext2"
    if not (folder / "valid.txt").exists() or not (folder / "test.txt").exists():
        sys.exit(f"no wikitext2/valid.txt and test.txt in {arguments.data}; use --data")
    torch.set_num_threads(arguments.threads)
    paragraphs = read_paragraphs(folder / "valid.txt")
    tokenizer = train_tokenizer(paragraphs, np.random.default_rng(arguments.seed))
    model, minutes = make(tokenizer, paragraphs, arguments.checkpoints, arguments.seed)
    model.half().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    held_out = read_paragraphs(folder / "test.txt")[:200]
    measured = measure(arguments.out, held_out, minutes)
    words = card(
        measured,
        length=STAGES[-1].length,
        ablated=STAGES[-1].ablated,
        seed=arguments.seed,
    )
    (arguments.out / "README.md").write_text(words, "utf-8")


if __name__ == "__main__":
    main()
