"""Reading labelled texts from CSV, TSV and JSON-lines files."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from oracles.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
SHOWN = 300  # characters of an example in descriptions and reports


@dataclass(frozen=True)
class Table:
    """Labelled examples of one file, in its order.

    Attributes:
        ids: n distinct names; by default the rows' numbers, from 1.
        texts: n texts; of rows of numbers, these with their columns' names.
        labels: n labels.
        groups: n names of groups; empty if no column was named.
        features: n rows of numbers; empty if no columns of them were named.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] = ()
    features: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, ids: Sequence[str]) -> "Table":
        """The rows with these ids, in this order.

        Raises:
            InputError: an id that is not there, or no ids.
        """
        place = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in place]
        if missing or not ids:
            raise InputError(
                f"ids {_shown(missing)} are not in the table; it has {_shown(self.ids)}"
                f" ({len(self)} in all)."
            )
        rows = [place[name] for name in ids]
        chosen = [
            tuple(column[row] for row in rows)
            if (column := getattr(self, f.name))
            else ()
            for f in fields(self)
        ]
        return Table(*chosen)


def read_table(
    path: str | Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    group_column: str | None = None,
    feature_columns: Sequence[str] = (),
) -> Table:
    """Examples, labels, ids and groups of a file with named columns, in UTF-8.

    Args:
        path: .csv or .tsv with a line of column names, or .jsonl (one object a line).
        text_column: column of the texts; not looked at with `feature_columns`.
        label_column: column of the labels.
        id_column: column of the examples' names; by default they are numbered from 1.
        group_column: column that names the group of each example, such as its source.
        feature_columns: columns of numbers that describe an example in place of a text.

    Raises:
        InputError: no such file or column, another kind of file, no rows, a row
            without a text, number, label or group, or two rows with one id.
    """
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path} has no rows. It needs at least one example.")
    wanted = [label_column, id_column, group_column]
    columns = [_column(path, rows, name) if name else () for name in wanted]
    labels, ids, groups = columns
    check_distinct(ids, f"{path}, column {id_column!r}")
    ids = ids or tuple(str(row) for row in range(1, len(rows) + 1))
    if not feature_columns:
        return Table(ids, _column(path, rows, text_column), labels, groups)
    check_distinct(feature_columns, "feature columns")
    features = _features(path, rows, feature_columns)
    texts = tuple(_written(feature_columns, row) for row in features)
    return Table(ids, texts, labels, groups, features)


def shortened(text: str, width: int = SHOWN) -> str:
    """A text in one line of at most `width` characters.

    >>> shortened("a  long\\nstory", 8)
    'a long …'
    """
    # cut first, since a text may be a whole document
    line = " ".join(text[: 4 * width].split())
    is_whole = len(line) <= width and len(text) <= 4 * width
    return line if is_whole else line[: width - 1] + "…"


def check_distinct(names: Iterable[str], where: str) -> None:
    """Raise InputError if a name comes twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{where}: {_shown(twice)} come more than once. Every example needs an id "
            "of its own; leave the ids out to number the rows."
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows as dictionaries; JSON lines may lack keys, others have every column."""
    kind = path.suffix.lower()
    if kind not in (*DELIMITERS, *LINES):
        raise InputError(
            f"{path} is neither .csv, .tsv nor .jsonl. Save it as one of these."
        )
    try:
        # a byte-order mark, as Excel writes, is no part of a column's name
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _objects(path, file) if kind in LINES else _table(path, file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason}). Convert it.") from None


def _table(path: Path, file: Iterable[str]) -> list[dict[str, Any]]:
    delimiter = DELIMITERS[path.suffix.lower()]
    # quotes mean nothing in .tsv files as GLUE and others write them
    reader = csv.DictReader(
        file,
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}.") from error
    for number, row in enumerate(rows, 2):
        if None in row:
            raise InputError(
                f"{path}, row {number}: more fields than the first line has names. "
                "Put quotes around texts that hold the delimiter."
            )
    return rows


def _objects(path: Path, file: Iterable[str]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: no JSON ({error.msg}).") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: not an object with named fields.")
        rows.append(row)
    return rows


def _column(path: Path, rows: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    names = list(dict.fromkeys(key for row in rows for key in row))
    if name not in names:
        raise InputError(f"{path} has no column {name!r}. It has {_shown(names)}.")
    values = [row.get(name) for row in rows]
    empty = [
        str(number)
        for number, value in enumerate(values, 1)
        if value is None or not str(value).strip()
    ]
    if empty:
        raise InputError(
            f"{path}, column {name!r}: nothing in rows {_shown(empty)} of {len(rows)}. "
            "Fill them in or leave these rows out."
        )
    return tuple(str(value) for value in values)


def _features(
    path: Path, rows: list[dict[str, Any]], names: Sequence[str]
) -> tuple[tuple[float, ...], ...]:
    """Rows of finite numbers."""
    columns = []
    for name in names:
        column = [_number(value) for value in _column(path, rows, name)]
        wrong = [str(n) for n, x in enumerate(column, 1) if not math.isfinite(x)]
        if wrong:
            raise InputError(
                f"{path}, column {name!r}: no finite number in rows {_shown(wrong)} of "
                f"{len(rows)}. Encode it as numbers, or leave the column or rows out."
            )
        columns.append(column)
    return tuple(zip(*columns, strict=True))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _written(names: Sequence[str], row: tuple[float, ...]) -> str:
    return ", ".join(f"{n} = {x:.4g}" for n, x in zip(names, row, strict=True))


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
