"""What an analysis is asked to do."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from traitrl.core import Frozen
from traitrl.core.attacks import AttackKind, Stance
from traitrl.core.ids import nearest
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


class AttackFacts(Frozen):
    """What the analysis must know of an attack that records cannot say.

    ``twin`` is the attack of another stance that tells "harder to push" from "rigid". ``domain_families`` are the eval
    families of the domain that the attack's own data are from: damage there is in-domain, elsewhere out-of-domain.
    ``recovery_of`` names the attack whose weights these further (benign) steps start from, ``recovery_from`` its dose;
    without it, the highest that was measured.
    """

    id: str
    title: str = ""
    kind: AttackKind
    stance: Stance
    twin: str | None = None
    domain_families: tuple[str, ...] = ()
    recovery_of: str | None = None
    recovery_from: float | None = Field(default=None, gt=0.0)

    @model_validator(mode="after")
    def _makes_sense(self) -> "AttackFacts":
        if self.id == "none":
            raise ValueError("attack id 'none' means that there is no attack")
        if self.id in (self.twin, self.recovery_of):
            raise ValueError(f"attack {self.id!r} is its own twin or recovery")
        if self.recovery_from is not None and self.recovery_of is None:
            raise ValueError(f"attack {self.id!r} has recovery_from without recovery_of")
        return self


class PersistenceClaim(Frozen):
    """One claim about what an attack does to ``arm``, and to ``versus``, on the evals of ``split`` that pass the filters.

    Without ``strength`` the attack must have been run at one strength only. Expectations: ``degrades-less``, the arm loses less
    than ``versus``; ``equivalent``, their losses differ by less than ``margin``; ``falls``, every arm of the experiment loses;
    ``holds``, no arm of it loses as much as ``margin``; ``none``, no difference is found; ``report``, nothing is expected.
    """

    name: str
    title: str
    experiment: str
    arm: str
    versus: str = "standard"
    attack: str
    strength: float | None = Field(default=None, gt=0.0)
    split: Split = "ood"
    families: tuple[str, ...] = ()
    exclude_families: tuple[str, ...] = ()
    expectation: Literal["degrades-less", "equivalent", "falls", "holds", "none", "report"] = "report"
    margin: float = Field(default=0.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _makes_sense(self) -> "PersistenceClaim":
        if self.arm == self.versus:
            raise ValueError(f"persistence claim {self.name!r} compares arm {self.arm!r} with itself")
        if (self.expectation in ("equivalent", "holds")) != (self.margin > 0):
            raise ValueError(
                f"persistence claim {self.name!r}: 'equivalent' and 'holds' need a margin, others take none"
            )
        return self


class AnalysisConfig(Frozen):
    """``alpha`` is both 1 - the confidence of every interval and the false discovery rate; ``bootstrap`` counts
    resamples.

    ``covariates`` is the path of a CSV with a column ``suite_id`` and any number of numeric columns; a blank cell is
    missing. ``equivalence_margin`` is the score difference below which twins are said to steer two arms alike; a claim
    states its own.
    """

    baseline: str = "standard"
    alpha: float = Field(default=0.05, gt=0.0, lt=1.0)
    bootstrap: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, ge=0)
    subsets: tuple[Subset, ...] = ()
    covariates: str | None = None
    attacks: tuple[AttackFacts, ...] = ()
    persistence_claims: tuple[PersistenceClaim, ...] = ()
    equivalence_margin: float = Field(default=0.05, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "AnalysisConfig":
        _refuse_repeated("subset names", (subset.name for subset in self.subsets))
        _refuse_repeated("attack ids", (attack.id for attack in self.attacks))
        _refuse_repeated("persistence claim names", (claim.name for claim in self.persistence_claims))
        ids = {attack.id for attack in self.attacks}
        for claim in self.persistence_claims:
            if ids and claim.attack not in ids:
                raise ValueError(
                    f"persistence claim {claim.name!r}: no attack {claim.attack!r}{nearest(claim.attack, ids)}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the persistence keys out of a study that has no attacks, so that its folders keep their identity."""
        data: dict[str, Any] = handler(self)
        if not self.attacks and not self.persistence_claims:
            for key in ("attacks", "persistence_claims", "equivalence_margin"):
                data.pop(key, None)
        return data


def _refuse_repeated(what: str, names: Iterable[str]) -> None:
    held = list(names)
    repeated = sorted({name for name in held if held.count(name) > 1})
    if repeated:
        raise ValueError(f"{what} must be unique; repeated: {', '.join(repeated)}")
