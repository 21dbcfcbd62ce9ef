"""spex: which parts of a system act together to make a model do what it did."""

from spex.errors import (
    BudgetError,
    InteractionIndexError,
    MethodError,
    OutputError,
    ResultError,
    SearchError,
    SpexError,
    SupportError,
)
from spex.explain import explain
from spex.explanation import Explanation, Status
from spex.faithfulness import Faithfulness
from spex.given import explain_values
from spex.guided import Guided
from spex.interaction import Interaction
from spex.method import Method, Plan, Recovery
from spex.outlook import Outlook, outlook
from spex.provenance import Provenance
from spex.reading import Reading
from spex.saved import load
from spex.search import Found
from spex.spectrum import SparseFourier

__all__ = [
    "BudgetError",
    "Explanation",
    "Faithfulness",
    "Found",
    "Guided",
    "Interaction",
    "InteractionIndexError",
    "Method",
    "MethodError",
    "Outlook",
    "OutputError",
    "Plan",
    "Provenance",
    "Reading",
    "Recovery",
    "ResultError",
    "SearchError",
    "SparseFourier",
    "SpexError",
    "Status",
    "SupportError",
    "explain",
    "explain_values",
    "load",
    "outlook",
]
