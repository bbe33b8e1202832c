"""Nouns of the catalog: traits, domains, pressures, personas and the named sets of them."""

from typing import Literal

from pydantic import Field, model_validator

from traitrl.core.frozen import Frozen
from traitrl.core.ids import Id
from traitrl.core.rubrics import Points


class Pattern(Frozen):
    """A template for rubric criteria of a trait: an imperative and its points."""

    text: str = Field(min_length=1)
    points: Points


class TraitExemplar(Frozen):
    """One user message with a good and a poor reply to it."""

    user: str = Field(min_length=1)
    good: str = Field(min_length=1)
    poor: str = Field(min_length=1)


class Trait(Frozen):
    """A beneficial trait: what it is, what it is not, why it matters, and how a rubric looks for it."""

    id: Id
    name: str
    definition: str
    is_not: str
    why: str
    source: str
    pattern: tuple[Pattern, ...] = Field(min_length=3)
    exemplar: TraitExemplar


class Domain(Frozen):
    """A field of life in which conversations take place."""

    id: Id
    name: str
    definition: str
    settings: tuple[str, ...] = Field(min_length=3)


class Pressure(Frozen):
    """What pushes against the trait in a scenario."""

    id: Id
    name: str
    definition: str
    example: str


class Persona(Frozen):
    """Text that pushes the model to be somebody: a system prompt, earlier turns of the conversation, or both.

    Each line of ``text`` and then each exchange of ``turns`` (a user and an assistant turn) is one notch of the attack's dial.
    ``strength`` is the dial's setting where a study names none: the share of the notches, rounded up. ``twin`` names the benign
    or harmful counterpart.
    """

    id: Id
    stance: Literal["harmful", "helpful"]
    title: str = ""
    strength: float = Field(gt=0.0, le=1.0)
    text: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    twin: Id | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Persona":
        if not self.text.strip() and not self.turns:
            raise ValueError("a persona needs `text`, `turns` or both")
        if any(not turn.strip() for exchange in self.turns for turn in exchange):
            raise ValueError("an exchange of `turns` is a user turn and an assistant turn, neither blank")
        return self


class CatalogSets(Frozen):
    """Named sets of traits and domains, and aliases that popular accounts use for traits."""

    traits: dict[str, tuple[Id, ...]]
    domains: dict[str, tuple[Id, ...]]
    aliases: dict[str, tuple[Id, ...]]
