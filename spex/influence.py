"""What training examples do to the outputs of a data oracle.

An output is what is measured at one test point after training on the kept examples. The
effect of an example is its Banzhaf value over masks like those ablated: how much
keeping it raises the output, on average over what else is kept (Wang & Jia 2023;
Ilyas et al. 2022 call it the datamodel's weight).
"""

import sys
from dataclasses import dataclass

from spex.errors import InteractionIndexError
from spex.explanation import Explanation
from spex.interaction import Interaction
from spex.reading import Reading, readings

KIND = "data"  # of subject
MARGIN, LOSS = "margin", "loss"
VALUES = ("SV", "BV")  # indices of single players


@dataclass(frozen=True)
class Influence:
    """What training examples do to one output.

    Attributes:
        output: its number.
        is_loss: whether it is the better the smaller it is.
        helpful: single players that make it better when kept, most helpful first.
        harmful: those that make it worse, most harmful first.
        together: groups of two or more players, the strongest first, as
            `Explanation.top` ranks them.
        readings: of those, whether they are redundant, synergistic or additive.
    """

    output: int
    is_loss: bool
    helpful: tuple[Interaction, ...]
    harmful: tuple[Interaction, ...]
    together: tuple[Interaction, ...]
    readings: tuple[Reading, ...]

    @classmethod
    def of(
        cls,
        explanation: Explanation,
        output: int = 0,
        *,
        top: int = 10,
        index: str = "BII",
    ) -> "Influence":
        """The strongest effects on one output.

        Args:
            explanation: of a data oracle, or of any other.
            output: which of the k outputs.
            top: players and groups of each kind.
            index: of groups, single players being told by their Banzhaf values; or
                "SV" or "BV", of single players, groups being told by "BII".

        Raises:
            InteractionIndexError: no such output or index.
        """
        of_one, of_groups = indices(index)
        alone = explanation.top(sys.maxsize, of_one, output=output)
        found = explanation.top(sys.maxsize, of_groups, output=output)
        groups = [g for g in found if len(g.players) > 1 and g.value][:top]
        is_loss = measured(explanation, output) == LOSS
        better = -1 if is_loss else 1
        return cls(
            output=output,
            is_loss=is_loss,
            helpful=tuple([x for x in alone if better * x.value > 0][:top]),
            harmful=tuple([x for x in alone if better * x.value < 0][:top]),
            together=tuple(groups),
            readings=tuple(
                readings(
                    explanation.fourier,
                    [group.players for group in groups],
                    output=output,
                    keep=explanation.basis.keep,
                )
            ),
        )


def indices(index: str) -> tuple[str, str]:
    """The index of single players and that of groups, one of which was asked for.

    >>> indices("SV"), indices("FSII")
    (('SV', 'BII'), ('BV', 'FSII'))
    """
    return (index, "BII") if index in VALUES else ("BV", index)


def measured(explanation: Explanation, output: int) -> str:
    """What an output measures: "margin", "loss", "accuracy", or "" if it is unknown.

    Raises:
        InteractionIndexError: no such output.
    """
    if not 0 <= output < len(explanation.outputs):
        raise InteractionIndexError(
            f"output={output} does not exist; there are {len(explanation.outputs)}."
        )
    kinds = explanation.provenance.subject.get("measured", [])
    if len(kinds) == 1:
        return str(kinds[0])
    return next(
        (k for k in kinds if explanation.outputs[output].split(" of ")[0] == k), ""
    )
