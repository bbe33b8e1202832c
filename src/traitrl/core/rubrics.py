"""Criteria, rubrics, verdicts and grades, and the one place where verdicts become a score."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from traitrl.core.frozen import Frozen
from traitrl.core.ids import Id

Points = Annotated[int, Field(ge=-10, le=10)]


class Check(Frozen):
    """A rule that decides a criterion without a model.

    ``contains``: at least one of ``values`` occurs as whole words. ``omits``: none of them does. ``equals``: the reply is one
    of them. ``matches``: one of them, a regular expression, is found. ``at_most_words``: the reply has at most ``limit`` words.
    Case and runs of white space never matter.
    """

    kind: Literal["contains", "omits", "equals", "matches", "at_most_words"]
    values: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> "Check":
        if (self.kind == "at_most_words") != (self.limit is not None) or (self.limit is None and not self.values):
            raise ValueError("`at_most_words` takes `limit`; every other check takes a non-empty list `values`")
        return self


class Criterion(Frozen):
    """One line of a rubric. Positive points reward a do, negative points punish a don't; never zero."""

    id: Id
    text: str = Field(min_length=1)
    points: Points
    check: Check | None = None

    @model_validator(mode="after")
    def _has_weight(self) -> "Criterion":
        if self.points == 0:
            raise ValueError(f"criterion {self.id}: points must not be 0")
        return self


class Rubric(Frozen):
    """The criteria by which one conversation's replies are judged: ids distinct, at least one with positive points."""

    criteria: tuple[Criterion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _usable(self) -> "Rubric":
        ids = [criterion.id for criterion in self.criteria]
        if len(set(ids)) != len(ids):
            raise ValueError(f"criterion ids must be distinct, got {ids}")
        if not any(criterion.points > 0 for criterion in self.criteria):
            raise ValueError("a rubric needs at least one criterion with positive points")
        return self


class Verdict(Frozen):
    """Whether one criterion is met, with the judge's reason. For a negative criterion *met* means the fault is there."""

    criterion_id: str
    reason: str = ""
    met: bool


class Grade(Frozen):
    """All verdicts on one reply and their score in [0, 1], or *ungraded* with a reason. A failure to measure is not a zero."""

    score: float | None = Field(default=None, ge=0.0, le=1.0)
    verdicts: tuple[Verdict, ...] = ()
    ungraded_reason: str | None = None

    @model_validator(mode="after")
    def _graded_or_not(self) -> "Grade":
        if (self.score is None) == (self.ungraded_reason is None):
            raise ValueError("a grade has either a score or an ungraded_reason")
        return self


def score_verdicts(rubric: Rubric, verdicts: Sequence[Verdict]) -> float:
    """Score = clip(points of met criteria / sum of positive points, 0, 1).

    Source: HealthBench (Arora et al. 2025, arXiv 2505.08775, section on grading). Raises ``ValueError`` unless the verdicts
    match the criteria one for one.
    """
    met = {verdict.criterion_id: verdict.met for verdict in verdicts}
    if len(met) != len(verdicts) or set(met) != {criterion.id for criterion in rubric.criteria}:
        raise ValueError("verdicts must match the criteria one for one")
    earned = sum(criterion.points for criterion in rubric.criteria if met[criterion.id])
    possible = sum(criterion.points for criterion in rubric.criteria if criterion.points > 0)
    return min(1.0, max(0.0, earned / possible))


def grade_from_verdicts(rubric: Rubric, verdicts: Sequence[Verdict]) -> Grade:
    """The grade of a reply whose criteria have all been decided."""
    return Grade(score=score_verdicts(rubric, verdicts), verdicts=tuple(verdicts))


def ungraded(reason: str) -> Grade:
    """The grade of a reply that could not be judged."""
    return Grade(ungraded_reason=reason)
