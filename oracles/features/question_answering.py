"""Extractive question answering: an answer's score as a function of the context.

A reader gives every token of the context a score for being the answer's first and one
for being its last. With a softmax over each, a span's probability is the product of the
two (Devlin et al. 2019, BERT, section 4.2), over the tokens of the context and, where
the tokenizer has one, the first special token, which stands for "no answer" (SQuAD
2.0); tokens of the question are left out, as transformers' own pipeline does. The
probability of an answer is the sum over the places where the context has it, as readers
are trained and read (attention sum: Kadlec et al. 2016; Clark and Gardner 2018, section
3.2). Long contexts are read in windows; see `answers.spans`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.answers.spans import (
    FIRST,
    FLOOR_NATS,
    LAST,
    MAX_ANSWERS,
    NULL,
    TEXT,
    least_nulls,
    log_totals,
    of_contexts,
    window_scores,
)
from oracles.features.models.loading import LoadedModel
from oracles.features.models.weights import device_of
from oracles.features.pairs import Pair, encode_pairs, model_inputs
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import (
    check_unseen,
    checked_choice,
    either,
    fingerprint,
)
from oracles.features.passes.rotary import longest_together
from oracles.features.prompts.prompt import Prompt

QA_VALUES = ("log-odds", "log-probability", "probability", "logit")
MAX_ANSWER_TOKENS = 30  # BERT's own longest answer
OVERLAP = 128  # tokens two windows share at most, as BERT's own do


class QuestionAnsweringOracle:
    """How sure a reader is of an answer when parts of the context are removed.

    An answer that the ablated context does not have cannot be extracted: its
    probability is 0. Its log-odds and log-probability would be minus infinity and stand
    at -10 nats, below which no value goes, so that an answer that is there is never
    worth less than one that is not. Its logit is that of the least likely span.

    A context longer than the model reads is read in windows that share up to 128
    tokens, and one softmax goes over all of them. Removing much may leave fewer.

    Making one runs the model once on the intact context.

    Args:
        prompt: the context; see `prompts.text_prompt`. It may hold pinned parts.
        loaded: an extractive question-answering model.
        question: never ablated.
        answers: whose scores are explained, one output each, as they stand in the
            context (up to white space and case); "" for "no answer". By default the
            model's own answer to the intact context.
        value: "log-odds", log p / (1 - p), the default, as effects add up on this scale
            and probabilities saturate; "log-probability"; "probability"; or "logit",
            start and end score added up as SQuAD's rankings do.
        batch_size: contexts in one forward pass; see `batching.score_in_batches`.

    Raises:
        InputError: no question or one that leaves no room for a context, an answer that
            the intact context does not have or that is longer than what two windows
            share, an unknown value, or a model that cannot hide tokens.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        question: str,
        answers: Sequence[str] = (),
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._prompt, self._loaded, self._batch_size = prompt, loaded, batch_size
        self._value = checked_choice(value, QA_VALUES, "value")
        self._question = _checked_question(question, answers)
        self.players = prompt.players
        everything = np.ones((1, len(self.players)), dtype=bool)
        [windows] = self._windows(everything)
        pair = windows[0]
        answer, place, confidence = self._predict(windows)
        self._answers = [text.strip() for text in answers] or [answer]
        own_place = None if answers else place
        can_refuse = self._null(pair) is not None
        self._patterns = [
            _pattern(text, pair.text, own_place, can_refuse) for text in self._answers
        ]
        self._check_shared(windows)
        check_unseen(
            loaded, prompt, lambda m: self._marked(self._windows(m)), self._run
        )
        named = [repr(text) if text else "no answer" for text in self._answers]
        self.outputs = tuple(f"{self._value} of {name}" for name in named)
        self.description: Mapping[str, Any] = {
            "kind": "question-answering",
            "model": loaded.name,
            "dtype": str(loaded.model.dtype),
            **prompt.description,
            "question": question,
            "answers": self._answers,
            "value": self._value,
            "floor_nats": FLOOR_NATS,
            "windows": len(windows),
            "prediction": answer or "no answer",
            "prediction_probability": confidence,
            "act": f"answer {either([text or 'nothing' for text in self._answers])}",
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, context, question and settings, not of the batch size."""
        patterns = [found and found.pattern for found in self._patterns]
        return fingerprint(self.description, self._loaded, patterns=patterns)

    def evaluate(self, masks: Masks) -> Values:
        """Every answer's value under every mask, (m, k)."""
        contexts = self._windows(masks)
        scores = self._run(self._marked(contexts))
        counts = [len(windows) for windows in contexts]
        is_refusal = [pattern is None for pattern in self._patterns]
        return of_contexts(scores, counts, is_refusal, self._value)

    def _marked(self, contexts: Sequence[Sequence[Pair]]) -> list[list[int]]:
        return [
            window.marked(self._marks(window, self._patterns))
            for windows in contexts
            for window in windows
        ]

    def _run(self, sequences: list[list[int]]) -> NDArray[np.float64]:
        """What is needed of every window, (windows, 5 + k)."""
        model = self._loaded.model
        return score_in_batches(
            sequences,
            self._score,
            self._batch_size,
            self._pad,
            device_of(model),
            longest=longest_together(model),
        )

    def _windows(self, masks: Masks) -> list[list[Pair]]:
        """Every mask's pair, or its windows."""
        # models that are padded on the left read the question last, as transformers'
        # own question answering has it
        is_first = self._loaded.tokenizer.padding_side == "right"
        pairs = encode_pairs(
            self._loaded,
            self._question,
            self._prompt,
            masks,
            pinned_first=is_first,
            is_long=True,
        )
        longest = self._loaded.max_tokens
        return [pair.windows(longest, OVERLAP, MAX_ANSWER_TOKENS) for pair in pairs]

    def _check_shared(self, windows: Sequence[Pair]) -> None:
        """Refuse answers that a border between windows may cut."""
        if len(windows) == 1:
            return
        fixed = sum(span is None for span in windows[0].spans)
        shared = min(OVERLAP, (self._loaded.max_tokens - fixed) // 2)
        for text, pattern in zip(self._answers, self._patterns, strict=True):
            found = [
                last - first + 1
                for window in windows
                for first, last in (_occurrences(window, pattern) if pattern else ())
            ]
            if pattern and max(found, default=shared + 1) > shared:
                raise InputError(
                    f"the context is read in {len(windows)} windows, and the answer "
                    f"{text!r} has more than the {shared} tokens that two of them "
                    "share. Name a shorter answer, or shorten the context."
                )

    @property
    def _pad(self) -> int:
        return int(self._loaded.tokenizer.pad_token_id or 0)

    def _score(self, marked: Any, mask: Any) -> Any:
        """What is needed of marked sequences, (rows, 5 + k)."""
        start, end, marks = self._logits(marked, mask)
        return window_scores(start, end, marks, mask, len(self._answers))

    def _logits(self, marked: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Start and end logits, and the marks."""
        inputs, marks = model_inputs(self._loaded, marked, mask)
        output = self._loaded.model(**inputs)
        return output.start_logits.double(), output.end_logits.double(), marks

    def _marks(
        self, pair: Pair, patterns: Sequence[re.Pattern[str] | None]
    ) -> list[int]:
        """For every token whether an answer may end there, and whether one does."""
        marks = [0] * len(pair.ids)
        for i, span in enumerate(pair.spans):
            if span and i not in pair.hidden:
                marks[i] = TEXT
        null = self._null(pair)
        if null is not None:
            marks[null] = NULL
        for i, pattern in enumerate(patterns):
            for first, last in _occurrences(pair, pattern) if pattern else ():
                marks[first] |= FIRST << 2 * i
                marks[last] |= LAST << 2 * i
        return marks

    def _null(self, pair: Pair) -> int | None:
        """Where "no answer" begins and ends; None for tokenizers that have no such."""
        token = self._loaded.tokenizer.cls_token_id
        places = (i for i, span in enumerate(pair.spans) if span is None)
        return next((i for i in places if pair.ids[i] == token), None)

    def _predict(self, windows: Sequence[Pair]) -> tuple[str, int, float]:
        """The most likely answer to the intact context, where it starts, and its
        span's probability."""
        import torch

        best, answer, place = -np.inf, "", 0
        scores = []
        for pair in windows:
            marked = torch.tensor([pair.marked(self._marks(pair, ()))])
            marked = marked.to(device_of(self._loaded.model))
            mask = torch.ones_like(marked)
            with torch.inference_mode():
                start, end, marks = self._logits(marked, mask)
            scores.append(window_scores(start, end, marks, mask, 0)[0].cpu().numpy())
            likely, first, last = _best_span(start[0], end[0], marks[0] & TEXT > 0)
            begins, ends = pair.spans[first], pair.spans[last]
            if likely > best and begins and ends:
                words = pair.text[begins[0] : ends[1]].lstrip()
                best, answer, place = likely, words.rstrip(), ends[1] - len(words)
        table, counts = np.stack(scores), [len(windows)]
        nothing = float(least_nulls(table, counts).sum())
        if nothing >= best:
            best, answer, place = nothing, "", 0
        return answer, place, float(np.exp(best - log_totals(table, counts)[0]))


def _best_span(start: Any, end: Any, is_text: Any) -> tuple[float, int, int]:
    """Logit, first and last token of the likeliest span, of logits (length,)."""
    import torch

    both = [side.masked_fill(~is_text, -torch.inf) for side in (start, end)]
    likely = both[0][:, None] + both[1]
    allowed = torch.ones_like(likely).triu().tril(MAX_ANSWER_TOKENS - 1) > 0
    likely = likely.masked_fill(~allowed, -torch.inf)
    first, last = divmod(int(likely.argmax()), likely.shape[1])
    return float(likely[first, last]), first, last


def _pattern(
    answer: str, intact: str, place: int | None, can_refuse: bool
) -> re.Pattern[str] | None:
    """What finds an answer in a context; None for "no answer".

    As a whole word, if it is one in the intact context: at its place, if that is known.
    """
    if not answer and can_refuse:
        return None
    if not answer:
        raise InputError(
            'answer "" stands for no answer, and this model has no token for it (a cls '
            "token). Name words of the context."
        )
    words = r"\s+".join(map(re.escape, answer.split()))
    for pattern in (rf"(?<!\w){words}(?!\w)", words):
        found = re.compile(pattern, re.IGNORECASE)
        if found.search(intact) if place is None else found.match(intact, place):
            return found
    raise InputError(
        f"the answer {answer!r} is not in the context, so this model cannot give it. "
        "Name words as they stand there, or leave it out for the model's own."
    )


def _checked_question(question: str, answers: Sequence[str]) -> str:
    if not question.strip():
        raise InputError("the question is empty. Ask what the context should answer.")
    if len(answers) > MAX_ANSWERS:
        raise InputError(
            f"{len(answers)} answers are too many for one oracle, which takes "
            f"{MAX_ANSWERS}. Make several."
        )
    return question


def _occurrences(pair: Pair, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """First and last token of every place where the text shows the whole answer."""
    found: list[tuple[int, int]] = []
    for match in pattern.finditer(pair.text):
        inside = pair.within(*match.span())
        is_shown = (
            bool(inside)
            and pair.holds(*match.span())
            and not pair.hidden.intersection(inside)
        )
        if is_shown and (not found or inside[0] > found[-1][1]):
            found.append((inside[0], inside[-1]))
    return found
