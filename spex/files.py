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
    path = Path(os.path.realpath(path))
    try:
        return _checked(path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}). Name another file."
        ) from error


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise OutputError(
            f"{path} cannot be written: the folder {path.parent} does not exist. Make "
            "it, or name another."
        )
    if path.exists() and not path.is_file():
        return path  # a device or pipe is written to, never replaced
    _partial(path).touch()
    _partial(path).unlink()
    return path


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    path = check_writable(path)
    is_special = path.exists() and not path.is_file()
    target = path if is_special else _partial(path)
    try:
        target.write_text(text, encoding="utf-8")
        if not is_special:
            target.replace(path)
    except OSError as error:
        if not is_special:
            target.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error.strerror}).") from error


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
