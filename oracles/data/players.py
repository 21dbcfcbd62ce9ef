"""Players of a data oracle: single examples, or groups of them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.data.arrays import as_matrix, digest_of
from oracles.data.table import check_distinct, shortened
from oracles.errors import InputError

IN_A_GROUP, LISTED = 60, 3  # characters and examples shown of a group
FEWEST_VISIBLE = 2.0  # equally strong players; see `visible_players`


@dataclass(frozen=True, eq=False)
class DataPlayers:
    """Which player each training example belongs to.

    Attributes:
        names: of the n players.
        owner: each example's player, shape (number of examples,).
        kind: "examples", "groups" or "clusters".
        texts, labels: of the n players, for reports; empty if they are not known.
    """

    names: tuple[str, ...]
    owner: NDArray[np.int64]
    kind: str
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def examples(self, masks: Masks) -> Masks:
        """Which examples are kept, one column each, for masks over the players."""
        return masks[:, self.owner]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Examples of each player, (n,)."""
        return np.bincount(self.owner, minlength=len(self.names))

    def showing(self, texts: Sequence[str], labels: Sequence[Any]) -> "DataPlayers":
        """The same players, with what reports show of each.

        Of a player that is one example its text and label; of a larger one the
        beginnings of its first examples, and how many have which label.

        Args:
            texts: of all examples; long ones are cut.
            labels: of all examples.

        Raises:
            InputError: another number of texts or labels than examples.
        """
        for name, given in (("texts", texts), ("labels", labels)):
            if len(given) != len(self.owner):
                raise InputError(
                    f"there are {len(given)} {name} for {len(self.owner)} examples."
                )
        members: list[list[int]] = [[] for _ in self.names]
        for example, player in enumerate(self.owner.tolist()):
            members[player].append(example)
        return replace(
            self,
            texts=tuple(_listed([str(texts[i]) for i in own]) for own in members),
            labels=tuple(_counted([str(labels[i]) for i in own]) for own in members),
        )

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """JSON-ready: the kind, how many examples, a digest of who owns them, and what
        reports show."""
        shown = {"player_texts": self.texts, "player_labels": self.labels}
        return {
            "players_are": self.kind,
            "examples": len(self.owner),
            "owner_digest": digest_of([self.owner.tolist(), list(self.names)]),
            **{name: list(said) for name, said in shown.items() if said},
        }


def single_examples(ids: Sequence[str] | int) -> DataPlayers:
    """Every training example is a player.

    Args:
        ids: their names, or how many there are.

    Raises:
        InputError: no examples, or an id that comes twice.
    """
    names = [str(i + 1) for i in range(ids)] if isinstance(ids, int) else list(ids)
    check_distinct(names, "ids of the training examples")
    return _players(names, np.arange(len(names)), "examples")


def groups(column: Sequence[Any]) -> DataPlayers:
    """Examples with one name in a column are a player: a source, an author, a topic.

    Players stand in order of first appearance.

    >>> groups(["web", "books", "web"]).names
    ('web', 'books')
    """
    named = [str(name) for name in column]
    if any(not name.strip() for name in named):
        raise InputError("an example's group is empty. Every example needs one.")
    names = list(dict.fromkeys(named))
    place = {name: number for number, name in enumerate(names)}
    return _players(names, np.array([place[name] for name in named]), "groups")


def clusters(features: Any, num_players: int, *, seed: int = 0) -> DataPlayers:
    """Examples alike by their features are a player, by k-means.

    Args:
        features: shape (examples, d), such as embeddings.
        num_players: how many clusters; fewer come back if some would be empty.
        seed: of the clustering.

    Raises:
        InputError: more clusters than examples, fewer than one, or features that are
            no finite matrix.
    """
    matrix = as_matrix(features, "features")
    if not 1 <= num_players <= len(matrix):
        raise InputError(
            f"num_players={num_players} clusters of {len(matrix)} examples. Choose "
            f"from 1 to {len(matrix)}."
        )
    found = _k_means(matrix, num_players, np.random.default_rng(seed))
    order = list(dict.fromkeys(found.tolist()))
    rank = np.empty(max(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    names = [f"cluster {number + 1}" for number in range(len(order))]
    return _players(names, rank[found], "clusters")


def visible_players(num_players: int, budget: int) -> float:
    """At most so many equally strong players can be told from chance.

    Over m uniform masks a player's effect is known to within sd(v) / sqrt(m), and the
    largest of n effects of players that do nothing reaches sqrt(2 ln n) times that
    (the expected maximum of n normal variables). If s players share the variance of v
    equally, theirs is sd(v) / sqrt(s): visible as long as s < m / (2 ln n).

    Raises:
        InputError: not even two would be; says how many players to group them into.
    """
    visible = budget / (2 * math.log(max(num_players, 2)))
    if num_players > 2 and visible < FEWEST_VISIBLE:
        fewest = math.ceil(FEWEST_VISIBLE * 2 * math.log(num_players))
        raise InputError(
            f"budget={budget} retrainings say nothing about {num_players} players: "
            "what the largest effect is by chance hides all but a single one's. Pass "
            f"budget={fewest} or more to see the strongest, or group the examples into "
            "fewer players (oracles.data.groups, oracles.data.clusters)."
        )
    return min(visible, float(num_players))


def _listed(texts: list[str]) -> str:
    """One text, or the beginnings of the first few of many."""
    if len(texts) == 1:
        return shortened(texts[0])
    first = " · ".join(f"“{shortened(text, IN_A_GROUP)}”" for text in texts[:LISTED])
    return f"{len(texts)} examples: {first}" + (" …" if len(texts) > LISTED else "")


def _counted(labels: list[str]) -> str:
    """The label all have, or how many have which."""
    counts = Counter(labels)
    if len(counts) == 1:
        return labels[0]
    return ", ".join(f"{count} {label}" for label, count in counts.most_common())


def _players(names: Sequence[str], owner: NDArray[np.int64], kind: str) -> DataPlayers:
    if not names:
        raise InputError("there are no training examples. Give at least one.")
    return DataPlayers(tuple(names), owner.astype(np.int64), kind)


def _k_means(
    points: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Lloyd's algorithm from k-means++ seeds; each point's cluster."""
    centres = points[[rng.integers(len(points))]]
    nearest = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and nearest.sum() > 0:
        chosen = points[rng.choice(len(points), p=nearest / nearest.sum())]
        centres = np.vstack([centres, chosen])
        nearest = np.minimum(nearest, ((points - chosen) ** 2).sum(axis=1))
    found = np.full(len(points), -1)
    for _ in range(100):
        distances = (centres**2).sum(axis=1) - 2 * points @ centres.T
        before, found = found, distances.argmin(axis=1)
        if (before == found).all():
            break
        sizes = np.bincount(found, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, found, points)
        filled = sizes > 0
        centres[filled] = sums[filled] / sizes[filled, None]
    return found
