"""An answer's spans in one or more windows of a context, scored together.

A context longer than the model reads is read in windows that overlap. Each gives every
token it has a logit for being the answer's first and one for being its last, and one
softmax goes over the tokens of all windows, so that windows with and without the answer
are compared (shared normalisation: Clark and Gardner 2018, section 3.2). Every window
has its own token for "no answer", which says that the answer is not in that window; the
context has none if no window has, so the least of them counts, as in BERT's own
evaluation on SQuAD 2.0. With one window all this is the usual softmax.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Values

TEXT = 4  # mark of tokens that an answer may begin or end at
NULL = 8  # mark of the token that stands for no answer
FIRST, LAST = (
    16,
    32,
)  # marks of the first answer's ends; the next one's are 4 times that
MAX_ANSWERS = 14  # whose marks fit above a token id
FLOOR_NATS = 10.0
"""Log-odds are kept within plus and minus this: a probability of 0.000045."""
TOTALS, NULLS, LEAST, ANSWERS = slice(0, 2), slice(2, 4), 4, 5
"""Columns of a window's scores: of starts and ends, and of answers from the last on."""


def window_scores(start: Any, end: Any, marks: Any, mask: Any, num_answers: int) -> Any:
    """What of each window is needed to score a context, (rows, 5 + answers).

    Args:
        start, end: logits (rows, length).
        marks: of tokens, (rows, length).
        mask: whether a token is there, (rows, length).
        num_answers: how many have their ends marked.
    """
    import torch

    is_text, is_null = marks & TEXT > 0, marks & NULL > 0
    is_open = is_text | is_null
    # an empty context may have none; then all are, so that there is a least span
    is_open |= ~is_open.any(dim=1, keepdim=True) & (mask > 0)
    sides = (start, end)
    columns = [side.masked_fill(~is_text, -torch.inf).logsumexp(1) for side in sides]
    columns += [side.masked_fill(~is_null, -torch.inf).amax(1) for side in sides]
    least = [side.masked_fill(~is_open, torch.inf).amin(1) for side in sides]
    columns.append(least[0] + least[1])
    for i in range(num_answers):
        firsts, lasts = marks & (FIRST << 2 * i) > 0, marks & (LAST << 2 * i) > 0
        columns.append(_log_of_spans(start, end, firsts, lasts))
    return torch.stack(columns, dim=1)


def _log_of_spans(start: Any, end: Any, firsts: Any, lasts: Any) -> Any:
    """Log of the summed exps of the marked spans' logits, (rows,); -inf for none.

    Spans do not overlap, so that the n-th first token goes with the n-th last one.
    """
    rows, begins = firsts.nonzero(as_tuple=True)
    stops = lasts.nonzero(as_tuple=True)[1]
    top = start.amax(dim=1) + end.amax(dim=1)
    likely = (start[rows, begins] + end[rows, stops] - top[rows]).exp()
    return start.new_zeros(len(start)).index_add(0, rows, likely).log() + top


def of_contexts(
    scores: NDArray[np.float64],
    counts: Sequence[int],
    is_refusal: Sequence[bool],
    value: str,
) -> Values:
    """The answers' values, (contexts, answers).

    Args:
        scores: of all windows, in the order of contexts; see `window_scores`.
        counts: how many windows each context has.
        is_refusal: which answers are "no answer".
        value: "log-odds", "log-probability", "probability" or "logit".
    """
    starts = np.cumsum([0, *counts[:-1]])
    nulls = least_nulls(scores, counts)
    logits = np.logaddexp.reduceat(scores[:, ANSWERS:], starts)
    logits[:, np.array(is_refusal, dtype=bool)] = nulls.sum(axis=1, keepdims=True)
    if value == "logit":
        least = np.minimum.reduceat(scores[:, LEAST], starts)
        return np.maximum(logits, least[:, None])
    is_given = logits > -np.inf
    totals = log_totals(scores, counts)[:, None]
    logs = np.where(is_given, logits - np.where(is_given, totals, 0.0), -np.inf)
    logs = np.minimum(logs, 0.0)
    if value == "probability":
        return np.exp(logs)
    if value == "log-odds":
        with np.errstate(divide="ignore"):  # of a sure answer, cut off below
            logs = logs - np.log(-np.expm1(logs))
    return np.clip(logs, -FLOOR_NATS, FLOOR_NATS)


def log_totals(
    scores: NDArray[np.float64], counts: Sequence[int]
) -> NDArray[np.float64]:
    """Log of what the exps of a context's spans are divided by, (contexts,)."""
    starts = np.cumsum([0, *counts[:-1]])
    text = np.logaddexp.reduceat(scores[:, TOTALS], starts)
    return np.asarray(np.logaddexp(text, least_nulls(scores, counts)).sum(axis=1))


def least_nulls(
    scores: NDArray[np.float64], counts: Sequence[int]
) -> NDArray[np.float64]:
    """Start and end logit of "no answer" where it is least likely, (contexts, 2)."""
    parts = np.split(scores[:, NULLS], np.cumsum(counts)[:-1])
    return np.stack([part[part.sum(axis=1).argmin()] for part in parts])
