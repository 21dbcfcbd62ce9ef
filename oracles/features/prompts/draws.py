"""The mean of an oracle's values over several draws of what replaces removed segments.

One mask then costs as many ablations of the model as there are draws. For the same
number of model calls, more masks with one draw each usually explain better than fewer
masks with several (each mask has its own draw, and a fit averages over masks); several
are for values that are wanted for themselves, and to know the noise.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from oracles.base import Masks, Oracle, PaidOracle, Values, fingerprint_of
from oracles.errors import InputError
from oracles.features.prompts.prompt import Prompt
from oracles.features.prompts.turns import ChatPrompt


@dataclass(frozen=True)
class DrawnPrompt:
    """Several prompts of the same players as one, for an oracle made once.

    A mask has columns beyond the players' that say, in binary, which prompt is written;
    so the oracle has one target, one limit of costs and one batch for all draws.

    Attributes:
        prompts: as they are drawn.
    """

    prompts: tuple[Prompt, ...]

    @property
    def players(self) -> tuple[str, ...]:
        """The players, and the digits of the draw's number."""
        digits = (f"draw, digit {i}" for i in range(self.num_digits))
        return (*self.prompts[0].players, *digits)

    @property
    def num_digits(self) -> int:
        """How many columns number the draw."""
        return (len(self.prompts) - 1).bit_length()

    @property
    def description(self) -> Mapping[str, Any]:
        """The first draw's."""
        return self.prompts[0].description

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The players' places; digits have none."""
        return (*self.prompts[0].places, *((0, 0),) * self.num_digits)

    @property
    def has_special_tokens(self) -> bool:
        """The first draw's."""
        return self.prompts[0].has_special_tokens

    def write_all(self, masks: Masks) -> list[str]:
        """The prompt of the draw that each row names."""
        return self._written(masks, [prompt.write_all for prompt in self.prompts])

    def _written(
        self, masks: Masks, writers: Sequence[Callable[[Masks], list[Any]]]
    ) -> list[Any]:
        """What the writer of the draw that each row names writes."""
        count = len(self.prompts[0].players)
        masks = np.asarray(masks)
        numbers = masks[:, count:] @ (1 << np.arange(self.num_digits))
        written: list[Any] = [None] * len(masks)
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            texts = writers[number % len(writers)](masks[rows, :count])
            for row, text in zip(rows.tolist(), texts, strict=True):
                written[row] = text
        return written

    def number(self, masks: Masks) -> Masks:
        """Every mask (m, n) once for each draw, draws within masks."""
        draws = np.arange(len(self.prompts))[:, None]
        digits = (draws >> np.arange(self.num_digits) & 1).astype(bool)
        each = np.repeat(masks, len(draws), axis=0)
        return np.hstack([each, np.tile(digits, (len(masks), 1))])


@dataclass(frozen=True)
class DrawnChat(DrawnPrompt):
    """Several conversations of the same players as one.

    Oracles tell a conversation by `write_messages`, which other prompts must not have;
    so it is a class of its own.
    """

    prompts: tuple[ChatPrompt, ...]

    def write_messages(self, masks: Masks) -> list[list[dict[str, Any]]]:
        """The messages of the draw that each row names."""
        return self._written(masks, [prompt.write_messages for prompt in self.prompts])


def _drawn(prompts: Sequence[Prompt]) -> DrawnPrompt:
    chats = tuple(prompt for prompt in prompts if isinstance(prompt, ChatPrompt))
    return (
        DrawnChat(chats) if len(chats) == len(prompts) else DrawnPrompt(tuple(prompts))
    )


class AveragedOracle:
    """The mean of an oracle's values over prompts that differ in their draws.

    Args:
        make: makes the oracle of a prompt, such as
            `lambda prompt: CausalOracle(prompt, loaded, continuation="Oslo")`.
        prompts: the same text with different seeds, such as `[text_prompt(text,
            removal="resample", reference=texts, seed=i) for i in range(8)]`.

    Attributes:
        noise: standard errors (k,) of the mean's values, root mean square over the
            masks evaluated so far; None before any.

    Raises:
        InputError: fewer than two prompts, or prompts of different players.
    """

    def __init__(
        self, make: Callable[[Prompt], Oracle], prompts: Sequence[Prompt]
    ) -> None:
        if len({prompt.players for prompt in prompts}) != 1 or len(prompts) < 2:
            raise InputError(
                f"prompts has {len(prompts)} prompts, which must be two or more of the "
                "same players. Give one text with several seeds."
            )
        self._prompt = _drawn(prompts)
        self._oracle = make(self._prompt)
        self.players = prompts[0].players
        self.outputs = tuple(self._oracle.outputs)
        self._squares: list[Values] = []

    @cached_property
    def fingerprint(self) -> str:
        """Of the oracle, and of every draw's prompt."""
        prompts = [dict(prompt.description) for prompt in self._prompt.prompts]
        return fingerprint_of({"oracle": self._oracle.fingerprint, "prompts": prompts})

    @property
    def description(self) -> Mapping[str, Any]:
        """The oracle's, with the number of draws."""
        return {**self._oracle.description, "draws": len(self._prompt.prompts)}

    @property
    def noise(self) -> Values | None:
        """Standard errors (k,); see above."""
        if not self._squares:
            return None
        return np.sqrt(np.vstack(self._squares).mean(axis=0))

    def evaluate(self, masks: Masks) -> Values:
        """Means over draws, (m, k)."""
        values = self._oracle.evaluate(self._prompt.number(masks))
        return self._mean(values.reshape(len(masks), len(self._prompt.prompts), -1))

    def check_affordable(self, masks: Masks) -> None:
        """Refuse what the oracle cannot afford; one ablation is one for each draw.

        Raises:
            InputError: they cost more than the oracle may spend.
        """
        if isinstance(self._oracle, PaidOracle):
            self._oracle.check_affordable(self._prompt.number(masks))

    def evaluate_each(
        self, masks: Masks
    ) -> Generator[tuple[Sequence[int], Values], None, None]:
        """Rows and their means as the last of their draws is answered.

        See `oracles.PaidOracle`. A mask of which some draws are not answered when the
        run ends has no value, and is asked about again.
        """
        if not isinstance(self._oracle, PaidOracle):
            yield range(len(masks)), self.evaluate(masks)
            return
        draws = len(self._prompt.prompts)
        answered: list[dict[int, Values]] = [{} for _ in masks]
        answers = self._oracle.evaluate_each(self._prompt.number(masks))
        step: Callable[[], tuple[Sequence[int], Values]] = partial(next, answers)
        while True:
            try:
                places, values = step()
            except StopIteration:
                return
            step = partial(next, answers)
            for place, value in zip(places, values, strict=True):
                answered[place // draws][place % draws] = value
            touched = dict.fromkeys(place // draws for place in places)
            rows = [row for row in touched if len(answered[row]) == draws]
            if not rows:
                continue
            each = [[answered[row][draw] for draw in range(draws)] for row in rows]
            try:
                yield rows, self._mean(np.array(each))
            except KeyboardInterrupt:
                step = partial(answers.throw, KeyboardInterrupt)

    def _mean(self, each: Values) -> Values:
        """Means (m, k) of the values of each draw, (m, draws, k)."""
        self._squares.append(each.var(axis=1, ddof=1) / each.shape[1])
        return each.mean(axis=1)
