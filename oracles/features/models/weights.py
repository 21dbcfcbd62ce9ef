"""Where a model's weights are kept, and what follows from it.

Of models too large for their device accelerate keeps weights in memory or on disk and
brings each in when its module runs ("offload").
"""

import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from oracles.errors import ModelError


def tensors_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of all parameters and saved buffers, sorted by name.

    Offloaded ones are read from where they are, one at a time.

    Raises:
        ModelError: a tensor has no values in any place that is known.
    """
    for name, tensor in sorted(model.state_dict().items()):
        yield name, _offloaded(model, name)() if tensor.is_meta else tensor


def check_readable(model: Any) -> None:
    """Refuse a model with weights that `tensors_of` would not find.

    Raises:
        ModelError: there is one.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            _offloaded(model, name)


def device_of(model: Any) -> Any:
    """Where the model takes its input."""
    import torch

    if model.device.type != "meta":
        return model.device
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    devices = (getattr(hook, "execution_device", None) for hook in hooks)
    return torch.device(next((d for d in devices if d is not None), "cpu"))


def run_one_at_a_time(model: Any) -> None:
    """Have threads wait for one another where the model is offloaded.

    Else one would move out the weights that another is about to use.
    """
    if not any(tensor.is_meta for tensor in model.state_dict().values()):
        return
    lock = threading.RLock()
    is_pair = model.config.is_encoder_decoder
    for module in [model, model.get_encoder()] if is_pair else [model]:
        module.forward = _one_at_a_time(module.forward, lock)


def _one_at_a_time(forward: Any, lock: Any) -> Any:
    @functools.wraps(forward)
    def run(*inputs: Any, **named: Any) -> Any:
        with lock:
            return forward(*inputs, **named)

    return run


def bytes_of(tensor: Any) -> bytes:
    """A tensor's values as they lie in memory."""
    import torch

    parts = getattr(tensor, "__tensor_flatten__", None)
    if parts is not None:  # quantised: several tensors in one
        return b"".join(bytes_of(getattr(tensor, name)) for name in parts()[0])
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _offloaded(model: Any, name: str) -> Any:
    """What reads an offloaded tensor: accelerate's hook of its module, or of one around
    it, knows where.
    """
    *path, leaf = name.split(".")
    for depth in range(len(path), -1, -1):
        module = model.get_submodule(".".join(path[:depth]))
        key = ".".join([*path[depth:], leaf])
        for weights in _maps(module):
            return lambda weights=weights, key=key: weights[key]
    raise ModelError(
        f"the weights {name} are neither in memory nor where accelerate keeps those it "
        "has moved out, so the model cannot be told from others. Load it with "
        "load_model, with another device_map."
    )


def _maps(module: Any) -> Iterator[Mapping[str, Any]]:
    hook = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):
        weights = getattr(one, "weights_map", None)
        if weights is not None:
            yield weights
