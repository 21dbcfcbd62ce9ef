"""Rows of arrays or lists: their digest, and picking some of them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.errors import InputError


def as_matrix(features: Any, argument: str) -> NDArray[np.float64]:
    """Features as a finite float (n, d) array.

    Raises:
        InputError: another shape, no rows or columns, or values that are not finite.
    """
    try:
        array = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{argument} are not numbers ({error}). Embed texts first, for instance "
            "with oracles.data.embed_texts."
        ) from error
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{argument} have shape {array.shape}; expected (n, d): a row for each "
            "example and a column for each feature."
        )
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise InputError(
            f"{argument} are not finite in {len(rows)} rows, the first of them row "
            f"{rows[0]}. Leave these examples out or fill them in."
        )
    return array


def digest_of(rows: Any) -> str:
    """Hash of an array, or of a sequence of texts or numbers; of None, too."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(rows, np.ndarray) and rows.dtype != object:
        digest.update(f"{rows.dtype.str} {rows.shape}".encode())
        digest.update(np.ascontiguousarray(rows).tobytes())
    else:
        digest.update(json.dumps(rows, default=_listed).encode())
    return digest.hexdigest()


def _listed(value: Any) -> Any:
    """Arrays and the like within lists, as JSON has it."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def take(rows: Any, indices: Sequence[int] | NDArray[np.int64]) -> Any:
    """Some rows of an array, or of any sequence as a list."""
    if isinstance(rows, np.ndarray):
        return rows[np.asarray(indices, dtype=int)]
    return [rows[int(i)] for i in indices]
