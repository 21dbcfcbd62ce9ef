"""What can go wrong in explaining; the oracles' own errors are in `oracles.errors`.

    SpexError
    ├── BudgetError             a budget that buys no explanation     (ValueError)
    ├── MethodError             no such method, or one that misbehaves (ValueError)
    ├── InteractionIndexError   no such index, or not of this order   (ValueError)
    ├── SupportError            not a set of this game's players      (ValueError)
    ├── SearchError             a search for what there cannot be     (ValueError)
    ├── ResultError             a file that is not an explanation     (ValueError)
    └── OutputError             a file that cannot be written         (OSError)

Each message says what was given, what is allowed and what to do about it. A poor fit
is not an error: it is `Explanation.status`.
"""


class SpexError(Exception):
    """Root of every error raised by the `spex` and `proxyspex` packages."""


class BudgetError(SpexError, ValueError):
    """The budget is below what the method can use."""


class MethodError(SpexError, ValueError):
    """No such method, or a method that broke its contract."""


class InteractionIndexError(SpexError, ValueError):
    """No such interaction index, or an order it is not defined for."""


class SupportError(SpexError, ValueError):
    """A set of players is not a set, or names players there are not."""


class SearchError(SpexError, ValueError):
    """A search for what there cannot be, or one that came to no end in time."""


class ResultError(SpexError, ValueError):
    """A file is not a saved explanation, or not of a version this one reads."""


class OutputError(SpexError, OSError):
    """A file that was asked for cannot be written."""
