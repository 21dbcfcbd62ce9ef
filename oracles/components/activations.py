"""Activations computed once: of intact prompts, and what replaces ablated ones.

All are kept on the model's device: for each prompt, tokens x width numbers for each
layer at which passes begin, and for the ablation "resample" tokens x coordinates for
each site.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

from oracles.components.passes import Pass, Passes
from oracles.components.prompts import Encoded
from oracles.features.passes.batching import tokens_in_batch


class Replacement(Protocol):
    """What takes the place of ablated coordinates."""

    def at(self, site: int, prompts: Sequence[int]) -> Any:
        """Tensor that broadcasts to (rows, tokens, coordinates) of the prompts."""


def alike(
    keys: Sequence[Hashable], costs: Sequence[int], most: int, rows: int | None
) -> list[list[int]]:
    """Numbers of items cut into batches of equal keys.

    Args:
        keys: one for each item.
        costs: of each item; equal for equal keys, at least 1.
        most: cost of a batch, of which one item may be more.
        rows: items in a batch, where that is fixed.

    >>> alike(["a", "b", "a", "a"], [2, 3, 2, 2], most=4, rows=None)
    [[0, 2], [3], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    batches = []
    for group in groups.values():
        size = rows or max(1, most // costs[group[0]])
        batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches


def run_each(
    passes: Passes,
    prompts: Sequence[Encoded],
    make: Callable[[], Pass],
) -> Iterator[tuple[list[int], Pass, Any]]:
    """Run prompts once, those of equal length together.

    Yields:
        numbers of prompts, the pass that `make` made for it, and their logits.
    """
    import torch

    lengths = [len(prompt.ids) for prompt in prompts]
    keys = [(len(p.ids), len(p.places)) for p in prompts]
    tokens = tokens_in_batch(sum(lengths), passes.device)
    with torch.inference_mode(), passes.hooked():
        for batch in alike(keys, lengths, tokens, passes.most_rows):
            ids = torch.tensor([prompts[i].ids for i in batch], device=passes.device)
            setting = make()
            if prompts[batch[0]].places:
                places = [prompts[i].places for i in batch]
                setting.places = torch.tensor(places, device=passes.device)
            yield batch, setting, passes.run(ids, setting)


class Intact:
    """What goes on in the intact prompts at the heights where passes begin.

    Args:
        passes: of the model.
        prompts: as tokens.
    """

    def __init__(self, passes: Passes, prompts: Sequence[Encoded]) -> None:
        self._passes, self._prompts = passes, prompts
        self._done: set[int] = set()
        self._states: dict[int, list[Any]] = {}
        self._heads: dict[int, list[Any]] = {}

    def prepare(self, starts: Sequence[int]) -> None:
        """Compute the input and the heads of these layers where they are not known."""
        missing = frozenset(starts) - self._done
        if not missing:
            return
        for batch, setting, _ in run_each(
            self._passes, self._prompts, lambda: Pass(wanted=missing)
        ):
            for known, fresh in (
                (self._states, setting.states),
                (self._heads, setting.heads),
            ):
                for start, states in fresh.items():
                    kept = known.setdefault(start, [None] * len(self._prompts))
                    for i, state in zip(batch, states, strict=True):
                        kept[i] = state
        self._done |= missing

    def at(self, start: int, prompts: Sequence[int]) -> Any:
        """Input of a layer for prompts of one length, (rows, tokens, width); None for
        the lowest."""
        return _stacked(self._states[start], prompts) if start else None

    def heads_at(self, start: int, prompts: Sequence[int]) -> Any:
        """What its heads put out, (rows, tokens, coordinates); None if not needed."""
        known = self._heads.get(start)
        return None if known is None else _stacked(known, prompts)


def intact_logs(passes: Passes, prompts: Sequence[Encoded]) -> list[Any]:
    """Each intact prompt's log-probabilities, (places, v)."""
    known: list[Any] = [None] * len(prompts)
    for batch, _, logits in run_each(passes, prompts, Pass):
        for i, logs in zip(batch, logits.log_softmax(dim=-1), strict=True):
            known[i] = logs
    return known


class Zeros:
    """The ablation "zero"."""

    def at(self, site: int, prompts: Sequence[int]) -> Any:
        """0 everywhere."""
        import torch

        return torch.zeros(())


class Means:
    """The ablation "mean": of each coordinate over all tokens of reference prompts.

    Args:
        passes: of the model.
        prompts: the reference, as tokens.
    """

    def __init__(self, passes: Passes, prompts: Sequence[Encoded]) -> None:
        sums: dict[int, Any] = {}
        for _, setting, _ in run_each(passes, prompts, lambda: Pass(notes=True)):
            for site, values in setting.coordinates.items():
                flat = values.reshape(-1, values.shape[-1]).double().sum(dim=0)
                sums[site] = sums[site] + flat if site in sums else flat
        count = sum(len(prompt.ids) for prompt in prompts)
        self._means = {site: (total / count).float() for site, total in sums.items()}

    def at(self, site: int, prompts: Sequence[int]) -> Any:
        """The mean, (coordinates,)."""
        return self._means[site]


class Resampled:
    """The ablation "resample": the coordinates at the same token of another prompt.

    Args:
        passes: of the model.
        prompts: the corrupted ones, as tokens, one for each prompt.
    """

    def __init__(self, passes: Passes, prompts: Sequence[Encoded]) -> None:
        self._values: dict[int, list[Any]] = {}
        for batch, setting, _ in run_each(passes, prompts, lambda: Pass(notes=True)):
            for site, values in setting.coordinates.items():
                rows = values.reshape(len(batch), -1, values.shape[-1])
                known = self._values.setdefault(site, [None] * len(prompts))
                for i, row in zip(batch, rows, strict=True):
                    known[i] = row

    def at(self, site: int, prompts: Sequence[int]) -> Any:
        """The corrupted prompts' coordinates, (rows, tokens, coordinates)."""
        return _stacked(self._values[site], prompts)


def _stacked(known: Sequence[Any], prompts: Sequence[int]) -> Any:
    """One tensor a row, each prompt's stacked once."""
    import torch

    distinct = list(dict.fromkeys(prompts))
    stack = torch.stack([known[i] for i in distinct])
    if len(distinct) == 1:
        return stack.expand(len(prompts), *stack.shape[1:])
    place = {prompt: i for i, prompt in enumerate(distinct)}
    index = [place[prompt] for prompt in prompts]
    return stack[torch.tensor(index, device=stack.device)]
