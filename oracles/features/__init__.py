"""Feature oracles: which segments of a text make a model answer as it does.

Nothing here imports torch before a model is loaded.
"""

from oracles.features.causal import CausalOracle
from oracles.features.choosing import Asked, oracle_for
from oracles.features.classifier import ClassifierOracle
from oracles.features.embedding import EmbeddingOracle, embed
from oracles.features.encoder_decoder import EncoderDecoderOracle
from oracles.features.generated import GeneratedOracle
from oracles.features.masked_lm import MaskedLMOracle
from oracles.features.models.loading import LoadedModel, load_model
from oracles.features.prompts.chat import chat_prompt
from oracles.features.prompts.documents import passages_prompt, refine
from oracles.features.prompts.draws import AveragedOracle
from oracles.features.prompts.prompt import Prompt, TextPrompt, text_prompt
from oracles.features.prompts.segments import Segment, split
from oracles.features.prompts.truncation import truncate
from oracles.features.prompts.turns import ChatPrompt
from oracles.features.question_answering import QuestionAnsweringOracle
from oracles.features.text import text_oracle

__all__ = [
    "Asked",
    "AveragedOracle",
    "CausalOracle",
    "ChatPrompt",
    "ClassifierOracle",
    "EmbeddingOracle",
    "EncoderDecoderOracle",
    "GeneratedOracle",
    "LoadedModel",
    "MaskedLMOracle",
    "Prompt",
    "QuestionAnsweringOracle",
    "Segment",
    "TextPrompt",
    "chat_prompt",
    "embed",
    "load_model",
    "oracle_for",
    "passages_prompt",
    "refine",
    "split",
    "text_oracle",
    "text_prompt",
    "truncate",
]
