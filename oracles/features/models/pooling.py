"""From a model's token vectors to one embedding, as sentence-transformers folders say.

Such a folder lists its modules in modules.json: a transformer, a pooling of its token
vectors, perhaps dense layers, perhaps a normalisation
(sbert.net/docs/sentence_transformer/usage/custom_models.html).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracles.errors import ModelError

LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Settings of older folders -> the mode's name in newer ones."""

ACTIVATIONS = ("Identity", "Tanh", "GELU", "ReLU")
"""Of dense layers; the name is looked up in torch.nn, and no other is."""

GetFile = Callable[[str], str | None]
"""From a file's name within a model's folder or repository to where it lies."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear layer and an activation, applied to embeddings (rows, d)."""

    weight: Any
    bias: Any
    activation: str

    @property
    def identity(self) -> str:
        """Hash of the weights, and the activation."""
        tensors = [self.weight] if self.bias is None else [self.weight, self.bias]
        weights = b"".join(tensor.numpy().tobytes() for tensor in tensors)
        return f"{hashlib.sha256(weights).hexdigest()} {self.activation}"

    def __call__(self, vectors: Any) -> Any:
        """Embeddings (rows, d) -> (rows, e)."""
        from torch import nn

        weight = self.weight.to(vectors.device)
        bias = None if self.bias is None else self.bias.to(vectors.device)
        layer = nn.functional.linear(vectors, weight, bias)
        return getattr(nn, self.activation)()(layer)


@dataclass(frozen=True, eq=False)
class Pooling:
    """How token vectors become one embedding.

    Attributes:
        mode: "mean", "cls" (the first token's), "lasttoken", "max", "weightedmean"
            (by position) or "mean_sqrt_len_tokens" (sum over the root of the length).
        normalises: whether the embedding is then scaled to length one.
        max_tokens: where sentence-transformers would cut a text, or None.
        dense: layers between the two.
    """

    mode: str = "mean"
    normalises: bool = False
    max_tokens: int | None = None
    dense: tuple[Dense, ...] = ()

    @property
    def identity(self) -> str:
        """What is computed, weights included; the longest text is not of it."""
        layers = [layer.identity for layer in self.dense]
        return repr((self.mode, self.normalises, layers))

    def __call__(self, states: Any, mask: Any) -> Any:
        """Token vectors (rows, length, d) and attention mask -> (rows, e), float32.

        Padding is on the right, and every row has a token.
        """
        from torch.nn.functional import normalize

        vectors = _pool(self.mode, states.float(), mask)
        for layer in self.dense:
            vectors = layer(vectors)
        return normalize(vectors, dim=1) if self.normalises else vectors


def _pool(mode: str, states: Any, mask: Any) -> Any:
    import torch

    if mode == "cls":
        return states[:, 0]
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    if mode == "lasttoken":  # that is seen
        rows = torch.arange(len(states), device=states.device)
        return states[rows, (mask * places).argmax(dim=1)]
    here = mask[:, :, None].to(states.dtype)
    if mode == "max":
        return states.masked_fill(here == 0, -torch.inf).amax(dim=1)
    if mode == "weightedmean":
        here = here * places[:, None]
    total, size = (states * here).sum(dim=1), here.sum(dim=1)
    return total / (size.sqrt() if mode == "mean_sqrt_len_tokens" else size)


def read_pooling(name: str, get_file: GetFile) -> Pooling | None:
    """The pooling that a sentence-transformers folder describes; None if it is not one.

    Args:
        name: what the model was asked for by, for messages.
        get_file: finds the folder's files.

    Raises:
        ModelError: it has a module or a mode of pooling that spex does not run.
    """
    modules = _read(get_file, "modules.json")
    if modules is None:
        return None
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if "Pooling" not in kinds:  # cross-encoders list their modules, too
        return None
    mode, dense = "", []
    for kind, module in zip(kinds, modules, strict=True):
        if kind == "Pooling":
            config = _read(get_file, f"{module['path']}/config.json") or {}
            mode = _mode(name, config)
        elif kind == "Dense":
            dense.append(_dense(name, get_file, module["path"]))
        elif kind not in ("Transformer", "Normalize", "Dropout"):
            raise ModelError(
                f"model={name!r} has a module {kind}, which spex does not run. Name a "
                "sentence encoder made of Transformer, Pooling, Dense and Normalize."
            )
    limits = _read(get_file, "sentence_bert_config.json") or {}
    longest = limits.get("max_seq_length")
    return Pooling(mode, "Normalize" in kinds, longest, tuple(dense))


def _read(get_file: GetFile, path: str) -> Any:
    found = get_file(path)
    return None if found is None else json.loads(Path(found).read_text("utf-8"))


def _mode(name: str, config: dict[str, Any]) -> str:
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for key, mode in LEGACY_MODES.items() if config.get(key)]
    modes = [given] if isinstance(given, str) else list(given)
    if len(modes) != 1 or modes[0] not in LEGACY_MODES.values():
        raise ModelError(
            f"model={name!r} pools its tokens by {', '.join(modes) or 'nothing'}; spex "
            f"runs one of {', '.join(LEGACY_MODES.values())}."
        )
    return str(modes[0])


def _dense(name: str, get_file: GetFile, path: str) -> Dense:
    config = _read(get_file, f"{path}/config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    weights = get_file(f"{path}/model.safetensors")
    if weights is None or activation not in ACTIVATIONS or config.get("use_residual"):
        raise ModelError(
            f"model={name!r} has a dense layer in {path} that spex does not run: it "
            "needs weights in model.safetensors, no residual, and one of the "
            f"activations {', '.join(ACTIVATIONS)} (this one has {activation})."
        )
    from safetensors.torch import load_file

    tensors = load_file(weights)
    weight, bias = tensors["linear.weight"].float(), tensors.get("linear.bias")
    return Dense(weight, None if bias is None else bias.float(), activation)
