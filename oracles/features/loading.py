"""Loading models by Hugging Face name, local folder or embedded name."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from oracles.embedded import EMBEDDED_MODELS
from oracles.errors import ModelError

TASKS = {
    "ForSequenceClassification": "text-classifier",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
}
"""End of an architecture's name -> kind of oracle."""

OFFLINE_WAY = (
    'The embedded models need no network: model="sentiment" (a classifier) or '
    'model="facts" (a causal language model).'
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to run, its tokenizer, and the name it was asked for by."""

    model: Any
    tokenizer: Any
    name: str
    task: str

    @cached_property
    def digest(self) -> str:
        """Hash of the tokenizer and of every parameter and buffer, byte by byte."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.tokenizer.backend_tokenizer.to_str().encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        return digest.hexdigest()


def _bytes(tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def load_model(
    name: str, *, device: str | None = None, dtype: str | None = None
) -> LoadedModel:
    """Load a sequence classifier or a causal language model for inference.

    Args:
        name: an embedded model, a local folder, or a name on the Hugging Face hub.
            Code that comes with a model is never run (`trust_remote_code` is off).
        device: such as "cpu" or "cuda:0"; a GPU if there is one, by default.
        dtype: such as "float32" or "bfloat16"; by default float32 on a CPU and the
            checkpoint's own elsewhere.

    Raises:
        ModelError: torch or transformers is missing; there is no such model, or the
            hub cannot be reached; the folder holds no model; or it is of another kind.
    """
    transformers, torch = _libraries()
    source = _source(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = dtype or ("float32" if device == "cpu" else "auto")
    with _quietly(transformers), _explaining(name):
        config = transformers.AutoConfig.from_pretrained(source)
        task = _task(name, config)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, use_fast=True)
        auto = {
            "text-classifier": transformers.AutoModelForSequenceClassification,
            "causal-lm": transformers.AutoModelForCausalLM,
        }[task]
        model = auto.from_pretrained(source, dtype=chosen).to(device).eval()
    if not tokenizer.is_fast:
        raise ModelError(f"model={name!r} has no fast tokenizer, which spex needs.")
    return LoadedModel(model, tokenizer, name, task)


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


def _source(name: str) -> str:
    if name in EMBEDDED_MODELS:
        return str(EMBEDDED_MODELS[name])
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model={name!r} is a folder without a config.json, so not a model in "
                "Hugging Face layout. Name the folder that holds config.json, the "
                "weights and the tokenizer."
            )
        return str(folder)
    looks_local = folder.is_file() or name.startswith(("/", ".", "~"))
    if looks_local or name.count("/") > 1 or not name.strip():
        raise ModelError(
            f"model={name!r} is not a folder. Name a folder with config.json, weights "
            f"and tokenizer, or a model on the Hugging Face hub. {OFFLINE_WAY}"
        )
    return name


def _task(name: str, config: Any) -> str:
    architectures = config.architectures or []
    for architecture in architectures:
        for ending, task in TASKS.items():
            if architecture.endswith(ending):
                return task
    raise ModelError(
        f"model={name!r} is a {', '.join(architectures) or 'model without a head'}; "
        "spex explains sequence classifiers (...ForSequenceClassification) and causal "
        f"language models (...ForCausalLM). {OFFLINE_WAY}"
    )


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Turn what loading may raise into a `ModelError` that names the way on."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"model={name!r} cannot be loaded: {first} If it should come from the hub, "
            f"check the name and the network. {OFFLINE_WAY}"
        ) from error


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
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
