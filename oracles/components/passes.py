"""Forward passes whose rows have different components ablated, by hooks alone.

Hooks stand at every site, at every layer and before the head while `Passes.hooked` is
entered, and are gone when it is left, after an error too; the weights are never
touched. What a hook does depends on the pass its thread is in (`Pass`), so that batches
can run side by side; outside of a pass it does nothing.

Layers below the first one that must run are not computed: they hand on the hidden
states that a clean pass left at that height.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

from oracles.components.components import INPUT, Site
from oracles.components.layers import Layer
from oracles.features.models.loading import LoadedModel

_LOCKS: WeakKeyDictionary[Any, RLock] = WeakKeyDictionary()
"""Model -> held while hooks are in it, so that two oracles of one take turns."""


@dataclass(eq=False)
class Pass:
    """What happens in one forward pass, and what is kept of it.

    Attributes:
        places: positions of each row whose logits are read, (rows, places); None for a
            classifier, which has one.
        kept: site -> what is not ablated, boolean (rows, 1, coordinates); sites that
            are missing are left alone.
        others: site -> what takes the place of ablated coordinates.
        start: lowest layer that runs; those below hand on `hidden`.
        hidden: what comes out of layer start - 1, (rows, tokens, width).
        wanted: layers whose input is kept in `states`.
        notes: whether the coordinates at all sites are kept in `coordinates`.
    """

    places: Any = None
    kept: dict[int, Any] = field(default_factory=dict)
    others: dict[int, Any] = field(default_factory=dict)
    start: int = 0
    hidden: Any = None
    wanted: frozenset[int] = frozenset()
    notes: bool = False
    states: dict[int, Any] = field(default_factory=dict)
    coordinates: dict[int, Any] = field(default_factory=dict)
    is_narrowed: bool = False


class Passes:
    """Runs a model with hooks at the sites of its components.

    Args:
        loaded: the model.
        layers: of it, all of them.
        sites: where players act.

    Attributes:
        depth: number of layers.
        device: where the model is.
        most_rows: of one pass, where the model takes no more; else None.
    """

    def __init__(
        self, loaded: LoadedModel, layers: Sequence[Layer], sites: Sequence[Site]
    ) -> None:
        self._loaded, self._layers, self._sites = loaded, layers, sites
        self._local = threading.local()
        is_writer = loaded.task == "causal-lm"
        self._settings = {"use_cache": False} if is_writer else {}
        self.depth, self.device = len(layers), loaded.model.device
        # decoders with a class head take no batches where nothing is called padding
        pad = getattr(loaded.model.config, "pad_token_id", None)
        is_single = loaded.task == "text-classifier" and pad is None
        self.most_rows = 1 if is_single else None

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """With hooks in the model; `run` may be called from several threads."""
        with _LOCKS.setdefault(self._loaded.model, RLock()), ExitStack() as stack:
            for number, site in enumerate(self._sites):
                stack.callback(self._hook(site, number).remove)
            for layer in self._layers:
                stack.enter_context(_replaced_forward(layer, self._local))
            head = self._loaded.model.get_output_embeddings()
            if head is not None:
                stack.callback(head.register_forward_pre_hook(self._narrow).remove)
            yield

    def run(self, ids: Any, setting: Pass) -> Any:
        """Logits (rows, places, v), in float32, of token ids (rows, tokens)."""
        inputs = {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape)}
        self._local.setting = setting
        try:
            output = self._loaded.model(**inputs, **self._settings)
        finally:
            self._local.setting = None
        logits = output.logits
        if setting.places is None:
            return logits[:, None].float()
        if not setting.is_narrowed:
            logits = _at(logits, setting.places)
        return logits.float()

    def _hook(self, site: Site, number: int) -> Any:
        if site.side == INPUT:
            return site.module.register_forward_pre_hook(
                partial(self._on_input, site, number)
            )
        return site.module.register_forward_hook(partial(self._on_output, site, number))

    def _on_input(self, site: Site, number: int, module: Any, args: Any) -> Any:
        changed = self._changed(site, number, args[0])
        return None if changed is None else (changed, *args[1:])

    def _on_output(
        self, site: Site, number: int, module: Any, args: Any, output: Any
    ) -> Any:
        if isinstance(output, tuple):
            changed = self._changed(site, number, output[0])
            return None if changed is None else (changed, *output[1:])
        return self._changed(site, number, output)

    def _changed(self, site: Site, number: int, states: Any) -> Any:
        """The states with what is ablated replaced; None if they stay as they are."""
        setting: Pass | None = getattr(self._local, "setting", None)
        if setting is None:
            return None
        if setting.notes:
            setting.coordinates[number] = site.coordinates(states)
        kept = setting.kept.get(number)
        if kept is None:
            return None
        # some models run their MLP on all rows' tokens in one line
        rows = states.reshape(len(kept), -1, states.shape[-1])
        kept, others = kept.to(rows.device), setting.others[number].to(rows.device)
        changed = site.replaced(rows, kept, others)
        return changed.reshape(states.shape)

    def _narrow(self, head: Any, args: Any) -> Any:
        """Have the head see the places only: logits are as wide as the vocabulary."""
        setting: Pass | None = getattr(self._local, "setting", None)
        if setting is None or setting.places is None:
            return None
        setting.is_narrowed = True
        return (_at(args[0], setting.places), *args[1:])


def _at(states: Any, places: Any) -> Any:
    """States (rows, tokens, d) at each row's places, (rows, places, d)."""
    index = places[..., None].to(states.device).expand(-1, -1, states.shape[-1])
    return states.gather(1, index)


@contextmanager
def _replaced_forward(layer: Layer, local: threading.local) -> Iterator[None]:
    """With a layer that can hand on what is known instead of computing it.

    A hook cannot keep a module from running, so the instance gets a `forward` of its
    own for the time being.
    """
    block = layer.block
    before = block.__dict__.get("forward")
    compute = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        setting: Pass | None = getattr(local, "setting", None)
        if setting is not None and layer.index < setting.start:
            if not layer.num_outputs:
                return setting.hidden
            return (setting.hidden, *[None] * (layer.num_outputs - 1))
        output = compute(*args, **kwargs)
        if setting is not None and layer.index + 1 in setting.wanted:
            hidden = output[0] if isinstance(output, tuple) else output
            setting.states[layer.index + 1] = hidden
        return output

    block.forward = forward
    try:
        yield
    finally:
        if before is None:
            del block.forward
        else:
            block.forward = before
