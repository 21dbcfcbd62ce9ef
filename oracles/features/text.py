"""The oracle for a text and whatever kind of model it is asked of."""

from oracles.errors import InputError
from oracles.features.causal import CausalOracle
from oracles.features.classifier import ClassifierOracle
from oracles.features.loading import load_model
from oracles.features.prompts import text_prompt


def text_oracle(
    text: str,
    model: str = "sentiment",
    *,
    suffix: str = "",
    target: str | None = None,
    against: str | None = None,
    value: str | None = None,
    segments: str | None = None,
    removal: str = "delete",
    device: str | None = None,
    dtype: str | None = None,
) -> ClassifierOracle | CausalOracle:
    """Load a model and make the oracle its kind calls for.

    Args:
        text: the text whose segments are ablated.
        model: an embedded model ("sentiment", "facts"), a folder, or a hub name.
        suffix: text after it that is never ablated (causal models).
        target: a class, or "all"; for causal models the continuation. By default what
            the model itself says.
        against: an alternative continuation (causal models).
        value: what is explained of the target; see the two oracles.
        segments: kind of segment; by default word for classifiers, sentence for causal
            models.
        removal: "delete" or "mask".
        device, dtype: see `load_model`.

    Raises:
        ModelError: the model cannot be found or loaded.
        InputError: the text, segments, target or value cannot be used.
    """
    if not text.strip():
        raise InputError("the text is empty; there is nothing to explain.")
    loaded = load_model(model, device=device, dtype=dtype)
    is_causal = loaded.task == "causal-lm"
    if not is_causal and (suffix or against is not None):
        raise InputError(
            "suffix and against go with causal language models, and "
            f"model={model!r} is a classifier. Leave them out."
        )
    prompt = text_prompt(
        text,
        loaded.tokenizer,
        segments=segments or ("sentence" if is_causal else "word"),
        removal=removal,
        suffix=suffix,
    )
    if is_causal:
        return CausalOracle(
            prompt, loaded, continuation=target, alternative=against, value=value
        )
    return ClassifierOracle(prompt, loaded, target=target, value=value)
