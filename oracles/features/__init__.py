"""Feature oracles: which segments of a text make a model answer as it does.

Nothing here imports torch before a model is loaded.
"""

from oracles.features.causal import CausalOracle
from oracles.features.classifier import ClassifierOracle
from oracles.features.loading import LoadedModel, load_model
from oracles.features.prompts import Prompt, TextPrompt, text_prompt
from oracles.features.segments import Segment, split
from oracles.features.text import text_oracle

__all__ = [
    "CausalOracle",
    "ClassifierOracle",
    "LoadedModel",
    "Prompt",
    "Segment",
    "TextPrompt",
    "load_model",
    "split",
    "text_oracle",
    "text_prompt",
]
