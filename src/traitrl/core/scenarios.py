"""Rows of text: scenarios (conversation + rubric), standard RL prompts and eval items."""

from typing import Literal

from pydantic import Field, model_validator

from traitrl.core.frozen import Frozen
from traitrl.core.ids import Id, ItemId
from traitrl.core.rubrics import Criterion, Rubric, Verdict

Role = Literal["system", "user", "assistant"]
ExemplarName = Literal["good", "poor", "refusal"]


class Message(Frozen):
    """One turn of a conversation."""

    role: Role
    content: str = Field(min_length=1)


class Exemplar(Frozen):
    """A reply with a verdict for every criterion: a labelled point for calibrating judges."""

    reply: str = Field(min_length=1)
    verdicts: tuple[Verdict, ...] = ()


def check_conversation(messages: tuple[Message, ...]) -> None:
    """Raise ``ValueError`` unless an optional system turn is followed by user/assistant turns that end with the user."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles and roles[0] == "system" else roles
    expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(turns))]
    if not turns or turns != expected or turns[-1] != "user":
        raise ValueError(f"turns must alternate user/assistant and end with the user, got {roles}")


class _Judged(Frozen):
    """A conversation that waits for a reply, and the rubric that grades the reply."""

    id: ItemId
    messages: tuple[Message, ...]
    rubric: tuple[Criterion, ...]

    @model_validator(mode="after")
    def _well_formed(self) -> "_Judged":
        check_conversation(self.messages)
        Rubric(criteria=self.rubric)
        return self

    def as_rubric(self) -> Rubric:
        """The criteria as one rubric; they were checked when the row was made."""
        return Rubric.model_construct(criteria=self.rubric)


class Scenario(_Judged):
    """One trait under pressure in one domain: a row of the dataset.

    ``plot`` groups rows that share a story; ``people`` are the names of the persons in it, as they stand in the text. The
    ``refusal`` exemplar is a bare refusal, with the verdicts it deserves.
    """

    trait: Id
    domain: Id
    pressures: tuple[Id, ...] = Field(min_length=1)
    split: Literal["train", "heldout"]
    plot: str = ""
    people: tuple[str, ...] = ()
    exemplars: dict[ExemplarName, Exemplar] = Field(default_factory=dict[ExemplarName, Exemplar])
    provenance: dict[str, str] = Field(default_factory=dict)


class StandardPrompt(_Judged):
    """One prompt of the ordinary RL mixture, with a rule-checked rubric."""

    kind: Id
    domain: Id | None = None


class EvalItem(_Judged):
    """One item of an eval row. ``cluster`` groups items that are not independent (same template, same passage)."""

    suite_id: Id
    domain: Id | None = None
    trait: Id | None = None
    cluster: str
