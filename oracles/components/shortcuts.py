"""What need not be computed in the first and in the last layer of a pass.

The first layer in which something is ablated reads what it reads in the intact model,
so its attention is the same for every row with one prompt: what its heads put out is
known, and only what comes after them has to run. In the last layer nothing after the
attention mixes tokens, so only those whose logits are read have to go through it.

What may be left out is found by running the model on a few tokens, and used only where
that run shows that it changes nothing.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from oracles.components.layers import Layer


@dataclass(frozen=True, eq=False)
class Attention:
    """The module of a layer that need not run where its heads' outputs are known.

    Attributes:
        module: the largest that does nothing else.
        num_outputs: length of the tuple it returns; 0 if it returns a tensor.
        is_projected: whether it applies the output projection, too.
    """

    module: Any
    num_outputs: int
    is_projected: bool

    def output(self, layer: Layer, heads: Any) -> Any:
        """What it returns if its heads put out these, (rows, tokens, coordinates)."""
        heads = heads.contiguous()  # one prompt's are one for all rows
        first = layer.projection(heads) if self.is_projected else heads
        if not self.num_outputs:
            return first
        return (first, *[None] * (self.num_outputs - 1))


@dataclass
class _Seen:
    """What a module was given and what it returned."""

    given: Any = None
    returned: Any = None


def find_attentions(layers: Sequence[Layer], run: Any) -> dict[int, Attention]:
    """Layer -> its attention, of the layers where it can be told apart.

    Args:
        layers: of the model.
        run: runs the model on a few tokens.
    """
    seen: dict[Any, _Seen] = {}
    with ExitStack() as stack:
        for layer in layers:
            for module in layer.block.modules():
                seen[module] = _Seen()
                stack.callback(_note(module, seen[module]).remove)
        run()
    found = {}
    for layer in layers:
        at = seen[layer.projection]
        for module in layer.block.modules():  # the outermost come first
            attention = _as_attention(module, seen[module].returned, at, layer)
            if attention is not None:
                found[layer.index] = attention
                break
    return found


def _note(module: Any, seen: _Seen) -> Any:
    def note(module: Any, args: Any, output: Any) -> None:
        seen.given, seen.returned = (args[0] if args else None), output

    return module.register_forward_hook(note)


def _as_attention(
    module: Any, returned: Any, projection: _Seen, layer: Layer
) -> Attention | None:
    parts = set(module.modules())
    if not layer.before or not parts.issuperset(layer.before):
        return None
    size = len(returned) if isinstance(returned, tuple) else 0
    first = returned[0] if size else returned
    if _is_same(first, projection.returned):
        return Attention(module, size, is_projected=True)
    if _is_same(first, projection.given):
        return Attention(module, size, is_projected=False)
    return None


def _is_same(one: Any, other: Any) -> bool:
    import torch

    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    return one.shape == other.shape and torch.equal(one, other)


def token_by_token(layer: Layer) -> list[Any]:
    """The largest modules of a layer that hold only what comes after its attention."""
    found: list[Any] = []
    covered: set[Any] = set()
    for module in layer.block.modules():
        parts = set(module.modules())
        if module in covered or parts.isdisjoint(layer.after):
            continue
        if parts.isdisjoint(layer.before):
            found.append(module)
            covered |= parts
    return found


def narrowed(given: Any, size: tuple[int, int], reads: Any) -> Any:
    """A tensor of rows' tokens at the tokens that are read; anything else as it is.

    Args:
        given: (rows, tokens, d), or in one line (rows x tokens, d).
        size: rows, tokens.
        reads: positions, (rows, places).
    """
    import torch

    if not isinstance(given, torch.Tensor) or not given.is_floating_point():
        return given
    if given.dim() == 3 and given.shape[:2] == size:
        return at(given, reads)
    if given.dim() == 2 and len(given) == size[0] * size[1]:
        return at(given.reshape(*size, -1), reads).flatten(0, 1)
    return given


def widened(returned: Any, size: tuple[int, int], reads: Any) -> Any:
    """Back from the tokens that are read; 0 at all others."""
    if isinstance(returned, tuple):
        return (widened(returned[0], size, reads), *returned[1:])
    states = returned.reshape(*reads.shape, -1)
    whole = states.new_zeros(*size, states.shape[-1])
    whole.scatter_(1, _index(states, reads), states)
    return whole if returned.dim() == 3 else whole.flatten(0, 1)


def at(states: Any, places: Any) -> Any:
    """States (rows, tokens, d) at each row's places, (rows, places, d)."""
    return states.gather(1, _index(states, places))


def _index(states: Any, places: Any) -> Any:
    return places[..., None].to(states.device).expand(-1, -1, states.shape[-1])
