"""One forward pass of a causal model over rows that continue what is in a cache."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.errors import InputError
from oracles.features.answers.targets import among
from oracles.features.models.weights import device_of

LOGITS = 2**25  # made in one forward pass, unless one row alone has more
PIECE = 2**23  # logits turned into log-probabilities at a time

Cached = Any
"""Keys and values of some tokens: a tensor (2 layers, heads, tokens, width)."""


@dataclass(frozen=True)
class Scored:
    """A token sequence, and which predictions in it are asked for.

    Attributes:
        ids: tokens the model reads.
        first: number of the first token whose prediction counts: the probability it
            gives `ids[first + 1]`, and so on up to the last.
        lasts: different tokens whose probability is asked for after the last of `ids`.
        positions: of the tokens, where they are not 0, 1, 2, ...
    """

    ids: tuple[int, ...]
    first: int
    lasts: tuple[int, ...]
    positions: tuple[int, ...] | None = None

    @property
    def length(self) -> int:
        """One more than the last token's position."""
        return len(self.ids) if self.positions is None else self.positions[-1] + 1

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """Token and position in one number, so that equal numbers are computed once."""
        places = np.array(self.positions or range(len(self.ids)), dtype=np.int64)
        return np.array(self.ids, dtype=np.int64) | places << 32


@dataclass(frozen=True, eq=False)
class Row:
    """A sequence whose first tokens may be cached already.

    Attributes:
        scored: the sequence.
        shared: so many first tokens are not computed again.
        cached: keys and values that start with these; None if there are none.
        lent: of so many first tokens keys and values are to be returned.
    """

    scored: Scored
    shared: int = 0
    cached: Cached = None
    lent: int = 0

    @property
    def new(self) -> int:
        """How many tokens have to be computed."""
        return len(self.scored.ids) - self.shared

    @property
    def first(self) -> int:
        """The first scored token's number among the new ones."""
        return self.scored.first - self.shared


def run_pass(
    model: Any, rows: Sequence[Row]
) -> list[tuple[NDArray[np.float64], Cached]]:
    """Log-probabilities of every row's tokens and lasts, and what it lends.

    Padding on the right needs no attention mask, as no token sees what comes after it,
    and attention is faster without one. Padding on the left lets few logits cover all
    predictions asked for, and is for models that take positions. What is cached before
    the new tokens is padded on the right.
    """
    import torch

    longest = max(row.new for row in rows)
    past = max(row.shared for row in rows)
    is_plain = not past and all(row.scored.positions is None for row in rows)
    kept = longest - min(row.first for row in rows)
    vocabulary = model.config.get_text_config().vocab_size
    is_right = is_plain and len(rows) * kept * vocabulary <= LOGITS
    is_left = takes(model, "position_ids") and not is_right
    gaps = [longest - row.new if is_left else 0 for row in rows]
    kept = longest - min(g + row.first for g, row in zip(gaps, rows, strict=True))
    is_lending = any(row.lent for row in rows)
    inputs = _inputs(rows, gaps, longest, past)
    if not is_left:
        del inputs["position_ids"]
        inputs["attention_mask"][:] = 1
    arguments: dict[str, Any] = {
        name: torch.as_tensor(array, device=device_of(model))
        for name, array in inputs.items()
    }
    if past:
        arguments["past_key_values"] = _joined(rows, past)
    if takes(model, "logits_to_keep"):  # else it computes them all
        arguments["logits_to_keep"] = kept
    output = model(**arguments, use_cache=bool(past) or is_lending)
    starts = [gap - longest for gap in gaps]  # counted from the end
    found = _log_probabilities(output.logits, rows, starts)
    stack: Any = _stacked(output.past_key_values) if is_lending else None
    return [
        (found[i], _cut_out(stack[:, i], row, past + gaps[i]) if row.lent else None)
        for i, row in enumerate(rows)
    ]


def _inputs(
    rows: Sequence[Row], gaps: Sequence[int], longest: int, past: int
) -> dict[str, NDArray[np.int64]]:
    """Tokens, their positions, and the attention mask, cached tokens first."""
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    places = np.zeros_like(ids)
    mask = np.zeros((len(rows), past + longest), dtype=np.int64)
    for i, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
        new = slice(gap, gap + row.new)
        ids[i, new] = row.scored.ids[row.shared :]
        places[i, new] = row.scored.keys[row.shared :] >> 32
        mask[i, : row.shared] = 1
        mask[i, past + gap : past + gap + row.new] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": places}


def last_logits(model: Any, ids: Sequence[int]) -> Any:
    """Logits (vocabulary,) of what follows these tokens."""
    import torch

    batch = torch.tensor([list(ids)], device=device_of(model))
    arguments: dict[str, Any] = {"input_ids": batch}
    arguments["attention_mask"] = torch.ones_like(batch)
    if takes(model, "logits_to_keep"):
        arguments["logits_to_keep"] = 1
    return model(**arguments, use_cache=False).logits[0, -1]


def check_positions(model: Any, ids: Sequence[int]) -> None:
    """Refuse a model that cannot be told where its tokens stand.

    Some tokens are hidden by the attention mask, and then left out with the positions
    of the others as they were: both have to give the same.

    Raises:
        InputError: they do not.
    """
    import torch

    some = [ids[i % len(ids)] for i in range(6)]
    left = (0, 3, 5)
    agree = takes(model, "position_ids")
    if agree:
        hidden = torch.zeros((1, 6), dtype=torch.int64, device=device_of(model))
        hidden[0, list(left)] = 1
        with torch.inference_mode():
            expected = model(
                input_ids=torch.tensor([some], device=device_of(model)),
                attention_mask=hidden,
                position_ids=torch.arange(6, device=device_of(model))[None],
                use_cache=False,
            ).logits[0, -1]
            kept = Scored(tuple(some[i] for i in left), 2, (0, 1), left)
            [(found, _)] = run_pass(model, [Row(kept)])
        expected = expected.float().log_softmax(-1)[:2].cpu().numpy()
        near = torch.finfo(model.dtype).eps ** 0.5
        agree = np.allclose(found, expected, rtol=near, atol=near)
    if not agree:
        raise InputError(
            'removal="attention" needs a model that is told where its tokens stand, '
            f"and {type(model).__name__} counts them itself. Use another removal, such "
            'as "delete".'
        )


def takes(model: Any, argument: str) -> bool:
    """Whether the model's forward pass names this argument."""
    return argument in inspect.signature(model.forward).parameters


def has_plain_cache(output: Any) -> bool:
    """Whether a pass left keys and values of every token, alike in all layers."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = output.past_key_values
    if type(cache) is not DynamicCache:
        return False
    layers: list[Any] = cache.layers
    sides = [side for one in layers for side in (one.keys, one.values)]
    is_alike = len({(side.shape, side.device) for side in sides}) == 1
    return is_alike and all(type(one) is DynamicLayer for one in layers)


def _joined(rows: Sequence[Row], past: int) -> Any:
    """The rows' caches as the model wants them, padded on the right."""
    from transformers.cache_utils import DynamicCache

    example = next(row.cached for row in rows if row.shared)
    sides, heads, _, width = example.shape
    joined = example.new_zeros((sides, len(rows), heads, past, width))
    for i, row in enumerate(rows):
        if row.shared:
            joined[:, i, :, : row.shared] = row.cached[:, :, : row.shared]
    cache = DynamicCache()
    for layer in range(sides // 2):
        cache.update(joined[2 * layer], joined[2 * layer + 1], layer)
    return cache


def _stacked(cache: Any) -> Any:
    """All layers' keys and values, (2 layers, rows, heads, tokens, width)."""
    import torch

    return torch.stack(
        [side for layer in cache.layers for side in (layer.keys, layer.values)]
    )


def _cut_out(stack: Any, row: Row, start: int) -> Cached:
    """What a row lends, of its part (2 layers, heads, tokens, width) of the stack."""
    import torch

    old = stack[:, :, : min(row.shared, row.lent)]
    new = stack[:, :, start : start + max(0, row.lent - row.shared)]
    return torch.cat([old, new], dim=2)


def _log_probabilities(
    logits: Any, rows: Sequence[Row], starts: Sequence[int]
) -> list[NDArray[np.float64]]:
    """What the rows ask for, of logits (rows, some last positions, vocabulary).

    `starts` says where a row's first new token is, counted from the end.
    """
    import torch

    sources: list[tuple[int, int]] = []  # of every prediction, and the tokens' ids
    asked: list[tuple[int, ...]] = []
    for i, row in enumerate(rows):
        for place in range(row.first, row.new):
            sources.append((i, starts[i] + place))
            after = row.shared + place + 1
            asked.append(row.scored.ids[after : after + 1] or row.scored.lasts)
    values = []
    step = max(1, PIECE // logits.shape[-1])
    for start in range(0, len(sources), step):
        where = torch.tensor(sources[start : start + step], device=logits.device)
        some = logits[where[:, 0], where[:, 1]].float()
        values.append(token_logs(some, asked[start : start + step]))
    counts = [row.new - row.first - 1 + len(row.scored.lasts) for row in rows]
    return np.split(np.concatenate(values), np.cumsum(counts)[:-1])


def token_logs(logits: Any, asked: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    """Log-probabilities of each row's tokens, all in one line; overwrites the logits.

    They are made of each token's log-odds against all others: that of a likely token
    is a float32 rounding error away from 0, and what the others have is not.
    """
    import torch

    width = max(map(len, asked))
    is_asked = np.array([[i < len(ts) for i in range(width)] for ts in asked])
    padded = [[*ts, *ts[:1] * (width - len(ts))] for ts in asked]
    wanted = torch.tensor(padded, device=logits.device)
    own = logits.gather(1, wanted)
    rest = logits.scatter_(1, wanted, -torch.inf).logsumexp(dim=1, keepdim=True)
    own = own.double().cpu().numpy()
    own[~is_asked] = -np.inf
    table = np.hstack([own, rest.double().cpu().numpy()])
    odds = among(table, "log-odds", range(width))[is_asked]
    return np.asarray(-np.logaddexp(0, -odds))
