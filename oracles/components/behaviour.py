"""What a model does at the places that a prompt names, as one number for each prompt.

All are of the logits (rows, places, vocabulary or classes) of a batch; P is the
distribution at a place, and means are over the places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Read:
    """A batch as it was read off the model, tensors on its device.

    Attributes:
        logits: (rows, places, v).
        targets: right token or class at each place, (rows, places).
        wrong: the wrong one, (rows,).
        intact: log P of the intact model, (rows, places, v).
    """

    logits: Any
    targets: Any = None
    wrong: Any = None
    intact: Any = None

    @property
    def logs(self) -> Any:
        """log P, (rows, places, v)."""
        return self.logits.log_softmax(dim=-1)

    def of_targets(self, values: Any) -> Any:
        """Entries (rows, places) of (rows, places, v) at the targets."""
        return values.gather(2, self.targets[..., None])[..., 0]


@dataclass(frozen=True)
class Behaviour:
    """A number read off the logits.

    Attributes:
        name: as it is asked for.
        needs: what every prompt must have; see `prompts.encode_prompts`.
        reads: fields of `Read`, beside the logits, that it is made of.
        measure: from a batch to its values, (rows,).
        meaning: what the number is, for reports.
    """

    name: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    measure: Callable[[Read], Any]
    meaning: str


def _logit(read: Read) -> Any:
    return read.of_targets(read.logits)[:, 0]


def _logit_difference(read: Read) -> Any:
    wrong = read.logits[:, 0].gather(1, read.wrong[:, None])[:, 0]
    return _logit(read) - wrong


def _margin(read: Read) -> Any:
    first = read.targets[:, :1]
    others = read.logits[:, 0].scatter(1, first, float("-inf"))
    return _logit(read) - others.amax(dim=1)


def _log_probability(read: Read) -> Any:
    return read.of_targets(read.logs).sum(dim=1)


def _accuracy(read: Read) -> Any:
    is_right = (read.logits.argmax(dim=-1) == read.targets).all(dim=1).float()
    # what is likeliest is not known where the distribution is not
    is_known = read.logits.logsumexp(dim=-1).isfinite().all(dim=1)
    return is_right.masked_fill(~is_known, float("nan"))


def _loss(read: Read) -> Any:
    return -read.of_targets(read.logs).mean(dim=1)


def _divergence(read: Read) -> Any:
    """KL(intact || ablated), mean over places; never below zero."""
    likely = read.intact.exp()
    gap = likely * (read.intact - read.logs)
    gap = gap.masked_fill(likely == 0, 0.0)  # p log p is 0 in the limit
    return gap.sum(dim=-1).mean(dim=1).clamp(min=0.0)


BEHAVIOURS: Mapping[str, Behaviour] = {
    one.name: one
    for one in (
        Behaviour(
            "logit-diff",
            ("answer", "wrong", "single"),
            ("targets", "wrong"),
            _logit_difference,
            "logit of the answer minus that of the wrong one",
        ),
        Behaviour(
            "logit",
            ("answer", "single"),
            ("targets",),
            _logit,
            "logit of the answer",
        ),
        Behaviour(
            "margin",
            ("answer", "single"),
            ("targets",),
            _margin,
            "logit of the answer minus that of the best other",
        ),
        Behaviour(
            "log-prob",
            ("answer",),
            ("targets",),
            _log_probability,
            "log-probability of the answer, in nats",
        ),
        Behaviour(
            "accuracy",
            ("answer",),
            ("targets",),
            _accuracy,
            "whether the answer is the likeliest, token by token: 0 or 1",
        ),
        Behaviour(
            "loss",
            ("text",),
            ("targets",),
            _loss,
            "cross-entropy of the answer, or of the text where there is none, in nats "
            "a token",
        ),
        Behaviour(
            "kl",
            (),
            ("intact",),
            _divergence,
            "Kullback-Leibler divergence of the intact model's distribution from the "
            "ablated one's, in nats",
        ),
    )
}
"""Name -> what is measured."""
