"""Arrows between the rooms, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "oracles": {"oracles"},
    "spex": {"spex", "oracles"},
    "proxyspex": {"proxyspex", "spex", "oracles"},
}
ROOMS = {"spex", "proxyspex", "oracles", "benchmarks", "tests"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_point_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert imported(path) & ROOMS <= ALLOWED[room], path


def test_models_live_in_oracles_only() -> None:
    for room in ("spex", "proxyspex"):
        for path in (ROOT / room).rglob("*.py"):
            assert not imported(path) & {"torch", "transformers"}, path


@pytest.mark.parametrize(
    "room", ["spex", "spex.cli", "proxyspex", "oracles.features", "oracles.components"]
)
def test_importing_loads_no_model_library(room: str) -> None:
    code = (
        f"import sys, {room}; heavy = {{'torch', 'transformers', 'galois', 'numba'}}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert loaded.strip() == "[]"


def test_files_and_functions_stay_small() -> None:
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            source = path.read_text()
            assert source.count("\n") <= 400, path
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef) and "recipes" not in path.parts:
                    body = node.body[1:] if ast.get_docstring(node) else node.body
                    length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                    assert length <= 40, f"{path}: {node.name} has {length} lines"
