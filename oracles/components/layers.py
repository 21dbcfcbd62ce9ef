"""Where a transformer's layers keep their heads and neurons, found by running it once.

No names of models or modules are looked for. A layer is a member of the list that is as
long as the configuration says the model is deep. In a layer, the linear maps are
followed in the order in which they are called: the first reads the layer's input
(queries); the first that reads something else, as wide as all heads together, is the
attention's output projection, whose input is the heads' outputs side by side; and the
last is the down projection of the MLP, whose input is its neurons.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from oracles.errors import ModelError

PROBE = 4  # tokens the model is run on to see which modules are called
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names under which configurations say that an MLP is a mixture of experts."""


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

    @property
    def found(self) -> str:
        """What was found, as a line to read."""
        heads = f"L{self.index}: {self.num_heads} heads into {self.projection_path}"
        if self.down is None:
            mlp = "a mixture of experts" if self.is_mixture else "no MLP"
            return f"{heads}, {mlp}"
        return f"{heads}, MLP of {self.num_neurons} neurons into {self.down_path}"


@dataclass
class _Call:
    """A linear map as it was called."""

    path: str
    module: Any
    wide: int
    out: int
    given: Any  # kept, so that no other tensor can take its place in memory


def find_layers(model: Any) -> list[Layer]:
    """The layers of a decoder or encoder, from the lowest to the highest.

    The model is run once, on four tokens.

    Raises:
        ModelError: layers or the output projections of their attention cannot be told
            apart; the message lists the modules that were looked at.
    """
    import torch

    config = model.config.get_text_config()
    depth, heads = _size(config, "num_hidden_layers"), _size(config, "num_heads")
    path, blocks = _find_blocks(model, depth)
    calls: list[list[_Call]] = [[] for _ in blocks]
    outputs: dict[int, Any] = {}
    with ExitStack() as stack:
        for i, block in enumerate(blocks):
            for hook in _watch(block, f"{path}.{i}", calls[i]):
                stack.callback(hook.remove)
            stack.callback(block.register_forward_hook(_keep(outputs, i)).remove)
        ids = torch.arange(1, PROBE + 1, device=model.device)[None]
        with torch.inference_mode():
            model(
                input_ids=ids % config.vocab_size, attention_mask=ids.new_ones(1, PROBE)
            )
    found = []
    for i, block in enumerate(blocks):
        if i not in outputs:
            raise ModelError(
                f"{path}.{i} is not called when the model runs, so its components "
                "cannot be ablated. Use a model whose layers run one after another."
            )
        result = outputs[i]
        size = len(result) if isinstance(result, tuple) else 0
        found.append(_layer(i, f"{path}.{i}", block, size, calls[i], heads, config))
    return found


def _size(config: Any, name: str) -> int:
    """A number that the configuration must say."""
    name = "num_attention_heads" if name == "num_heads" else name
    value = getattr(config, name, None)
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


def _watch(block: Any, path: str, calls: list[_Call]) -> Iterator[Any]:
    """Hooks that note every call of an outermost linear map in a layer."""
    inside: list[str] = []
    for name, module in block.named_modules():
        shape = _linear_shape(module)
        if shape is None or any(name.startswith(f"{outer}.") for outer in inside):
            continue
        inside.append(name)
        full = f"{path}.{name}"

        def note(module: Any, args: Any, full: str = full, shape: Any = shape) -> None:
            wide, out = shape
            if args and args[0].shape.numel() == PROBE * wide:
                calls.append(_Call(full, module, wide, out, args[0]))

        yield module.register_forward_pre_hook(note)


def _linear_shape(module: Any) -> tuple[int, int] | None:
    """Width and output width of a linear map (quantised and adapted ones included)."""
    wide = getattr(module, "in_features", None)
    out = getattr(module, "out_features", None)
    if type(module).__name__ == "Conv1D":  # GPT-2's, with its weight transposed
        wide, out = module.weight.shape
    return (wide, out) if isinstance(wide, int) and isinstance(out, int) else None


def _keep(outputs: dict[int, Any], index: int) -> Any:
    def keep(module: Any, args: Any, output: Any) -> None:
        outputs[index] = output

    return keep


def _layer(
    index: int,
    path: str,
    block: Any,
    num_outputs: int,
    calls: list[_Call],
    heads: int,
    config: Any,
) -> Layer:
    width = config.hidden_size
    wide = heads * (_head_width(config) or width // heads)
    first = calls[0].given if calls else None
    projection = next(
        (
            i
            for i, c in enumerate(calls)
            if (c.wide, c.out) == (wide, width) and c.given is not first
        ),
        None,
    )
    if projection is None:
        looked = ", ".join(f"{c.path} ({c.wide} to {c.out})" for c in calls)
        raise ModelError(
            f"the heads of {path} cannot be located: none of the linear maps that it "
            f"calls takes {heads} heads side by side ({wide} numbers) to the width "
            f"{width} after the queries; looked at {looked or 'none'}. Attention that "
            'is one fused module can be loaded with attn_implementation="eager".'
        )
    found = calls[projection]
    later = [c for c in calls[projection + 1 :] if c.out == width]
    is_mixture = any(getattr(config, name, 0) for name in EXPERTS)
    down = later[-1] if later and not is_mixture else None
    return Layer(
        index=index,
        path=path,
        block=block,
        num_outputs=num_outputs,
        projection=found.module,
        projection_path=found.path,
        num_heads=heads,
        down=down.module if down else None,
        down_path=down.path if down else "",
        num_neurons=down.wide if down else 0,
        head_width=wide // heads,
        width=width,
        is_mixture=is_mixture,
        before=tuple(c.module for c in calls[:projection]),
        after=tuple(c.module for c in calls[projection:]),
    )


def _head_width(config: Any) -> int | None:
    """Width of a head's output, where the configuration says it."""
    for name in ("v_head_dim", "head_dim"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None
