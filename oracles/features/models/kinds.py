"""Which kind of model a configuration names, and how transformers loads it."""

from typing import Any

from oracles.errors import ModelError

TASKS = {
    "ForSequenceClassification": "text-classifier",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "masked-lm",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForConditionalGeneration": "causal-lm",
    "Model": "embedding",
}
"""End of an architecture's name -> kind of model.

Without an encoder, "ForConditionalGeneration" is a causal model that may be shown
pictures, too; here it reads text alone.
"""

SEQ_TO_SEQ_ENDINGS = ("ForConditionalGeneration", "MTModel", "LMHeadModel", "Model")
"""Ends that name an encoder-decoder, where the configuration says it is one."""

AUTO_CLASSES = {
    "text-classifier": "AutoModelForSequenceClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "embedding": "AutoModel",
}
"""Kind of model -> name of the class of transformers that loads it."""


def task_of(name: str, config: Any, is_sentence_encoder: bool) -> str:
    """The kind of model that a configuration names.

    Args:
        name: what the model was asked for by, for messages.
        config: of transformers.
        is_sentence_encoder: whether the folder says how tokens are pooled into one
            embedding (sentence-transformers), which any backbone may be used for.

    Raises:
        ModelError: it is of a kind that spex has no oracle for.
    """
    if is_sentence_encoder:
        return "embedding"
    architectures = config.architectures or []
    for architecture in architectures:
        for ending, task in TASKS.items():
            both = getattr(config, "is_encoder_decoder", False)
            is_generator = task in ("causal-lm", "embedding")
            if both and is_generator and architecture.endswith(SEQ_TO_SEQ_ENDINGS):
                return "encoder-decoder"
            if architecture.endswith(ending):
                return task
    raise ModelError(
        f"model={name!r} is a {', '.join(architectures) or 'model without a head'}. "
        "spex explains classifiers (...ForSequenceClassification), extractive question "
        "answering (...ForQuestionAnswering), masked language models (...ForMaskedLM), "
        "causal ones (...ForCausalLM, ...LMHeadModel), those that also take pictures "
        "and encoder-decoders (...ForConditionalGeneration) and sentence encoders "
        "(...Model), which the config.json names under architectures."
    )


def auto_class(transformers: Any, name: str, task: str, config: Any) -> Any:
    """The class of transformers that loads a kind of model.

    Of an encoder-decoder, a sentence encoder is the encoder alone.

    Args:
        transformers: the library.
        name: what the model was asked for by, for messages.
        task: its kind.
        config: its configuration.

    Raises:
        ModelError: transformers has no such model that writes text.
    """
    if task == "embedding" and getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModelForTextEncoding
    auto = getattr(transformers, AUTO_CLASSES[task])
    architectures = config.architectures or [""]
    if task == "causal-lm" and architectures[0].endswith("ForConditionalGeneration"):
        known = [auto, transformers.AutoModelForImageTextToText]
        known = [one for one in known if type(config) in one._model_mapping]
        if not known:
            raise ModelError(
                f"model={name!r} is a {architectures[0]}, which transformers does not "
                "load as a model that writes text. Name a causal language model."
            )
        return known[0]
    return auto
