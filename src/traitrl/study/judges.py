"""Which judge a study uses, and its making in each worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from traitrl.chat import Cached, Endpoint, OpenAICompatible
from traitrl.core import ConfigError, Frozen
from traitrl.judging import ModelScorer, RuleScorer, Scorer, load_judge

if TYPE_CHECKING:
    from traitrl.study.config import StudyConfig

RULES = "rules"


class JudgeChoice(Frozen):
    """``rules``, or a judge of the catalog with a model behind an OpenAI-compatible endpoint.

    ``key_env`` names the environment variable of the key; the key itself is never part of a study. With ``cache`` answers are
    kept in ``answers.sqlite`` of the study's folder.
    """

    name: str = RULES
    model: str = ""
    base_url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(default=64, ge=1)
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    cache: bool = True

    @property
    def label(self) -> str:
        """The judge's name as records have it."""
        return self.name if self.name == RULES else f"{self.name}:{self.model}"

    def identity(self, overlays: Sequence[Path]) -> str:
        """What its grades depend on: the prompts, the model and where it answers."""
        if self.name == RULES:
            return RULES
        return f"{load_judge(self.name, overlays).digest[:16]}:{self.endpoint().identity}"

    def endpoint(self) -> Endpoint:
        """Where its model answers."""
        fields = ("model", "base_url", "key_env", "concurrency", "structured")
        return Endpoint.model_validate({name: getattr(self, name) for name in fields})


class Judges(Frozen):
    """The judges of a study, made anew in each worker process."""

    training: JudgeChoice
    evals: JudgeChoice
    watch: JudgeChoice | None
    overlays: tuple[Path, ...]
    cache: Path

    def make(self) -> tuple[Scorer, Scorer, Scorer | None]:
        """The judges of training and evals, and the one that watches."""
        watch = make_judge(self.watch, self.overlays, self.cache) if self.watch else None
        return (
            make_judge(self.training, self.overlays, self.cache),
            make_judge(self.evals, self.overlays, self.cache),
            watch,
        )


def study_judges(study: StudyConfig, resolve: Callable[[str], str], overlays: Sequence[Path], cache: Path) -> Judges:
    """The judges that a study names, checked before anything is trained."""
    judges = Judges(
        training=study.judge,
        evals=study.eval_judge or study.judge,
        watch=study.watch_judge,
        overlays=tuple(overlays),
        cache=cache,
    )
    policies = [resolve(experiment.model) for experiment in study.experiment]
    for choice in (judges.training, judges.evals, *([judges.watch] if judges.watch else [])):
        check_judge(choice, overlays, policies)
    return judges


def check_judge(choice: JudgeChoice, overlays: Sequence[Path], policies: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for a judge that does not exist, has no model, compares pairs, or is one of ``policies``:
    a model must not grade itself."""
    if choice.name == RULES:
        return
    folder = load_judge(choice.name, overlays)
    if folder.settings.asks == "pair":
        raise ConfigError(f"judge {choice.name!r} compares pairs and gives no grades; choose another")
    if not choice.model:
        raise ConfigError(f"judge {choice.name!r} needs a model; add `model` and `base_url`")
    if choice.model in policies:
        raise ConfigError(f"{choice.model!r} would grade its own replies; give the judge another model")


def make_judge(choice: JudgeChoice, overlays: Sequence[Path], cache: Path) -> Scorer:
    """The judge, for this process. Raises :class:`ConfigError` when its key is not set."""
    if choice.name == RULES:
        return RuleScorer()
    model = OpenAICompatible(choice.endpoint())
    return ModelScorer(load_judge(choice.name, overlays), Cached(model, cache) if choice.cache else model)


def close_judges(*scorers: Scorer | None) -> None:
    """Release what the judges of a worker hold open. Not to be called from within an event loop."""
    for scorer in scorers:
        if isinstance(scorer, ModelScorer):
            asyncio.run(scorer.aclose())
