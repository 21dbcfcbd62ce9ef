"""Extractive question answering: an answer's score as a function of the context.

A reader gives every token of the context a score for being the answer's first and one
for being its last. With a softmax over each, a span's probability is the product of the
two (Devlin et al. 2019, BERT, section 4.2), over the tokens of the context and, where
the tokenizer has one, the first special token, which stands for "no answer" (SQuAD
2.0); tokens of the question are left out, as transformers' own pipeline does. The
probability of an answer is the sum over the places where the context has it, as readers
are trained and read (attention sum: Kadlec et al. 2016; Clark and Gardner 2018, section
3.2).
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import InputError
from oracles.features.models.loading import LoadedModel
from oracles.features.pairs import Pair, encode_pairs, model_inputs
from oracles.features.passes.batching import score_in_batches
from oracles.features.passes.encoding import checked_choice, either, fingerprint
from oracles.features.prompts.prompt import Prompt

QA_VALUES = ("log-odds", "log-probability", "probability", "logit")
FLOOR_NATS = 10.0
"""Log-odds are kept within plus and minus this: a probability of 0.000045."""
MAX_ANSWER_TOKENS = 30  # BERT's own longest answer
MAX_ANSWERS = 15  # whose marks fit above a token id
ALLOWED = 4  # mark of tokens that an answer may begin or end at
FIRST, LAST = 8, 16  # marks of the first answer's ends; the next one's are 4 times that


class QuestionAnsweringOracle:
    """How sure a reader is of an answer when parts of the context are removed.

    An answer that the ablated context does not have cannot be extracted: its
    probability is 0. Its log-odds and log-probability would be minus infinity and stand
    at -10 nats, below which no value goes, so that an answer that is there is never
    worth less than one that is not. Its logit is that of the least likely span.

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
        InputError: no question, an answer that the intact context does not have, an
            unknown value, or a context longer than the model reads.
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
        [pair] = self._pairs(everything)
        answer, place, confidence = self._predict(pair)
        self._answers = [text.strip() for text in answers] or [answer]
        own_place = None if answers else place
        can_refuse = self._null(pair) is not None
        self._patterns = [
            _pattern(text, pair.text, own_place, can_refuse) for text in self._answers
        ]
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
        sequences = [
            pair.marked(self._marks(pair, self._patterns))
            for pair in self._pairs(masks)
        ]
        model = self._loaded.model
        return score_in_batches(
            sequences, self._score, self._batch_size, self._pad, model.device
        )

    def _pairs(self, masks: Masks) -> list[Pair]:
        # models that are padded on the left read the question last, as transformers'
        # own question answering has it
        is_first = self._loaded.tokenizer.padding_side == "right"
        return encode_pairs(
            self._loaded, self._question, self._prompt, masks, pinned_first=is_first
        )

    @property
    def _pad(self) -> int:
        return int(self._loaded.tokenizer.pad_token_id or 0)

    def _score(self, marked: Any, mask: Any) -> Any:
        """The answers' values of marked sequences, (rows, k)."""
        import torch

        start, end, marks = self._span_scores(marked, mask)
        columns = []
        for i in range(len(self._answers)):
            firsts = marks & (FIRST << 2 * i) > 0
            lasts = marks & (LAST << 2 * i) > 0
            if self._value == "logit":
                columns.append(_logit(start, end, firsts, lasts))
            else:
                starts, ends = start.log_softmax(dim=1), end.log_softmax(dim=1)
                total = _sum_of_spans(starts, ends, firsts, lasts)
                columns.append(_scaled(total, self._value))
        return torch.stack(columns, dim=1)

    def _span_scores(self, marked: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Start and end logits, -inf where no answer may be, and the marks."""
        import torch

        inputs, marks = model_inputs(self._loaded, marked, mask)
        output = self._loaded.model(**inputs)
        is_open = marks & ALLOWED > 0
        # an empty context may have none; then all are, so that there are numbers
        is_open |= ~is_open.any(dim=1, keepdim=True) & (mask > 0)
        start, end = output.start_logits.double(), output.end_logits.double()
        hidden = [logits.masked_fill(~is_open, -torch.inf) for logits in (start, end)]
        return hidden[0], hidden[1], marks

    def _marks(
        self, pair: Pair, patterns: Sequence[re.Pattern[str] | None]
    ) -> list[int]:
        """For every token whether an answer may end there, and whether one does."""
        null = self._null(pair)
        seen = [i for i, span in enumerate(pair.spans) if span and i not in pair.hidden]
        marks = [0] * len(pair.ids)
        for i in seen:
            marks[i] = ALLOWED
        nowhere = [] if null is None else [(null, null)]
        for first, _ in nowhere:
            marks[first] = ALLOWED
        for i, pattern in enumerate(patterns):
            spans = _occurrences(pair, pattern) if pattern else nowhere
            for first, last in spans:
                marks[first] |= FIRST << 2 * i
                marks[last] |= LAST << 2 * i
        return marks

    def _null(self, pair: Pair) -> int | None:
        """Where "no answer" begins and ends; None for tokenizers that have no such."""
        token = self._loaded.tokenizer.cls_token_id
        places = (i for i, span in enumerate(pair.spans) if span is None)
        return next((i for i in places if pair.ids[i] == token), None)

    def _predict(self, pair: Pair) -> tuple[str, int, float]:
        """The most likely answer to the intact context, where it starts, and its
        span's probability."""
        import torch

        marked = torch.tensor([pair.marked(self._marks(pair, ()))])
        marked = marked.to(self._loaded.model.device)
        with torch.inference_mode():
            start, end, _ = self._span_scores(marked, torch.ones_like(marked))
        likely = (start[0].log_softmax(0)[:, None] + end[0].log_softmax(0)).exp()
        likely = likely.triu().tril(MAX_ANSWER_TOKENS - 1)
        null = self._null(pair)
        if null is not None:  # no answer begins there and ends elsewhere
            likely[null, :null] = 0
            likely[null, null + 1 :] = 0
        first, last = divmod(int(likely.argmax()), likely.shape[1])
        begins, ends = pair.spans[first], pair.spans[last]
        start, end = (begins[0], ends[1]) if begins and ends else (0, 0)
        words = pair.text[start:end].lstrip()
        return words.rstrip(), end - len(words), float(likely[first, last])


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
        is_shown = bool(inside) and not pair.hidden.intersection(inside)
        if is_shown and (not found or inside[0] > found[-1][1]):
            found.append((inside[0], inside[-1]))
    return found


def _sum_of_spans(starts: Any, ends: Any, firsts: Any, lasts: Any) -> Any:
    """Probability of the marked spans, (rows,), of log-probabilities (rows, length).

    Spans do not overlap, so that the n-th first token goes with the n-th last one.
    """
    rows, begins = firsts.nonzero(as_tuple=True)
    stops = lasts.nonzero(as_tuple=True)[1]
    likely = (starts[rows, begins] + ends[rows, stops]).exp()
    return starts.new_zeros(len(starts)).index_add(0, rows, likely)


def _scaled(probability: Any, value: str) -> Any:
    import torch

    if value == "probability":
        return probability
    log = probability.log()
    if value == "log-odds":
        log = log - torch.log1p(-probability.clamp(max=1.0))
    return log.clamp(-FLOOR_NATS, FLOOR_NATS)


def _logit(start: Any, end: Any, firsts: Any, lasts: Any) -> Any:
    """Start and end logit of the marked spans, (rows,): the log of their summed exps.

    Where there is none, those of the least likely span.
    """
    import torch

    least = sum(
        logits.masked_fill(logits == -torch.inf, torch.inf).amin(dim=1)
        for logits in (start, end)
    )
    tops = start.amax(dim=1), end.amax(dim=1)
    spans = _sum_of_spans(
        start - tops[0][:, None], end - tops[1][:, None], firsts, lasts
    )
    found = spans.log() + tops[0] + tops[1]
    return torch.maximum(found, least)
