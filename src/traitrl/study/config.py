"""The study file: TOML on disk, frozen here, unknown keys refused with the nearest valid one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from traitrl.analysis.config import AnalysisConfig
from traitrl.core import ConfigError, Frozen, first_complaint, nearest
from traitrl.core.ids import Id
from traitrl.evals.run import EvalConfig
from traitrl.judging import JudgeChoice
from traitrl.persistence.config import PersistenceConfig
from traitrl.store import clear_os_errors
from traitrl.training.config import TrainingConfig


class Experiment(Frozen):
    """One start model and the arms trained from it."""

    id: Id
    title: str
    model: str
    arms: tuple[Id, ...] = Field(min_length=1)


class EvalsSection(EvalConfig):
    """What is asked of every checkpoint. ``curve_items`` of each row are asked of checkpoints before the last."""

    suite: str = "paper53"
    items: str
    capability: tuple[Id, ...] = ()
    heldout_traits: str = "measured7"
    skip: tuple[Id, ...] = ()
    curve_items: int = Field(default=8, ge=0)


class StudyConfig(Frozen):
    """A study. Values that start with ``@`` name a file that the study's world provides; all others are paths or hub names."""

    name: Id
    title: str
    world: str | None = None
    world_options: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    workers: int = Field(
        default=2, ge=0, description="runs side by side, each in a process; 0: one by one, in this one"
    )
    judge: JudgeChoice = JudgeChoice()
    eval_judge: JudgeChoice | None = Field(
        default=None, description="grades evals and attacks; the judge of training if none"
    )
    watch_judge: JudgeChoice | None = Field(default=None, description="looks on in training, see training.watch_every")
    audit_replies: int = Field(
        default=200,
        ge=0,
        description="labelled replies on which each judge is audited before training, with some 5 questions each; 0 for none",
    )
    engine: str = "trl"
    scenarios: str
    standard: str
    rubrics: dict[str, str] = Field(default_factory=dict)
    refusals: str | None = None
    experiment: tuple[Experiment, ...] = Field(min_length=1)
    training: TrainingConfig = TrainingConfig()
    evals: EvalsSection
    persistence: PersistenceConfig | None = None
    analysis: AnalysisConfig = AnalysisConfig()

    @field_validator("judge", "eval_judge", "watch_judge", mode="before")
    @classmethod
    def _judge_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("seeds")
    @classmethod
    def _seeds_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be distinct and not negative")
        return seeds

    @model_validator(mode="after")
    def _experiments_distinct(self) -> StudyConfig:
        if self.watch_judge is not None and not self.training.watch_every:
            raise ValueError("watch_judge looks at nothing; set training.watch_every to the steps between its looks")
        ids = [experiment.id for experiment in self.experiment]
        if len(set(ids)) != len(ids):
            raise ValueError(f"experiment ids must be distinct, got {', '.join(ids)}")
        known = {(experiment.id, arm) for experiment in self.experiment for arm in experiment.arms}
        for subset in self.analysis.subsets:
            for arm in (subset.arm, subset.versus):
                if (subset.experiment, arm) not in known:
                    raise ValueError(f"subset {subset.name!r}: experiment {subset.experiment!r} has no arm {arm!r}")
        for attack in self.persistence.every_attack if self.persistence else ():
            for name in attack.experiments:
                if name not in ids:
                    raise ValueError(f"attack {attack.id!r}: no experiment {name!r}{nearest(name, ids)}")
        return self


def load_study(path: Path) -> StudyConfig:
    """Read and validate a study file; raises :class:`ConfigError` with file, key and the nearest valid name."""
    with clear_os_errors(path, "read"):
        text = path.read_text(encoding="utf-8")
    try:
        return StudyConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_complaint(error, StudyConfig)}") from error
