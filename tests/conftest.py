"""What every test shares: quiet, offline models and the games, where they are."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes is no property of what it tests
settings.register_profile("spex", deadline=None)
settings.load_profile("spex")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core
    for library in ("OMP", "OPENBLAS", "NUMBA"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with real value functions and texts, or a skip that says why."""
    folder = Path(os.environ.get("SPEX_DATA", "../shared/data"))
    if not (folder / "games").is_dir():
        pytest.skip(f"no games in {folder.absolute()}; set SPEX_DATA to their folder")
    return folder
