"""Tables of labelled texts are read as written, or refused with a reason."""

import json
from pathlib import Path

import pytest

from oracles import InputError
from oracles.data import read_table

CSV = 'id,review,stars,source\nr1,"Good, really",5,web\nr2,"Bad\nfilm",1,press\n'


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def written(name: str, text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return written


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_keeps_quoted_commas_and_line_breaks(write, encoding: str) -> None:  # type: ignore[no-untyped-def]
    table = read_table(
        write("train.csv", CSV, encoding),
        text_column="review",
        label_column="stars",
        id_column="id",
        group_column="source",
    )
    assert table.ids == ("r1", "r2")
    assert table.texts == ("Good, really", "Bad\nfilm")
    assert table.labels == ("5", "1")
    assert table.groups == ("web", "press")
    assert table.select(["r2"]).texts == ("Bad\nfilm",)
    with pytest.raises(InputError, match="'r9' are not in the table"):
        table.select(["r9"])


def test_json_lines_and_tsv_number_their_rows(write) -> None:  # type: ignore[no-untyped-def]
    rows = [{"text": "naïve ☕", "label": 1}, {"text": "no", "label": 0, "more": [1]}]
    lines = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    table = read_table(write("train.jsonl", lines))
    assert table.ids == ("1", "2")
    assert table.texts == ("naïve ☕", "no")
    assert table.labels == ("1", "0")
    assert table.groups == ()
    table = read_table(write("dev.tsv", 'text\tlabel\n"quoted" start\t1\n'))
    assert table.texts == ('"quoted" start',)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.jsonl", "\n", "no rows"),
        ("a.csv", "text,klass\na,1\n", "no column 'label'. It has 'text', 'klass'"),
        ("a.csv", "text,label\na,1\nb,\n", "nothing in rows '2'"),
        ("a.csv", "text,label\na,1\nb\n", "nothing in rows '2'"),
        ("a.csv", "text,label\na, b,1\n", "more fields"),
        ("a.csv", 'text,label\n"a,1\n', "line"),
        ("a.jsonl", '{"text": "a"\n', "line 1: no JSON"),
        ("a.jsonl", "[1]\n", "line 1: not an object"),
        ("a.jsonl", '{"text": "a"}\n', "no column 'label'"),
        ("a.xlsx", "text", "neither .csv"),
        ("a.csv", "text,label,id\na,1,x\nb,0,x\n", "'x' come more than once"),
    ],
)
def test_what_cannot_be_used_is_refused(write, name: str, text: str, said: str) -> None:  # type: ignore[no-untyped-def]
    id_column = "id" if ",id" in text else None
    with pytest.raises(InputError, match=said):
        read_table(write(name, text), id_column=id_column)


def test_missing_files_and_other_encodings_are_refused(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="not UTF-8"):
        read_table(write("a.csv", "text,label\ncafé,1\n", "latin-1"))
