"""One graded answer: the common currency of evals, analysis and report."""

from typing import Literal

from pydantic import Field, model_validator

from traitrl.core.frozen import Frozen

Split = Literal["ood", "heldout", "capability"]


class Record(Frozen):
    """One graded answer. ``score`` is in [0, 1], higher is more aligned; ``None`` means ungraded, with the reason."""

    experiment: str
    arm: str
    seed: int
    step: int = Field(ge=0)
    checkpoint: str
    suite_id: str
    family: str
    item_id: str
    cluster: str
    trait: str | None = None
    domain: str | None = None
    split: Split
    attack: str = "none"
    strength: float = 0.0
    sample: int = 0
    refusal: bool | None = None
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    ungraded_reason: str | None = None
    judge: str
    reply: str = ""

    @model_validator(mode="after")
    def _graded_or_not(self) -> "Record":
        if (self.score is None) == (self.ungraded_reason is None):
            raise ValueError("a record has either a score or an ungraded_reason")
        return self
