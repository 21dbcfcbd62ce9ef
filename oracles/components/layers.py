"""Where a transformer's layers keep their heads and neurons, found by running it.

No names of models or modules are looked for. A layer is a member of the list that is as
long as the configuration says the model is deep. In a layer, the attention's output
projection is the one linear map that reads other tokens beside maps, in the same
submodule, that do not: queries, keys and values. Its input is the heads' outputs side
by side. Of the maps that are called after it, those from the width to more numbers and
back are the MLP, and the input of the one that leads back is its neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oracles.components.calls import PROBE, Call, Seen, watch_layers
from oracles.errors import ModelError

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names under which configurations say how many experts a mixture has."""
ATTENTION = ("attention", "sparse", "dense")
"""Parts of the names of layer types that have softmax attention."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer and the linear maps through which it writes to the residual stream.

    Attributes:
        index: from 0, the lowest.
        path: name of its module in the model.
        block: the module.
        num_outputs: length of the tuple it returns; 0 if it returns the hidden states.
        projection: of the attention, from all heads (heads x head_dim) to the width.
        projection_path: its name.
        num_heads: heads of queries; those of keys and values may be fewer.
        down: of the MLP, from its neurons to the width; None if there is none.
        down_path: its name; "" if there is none.
        num_neurons: width of the MLP; 0 if there is none.
        head_width: numbers that make up one head's output.
        width: of the residual stream.
        is_mixture: whether the MLP is a mixture of experts, which has no single down
            projection.
        before, after: linear maps called before the projection (queries, keys, values),
            and from it on.
        attention_writer, mlp_writer: modules whose output is added to the residual
            stream: the projection and `down`, or a norm after them; None if there is
            no MLP.
    """

    index: int
    path: str
    block: Any
    num_outputs: int
    projection: Any
    projection_path: str
    num_heads: int
    down: Any
    down_path: str
    num_neurons: int
    head_width: int
    width: int
    is_mixture: bool
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    attention_writer: Any
    mlp_writer: Any

    @property
    def found(self) -> str:
        """What was found, as a line to read."""
        heads = f"L{self.index}: {self.num_heads} heads into {self.projection_path}"
        if self.down is None:
            mlp = "a mixture of experts" if self.is_mixture else "no MLP"
            return f"{heads}, {mlp}"
        return f"{heads}, MLP of {self.num_neurons} neurons into {self.down_path}"


def find_layers(model: Any) -> list[Layer]:
    """The layers of a decoder or encoder, from the lowest to the highest.

    The model is run twice, on four tokens.

    Raises:
        ModelError: layers or the output projections of their attention cannot be told
            apart, or some layers have no attention; the message lists the modules that
            were looked at.
    """
    config = model.config.get_text_config()
    depth = _size(config, "num_hidden_layers")
    heads = _size(config, "num_attention_heads")
    head_width = _head_width(config) or config.hidden_size // heads
    path, blocks = _find_blocks(model, depth)
    _check_types(config, path, blocks)
    found = []
    for i, seen in enumerate(watch_layers(model, path, blocks)):
        name = f"{path}.{i}"
        _check_seen(seen, name)
        found.append(_layer(i, name, blocks[i], seen, (heads, head_width), config))
    return found


def _size(config: Any, name: str) -> int:
    """A number that the configuration must say."""
    value = _said(config, name)
    if not isinstance(value, int) or value < 1:
        raise ModelError(
            f"the model's configuration says {name}={value!r}, and components are "
            "found by that number. Use a transformer that has the same everywhere."
        )
    return value


def _find_blocks(model: Any, depth: int) -> tuple[str, list[Any]]:
    """Name and members of the list of layers."""
    import torch

    lists = {
        name: list(module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
    }
    for name, blocks in lists.items():
        if len(blocks) == depth and len({id(block) for block in blocks}) == depth:
            return name, blocks
    looked = ", ".join(f"{name} ({len(blocks)})" for name, blocks in lists.items())
    raise ModelError(
        f"the model has {depth} layers by its configuration, and no list of as many "
        f"modules; looked at {looked or 'no list of modules'}. Layers that share their "
        "weights, as ALBERT's do, cannot be ablated one by one."
    )


def _check_types(config: Any, path: str, blocks: Sequence[Any]) -> None:
    """Refuse models of which some layers are convolutions or recurrences."""
    types = getattr(config, "layer_types", None)
    types = types or getattr(config, "layers_block_type", None) or ()
    for i, kind in enumerate(types[: len(blocks)]):
        if "linear" in kind or not any(part in kind for part in ATTENTION):
            parts = ", ".join(name for name, _ in blocks[i].named_children())
            raise ModelError(
                f"{path}.{i} is of type {kind!r} by the configuration, which has no "
                f"heads of softmax attention to ablate; looked at {parts}. Use a "
                "model all of whose layers have attention."
            )


def _check_seen(seen: Seen, path: str) -> None:
    if not seen.is_called:
        raise ModelError(
            f"{path} is not called when the model runs, so its components cannot be "
            "ablated. Use a model whose layers run one after another."
        )
    if not seen.is_stream:
        raise ModelError(
            f"{path} does not read and return hidden states of shape (rows, tokens, "
            f"width), so its components cannot be ablated; looked at {_listed(seen)}. "
            "Use a model with one residual stream."
        )
    if not seen.is_finite:
        raise ModelError(
            f"hidden states at {path} are not finite on {PROBE} tokens. Load the model "
            "in float32, or look for broken weights."
        )


def _layer(
    index: int,
    path: str,
    block: Any,
    seen: Seen,
    shape: tuple[int, int],
    config: Any,
) -> Layer:
    (heads, head_width), width = shape, config.hidden_size
    at = _projection(seen, path, heads, head_width, width)
    found, calls = seen.calls[at], seen.calls
    is_mixture = _is_mixture(block, config)
    down = None if is_mixture else _down(calls[at + 1 :], width)
    return Layer(
        index=index,
        path=path,
        block=block,
        num_outputs=seen.num_outputs,
        projection=found.module,
        projection_path=found.path,
        num_heads=heads,
        down=down.module if down else None,
        down_path=down.path if down else "",
        num_neurons=down.wide if down else 0,
        head_width=head_width,
        width=width,
        is_mixture=is_mixture,
        before=tuple(c.module for c in calls[:at]),
        after=tuple(c.module for c in calls[at:]),
        attention_writer=seen.written(found.module),
        mlp_writer=seen.written(down.module) if down else None,
    )


def _projection(seen: Seen, path: str, heads: int, head_width: int, width: int) -> int:
    """Which call is of the attention's output projection."""
    calls = seen.calls
    fits = [i for i in range(len(calls)) if _reads_heads(calls, i, path)]
    wide = heads * head_width
    if len(fits) == 1 and (calls[fits[0]].wide, calls[fits[0]].out) == (wide, width):
        return fits[0]
    mixed = ", ".join(calls[i].path for i in fits)
    raise ModelError(
        f"the heads of {path} cannot be located: one linear map must take {heads} "
        f"heads side by side ({wide} numbers) to the width {width} and read other "
        "tokens, beside queries, keys and values that do not; "
        f"{f'such are {mixed}' if fits else 'none does'}; looked at {_listed(seen)}. "
        "Attention that is one fused module can be loaded with "
        'attn_implementation="eager".'
    )


def _reads_heads(calls: Sequence[Call], at: int, path: str) -> bool:
    """Whether a map reads other tokens, and those before it in its submodule do not.

    The submodule is the smallest that holds one called before, and not the whole layer.
    """
    call = calls[at]
    if not call.is_mixed:
        return False
    parts = call.path.split(".")
    for size in range(len(parts) - 1, path.count(".") + 1, -1):
        start = ".".join(parts[:size]) + "."
        beside = [c for c in calls[:at] if c.path.startswith(start)]
        if beside:
            return not any(c.is_mixed for c in beside)
    return False


def _down(calls: Sequence[Call], width: int) -> Call | None:
    """Of pairs of maps that lead from the width and back, the widest's second."""
    found: Call | None = None
    for i, down in enumerate(calls):
        ups = {c.out for c in calls[:i] if c.wide == width}
        # one map may make both the neurons and their gates
        is_pair = down.out == width and ups & {down.wide, 2 * down.wide}
        if is_pair and (found is None or down.wide >= found.wide):
            found = down
    return found


def _is_mixture(block: Any, config: Any) -> bool:
    """Whether a layer has a module for each expert, or a tensor of all of them."""
    import torch

    known = {getattr(config, name, None) for name in EXPERTS} - {None, 0}
    lists = (m for m in block.modules() if isinstance(m, torch.nn.ModuleList))
    tensors = [*block.parameters(), *block.buffers()]
    return any(len(one) in known for one in lists) or any(
        one.dim() >= 3 and one.shape[0] in known for one in tensors
    )


def _listed(seen: Seen) -> str:
    """The linear maps that were looked at."""
    return ", ".join(f"{c.path} ({c.wide} to {c.out})" for c in seen.calls) or "none"


def _head_width(config: Any) -> int | None:
    """Width of a head's output, where the configuration says it."""
    for name in ("v_head_dim", "head_dim"):
        value = _said(config, name)
        if isinstance(value, int):
            return value
    return None


def _said(config: Any, name: str) -> Any:
    """What the configuration says of all layers; None if it does not."""
    try:
        return getattr(config, name, None)
    except RuntimeError as error:  # as Gemma 4's does, whose heads differ
        raise ModelError(
            f"the model's configuration has no one {name}: {error} Use a transformer "
            "that has the same everywhere."
        ) from error
