"""What every test shares: quiet, offline models and the games, where they are."""

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from oracles import Masks

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


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray in this process, so that what trains in workers can be told from it."""
    ray = pytest.importorskip("ray", reason='needs pip install "spex-explain[ray]"')
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False)
    yield
    with warnings.catch_warnings():
        # Ray does not wait for the processes it ends
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()


@pytest.fixture
def elsewhere(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the data oracles of the command line train in workers only."""
    from oracles.data import DataOracle

    here = os.getpid()

    class Elsewhere(DataOracle):
        def evaluate_each(self, masks: Masks) -> Any:
            assert os.getpid() != here
            return super().evaluate_each(masks)

    monkeypatch.setattr("spex.cli.data_oracle.DataOracle", Elsewhere)
