"""Training examples as players: what a model says after training on some of them.

Nothing here imports torch, scikit-learn or transformers until a trainer that needs one
is made.
"""

from oracles.data.oracle import DataOracle
from oracles.data.players import (
    DataPlayers,
    clusters,
    groups,
    single_examples,
    visible_players,
)
from oracles.data.table import Table, read_table
from oracles.data.targets import Targets
from oracles.data.texts import embed_texts
from oracles.data.trainer import BatchTrainer, FunctionTrainer, Trainer
from oracles.data.trainers.estimator import (
    EstimatorTrainer,
    classifier_named,
    is_seeded,
)
from oracles.data.trainers.finetuning import FineTuning
from oracles.data.trainers.heads import LogisticHead, RidgeHead
from oracles.data.trainers.network import SmallNetwork

__all__ = [
    "BatchTrainer",
    "DataOracle",
    "DataPlayers",
    "EstimatorTrainer",
    "FineTuning",
    "FunctionTrainer",
    "LogisticHead",
    "RidgeHead",
    "SmallNetwork",
    "Table",
    "Targets",
    "Trainer",
    "classifier_named",
    "clusters",
    "embed_texts",
    "groups",
    "is_seeded",
    "read_table",
    "single_examples",
    "visible_players",
]
