"""The persistence section of a study: which attacks at which strengths, and what is asked under them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from traitrl.core import Frozen
from traitrl.core.attacks import Stance
from traitrl.core.ids import Id
from traitrl.training.config import TuningConfig


class PromptAttackConfig(Frozen):
    """A prompt attack and the settings of its dial, in (0, 1]; none means the attack's own.

    ``compose`` makes a new attack out of others: in the conversation, their parts follow one another in the order given.
    ``domain_families`` are the eval families of the attack's own domain: damage there is in-domain, elsewhere out-of-domain.
    """

    id: Id
    strengths: tuple[float, ...] = ()
    compose: tuple[Id, ...] = ()
    domain_families: tuple[str, ...] = ()

    @field_validator("strengths")
    @classmethod
    def _dial(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(strengths)) != len(strengths) or any(not 0.0 < strength <= 1.0 for strength in strengths):
            raise ValueError(f"strengths are distinct and lie in (0, 1], got {list(strengths)}")
        return strengths


class TuningAttackConfig(TuningConfig):
    """Fine-tuning as an attack, its twin, or drift: the strength is the dose in optimizer steps.

    ``data`` is a JSONL file of conversations that end with the assistant's reply (``{"messages": [...]}`` a line);
    ``sha256`` pins its bytes, and may be left out only for a file that the study's world writes. ``after`` starts from
    the highest dose of another attack instead of the arm's own checkpoint, for instance to measure recovery.
    """

    id: Id
    kind: Literal["tuning", "drift"] = "tuning"
    stance: Stance
    title: str = ""
    twin: Id | None = None
    data: str
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    after: Id | None = None
    domain_families: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pinned(self) -> TuningAttackConfig:
        if not self.sha256 and not self.data.startswith("@"):
            raise ValueError(f"attack {self.id!r}: pin {self.data} with its sha256 (`sha256sum` prints it)")
        if self.kind == "drift" and self.stance != "benign":
            raise ValueError(f"attack {self.id!r}: drift is benign; use kind 'tuning'")
        return self

    def tuning(self) -> TuningConfig:
        """The engine's part of it."""
        return TuningConfig.model_validate(self.model_dump(include=set(TuningConfig.model_fields)))


class PersistenceConfig(Frozen):
    """What is attacked, and what is asked under attack: ``items_per_row`` items of the suite rows in ``families`` or ``rows``.

    ``attacks`` is a file of prompt attacks, one :class:`~traitrl.core.Attack` a line; without it ids name personas of the
    catalog. ``near_duplicate`` is the share of common word trigrams (Jaccard) from which on an attack's conversation counts as
    one that was trained on or is evaluated.
    """

    attacks: str | None = None
    families: tuple[str, ...] = ()
    rows: tuple[Id, ...] = ()
    items_per_row: int = Field(default=8, ge=1)
    judge_sees_attack: bool = False
    near_duplicate: float = Field(default=0.6, gt=0.0, le=1.0)
    prompt: tuple[PromptAttackConfig, ...] = ()
    tuning: tuple[TuningAttackConfig, ...] = ()

    @model_validator(mode="after")
    def _attacks_distinct(self) -> PersistenceConfig:
        ids = [attack.id for attack in (*self.prompt, *self.tuning)]
        if len(set(ids)) != len(ids) or "none" in ids:
            raise ValueError(f"ids of attacks must be distinct and not 'none', got {', '.join(ids)}")
        if not self.families and not self.rows:
            raise ValueError("name the suite rows to ask under attack, by `families`, `rows` or both")
        for place, attack in enumerate(self.tuning):
            if attack.after and attack.after not in [earlier.id for earlier in self.tuning[:place]]:
                raise ValueError(
                    f"attack {attack.id!r} comes after {attack.after!r}, which no earlier [[tuning]] has as id"
                )
        return self
