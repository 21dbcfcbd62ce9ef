"""Training loops of the sentiment recipe: fine-tuning and distillation."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import BatchEncoding, PreTrainedTokenizerBase

from oracles.embedded.recipes.sentiment_data import (
    NO_LABEL,
    Example,
    batches,
)

Loss = Callable[[nn.Module, BatchEncoding, torch.Tensor], torch.Tensor]
"""Loss of a model on encoded texts and their labels."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; 2,048 tokens or 64 texts make a batch."""

    epochs: int
    learning_rate: float
    max_texts: int = 64
    max_tokens: int = 2048
    warmup: float = 0.06
    weight_decay: float = 0.01


def label_loss(
    model: nn.Module, inputs: BatchEncoding, labels: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy against the labels."""
    return functional.cross_entropy(model(**inputs).logits.float(), labels)


def distillation_loss(teacher: nn.Module) -> Loss:
    """Loss that makes a student repeat the teacher's logits and hidden states.

    The sum of three: cross-entropy against the teacher's probabilities at temperature 2
    (Hinton et al. 2015); cross-entropy against the labels, where there are any; and the
    squared error of embeddings and hidden states against every second of the teacher's,
    in units of their variance (as in TinyBERT, Jiao et al. 2020).
    """
    teacher.eval()

    def loss(
        student: nn.Module, inputs: BatchEncoding, labels: torch.Tensor
    ) -> torch.Tensor:
        with torch.no_grad():
            target = teacher(**inputs, output_hidden_states=True)
        output = student(**inputs, output_hidden_states=True)
        is_token = inputs["attention_mask"].bool()
        hidden = sum(
            _hidden_error(mine[is_token].float(), its[is_token].float())
            for mine, its in zip(
                output.hidden_states, target.hidden_states[::2], strict=True
            )
        )
        logits = output.logits.float()
        soft = functional.softmax(target.logits.float() / 2, dim=-1)
        follow = 4 * functional.cross_entropy(logits / 2, soft)
        if (labels == NO_LABEL).all():
            return follow + hidden
        hard = functional.cross_entropy(logits, labels, ignore_index=NO_LABEL)
        return follow + hard + hidden

    return loss


def _hidden_error(mine: torch.Tensor, its: torch.Tensor) -> torch.Tensor:
    return (mine - its).square().mean() / its.var()


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    draw_epoch: Callable[[np.random.Generator], Sequence[Example]],
    loss: Loss,
    schedule: Schedule,
    seed: int,
) -> None:
    """Train in place with AdamW and a linear decay; prints progress.

    `draw_epoch` gives the texts of one epoch, so that each can be augmented anew.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    model.train()
    for epoch in range(schedule.epochs):
        start, total = time.perf_counter(), 0.0
        steps = list(_encoded_batches(tokenizer, draw_epoch(rng), schedule, rng))
        for step, (inputs, labels) in enumerate(steps):
            done = (epoch + step / len(steps)) / schedule.epochs
            _set_rate(optimizer, schedule, done)
            total += _step(model, inputs, labels, loss, optimizer)
            if step % 200 == 0 or step + 1 == len(steps):
                seconds = time.perf_counter() - start
                print(
                    f"  epoch {epoch + 1}/{schedule.epochs}, "
                    f"step {step + 1}/{len(steps)}: "
                    f"mean loss {total / (step + 1):.3f}, {seconds:.0f} s",
                    flush=True,
                )


def _encoded_batches(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    schedule: Schedule,
    rng: np.random.Generator,
) -> Iterator[tuple[BatchEncoding, torch.Tensor]]:
    ids = tokenizer(
        [e.text for e in examples], truncation=True, return_token_type_ids=False
    )["input_ids"]
    lengths = [len(i) for i in ids]
    for chunk in batches(lengths, schedule.max_texts, schedule.max_tokens, rng):
        inputs = tokenizer.pad(
            {"input_ids": [ids[i] for i in chunk]}, return_tensors="pt"
        )
        yield inputs, torch.tensor([examples[i].label for i in chunk])


def _set_rate(
    optimizer: torch.optim.Optimizer, schedule: Schedule, done: float
) -> None:
    factor = min(1.0, done / schedule.warmup, (1 - done) / (1 - schedule.warmup))
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * factor


def _step(
    model: nn.Module,
    inputs: BatchEncoding,
    labels: torch.Tensor,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
) -> float:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(model, inputs, labels)
    torch.autograd.backward(value)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return value.item()


@torch.inference_mode()
def predict(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> np.ndarray:
    """Probability of a positive text, for each text."""
    model.eval()
    result = np.zeros(len(texts))
    order = np.argsort([len(text) for text in texts])
    for chunk in np.array_split(order, max(1, len(texts) // 64)):
        inputs = tokenizer(
            [texts[i] for i in chunk],
            truncation=True,
            padding=True,
            return_tensors="pt",
        )
        result[chunk] = model(**inputs).logits.softmax(dim=-1)[:, 1].numpy()
    return result


def accuracy(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> float:
    """Share of examples whose label is the likelier one."""
    likely = predict(model, tokenizer, [e.text for e in examples]) > 0.5
    return float((likely == np.array([e.label for e in examples])).mean())
