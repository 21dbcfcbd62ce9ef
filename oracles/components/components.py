"""Components as players: heads, MLPs, layers, neurons, directions, and where they act.

A `Site` is a place in the forward pass at which players have their coordinates. To
ablate a player is to put other numbers in the place of its coordinates, there and
nowhere else:

- a head: its slice of the output projection's input, z in the literature on circuits;
- an MLP: what it adds to the residual stream, the output of its down projection or of
  the norm after that;
- a layer: both of its contributions to the residual stream, attention's and MLP's;
- a neuron: its activation, at the input of the MLP's down projection;
- a direction: the residual stream's coordinate along it, after a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.components.layers import Layer
from oracles.errors import InputError

UNITS = ("head", "mlp", "head+mlp", "layer", "neuron", "direction")
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions of the residual stream, such as features of a sparse autoencoder.

    The stream x after the layer is taken apart as x = sum_i c_i d_i + rest, with the
    least-squares coordinates c (the projections onto the directions, where these are
    orthogonal). Ablated ones have their coordinates replaced.

    Attributes:
        layer: index of the layer after which the stream is read, from 0.
        matrix: one direction a row, (n, width), none zero, linearly independent.
        names: of the directions; by default "L4.D0", "L4.D1", ...
    """

    layer: int
    matrix: NDArray[np.float64]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Site:
    """Where in the forward pass some players have their coordinates.

    Attributes:
        module: whose input or output it is.
        side: "input" or "output".
        start: the lowest layer that must run when players of this site are ablated.
        owner: player of each coordinate, (c,); -1 for those that are never ablated.
        directions: one a row, (c, width); None where coordinates are plain columns.
    """

    module: Any
    side: str
    start: int
    owner: NDArray[np.int64]
    directions: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.directions is not None:
            object.__setattr__(self, "_dual", np.linalg.pinv(self.directions))

    def coordinates(self, states: Any) -> Any:
        """Coordinates (..., c) of states (..., width), tensors."""
        if self.directions is None:
            return states
        return states.float() @ _like(self._dual, states)  # type: ignore[attr-defined]

    def replaced(self, states: Any, kept: Any, others: Any) -> Any:
        """States (rows, tokens, width) with the coordinates that are not kept replaced.

        Args:
            states: of the pass that goes on.
            kept: boolean tensor (rows, 1, c).
            others: what takes their place, broadcast to (rows, tokens, c).
        """
        if self.directions is None:
            return states.where(kept, others.to(states.dtype))
        change = (others - self.coordinates(states)).masked_fill(kept, 0.0)
        return states + (change @ _like(self.directions, states)).to(states.dtype)


def _like(matrix: NDArray[np.float64], states: Any) -> Any:
    import torch

    return torch.as_tensor(matrix, dtype=torch.float32, device=states.device)


@dataclass(frozen=True)
class Component:
    """One player.

    Attributes:
        name: such as "L3.H5", "L3.MLP", "L3", "L4.N17", "L4.N0-31", "L4.D2".
        kind: "head", "mlp", "layer", "neuron" or "direction".
        layer: its layer.
        place: number within the layer; 0 where there is only one of the kind.
    """

    name: str
    kind: str
    layer: int
    place: int


@dataclass(frozen=True, eq=False)
class Components:
    """Players and the sites where they act, the lowest first."""

    players: tuple[Component, ...]
    sites: tuple[Site, ...]


@dataclass
class _Maker:
    """Collects players and sites."""

    players: list[Component] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)

    def add(self, name: str, kind: str, layer: int, place: int = 0) -> int:
        self.players.append(Component(name, kind, layer, place))
        return len(self.players) - 1

    def site(self, module: Any, side: str, layer: int, owner: Any) -> None:
        self.sites.append(Site(module, side, layer, np.asarray(owner, dtype=np.int64)))

    def heads(self, layer: Layer) -> None:
        first = len(self.players)
        for head in range(layer.num_heads):
            self.add(f"L{layer.index}.H{head}", "head", layer.index, head)
        wide = layer.head_width
        owner = first + np.repeat(np.arange(layer.num_heads), wide)
        self.site(layer.projection, INPUT, layer.index, owner)

    def mlp(self, layer: Layer) -> None:
        _check_mlp(layer)
        player = self.add(f"L{layer.index}.MLP", "mlp", layer.index)
        self.site(layer.mlp_writer, OUTPUT, layer.index, np.full(layer.width, player))

    def layer(self, layer: Layer) -> None:
        if layer.is_mixture:
            _check_mlp(layer)
        player = self.add(f"L{layer.index}", "layer", layer.index)
        for module in (layer.attention_writer, layer.mlp_writer):
            if module is not None:
                self.site(module, OUTPUT, layer.index, np.full(layer.width, player))

    def neurons(self, layer: Layer, groups: int | None) -> None:
        """All neurons of a layer, one by one or in so many groups of neighbours."""
        _check_mlp(layer)
        count = groups or layer.num_neurons
        if not 1 <= count <= layer.num_neurons:
            raise InputError(
                f"groups={groups} of {layer.num_neurons} neurons in layer "
                f"{layer.index}: give a number from 1 to {layer.num_neurons}."
            )
        owner = np.empty(layer.num_neurons, dtype=np.int64)
        parts = np.array_split(np.arange(layer.num_neurons), count)
        for place, part in enumerate(parts):
            last = f"-{part[-1]}" if len(part) > 1 else ""
            name = f"L{layer.index}.N{part[0]}{last}"
            owner[part] = self.add(name, "neuron", layer.index, place)
        self.site(layer.down, INPUT, layer.index, owner)


def make_components(
    layers: Sequence[Layer],
    unit: str,
    *,
    within: Sequence[int] | None = None,
    groups: int | Sequence[Sequence[tuple[int, int]]] | None = None,
    directions: Directions | None = None,
) -> Components:
    """The players of a unit, in order of their layers.

    Args:
        layers: of the model, all of them.
        unit: one of `UNITS`; "head+mlp" has both as players.
        within: layers whose components are players; the others always work. All by
            default.
        groups: of neurons: how many in each layer, made of neighbours; or each group's
            (layer, neuron) pairs, of one layer. By default each neuron is a player.
        directions: for the unit "direction".

    Raises:
        InputError: an unknown unit or layer, settings of another unit, an MLP that
            does not exist, or groups or directions that cannot be used.
    """
    _check_settings(unit, within, groups, directions)
    chosen = _chosen(layers, within)
    if directions is not None:
        return _directions(layers, directions)
    if groups is not None and not isinstance(groups, int):
        return _groups(layers, groups)
    maker = _Maker()
    for layer in chosen:
        if unit in ("head", "head+mlp"):
            maker.heads(layer)
        if unit in ("mlp", "head+mlp"):
            maker.mlp(layer)
        if unit == "layer":
            maker.layer(layer)
        if unit == "neuron":
            maker.neurons(layer, groups)
    return Components(tuple(maker.players), tuple(maker.sites))


def _check_settings(unit: str, within: Any, groups: Any, directions: Any) -> None:
    if unit not in UNITS:
        raise InputError(f"unit={unit!r} is not known. Choose from {', '.join(UNITS)}.")
    if groups is not None and unit != "neuron":
        raise InputError(
            f'groups are of neurons, and unit={unit!r}. Use unit="neuron", or leave '
            "groups out."
        )
    if (directions is not None) != (unit == "direction"):
        raise InputError(
            f"unit={unit!r} with directions={'given' if directions else None}: the "
            'unit "direction" needs them, and no other takes them.'
        )
    is_listed = groups is not None and not isinstance(groups, int)
    if within is not None and (directions is not None or is_listed):
        raise InputError(
            "directions and listed groups name their layers themselves. Leave layers "
            "out."
        )


def _chosen(layers: Sequence[Layer], within: Sequence[int] | None) -> list[Layer]:
    if within is None:
        return list(layers)
    numbers = sorted(set(within))
    if not numbers or numbers[0] < 0 or numbers[-1] >= len(layers):
        raise InputError(
            f"layers={list(within)}: this model has layers 0 to {len(layers) - 1}. "
            "Name at least one of them."
        )
    return [layers[number] for number in numbers]


def _check_mlp(layer: Layer) -> None:
    if layer.down is None:
        raise InputError(
            f"layer {layer.index} has no MLP with one down projection: {layer.found}. "
            'Use unit="head".'
        )


def _groups(
    layers: Sequence[Layer], groups: Sequence[Sequence[tuple[int, int]]]
) -> Components:
    """Listed groups of neurons, each of one layer."""
    if not groups:
        raise InputError("groups are empty. Give at least one, or leave them out.")
    maker = _Maker()
    owners = {
        layer.index: np.full(layer.num_neurons, -1, dtype=np.int64) for layer in layers
    }
    for number, group in enumerate(groups):
        layer_of = _layer_of(group, number)
        player = maker.add(f"L{layer_of}.G{number}", "neuron", layer_of, number)
        for at, neuron in group:
            if at not in owners or not 0 <= neuron < len(owners[at]):
                raise InputError(
                    f"groups[{number}] names neuron {neuron} of layer {at}, which this "
                    "model does not have."
                )
            if owners[at][neuron] >= 0:
                raise InputError(
                    f"neuron {neuron} of layer {at} is in two groups. A neuron belongs "
                    "to one player."
                )
            owners[at][neuron] = player
    for layer in layers:
        if (owners[layer.index] >= 0).any():
            maker.site(layer.down, INPUT, layer.index, owners[layer.index])
    return Components(tuple(maker.players), tuple(maker.sites))


def _layer_of(group: Sequence[tuple[int, int]], number: int) -> int:
    """The layer of a listed group of neurons."""
    found = sorted({at for at, _ in group})
    if not found:
        raise InputError(f"groups[{number}] is empty. Give (layer, neuron) pairs.")
    if len(found) > 1:
        raise InputError(
            f"groups[{number}] spans the layers {', '.join(map(str, found))}. A group "
            "is of one layer: split it, and their interaction shows what they do "
            "together."
        )
    return found[0]


def _directions(layers: Sequence[Layer], given: Directions) -> Components:
    matrix = np.asarray(given.matrix, dtype=np.float64)
    if not 0 <= given.layer < len(layers):
        raise InputError(
            f"directions are after layer {given.layer}, and this model has layers 0 to "
            f"{len(layers) - 1}."
        )
    layer = layers[given.layer]
    if matrix.ndim != 2 or not len(matrix) or matrix.shape[1] != layer.width:
        raise InputError(
            f"directions have shape {matrix.shape}; expected (n, {layer.width}), one "
            "direction a row."
        )
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < len(matrix):
        raise InputError(
            f"the {len(matrix)} directions are not linearly independent, so a state "
            "has no coordinates along them. Give fewer."
        )
    names = given.names or tuple(f"L{given.layer}.D{i}" for i in range(len(matrix)))
    if len(names) != len(matrix):
        raise InputError(
            f"{len(names)} names for {len(matrix)} directions. Give one for each."
        )
    players = tuple(
        Component(name, "direction", given.layer, i) for i, name in enumerate(names)
    )
    owner = np.arange(len(matrix))
    site = Site(layer.block, OUTPUT, given.layer + 1, owner, matrix)
    return Components(players, (site,))
