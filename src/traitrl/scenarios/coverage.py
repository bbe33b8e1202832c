"""How often a run would show each scenario, and whether the dataset can bear it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from traitrl.core import Frozen, Scenario

# Repeating text up to about four times is nearly as good as new text, and beyond it returns shrink fast
# (Muennighoff et al. 2023, arXiv 2305.16264). Measured for pretraining; we know of no such figure for rubric RL.
BEARABLE_EXPOSURES = 4


class Coverage(Frozen):
    """Exposures of the training scenarios of one arm. ``cells`` counts trait x domain cells with at least one scenario."""

    scenarios: int
    cells: int
    slice_slots: int
    fewest_exposures: int
    most_exposures: int
    bearable: int = Field(ge=1)

    @property
    def warning(self) -> str | None:
        """One line if some scenario is shown more often than is bearable."""
        if self.scenarios == 0:
            return "there is no training scenario for this arm"
        if self.most_exposures <= self.bearable:
            return None
        need = -(-self.slice_slots // self.bearable)
        return (
            f"each scenario is shown up to {self.most_exposures} times, {self.bearable} are bearable: "
            f"use {need} scenarios instead of {self.scenarios}, or fewer steps, prompts or a smaller share"
        )


def coverage(
    rows: Sequence[Scenario], steps: int, prompts: int, share: float, *, bearable: int = BEARABLE_EXPOSURES
) -> Coverage:
    """k = round(share * steps * prompts) slots are dealt evenly, so exposures differ by one at most."""
    train = [row for row in rows if row.split == "train"]
    slots = round(share * steps * prompts)
    least, rest = divmod(slots, len(train)) if train else (0, 0)
    return Coverage(
        scenarios=len(train),
        cells=len(Counter((row.trait, row.domain) for row in train)),
        slice_slots=slots,
        fewest_exposures=least,
        most_exposures=least + (1 if rest else 0),
        bearable=bearable,
    )
