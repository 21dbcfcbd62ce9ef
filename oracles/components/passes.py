"""Forward passes whose rows have different components ablated, by hooks alone.

Hooks stand at every site, at every layer and before the head while `Passes.hooked` is
entered, and are gone when it is left, after an error too; the weights are never
touched. What a hook does depends on the pass its thread is in (`Pass`), so that batches
can run side by side; outside of a pass it does nothing.

Layers below the first one that must run are not computed: they hand on the hidden
states that another pass left at that height. Nor are the attention of that layer and,
for tokens whose logits are not read, the end of the last layer; see `shortcuts`. A pass
that is there for such states stops where they are known.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

from oracles.components.calls import PROBE
from oracles.components.components import INPUT, Site
from oracles.components.layers import Layer
from oracles.components.shortcuts import (
    Attention,
    at,
    find_attentions,
    narrowed,
    token_by_token,
    widened,
)
from oracles.features.models.loading import LoadedModel

ROUNDING = 1.2e-7  # of float32: in fewer bits a class may hide what it is read off
MOST_ROUNDINGS = 100

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
        stop: lowest layer that does not run, but for its heads; None if all run.
        hidden: what comes out of layer start - 1, (rows, tokens, width).
        known: what the heads of layer start put out, (rows, tokens, coordinates); None
            if that has to be computed.
        wanted: layers whose input is kept in `states`, and whose heads' outputs in
            `heads`.
        notes: whether the coordinates at all sites are kept in `coordinates`.
        size: rows, tokens.
        reads: positions to which the end of the last layer is narrowed, (rows, places).
    """

    places: Any = None
    kept: dict[int, Any] = field(default_factory=dict)
    others: dict[int, Any] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None
    hidden: Any = None
    known: Any = None
    wanted: frozenset[int] = frozenset()
    notes: bool = False
    states: dict[int, Any] = field(default_factory=dict)
    heads: dict[int, Any] = field(default_factory=dict)
    coordinates: dict[int, Any] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    reads: Any = None
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
        self._late: list[Any] = []
        self._attentions: dict[int, Attention] = {}
        self._find_shortcuts()

    def _find_shortcuts(self) -> None:
        """See which parts of the first and last layers may be left out."""
        import torch

        model = self._loaded.model
        ids = torch.arange(1, PROBE + 1, device=self.device)[None]
        ids = ids % model.config.get_text_config().vocab_size
        is_writer = self._loaded.task != "text-classifier"
        place = PROBE - 1 if is_writer else 0
        places = ids.new_full((1, 1), place) if is_writer else None
        with torch.inference_mode():
            whole = self._probe(ids, places)
            # directions change what enters the layer above them
            blocks = {layer.block for layer in self._layers}
            if not any(site.module in blocks for site in self._sites):
                self._attentions = find_attentions(
                    self._layers, lambda: self._probe(ids, places)
                )
            self._late = token_by_token(self._layers[-1])
            error = (self._probe(ids, places) - whole).abs().max()
        rounding = torch.finfo(model.dtype).eps if is_writer else ROUNDING
        if not error <= MOST_ROUNDINGS * rounding * whole.abs().max():
            self._late = []  # a class is read off other tokens, too

    def _probe(self, ids: Any, places: Any) -> Any:
        with self.hooked():
            return self.run(ids, Pass(places=places))

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """With hooks in the model; `run` may be called from several threads."""
        with _LOCKS.setdefault(self._loaded.model, RLock()), ExitStack() as stack:
            for module in self._late:
                for hook in self._narrowing(module):
                    stack.callback(hook.remove)
            for number, site in enumerate(self._sites):
                stack.callback(self._hook(site, number).remove)
            for layer in self._layers:
                replaced = partial(self._run_layer, layer)
                stack.enter_context(_replaced_forward(layer.block, replaced))
            for index, attention in self._attentions.items():
                layer = self._layers[index]
                replaced = partial(self._run_attention, layer, attention)
                stack.enter_context(_replaced_forward(attention.module, replaced))
                note = partial(self._note_heads, layer)
                hook = layer.projection.register_forward_pre_hook(note)
                stack.callback(hook.remove)
            head = self._loaded.model.get_output_embeddings()
            if head is not None:
                stack.callback(head.register_forward_pre_hook(self._narrow).remove)
            yield

    def run(self, ids: Any, setting: Pass) -> Any:
        """Logits (rows, places, v), in float32, of token ids (rows, tokens).

        Those of a pass that stops mean nothing.
        """
        inputs = {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape)}
        setting.size = (ids.shape[0], ids.shape[1])
        setting.reads = self._reads(ids, setting)
        self._local.setting = setting
        try:
            output = self._loaded.model(**inputs, **self._settings)
        finally:
            self._local.setting = None
        logits = output.logits
        if setting.places is None:
            return logits[:, None].float()
        if not setting.is_narrowed:
            logits = at(logits, setting.places)
        return logits.float()

    def _reads(self, ids: Any, setting: Pass) -> Any:
        """Positions to which the end of the last layer is narrowed; None if it is not.

        Those of a classifier are its first token.
        """
        if not self._late or setting.notes or self.depth in setting.wanted:
            return None
        places = setting.places
        if places is None:
            return ids.new_zeros(len(ids), 1)
        return places if 2 * places.shape[1] <= ids.shape[1] else None

    def _narrowing(self, module: Any) -> tuple[Any, Any]:
        """Hooks by which a module sees only the tokens that are read."""

        def before(module: Any, args: Any, kwargs: Any) -> Any:
            setting: Pass | None = getattr(self._local, "setting", None)
            if setting is None or setting.reads is None:
                return None
            cut = partial(narrowed, size=setting.size, reads=setting.reads)
            return tuple(map(cut, args)), {k: cut(v) for k, v in kwargs.items()}

        def after(module: Any, args: Any, output: Any) -> Any:
            setting: Pass | None = getattr(self._local, "setting", None)
            if setting is None or setting.reads is None:
                return None
            return widened(output, setting.size, setting.reads)

        return (
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        )

    def _note_heads(self, layer: Layer, module: Any, args: Any) -> None:
        setting: Pass | None = getattr(self._local, "setting", None)
        if setting is not None and layer.index in setting.wanted:
            setting.heads[layer.index] = args[0]
            if layer.index == setting.stop:
                raise _HeadsKnownError

    def _run_attention(
        self, layer: Layer, attention: Attention, compute: Any, args: Any, kwargs: Any
    ) -> Any:
        setting: Pass | None = getattr(self._local, "setting", None)
        if setting is None or setting.known is None or layer.index != setting.start:
            return compute(*args, **kwargs)
        return attention.output(layer, setting.known)

    def _run_layer(self, layer: Layer, compute: Any, args: Any, kwargs: Any) -> Any:
        setting: Pass | None = getattr(self._local, "setting", None)
        if setting is not None and layer.index < setting.start:
            return _as_output(setting.hidden, layer)
        if setting is not None and setting.stop is not None:
            if layer.index == setting.stop and layer.index in self._attentions:
                with suppress(_HeadsKnownError):
                    compute(*args, **kwargs)
            if layer.index >= setting.stop:
                return _as_output(setting.states[setting.stop], layer)
        output = compute(*args, **kwargs)
        if setting is not None and layer.index + 1 in setting.wanted:
            hidden = output[0] if isinstance(output, tuple) else output
            setting.states[layer.index + 1] = hidden
        return output

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
        if others.dim() == 3 and others.shape[1] != rows.shape[1]:
            others = at(others, setting.reads)  # they are of all tokens
        changed = site.replaced(rows, kept, others)
        return changed.reshape(states.shape)

    def _narrow(self, head: Any, args: Any) -> Any:
        """Have the head see the places only: logits are as wide as the vocabulary."""
        setting: Pass | None = getattr(self._local, "setting", None)
        if setting is None or setting.places is None:
            return None
        setting.is_narrowed = True
        count = None if setting.stop is None else 0
        return (at(args[0], setting.places[:, :count]), *args[1:])


class _HeadsKnownError(Exception):
    """Ends a layer of which only the heads' outputs are wanted."""


def _as_output(hidden: Any, layer: Layer) -> Any:
    """Hidden states as a layer returns them."""
    if not layer.num_outputs:
        return hidden
    return (hidden, *[None] * (layer.num_outputs - 1))


@contextmanager
def _replaced_forward(module: Any, replaced: Any) -> Iterator[None]:
    """With a module that can hand on what is known instead of computing it.

    A hook cannot keep a module from running, so the instance gets a `forward` of its
    own for the time being: `replaced(compute, args, kwargs)`.
    """
    before = module.__dict__.get("forward")
    compute = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return replaced(compute, args, kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
