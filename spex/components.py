"""What components do to a behaviour, one by one and together.

The effect of a component is its Banzhaf value over masks like those ablated: how much
the output rises where it works, on average over which others do. In a game of prompt
segments and components, the segments are the players that are not components.
"""

import sys
from dataclasses import dataclass
from enum import Enum

from oracles.components import Component
from spex.explanation import Explanation
from spex.interaction import Interaction
from spex.reading import Reading, readings
from spex.spectrum import Support

KIND = "components"  # of subject
MOST_OUTPUTS = 8  # that reports show


class Where(Enum):
    """Where the players of a group stand."""

    WITHIN = "within a layer"
    ACROSS = "across layers"
    MIXED = "segments and components"
    SEGMENTS = "segments"


@dataclass(frozen=True)
class Group:
    """Players that act together.

    Attributes:
        found: who they are, and what they do together, by an interaction index.
        reading: whether they are redundant, synergistic or additive.
        where: within a layer, across layers, or with segments of the prompt.
    """

    found: Interaction
    reading: Reading
    where: Where


@dataclass(frozen=True)
class Effects:
    """What players do to one output.

    Attributes:
        values: Banzhaf value of each player, (n,).
        alone: single players by |Banzhaf value|, the strongest first.
        groups: of two or more players, the strongest first.
    """

    values: tuple[float, ...]
    alone: tuple[Interaction, ...]
    groups: tuple[Group, ...]

    @classmethod
    def of(
        cls,
        explanation: Explanation,
        output: int = 0,
        *,
        top: int = 10,
        index: str = "BII",
    ) -> "Effects":
        """The strongest effects on one output.

        Args:
            explanation: of a component oracle, or of a mixed one.
            output: which of the k outputs.
            top: single players, and groups of each `Where`, that are listed.
            index: of groups, by which they are ranked as `Explanation.top` does.

        Raises:
            InteractionIndexError: no such output or index.
        """
        alone = explanation.top(sys.maxsize, "BV", output=output)
        values = [0.0] * len(explanation.players)
        for one in alone:
            values[one.players[0]] = one.value
        chosen, places = _strongest(explanation, index, output, top)
        read = readings(
            explanation.fourier,
            [found.players for found in chosen],
            output=output,
            keep=explanation.basis.keep,
        )
        groups = map(Group, chosen, read, places)
        return cls(tuple(values), tuple(alone[:top]), tuple(groups))


def components_of(explanation: Explanation) -> dict[int, Component]:
    """Player -> component, of those that are; empty where none is described."""
    subject = explanation.provenance.subject
    listed = [Component(**told) for told in subject.get("components", ())]
    first = len(explanation.players) - len(listed)
    return {first + i: component for i, component in enumerate(listed)}


def where(components: dict[int, Component], players: Support) -> Where:
    """Where a group stands, of which `components` are those that are components."""
    layers = [components[i].layer for i in players if i in components]
    if not layers:
        return Where.SEGMENTS
    if len(layers) < len(players):
        return Where.MIXED
    return Where.WITHIN if len(set(layers)) == 1 else Where.ACROSS


def _strongest(
    explanation: Explanation, index: str, output: int, top: int
) -> tuple[list[Interaction], list[Where]]:
    """So many groups of each `Where`, in order of strength, and where they stand."""
    components = components_of(explanation)
    left = dict.fromkeys(Where, top)
    chosen, places = [], []
    for found in explanation.top(sys.maxsize, index, output=output):
        place = where(components, found.players)
        if len(found.players) > 1 and left[place]:
            left[place] -= 1
            chosen.append(found)
            places.append(place)
    return chosen, places
