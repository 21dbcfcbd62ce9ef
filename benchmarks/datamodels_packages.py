"""Attribution scores of published packages, on the models of `datamodels_tasks`.

traker (TRAK by its authors; Park et al. 2023) and dattri (Deng et al. 2024; TRAK, and
influence functions with the explicit Hessian), on the CPU and in single precision.
Both project gradients at random, or not at all, and add to the matrix they invert:
every setting tried is a candidate, of which the benchmark takes what does best. They
come with `pip install "spex-explain[bench]"`; what is missing is left out, and said so.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from functools import partial
from importlib.util import find_spec
from io import StringIO
from itertools import product
from typing import Any

import numpy as np
from datamodels_tasks import Array, Task, logits_and_gradients

Layers = list[tuple[Array, Array]]
"""Weights (in, out) and biases (out,) of a ReLU network."""

Scored = Callable[[Task, list[Layers]], list[Array]]
"""Scores (n, k) for each setting, larger where an example helps."""

PROJECTION = 512  # dimensions; dattri's default, and what n is about
DAMPINGS = np.logspace(-2, 2, 5)  # times the mean square of a gradient
HESSIAN_DAMPINGS = 2 * np.logspace(0, 2, 3)  # 2: the head's penalty, see below


def installed() -> dict[str, Scored]:
    """By row of the table: what scores examples for test points with the models that
    were trained on everything, several settings each."""
    rows: dict[str, tuple[str, Scored]] = {
        "TRAK (traker)": ("trak", traker_trak),
        "TRAK (dattri)": ("dattri", dattri_trak),
        "influence (dattri)": ("dattri", dattri_influence),
    }
    found = {}
    for name, (module, scored) in rows.items():
        if find_spec(module) is None:
            print(f"{name} is left out: the package is not installed")
        else:
            found[name] = partial(_silent, scored)
    return found


def _silent(scored: Scored, task: Task, nets: list[Layers]) -> list[Array]:
    """Without progress bars."""
    with redirect_stderr(StringIO()):
        return scored(task, nets)


def traker_trak(task: Task, nets: list[Layers]) -> list[Array]:
    """TRAK by `trak.TRAKer`."""
    return [_by_traker(task, nets, *setting) for setting in _settings()]


def _by_traker(
    task: Task, nets: list[Layers], dimensions: int, damping: float
) -> Array:
    from trak import TRAKer
    from trak.projectors import NoOpProjector

    train, test = _batches(task)
    # its Gaussian projection makes gradients so much longer
    scale = max(dimensions, 1) * _mean_square(task, nets)
    with tempfile.TemporaryDirectory() as folder:
        scorer = TRAKer(
            _network(nets[0]),
            "image_classification",  # margins of the right class
            len(task.labels),
            save_dir=folder,
            device="cpu",
            projector=None if dimensions else NoOpProjector(device="cpu"),
            proj_dim=dimensions,
            use_half_precision=False,
            lambda_reg=damping * scale,
            logging_level="ERROR",
        )
        for number, layers in enumerate(nets):
            scorer.load_checkpoint(_state(layers), number)
            scorer.featurize(train, num_samples=len(task.labels))
        scorer.finalize_features()
        for number, layers in enumerate(nets):
            points = len(task.right)
            scorer.start_scoring_checkpoint("points", _state(layers), number, points)
            scorer.score(test, num_samples=points)
        return np.array(scorer.finalize_scores("points"), dtype=float)


def dattri_trak(task: Task, nets: list[Layers]) -> list[Array]:
    """TRAK by `dattri.algorithm.TRAKAttributor`."""
    from dattri.algorithm import TRAKAttributor
    from dattri.task import AttributionTask

    model, found = _network(nets[0]), []
    margin, loss = _measured(model)
    attributed = AttributionTask(margin, model, [_state(layers) for layers in nets])
    train, test = map(_loader, _batches(task))
    for dimensions, damping in _settings():
        kind = "normal" if dimensions else "identity"
        scorer = TRAKAttributor(
            attributed,
            lambda weights, pair: (-loss(weights, pair)).exp(),
            {"proj_dim": max(dimensions, 1), "proj_type": kind},
            regularization=damping * _mean_square(task, nets),
        )
        scorer.cache(train)
        found.append(scorer.attribute(test).double().numpy())
    return found


def dattri_influence(task: Task, nets: list[Layers]) -> list[Array]:
    """Influence on the margin by `dattri.algorithm.IFAttributorExplicit`.

    To the Hessian of the summed log-loss is added a multiple of the identity: the
    logistic head's penalty, 1 for the weights of its one logit, is 2 for those of two.
    """
    from dattri.algorithm import IFAttributorExplicit
    from dattri.task import AttributionTask

    model, found = _network(nets[0]), []
    margin, loss = _measured(model)
    states = [_state(layers) for layers in nets]
    attributed = AttributionTask(loss, model, states, target_func=margin)
    train, test = map(_loader, _batches(task))
    for damping in HESSIAN_DAMPINGS.tolist():
        scorer = IFAttributorExplicit(attributed, regularization=damping)
        scorer.cache(train)
        # it tells what leaving an example out adds
        found.append(-scorer.attribute(train, test).detach().double().numpy())
    return found


def _settings() -> Iterator[tuple[int, float]]:
    """Dimensions of the random projection, 0 for none, and dampings."""
    return product((0, PROJECTION), DAMPINGS.tolist())


def _mean_square(task: Task, nets: list[Layers]) -> float:
    """Of the entries of all examples' gradients: both packages divide these by the
    root of their number."""
    codes = np.unique(task.labels, return_inverse=True)[1]
    own = [logits_and_gradients(layers, task.features, codes)[1] for layers in nets]
    return float(np.mean(np.square(own)))


def _measured(model: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Margin and log-loss of weights, summed over a pair of inputs and classes."""
    import torch

    def logits_of(weights: Any, pair: Any) -> tuple[Any, Any]:
        inputs, codes = pair[0].reshape(-1, model[0].in_features), pair[1].reshape(-1)
        logits = torch.func.functional_call(model, weights, inputs)
        return logits, codes[:, None] == torch.arange(model[-1].out_features)

    def margin(weights: Any, pair: Any) -> Any:
        logits, right = logits_of(weights, pair)
        others = logits.masked_fill(right, -torch.inf)
        return ((logits * right).sum(dim=1) - others.logsumexp(dim=1)).sum()

    def loss(weights: Any, pair: Any) -> Any:
        logits, right = logits_of(weights, pair)
        return -(logits.log_softmax(dim=1) * right).sum()

    return margin, loss


def _network(layers: Layers) -> Any:
    """Of these sizes; weights are loaded by the packages."""
    import torch

    parts: list[Any] = []
    for weight, _ in layers:
        parts += [torch.nn.Linear(*weight.shape), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def _state(layers: Layers) -> dict[str, Any]:
    """The weights as a `_network` loads them."""
    import torch

    state = {}
    for place, (weight, bias) in enumerate(layers):
        state[f"{2 * place}.weight"] = torch.tensor(weight.T, dtype=torch.float32)
        state[f"{2 * place}.bias"] = torch.tensor(bias, dtype=torch.float32)
    return state


def _batches(task: Task) -> tuple[list[Any], list[Any]]:
    """Features and classes of the examples, and of the test points, as tensors."""
    import torch

    names = np.unique(task.labels)

    def batch(features: Array, labels: Array) -> list[Any]:
        codes = torch.tensor(np.searchsorted(names, labels))
        return [torch.tensor(features, dtype=torch.float32), codes]

    return batch(task.features, task.labels), batch(task.points, task.right)


def _loader(batch: list[Any]) -> Any:
    """All of it at once, in order."""
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(*batch), batch_size=len(batch[0]))
