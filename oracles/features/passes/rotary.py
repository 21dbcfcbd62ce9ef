"""Rotary positions whose scale depends on the longest sequence that runs.

Of models with rope type "dynamic" or "longrope" (transformers' `modeling_rope_utils`)
every token is turned otherwise once a pass has a position beyond those the model was
first trained for; "dynamic" ones also remember the longest pass. Such a sequence may
neither be padded to, nor run beside, nor continue another.
"""

import sys
from collections.abc import Iterator
from typing import Any


def longest_together(model: Any) -> int:
    """Length up to which sequences run together without changing one another's values.

    Longer ones have to run alone, one after the other. From here on the model's rotary
    modules forget before a pass what earlier ones left in them.
    """
    limits = [sys.maxsize]
    for module in model.modules():
        for _, kind, settings in _changing(module):
            if kind == "longrope":
                limits.append(_first_trained(module.config, settings))
                continue
            limits.append(int(module.original_max_seq_len))
            if _forget not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(_forget)
    return min(limits)


def _changing(module: Any) -> Iterator[tuple[str, str, Any]]:
    """Of a rotary module: start of its buffers' names, rope type and its settings."""
    kinds = getattr(module, "rope_type", None)
    config = getattr(module, "config", None)
    settings: Any = getattr(config, "rope_parameters", None)
    if isinstance(kinds, str):
        found = [("", kinds, settings)]
    elif isinstance(kinds, dict):  # layers of several types
        found = [(f"{layer}_", kind, settings[layer]) for layer, kind in kinds.items()]
    else:
        return
    for prefix, kind, own in found:
        if kind == "longrope" or "dynamic" in kind:
            yield prefix, kind, own


def _first_trained(config: Any, settings: Any) -> int:
    """Positions before the model was stretched; older versions of transformers have
    them beside the settings of its rotary positions.
    """
    name = "original_max_position_embeddings"
    own = (settings or {}).get(name) or getattr(config, name, None)
    return int(own or config.max_position_embeddings)


def _forget(module: Any, inputs: Any) -> None:
    """As the module was made."""
    for prefix, kind, _ in _changing(module):
        name, longest = f"{prefix}inv_freq", f"{prefix}max_seq_len_cached"
        now = getattr(module, longest, module.max_seq_len_cached)
        if kind == "longrope" or now == module.original_max_seq_len:
            continue
        first = getattr(module, f"{prefix}original_inv_freq")
        old = first.to(getattr(module, name).device)
        module.register_buffer(name, old, persistent=False)
        setattr(module, longest, module.original_max_seq_len)
