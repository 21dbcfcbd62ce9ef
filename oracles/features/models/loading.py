"""Loading models by Hugging Face name, local folder or embedded name."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from oracles.embedded import EMBEDDED_MODELS
from oracles.errors import ModelError
from oracles.features.models.kinds import auto_class, task_of
from oracles.features.models.pooling import Pooling, read_pooling
from oracles.features.models.weights import (
    bytes_of,
    check_readable,
    run_one_at_a_time,
    tensors_of,
)

OFFLINE_WAY = (
    'The embedded models need no network: model="sentiment" (a classifier) or '
    'model="facts" (a causal language model); --model on the command line.'
)
HUB_SECONDS = 10.0  # for a first answer, before the cache is all there is
NOT_THE_FUNCTION = ("transformers_version", "dtype", "torch_dtype", "_name_or_path")
"""Settings of a configuration that do not say what the model computes."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to run, its tokenizer, and the name it was asked for by.

    Attributes:
        task: kind of model; see `kinds.TASKS`.
        pooling: of a sentence encoder's tokens; None for other kinds.
    """

    model: Any
    tokenizer: Any
    name: str
    task: str
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        """Keep threads apart in a model whose weights are brought in as they run."""
        run_one_at_a_time(self.model)

    @cached_property
    def digest(self) -> str:
        """Hash of tokenizer, configuration and every parameter and saved buffer."""
        config = json.loads(self.model.config.to_json_string())
        settings = {k: v for k, v in config.items() if k not in NOT_THE_FUNCTION}
        special = {k: str(v) for k, v in self.tokenizer.special_tokens_map.items()}
        digest = hashlib.blake2b(digest_size=16)
        digest.update(_as_used(self.tokenizer).encode())
        digest.update(json.dumps([settings, special], sort_keys=True).encode())
        for name, tensor in tensors_of(self.model):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(bytes_of(tensor))
        if self.pooling is not None:
            digest.update(self.pooling.identity.encode())
        return digest.hexdigest()

    @cached_property
    def max_tokens(self) -> int:
        """Longest input the model reads, special tokens included."""
        config = self.model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or 0
        limits = [self.tokenizer.model_max_length, positions - _offset(self.model)]
        limits.append((self.pooling and self.pooling.max_tokens) or 0)
        # some configurations write -1 for "no limit"
        return int(min(limit for limit in limits if limit > 0))


def _as_used(tokenizer: Any) -> str:
    """A tokenizer as text, without how the last call had it cut and pad."""
    backend = tokenizer.backend_tokenizer
    copy = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return str(copy.to_str())


def _offset(model: Any) -> int:
    """Rows of the position table before the first token's: two in RoBERTa, else 0."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings"):
            padding = getattr(module, "padding_idx", None)
            return 0 if padding is None else int(padding) + 1
    return 0


def load_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    quantization_config: Any = None,
) -> LoadedModel:
    """Load a model of any kind in `kinds.TASKS` for inference.

    Args:
        name: an embedded model, a local folder, or a name on the Hugging Face hub.
            Code that comes with a model is never run (`trust_remote_code` is off).
        device: such as "cpu" or "cuda:0"; a GPU if there is one, by default.
        dtype: such as "float32" or "bfloat16"; by default float32 on a CPU and the
            checkpoint's own elsewhere.
        device_map: in place of a device, for models that need several: "auto", or a
            device for each module, as transformers has it (needs accelerate). Some may
            stay in memory or on disk until they run.
        quantization_config: how transformers quantises the weights as it loads them,
            such as `transformers.BitsAndBytesConfig(load_in_8bit=True)`. Checkpoints
            that are quantised say so themselves.

    Raises:
        ModelError: torch or transformers is missing, or what a device map or the
            quantisation needs; a device and a map; there is no such model, or the hub
            cannot be reached; the folder lacks a part; the model is of another kind, or
            its checkpoint lacks weights; or no such device or dtype.
    """
    transformers, torch = _libraries()
    source = _source(name)
    _check_one_place(device, device_map)
    device = _checked_device(torch, device)
    chosen = _checked_dtype(torch, dtype, device)
    with quietly(transformers), _explaining(name, is_local=source.is_local):
        where = {
            "pretrained_model_name_or_path": source.path,
            "trust_remote_code": False,
            "local_files_only": source.is_local or not _hub_answers(),
        }
        config = transformers.AutoConfig.from_pretrained(**where)
        pooling = read_pooling(name, partial(_find_file, transformers, where))
        task = task_of(name, config, is_sentence_encoder=pooling is not None)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        auto = auto_class(transformers, name, task, config)
        quantised = quantization_config or getattr(config, "quantization_config", None)
        if quantised and device_map is None:  # such a model cannot be moved later
            device_map = {"": device}
        if quantization_config is not None:
            where["quantization_config"] = quantization_config
        model, report = auto.from_pretrained(
            **where, dtype=chosen, device_map=device_map, output_loading_info=True
        )
        model = model.eval() if device_map else model.to(device).eval()
    missing = report["missing_keys"]
    if task == "embedding":  # made of the tokens' vectors, not of the pooler's
        pooling = pooling or Pooling()
        missing = [key for key in missing if not key.startswith("pooler.")]
    _check_complete(name, tokenizer, missing)
    check_readable(model)
    return LoadedModel(model, tokenizer, name, task, pooling)


def _find_file(transformers: Any, where: dict[str, Any], path: str) -> str | None:
    """Where a file of the model's folder or repository lies; None if it has none."""
    found = transformers.utils.cached_file(
        where["pretrained_model_name_or_path"],
        path,
        local_files_only=where["local_files_only"],
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else str(found)


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelError(
            f"explaining a text needs torch and transformers ({error}). Install them "
            'with pip install "spex-explain[text]".'
        ) from error
    return transformers, torch


@dataclass(frozen=True)
class _Source:
    path: str
    is_local: bool


def _source(name: str) -> _Source:
    if name in EMBEDDED_MODELS:
        return _Source(str(EMBEDDED_MODELS[name]), is_local=True)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model={name!r} is a folder without a config.json, so not a model in "
                "Hugging Face layout. Name the folder that holds config.json, the "
                "weights and the tokenizer."
            )
        return _Source(str(folder), is_local=True)
    looks_local = folder.is_file() or name.startswith(("/", ".", "~"))
    if looks_local or name.count("/") > 1 or not name.strip():
        raise ModelError(
            f"model={name!r} is not a folder. Name a folder with config.json, weights "
            f"and tokenizer, or a model on the Hugging Face hub. {OFFLINE_WAY}"
        )
    return _Source(name, is_local=False)


def _hub_answers() -> bool:
    """Whether the hub can be reached: asked once, as loading would retry for minutes.

    What is in the cache loads without it.
    """
    from huggingface_hub import constants, utils

    try:
        session = utils.get_session()  # type: ignore[attr-defined] # not in its list
        session.head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception:  # its HTTP library, and so the class, differs between versions
        return False
    return True


def _check_one_place(device: str | None, device_map: Any) -> None:
    if device is not None and device_map is not None:
        raise ModelError(
            f"device={device!r} and device_map={device_map!r} both say where the model "
            "is put. Leave one out."
        )


def _checked_device(torch: Any, device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device={device!r} cannot be used here ({_first_line(error)}). Use cpu, "
            "or leave it out."
        ) from error
    return device


def _checked_dtype(torch: Any, dtype: str | None, device: str) -> str:
    if dtype is None:
        return "float32" if device == "cpu" else "auto"
    known = getattr(torch, dtype, None)
    if not isinstance(known, torch.dtype) or not known.is_floating_point:
        raise ModelError(
            f"dtype={dtype!r} is not known. Use float32, bfloat16 or float16."
        )
    return dtype


def _check_complete(name: str, tokenizer: Any, missing: Any) -> None:
    """Refuse what transformers makes up where a checkpoint has nothing."""
    if missing:
        raise ModelError(
            f"model={name!r} has no weights for {', '.join(sorted(missing)[:4])}; they "
            "would be random. Name a checkpoint that was trained for its task."
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"model={name!r} has no fast tokenizer, which spex needs. Save one beside "
            "it as tokenizer.json."
        )
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelError(
            f"model={name!r} has no tokenizer. Save the one it was trained with beside "
            "it: tokenizer.save_pretrained(folder) writes tokenizer.json."
        )


@contextmanager
def _explaining(name: str, is_local: bool) -> Iterator[None]:
    """Turn what loading may raise into a `ModelError` that names the way on."""
    way = (
        "A model's folder holds config.json, weights (model.safetensors) and a "
        "tokenizer (tokenizer.json)."
        if is_local
        else "Check the name and the network."
    )
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # each file format and network library has its own
        raise ModelError(
            f"model={name!r} cannot be loaded: {_first_line(error)}. {way} "
            + OFFLINE_WAY
        ) from error


def _first_line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first.rstrip(" .")


@contextmanager
def quietly(transformers: Any) -> Iterator[None]:
    """Without loading bars and notices, which are put back afterwards."""
    log = transformers.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
