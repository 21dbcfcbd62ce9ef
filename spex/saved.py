"""Reading explanations back that `Explanation.save` wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spex.basis import HALF, Basis
from spex.ends import Ends
from spex.errors import ResultError
from spex.explanation import SCHEMA, SCHEMA_VERSION, Explanation
from spex.faithfulness import Faithfulness
from spex.files import read_json
from spex.provenance import Provenance
from spex.spectrum import SparseFourier, Support


def load(path: str | Path) -> Explanation:
    """Read an explanation saved by `Explanation.save`.

    Raises:
        ResultError: not such a file, or of a version this one does not read.
    """
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ResultError(
            f"{path} is not a saved explanation. Write one with Explanation.save or "
            "`spex explain --json`."
        )
    if data.get("version") != SCHEMA_VERSION:
        raise ResultError(
            f"{path} has schema version {data.get('version')}; this version of spex "
            f"reads {SCHEMA_VERSION}. Upgrade spex, or explain again."
        )
    try:
        return _from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ResultError(
            f"{path} is a damaged explanation ({type(error).__name__}: {error}). "
            "Explain again; a ledger makes that free."
        ) from error


def _from_json(data: Mapping[str, Any]) -> Explanation:
    fourier, fit = data["fourier"], data["faithfulness"]
    full, noise = data.get("full_faithfulness"), data.get("noise_floor")
    _check_consistent(data)
    shape = (len(fourier["supports"]), len(data["outputs"]))
    spectrum = SparseFourier.from_terms(
        len(data["players"]),
        [tuple(support) for support in fourier["supports"]],
        np.array(fourier["coefficients"], dtype=float).reshape(shape),
    )
    return Explanation(
        players=tuple(data["players"]),
        outputs=tuple(data["outputs"]),
        fourier=spectrum,
        standard_errors=np.array(fourier["standard_errors"], float).reshape(shape),
        faithfulness=Faithfulness.from_json(fit),
        full_faithfulness=None if full is None else Faithfulness.from_json(full),
        noise_floor=None if noise is None else np.array(noise, dtype=float),
        intact=np.array(data["intact"], dtype=float),
        provenance=_provenance(data["provenance"]),
        discoveries=_discoveries(fourier, spectrum),
        ends=_ends(data, spectrum),
        basis=Basis(float(data.get("keep", HALF))),
    )


def _provenance(data: Mapping[str, Any]) -> Provenance:
    """As saved; files of before they were have no removals or circuits."""
    told = {name: tuple(data.get(name, ())) for name in ("removals", "circuits")}
    return Provenance(**{**data, **told})


def _ends(data: Mapping[str, Any], spectrum: SparseFourier) -> Ends | None:
    """As saved; files of before they were have none."""
    saved = data.get("ends")
    if saved is None:
        return None
    return Ends.from_json(saved, spectrum.num_players, spectrum.num_outputs)


def _discoveries(
    fourier: Mapping[str, Any], spectrum: SparseFourier
) -> frozenset[Support] | None:
    """As saved; files of before they were have none."""
    listed = fourier.get("discoveries")
    if listed is None:
        return None
    found = frozenset(tuple(support) for support in listed)
    if not found <= set(spectrum.supports):
        raise ValueError("a discovery is not in the spectrum")
    return found


def _check_consistent(data: Mapping[str, Any]) -> None:
    """Raise ValueError if parts of a saved explanation contradict each other."""
    num_outputs, fit = len(data["outputs"]), data["faithfulness"]
    numbers = [
        *np.ravel(data["fourier"]["coefficients"]).tolist(),
        *np.ravel(data["fourier"]["standard_errors"]).tolist(),
        *data["intact"],
        *fit["per_output"],
        fit["low"],
        fit["high"],
        fit["num_masks"],
        *np.ravel(data.get("noise_floor") or ()).tolist(),
    ]
    full = data.get("full_faithfulness")
    if full is not None:
        numbers += [*full["per_output"], full["low"], full["high"], full["num_masks"]]
    if not np.isfinite(np.array(numbers, dtype=np.float64)).all():
        raise ValueError("a number is not finite")
    if not len(data["intact"]) == len(fit["per_output"]) == num_outputs:
        raise ValueError("there are not as many values as outputs")
    players = [p for support in data["fourier"]["supports"] for p in support]
    if not all(isinstance(player, int) for player in players):
        raise ValueError("a player of a support is not a whole number")
    subject = data["provenance"]["subject"]
    if "text" in subject:
        described = len(subject["spans"]) + len(subject.get("components", ()))
        if described != len(data["players"]):
            raise ValueError("there are not as many spans as players")
