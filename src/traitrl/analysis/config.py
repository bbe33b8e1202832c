"""What an analysis is asked to do."""

from typing import Literal

from pydantic import Field, model_validator

from traitrl.core import Frozen
from traitrl.core.records import Split

Level = Literal["suite_id", "trait"]


class Subset(Frozen):
    """One claim about a group of evals: ``arm`` against ``versus`` on the evals of ``split`` that pass the filters.

    An empty filter admits everything. ``expectation`` is what the claim says before the data are seen; it changes no
    number.
    """

    name: str
    title: str
    experiment: str
    arm: str
    versus: str = "standard"
    split: Split = "ood"
    families: tuple[str, ...] = ()
    exclude_families: tuple[str, ...] = ()
    suite_ids: tuple[str, ...] = ()
    expectation: Literal["gain", "none", "within-margin", "none-significant", "report"] = "report"
    margin: float = Field(default=0.0, ge=0.0, le=1.0)
    level: Level = "suite_id"

    @model_validator(mode="after")
    def _makes_sense(self) -> "Subset":
        if self.arm == self.versus:
            raise ValueError(f"subset {self.name!r} compares arm {self.arm!r} with itself")
        if self.level == "trait" and self.split != "heldout":
            raise ValueError(f"subset {self.name!r}: level 'trait' exists for split 'heldout' only")
        if self.level == "trait" and (self.suite_ids or self.families or self.exclude_families):
            raise ValueError(
                f"subset {self.name!r}: families and suite_ids choose evals; level 'trait' takes every trait"
            )
        return self


class AnalysisConfig(Frozen):
    """``alpha`` is both 1 - the confidence of every interval and the false discovery rate; ``bootstrap`` counts
    resamples.

    ``covariates`` is the path of a CSV with a column ``suite_id`` and any number of numeric columns; a blank cell is
    missing.
    """

    baseline: str = "standard"
    alpha: float = Field(default=0.05, gt=0.0, lt=1.0)
    bootstrap: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, ge=0)
    subsets: tuple[Subset, ...] = ()
    covariates: str | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> "AnalysisConfig":
        names = [subset.name for subset in self.subsets]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"subset names must be unique; repeated: {', '.join(repeated)}")
        return self
