"""Feature oracles: which segments of a text make a model answer as it does.

Nothing here imports torch before a model is loaded.
"""

from oracles.features.causal import CausalOracle
from oracles.features.chat import ChatPrompt, chat_prompt
from oracles.features.classifier import ClassifierOracle
from oracles.features.documents import passages_prompt, refine
from oracles.features.draws import AveragedOracle
from oracles.features.loading import LoadedModel, load_model
from oracles.features.prompts import Prompt, TextPrompt, text_prompt
from oracles.features.segments import Segment, split
from oracles.features.text import text_oracle
from oracles.features.truncation import truncate

__all__ = [
    "AveragedOracle",
    "CausalOracle",
    "ChatPrompt",
    "ClassifierOracle",
    "LoadedModel",
    "Prompt",
    "Segment",
    "TextPrompt",
    "chat_prompt",
    "load_model",
    "passages_prompt",
    "refine",
    "split",
    "text_oracle",
    "text_prompt",
    "truncate",
]
