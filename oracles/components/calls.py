"""What goes on in a model's layers when it runs: linear maps, and what they read.

The model is run twice on four tokens. In the second run every layer reads what it read
in the first with the sign of all tokens but the last turned around, so what a map reads
at the last token differs only if other tokens flow into it within the layer, as they do
through the heads of attention.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

PROBE = 4  # tokens the model is run on to see which modules are called
DIFFERENT = 1e-3  # of the largest number; attention changes far more, rounding less


@dataclass(frozen=True, eq=False)
class Call:
    """A linear map as it was called.

    Attributes:
        path: its name.
        module: the map.
        wide, out: width of what it reads and of what it makes.
        is_mixed: whether what it reads at a token depends, within the layer, on others.
    """

    path: str
    module: Any
    wide: int
    out: int
    is_mixed: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of a layer.

    Attributes:
        calls: of outermost linear maps, in order.
        num_outputs: length of the tuple the layer returns; 0 if it returns a tensor.
        is_called: whether it is called at all.
        is_stream: whether it reads and returns hidden states (rows, tokens, width).
        is_finite: whether there is neither NaN nor infinity in them.
        steps: module, first input and first output of every call, in order of return.
    """

    calls: tuple[Call, ...]
    num_outputs: int
    is_called: bool
    is_stream: bool
    is_finite: bool
    steps: tuple[tuple[Any, Any, Any], ...]

    def written(self, module: Any) -> Any:
        """The module whose output takes a linear map's way to the residual stream.

        It is the map itself, or the last of those, such as norms, that its output goes
        through before anything else is added to it.
        """
        [output] = [after for one, _, after in self.steps if one is module][:1]
        found = module
        for one, before, after in self.steps:
            if before is output and after is not before:
                found = found if _is_equal(before, after) else one
                output = after
        return found


@dataclass(eq=False)
class _Run:
    """What is noted of a layer in one run."""

    given: Any = None
    output: Any = None
    is_called: bool = False
    calls: list[tuple[str, Any, int, int, Any]] = field(default_factory=list)
    steps: list[tuple[Any, Any, Any]] = field(default_factory=list)


def watch_layers(model: Any, path: str, blocks: Sequence[Any]) -> list[Seen]:
    """What goes on in each layer.

    Args:
        model: a decoder or encoder.
        path: name of the list of its layers.
        blocks: the layers.
    """
    import torch

    with torch.inference_mode():
        first = _run(model, path, blocks, lambda i, states: states)
        turned = [_turned(one.given) for one in first]
        second = _run(model, path, blocks, lambda i, states: turned[i])
    return [_seen(*runs, model) for runs in zip(first, second, strict=True)]


def _run(
    model: Any, path: str, blocks: Sequence[Any], change: Callable[[int, Any], Any]
) -> list[_Run]:
    """Run the model with the hidden states that enter each layer changed."""
    import torch

    config = model.config.get_text_config()
    runs = [_Run() for _ in blocks]
    ids = torch.arange(1, PROBE + 1, device=model.device)[None]
    inputs = {"input_ids": ids % config.vocab_size, "attention_mask": ids * 0 + 1}
    if "use_cache" in signature(model.forward).parameters:
        inputs["use_cache"] = False  # some caches need a layer with attention
    with ExitStack() as stack:
        for i, (block, run) in enumerate(zip(blocks, runs, strict=True)):
            for hook in _watch(block, f"{path}.{i}", run):
                stack.callback(hook.remove)
            enter = _entering(i, run, change, config.hidden_size)
            hook = block.register_forward_pre_hook(enter, with_kwargs=True)
            stack.callback(hook.remove)
        model(**inputs)
    return runs


def _entering(
    index: int, run: _Run, change: Callable[[int, Any], Any], width: int
) -> Any:
    """Hook that notes and changes the hidden states that a layer reads."""

    def enter(module: Any, args: Any, kwargs: Any) -> Any:
        run.is_called = True
        named = [*enumerate(args), *kwargs.items()]
        found = [name for name, value in named if _is_stream(value, width)]
        if not found or run.given is not None:
            return None
        name = found[0]
        run.given = args[name] if isinstance(name, int) else kwargs[name]
        changed = change(index, run.given)
        if isinstance(name, int):
            return (*args[:name], changed, *args[name + 1 :]), kwargs
        return args, {**kwargs, name: changed}

    return enter


def _is_stream(value: Any, width: int) -> bool:
    return getattr(value, "shape", None) == (1, PROBE, width)


def _turned(states: Any) -> Any:
    """With the sign of all tokens but the last turned around; None stays None."""
    import torch

    if states is None:
        return None
    return torch.cat([-states[:, :-1], states[:, -1:]], dim=1)


def _watch(block: Any, path: str, run: _Run) -> Iterator[Any]:
    """Hooks that note calls in a layer, of all modules and of outermost linear maps."""
    inside: list[str] = []
    for name, module in block.named_modules():
        yield module.register_forward_hook(_noting(run, is_whole=not name))
        shape = linear_shape(module)
        if shape is None or any(name.startswith(f"{outer}.") for outer in inside):
            continue
        inside.append(name)
        full = f"{path}.{name}"

        def note(module: Any, args: Any, full: str = full, shape: Any = shape) -> None:
            if args and args[0].shape.numel() == PROBE * shape[0]:
                run.calls.append((full, module, *shape, args[0]))

        yield module.register_forward_pre_hook(note)


def _noting(run: _Run, *, is_whole: bool) -> Any:
    def note(module: Any, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        run.steps.append((module, args[0] if args else None, first))
        if is_whole:
            run.output = output

    return note


def linear_shape(module: Any) -> tuple[int, int] | None:
    """Width and output width of a linear map (quantised and adapted ones included)."""
    wide = getattr(module, "in_features", None)
    out = getattr(module, "out_features", None)
    if type(module).__name__ == "Conv1D":  # GPT-2's, with its weight transposed
        wide, out = module.weight.shape
    return (wide, out) if isinstance(wide, int) and isinstance(out, int) else None


def _seen(first: _Run, second: _Run, model: Any) -> Seen:
    width = model.config.get_text_config().hidden_size
    again = dict(_numbered(second))
    calls = []
    for key, (path, module, wide, out, given) in _numbered(first):
        is_mixed = key not in again or _differs(given, again[key][-1])
        calls.append(Call(path, module, wide, out, is_mixed))
    output = first.output
    size = len(output) if isinstance(output, tuple) else 0
    hidden = output[0] if size else output
    is_stream = first.given is not None and _is_stream(hidden, width)
    return Seen(
        calls=tuple(calls),
        num_outputs=size,
        is_called=first.is_called,
        is_stream=is_stream,
        is_finite=is_stream and bool((first.given + hidden).isfinite().all()),
        steps=tuple(first.steps),
    )


def _numbered(run: _Run) -> Iterator[tuple[tuple[str, int], Any]]:
    """Calls with the name of the map and how often it was called before."""
    before: Counter[str] = Counter()
    for call in run.calls:
        yield (call[0], before[call[0]]), call
        before[call[0]] += 1


def _differs(one: Any, other: Any) -> bool:
    """Whether two inputs of a map differ at the last token."""
    one, other = (given.reshape(PROBE, -1)[-1].float() for given in (one, other))
    return not (one - other).abs().max() <= DIFFERENT * one.abs().max()


def _is_equal(one: Any, other: Any) -> bool:
    import torch

    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    return one.shape == other.shape and torch.equal(one, other)
