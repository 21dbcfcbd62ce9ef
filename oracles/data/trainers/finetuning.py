"""Fine-tuning a Hugging Face classifier on subsets, one after another."""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from oracles.base import Values
from oracles.data.arrays import digest_of
from oracles.data.classes import Classes, with_absent
from oracles.data.targets import Measure, Targets
from oracles.data.trainer import Indices
from oracles.data.trainers.minibatches import minibatches
from oracles.data.trainers.network import ABSENT
from oracles.embedded import EMBEDDED_MODELS
from oracles.errors import InputError, ModelError

METHODS = {"full": 5e-5, "lora": 1e-3}
"""What is trained, and the learning rate it starts from by default."""

SCORED_AT_ONCE = 64  # texts


@dataclass(frozen=True, eq=False)
class Tuned:
    """A model fine-tuned on a subset.

    Attributes:
        model: None if at most one class was kept.
        counts: kept examples of each class, (C,).
    """

    model: Any
    counts: NDArray[np.float64]


class FineTuning:
    """A transformer with a classification head, fine-tuned on each subset.

    AdamW with a learning rate that falls linearly to 0, gradients clipped at 1, dropout
    as the model has it. The seed draws the head's first weights (where the checkpoint
    has no head for these classes), the order of the examples, and dropout. Each
    training is a plain loop, so a subset costs what a fine-tuning costs.

    Args:
        texts: the n training texts; those longer than `max_tokens` are cut.
        labels: their classes.
        model: an embedded model, a local folder, or a name on the Hugging Face hub.
        method: "full" trains all weights; "lora" low-rank updates of all linear layers
            and the head, through peft.
        steps: minibatches in one training, however few examples there are.
        batch_size: examples in a minibatch.
        learning_rate: of the first step; by default 5e-5, and 1e-3 for LoRA.
        rank: of LoRA's updates.
        max_tokens: longest text read.
        device: such as "cpu" or "cuda:0"; a GPU if there is one, by default.

    Raises:
        ModelError: torch, transformers or peft is missing, or the model cannot be
            loaded.
        InputError: no texts, another number of labels, fewer than two classes, or a
            setting out of range.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        model: str,
        *,
        method: str = "full",
        steps: int = 100,
        batch_size: int = 16,
        learning_rate: float | None = None,
        rank: int = 8,
        max_tokens: int = 128,
        device: str | None = None,
    ) -> None:
        _check_settings(method, steps, batch_size, learning_rate, rank, max_tokens)
        _check_texts(texts)
        self._classes = Classes.of(labels, len(texts))
        self._method, self._rank = method, rank
        self._steps, self._batch_size = steps, batch_size
        self._rate = METHODS[method] if learning_rate is None else learning_rate
        self._max_tokens = max_tokens
        self._base = _Base.load(model, self._classes, method, device)
        self._tokens = self._encoded(texts)
        self.num_examples = len(texts)
        self.description: Mapping[str, Any] = {
            "trainer": "fine-tuning",
            "model": model,
            "weights": self._base.digest,
            "method": method if method == "full" else f"lora of rank {rank}",
            "classes": list(self._classes.names),
            "digest": digest_of([*texts]) + digest_of(self._classes.codes),
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": self._rate,
            "max_tokens": max_tokens,
        }

    def check(self, targets: Targets) -> None:
        """Raise InputError unless the test points are texts of classes trained on."""
        _check_texts(targets.points)
        _ = Measure(self._classes, targets).right

    def fit(self, indices: Indices, seed: int) -> Tuned:
        """The model of one subset; a fresh copy is fine-tuned."""
        codes = self._classes.codes[indices]
        counts = np.bincount(codes, minlength=len(self._classes.names)).astype(float)
        if (counts > 0).sum() < 2:
            return Tuned(None, counts)
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self._base.fresh()
            if self._method == "lora":
                model = _with_lora(model, self._rank)
            self._train(model, indices, seed, counts)
        return Tuned(model.eval(), counts)

    def score(self, model: Tuned, targets: Targets) -> Values:
        """Values (k,) at the test points."""
        counts = model.counts[None]
        log_probs = np.zeros((1, len(targets.ids), len(self._classes.names)))
        if model.model is not None:
            logits = self._logits(model.model, self._encoded(targets.points))
            log_probs[0] = log_softmax(np.where(counts == 0, ABSENT, logits), axis=1)
        measure = Measure(self._classes, targets)
        return measure.of_log_probs(with_absent(log_probs, counts))[0]

    def _train(
        self, model: Any, indices: Indices, seed: int, counts: NDArray[np.float64]
    ) -> None:
        import torch

        free = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(free, lr=self._rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1 - step / self._steps
        )
        rng = np.random.default_rng(seed)
        hidden = torch.tensor(np.where(counts == 0, ABSENT, 0.0), device=model.device)
        model.train()
        for rows in minibatches(indices, self._steps, self._batch_size, rng):
            logits = self._forward(model, [self._tokens[row] for row in rows])
            right = torch.tensor(self._classes.codes[rows], device=model.device)
            loss = torch.nn.functional.cross_entropy(logits.double() + hidden, right)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(free, 1.0)
            optimizer.step()
            schedule.step()

    def _logits(self, model: Any, tokens: list[list[int]]) -> NDArray[np.float64]:
        """Shape (t, C)."""
        import torch

        starts = range(0, len(tokens), SCORED_AT_ONCE)
        with torch.inference_mode():
            parts = [
                self._forward(model, tokens[start : start + SCORED_AT_ONCE])
                for start in starts
            ]
        return torch.cat(parts).double().cpu().numpy()

    def _forward(self, model: Any, tokens: list[list[int]]) -> Any:
        padded = self._base.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
        return model(
            input_ids=padded["input_ids"].to(model.device),
            attention_mask=padded["attention_mask"].to(model.device),
        ).logits

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._base.tokenizer(
            list(texts), truncation=True, max_length=self._max_tokens
        )
        return encoded["input_ids"]


@dataclass(frozen=True, eq=False)
class _Base:
    """What every training starts from."""

    model: Any
    tokenizer: Any
    unset: tuple[str, ...]  # modules that the checkpoint says nothing about
    digest: str

    @staticmethod
    def load(name: str, classes: Classes, method: str, device: str | None) -> "_Base":
        torch, transformers = _libraries(method)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        from oracles.features.models.loading import LoadedModel, quietly

        with _explained(name), quietly(transformers), torch.random.fork_rng():
            torch.manual_seed(0)
            path = str(EMBEDDED_MODELS.get(name, name))
            tokenizer = transformers.AutoTokenizer.from_pretrained(path)
            auto = transformers.AutoModelForSequenceClassification
            model, report = auto.from_pretrained(
                path,
                num_labels=len(classes.names),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
            model = model.to(device)
        resized = [key[0] for key in report["mismatched_keys"]]
        absent = {*report["missing_keys"], *resized}
        unset = tuple(sorted({key.rpartition(".")[0] for key in absent}))
        loaded = LoadedModel(model, tokenizer, name, "classifier")
        return _Base(model, tokenizer, unset, loaded.digest)

    def fresh(self) -> Any:
        """A copy whose unset modules are drawn anew."""
        model = copy.deepcopy(self.model)
        for name in self.unset:
            model.get_submodule(name).reset_parameters()
        return model


def _with_lora(model: Any, rank: int) -> Any:
    import peft

    settings = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
    )
    with warnings.catch_warnings():
        # peft asks transformers 5 for an attribute by its old name
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(model, settings)


def _libraries(method: str) -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelError(
            f"FineTuning needs torch and transformers ({error}). Install them with "
            'pip install "spex-explain[text]".'
        ) from error
    if method == "lora":
        try:
            import peft  # noqa: F401 (used where it is needed)
        except ImportError as error:
            raise ModelError(
                f'method="lora" needs peft ({error}). Install it with pip install '
                '"spex-explain[lora]", or use method="full".'
            ) from error
    return torch, transformers


@contextmanager
def _explained(name: str) -> Any:
    """Turn what loading may raise into a `ModelError`."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0].rstrip(" .")
        raise ModelError(
            f"model={name!r} cannot be loaded for classification: {first}. Name an "
            "encoder's local folder or one on the Hugging Face hub, or the embedded "
            'model "sentiment".'
        ) from error


def _check_settings(
    method: str,
    steps: int,
    batch_size: int,
    learning_rate: float | None,
    rank: int,
    max_tokens: int,
) -> None:
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown. Use {' or '.join(METHODS)}.")
    counted = {"steps": steps, "batch_size": batch_size, "rank": rank}
    wrong = [name for name, number in counted.items() if number < 1]
    wrong += [] if max_tokens > 2 else ["max_tokens"]
    wrong += [] if 0 < (learning_rate or 1) < math.inf else ["learning_rate"]
    if wrong or learning_rate == 0:
        raise InputError(
            f"{', '.join(wrong or ['learning_rate'])} out of range: all are above 0."
        )


def _check_texts(texts: Any) -> None:
    wrong = [row for row, text in enumerate(texts) if not isinstance(text, str)]
    wrong = wrong or [row for row, text in enumerate(texts) if not text.strip()]
    if wrong or not len(texts):
        raise InputError(
            f"rows {wrong[:5]} of {len(texts)} hold no text. Fine-tuning needs a text "
            "for every example and test point."
        )
