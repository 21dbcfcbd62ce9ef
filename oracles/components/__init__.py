"""Component oracles: which heads, MLPs and neurons, together, make a model do this.

Nothing here imports torch before a model is loaded.
"""

from oracles.components.behaviour import BEHAVIOURS
from oracles.components.components import UNITS, Component, Directions
from oracles.components.mixed import MixedOracle
from oracles.components.oracle import ABLATIONS, ComponentOracle
from oracles.components.prompts import TaskPrompt, read_task_prompts

__all__ = [
    "ABLATIONS",
    "BEHAVIOURS",
    "UNITS",
    "Component",
    "ComponentOracle",
    "Directions",
    "MixedOracle",
    "TaskPrompt",
    "read_task_prompts",
]
