"""Remote models as oracles, over OpenAI-compatible endpoints.

Three things can be asked of one, the most telling first: `completions_oracle` (log-
probability of a continuation, whole or per token), `chat_oracle` (log-odds of an
answer's first token), `sampled_oracle` (likeness of answers). Needs the `remote` extra.
"""

from oracles.remote.chat import chat_oracle
from oracles.remote.completions import completions_oracle
from oracles.remote.endpoint import Endpoint
from oracles.remote.estimate import Estimate, Prices
from oracles.remote.oracle import RemoteOracle
from oracles.remote.sampled import sampled_oracle
from oracles.remote.session import RemoteError
from oracles.remote.tally import Spent

__all__ = [
    "Endpoint",
    "Estimate",
    "Prices",
    "RemoteError",
    "RemoteOracle",
    "Spent",
    "chat_oracle",
    "completions_oracle",
    "sampled_oracle",
]
