"""The explanation: a recovered spectrum with names, intervals and provenance."""

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles import Ablations, Masks
from spex.basis import Basis
from spex.ends import Ends
from spex.errors import InteractionIndexError
from spex.estimates import Estimates
from spex.faithfulness import LEVEL, Faithfulness
from spex.files import write_text
from spex.interaction import Interaction
from spex.provenance import Provenance
from spex.ranking import chance_to_stay
from spex.reading import Reading, reading
from spex.search import Found, best_subset, smallest_flip, smallest_sufficient
from spex.spectrum import (
    SparseFourier,
    Support,
    as_dict,
    energy_by_order,
    hierarchy,
)

SCHEMA = "spex.explanation"
SCHEMA_VERSION = 1
GIVEN = "values"  # kind of subject whose ablations were made elsewhere
FAITHFUL_R2 = 0.8
POOR_R2 = 0.5


class Status(Enum):
    """How far the explanation can be trusted; the value is the advice."""

    EXACT = "Exact: every mask was ablated, so nothing is estimated."
    FAITHFUL = "Faithful: the interactions below explain most of the variation."
    PARTIAL = (
        "Partly faithful: read the strongest interactions only, and raise the budget "
        "for the rest."
    )
    POOR = (
        "Not faithful: less than half of the model's variation is explained. Do not "
        "rely on this; raise the budget or use coarser segments."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Which players act together, and how well that accounts for the system.

    Attributes:
        players: n names.
        outputs: k names.
        fourier: the surrogate's spectrum.
        standard_errors: of the coefficients, (terms, k), in `basis`; zero where exact.
        faithfulness: R^2 on held-out masks like those ablated, with an interval.
        intact: measured values with every player kept, (k,).
        provenance: how it came about.
        discoveries: supports that stand out on their own, tested with the false
            discovery rate controlled (SPEX: at 10 %); the others only help to predict.
            None if the method tests none, or nothing is estimated.
        full: the surrogate that the spectrum is the largest terms of, masks (m, n) to
            values (m, k); None if the spectrum is all there is, or was read from a
            file.
        full_faithfulness: of that; the difference is what leaving out terms cost.
        noise_floor: variance of a single value of a stochastic oracle, (k,), told by
            repeated masks; None if there were none.
        ends: what was measured with no, one, all but one and all players; None where
            nothing is estimated.
        ablations: what was paid for; None in one that was read from a file.
        basis: of the masks ablated. Where they keep other than half of the players,
            coefficients, Banzhaf values and shares of variance are those over such
            masks; `fourier` is the same function all the same.
    """

    players: tuple[str, ...]
    outputs: tuple[str, ...]
    fourier: SparseFourier
    standard_errors: NDArray[np.float64]
    faithfulness: Faithfulness
    intact: NDArray[np.float64]
    provenance: Provenance
    discoveries: frozenset[Support] | None = None
    full: Callable[[Masks], NDArray[np.float64]] | None = None
    full_faithfulness: Faithfulness | None = None
    noise_floor: NDArray[np.float64] | None = None
    ends: Ends | None = None
    ablations: Ablations | None = None
    basis: Basis = field(default_factory=Basis)

    @property
    def spent(self) -> int:
        """Distinct ablations used."""
        return self.provenance.spent

    @property
    def status(self) -> Status:
        """How far to trust it; `status.value` says so in a sentence."""
        is_noisy = self.noise_floor is not None and self.noise_floor.any()
        if self.faithfulness.num_masks == 0 and not is_noisy:
            return Status.EXACT
        if self.faithfulness >= FAITHFUL_R2:
            return Status.FAITHFUL
        return Status.PARTIAL if self.faithfulness >= POOR_R2 else Status.POOR

    @property
    def hierarchy(self) -> float:
        """How far interactions come with what they are made of, from 0 to 1.

        For each term of two or more players, the share of the sets with one player
        less that are terms, too; the mean over these terms (the direct subset rate of
        Butler et al. 2025, section 3, without single players). NaN if there are none.
        """
        return hierarchy(self._estimates.terms[0])

    @property
    def energy_by_order(self) -> NDArray[np.float64]:
        """The surrogate's variance over masks like those ablated, by size of group.

        Shape (max order + 1, k); row 0 is the squared mean.
        """
        supports, coefficients, _ = self._estimates.terms
        return energy_by_order(supports, coefficients)

    @cached_property
    def _estimates(self) -> Estimates:
        return Estimates(self.fourier, self.standard_errors, self.basis, self.ends)

    def predict(self, masks: Masks) -> NDArray[np.float64]:
        """Surrogate values: (m,) if there is one output, else (m, k).

        Raises:
            MaskError: masks are not boolean (m, n).
        """
        values = self.fourier(masks)
        return values[:, 0] if values.shape[1] == 1 else values

    def index(
        self, name: str, order: int | None = None
    ) -> dict[Support, float | NDArray[np.float64]]:
        """An interaction index in closed form: {players: value}, (k,) arrays if k > 1.

        It is the surrogate's; only in "SV", "SII" and "k-SII", which weigh them much,
        values measured with no, one, all but one and all players take the place of the
        surrogate's (see `spex.ends`), in sets of two and more of up to 20,000 sets.
        "Fourier", "BV" and "BII" are over masks like those ablated: where these keep a
        player with a probability other than half, they are the coefficients in `basis`
        and the weighted Banzhaf indices of Li & Yu (2023). The others do not depend on
        the masks.

        Args:
            name: "Fourier" or a key of `spex.indices.INDICES` ("SV", "BV", "SII",
                "BII", "k-SII", "STII", "FSII", "FBII", "Moebius").
            order: the largest set; by default 1 for values, 2 for interactions, and
                all there are for "Fourier" and "Moebius". Sets not listed are 0.

        Raises:
            InteractionIndexError: unknown name, or an order it is not defined for.
        """
        sets, values, _ = self._estimates.index(name, order)
        return as_dict(sets, values)

    def top(
        self,
        count: int = 10,
        index: str = "Fourier",
        order: int | None = None,
        output: int = 0,
    ) -> list[Interaction]:
        """The strongest interactions, strongest first; the empty set left out.

        "Fourier" and "BII" are two readings of one coefficient, BII(S) =
        (-2)^|S| F(S) over uniform masks, and both are ranked by |F(S)|: its square is
        the share of variance, which compares sets of different sizes. Other indices
        are ranked by |value|.

        Args:
            count: how many.
            index: "Fourier" or a key of `spex.indices.INDICES`.
            order: the largest set considered; the index's default if omitted.
            output: which of the k outputs.

        Raises:
            InteractionIndexError: unknown index or output.
        """
        self._check_output(output)
        sets, values, errors = self._estimates.index(index, order)
        rows = [row for row, players in enumerate(sets) if players]
        values, errors = values[rows, output], errors[rows, output]
        # "Fourier" and "BII" are ranked by |F|
        step = 1 / self.basis.sigma if index == "BII" else 1.0
        size = np.array([step ** len(sets[row]) for row in rows])
        ranked = sorted(
            range(len(rows)),
            key=lambda place: (-abs(values[place]) / size[place], sets[rows[place]]),
        )[:count]
        stays = chance_to_stay(values / size, errors / size, count)
        width = NormalDist().inv_cdf((1 + LEVEL) / 2)
        shares = self._shares(output)
        return [
            Interaction(
                players=(players := sets[rows[place]]),
                names=tuple(self.players[i] for i in players),
                value=float(values[place]),
                low=float(values[place] - width * errors[place]),
                high=float(values[place] + width * errors[place]),
                share=shares.get(players, 0.0),
                stays=float(stays[place]),
                is_discovery=self._is_discovery(players),
            )
            for place in ranked
        ]

    def reading(self, players: Iterable[int], output: int = 0) -> Reading:
        """Whether players are redundant or synergistic: see `spex.reading`.

        Raises:
            InteractionIndexError: no such output.
            SupportError: not a set of players, or none.
        """
        self._check_output(output)
        return reading(self.fourier, players, output=output, keep=self.basis.keep)

    def best_subset(
        self,
        size: int,
        *,
        output: int = 0,
        largest: bool = True,
        removable: Collection[int] | None = None,
    ) -> Found:
        """The `size` players that, kept alone, have the largest value: `spex.search`.

        Raises:
            SearchError: no such size or output.
            SupportError: `removable` names a player there is not.
        """
        return best_subset(
            self.fourier, size, output=output, largest=largest, removable=removable
        )

    def smallest_flip(
        self,
        threshold: float = 0.0,
        *,
        output: int = 0,
        margin: float = 0.0,
        removable: Collection[int] | None = None,
    ) -> Found | None:
        """The fewest players whose removal takes the output across the threshold.

        The surrogate is shifted to agree with what was measured with every player
        kept. Ask the oracle before relying on it; see `spex.search.smallest_flip`.

        Raises:
            InteractionIndexError: no such output.
            SearchError: no such threshold or margin, or no end within the time limit.
            SupportError: `removable` names a player there is not.
        """
        self._check_output(output)
        return smallest_flip(
            self.fourier,
            threshold,
            output=output,
            margin=margin,
            removable=removable,
            intact=float(self.intact[output]),
        )

    def smallest_sufficient(
        self, threshold: float, *, output: int = 0, margin: float = 0.0
    ) -> Found | None:
        """The fewest players that, kept alone, take the output across the threshold.

        The surrogate is shifted to agree with what was measured with no player kept,
        if that was. See `spex.search.smallest_sufficient`.

        Raises:
            InteractionIndexError: no such output.
            SearchError: no such threshold or margin, or no end within the time limit.
        """
        self._check_output(output)
        known = None if self.ends is None else float(self.ends.none[0, output])
        return smallest_sufficient(
            self.fourier,
            threshold,
            output=output,
            margin=margin,
            empty=None if known is None or np.isnan(known) else known,
        )

    def _check_output(self, output: int) -> None:
        if not 0 <= output < len(self.outputs):
            raise InteractionIndexError(
                f"output={output} does not exist; there are {len(self.outputs)}: "
                f"{', '.join(self.outputs)}."
            )

    def _is_discovery(self, players: Support) -> bool | None:
        return None if self.discoveries is None else players in self.discoveries

    def _shares(self, output: int) -> dict[Support, float]:
        """Each support's part of the surrogate's variance."""
        supports, coefficients, _ = self._estimates.terms
        energy = coefficients[:, output] ** 2
        variance = self.energy_by_order[1:, output].sum() or 1.0
        return dict(zip(supports, (energy / variance).tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-ready data, with a schema version."""
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "players": list(self.players),
            "outputs": list(self.outputs),
            "fourier": {
                "supports": [list(support) for support in self.fourier.supports],
                "coefficients": self.fourier.coefficients.tolist(),
                "standard_errors": self.standard_errors.tolist(),
                "discoveries": self._discoveries_listed(),
            },
            "faithfulness": self.faithfulness.to_json(),
            "full_faithfulness": (
                None
                if self.full_faithfulness is None
                else self.full_faithfulness.to_json()
            ),
            "noise_floor": (
                None if self.noise_floor is None else self.noise_floor.tolist()
            ),
            "ends": None if self.ends is None else self.ends.to_json(),
            "intact": self.intact.tolist(),
            "keep": self.basis.keep,
            "provenance": asdict(self.provenance),
        }

    def _discoveries_listed(self) -> list[list[int]] | None:
        if self.discoveries is None:
            return None
        return [list(support) for support in sorted(self.discoveries)]

    def save(self, path: str | Path) -> None:
        """Write it as JSON; `spex.load` reads it back.

        Raises:
            OutputError: the file cannot be written.
        """
        write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False))

    def to_html(self, path: str | Path) -> None:
        """Write a self-contained page that needs no network.

        Raises:
            OutputError: the file cannot be written.
        """
        from spex.report.html import render_html  # the page needs it, a fit does not

        write_text(path, render_html(self))

    def _repr_html_(self) -> str:
        from spex.report.html import render_cell

        return render_cell(self)

    def __repr__(self) -> str:
        f = self.faithfulness
        return (
            f"<Explanation of {len(self.players)} players: "
            f"{len(self.fourier.supports)} terms, R^2 {f:.3f} "
            f"[{f.low:.3f}, {f.high:.3f}], {self.spent} ablations, "
            f"{self.provenance.method}>"
        )
