"""Reading and writing the product's files, with errors that say the way out."""

import json
import os
from pathlib import Path
from typing import Any

from spex.errors import OutputError, ResultError


def check_writable(path: str | Path) -> Path:
    """Return the path if a file can be written there; leaves no trace.

    Raises:
        OutputError: the folder is missing or not writable, or the path is a folder.
    """
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Name a file in it.")
    if not folder.is_dir():
        raise OutputError(
            f"{path} cannot be written: the folder {folder} does not exist. Make it, "
            "or name another."
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission. Name another.")
    return path


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    path = check_writable(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error}).") from error


def read_json(path: str | Path) -> Any:
    """The JSON in a file.

    Raises:
        ResultError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ResultError(
            f"{path} is not JSON ({error}). Name a file written by Explanation.save or "
            "`spex explain --json`."
        ) from error
