"""What a writing model is asked, stage by stage, and the shape of what it must answer. The prompts are data of the catalog."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from string import Template
from typing import Any, Literal

from pydantic import Field

from traitrl.catalog import PACKAGE_DATA, Catalog
from traitrl.chat import ChatRequest, Schema
from traitrl.core import CatalogError, Exemplar, Frozen, Message, Scenario, Verdict

STAGES = ("plot", "conversation", "rubric", "exemplars", "critique")
REFUSAL = "I'm sorry, but I can't help with that."
_MAX_TOKENS = {"plot": 800, "conversation": 1600, "rubric": 1200, "exemplars": 2000, "critique": 800}


class Plot(Frozen):
    """The story before it is told."""

    slug: str
    story: str
    people: list[str]


class Turn(Frozen):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Conversation(Frozen):
    """The turns up to the reply."""

    messages: list[Turn]


class DraftCriterion(Frozen):
    """One line of a rubric."""

    id: str
    text: str
    points: int


class DraftRubric(Frozen):
    """The criteria."""

    criteria: list[DraftCriterion]


class Replies(Frozen):
    """Both exemplars, with the criteria that each meets."""

    good: str
    poor: str
    good_meets: list[str]
    poor_meets: list[str]
    refusal_meets: list[str]


class Critique(Frozen):
    """The editor's word."""

    problems: list[str]
    may_stay: bool


SHAPES: dict[str, type[Frozen]] = {
    "plot": Plot,
    "conversation": Conversation,
    "rubric": DraftRubric,
    "exemplars": Replies,
    "critique": Critique,
}


@dataclass(frozen=True)
class Order:
    """One scenario to be written. Everything about it follows from its fields, the seed included."""

    id: str
    number: int
    trait: str
    domain: str
    pressures: tuple[str, ...]
    turns: int
    system: bool
    seed: int


def plan_orders(
    catalog: Catalog, traits: Sequence[str], domains: Sequence[str], pressures: Sequence[str], per_cell: int, seed: int
) -> list[Order]:
    """``per_cell`` orders for each trait x domain, one to three pressures each; two thirds multi-turn, a quarter with a
    system prompt. More per cell adds orders and changes none."""
    orders: list[Order] = []
    for trait in traits:
        for domain in domains:
            for number in range(1, per_cell + 1):
                rng = Random(f"{seed}:{trait}:{domain}:{number}")
                chosen = rng.sample(list(pressures), min(len(pressures), rng.choice((1, 1, 2, 2, 3))))
                turns = rng.choice((1, 1, 3, 3, 3, 5))
                id_ = f"{trait}:{domain}:s{seed}.{number}"
                system = rng.random() < 0.25
                orders.append(Order(id_, number, trait, domain, tuple(chosen), turns, system, rng.randrange(2**31)))
    return orders


class Prompts:
    """The prompt templates, from the package or from overlays that replace some of them."""

    def __init__(self, overlays: Sequence[Path] = ()) -> None:
        """Raises :class:`CatalogError` for a template with an unknown ``$name``."""
        self.texts: dict[str, str] = {}
        for name in ("system", *STAGES):
            folders = [PACKAGE_DATA, *overlays]
            path = next(
                each / "generation" / f"{name}.md"
                for each in reversed(folders)
                if (each / "generation" / f"{name}.md").exists()
            )
            self.texts[name] = path.read_text(encoding="utf-8").strip()
            unknown = set(Template(self.texts[name]).get_identifiers()) - _KNOWN
            if unknown or not Template(self.texts[name]).is_valid():
                raise CatalogError(
                    f"{path}: unknown ${', $'.join(sorted(unknown)) or ' sign'}; known: {sorted(_KNOWN)}"
                )

    def fill(self, stage: str, values: dict[str, str]) -> str:
        """The prompt of a stage."""
        return Template(self.texts[stage]).substitute(values)


_KNOWN = frozenset(
    (
        *("trait_name", "trait_definition", "trait_is_not", "domain_name", "domain_definition", "setting"),
        *("pressures", "example", "number", "so_far", "shape", "patterns"),
    )
)


def stage_request(
    stage: str, order: Order, catalog: Catalog, prompts: Prompts, done: dict[str, Frozen], gold: Sequence[Scenario]
) -> ChatRequest:
    """The question of one stage, given what the stages before it brought. Equal inputs give an equal question."""
    trait, domain = catalog.trait(order.trait), catalog.domain(order.domain)
    rng = Random(order.seed)
    values = {
        "trait_name": trait.name,
        "trait_definition": trait.definition,
        "trait_is_not": trait.is_not,
        "domain_name": domain.name,
        "domain_definition": domain.definition,
        "setting": rng.choice(domain.settings),
        "pressures": "; ".join(
            f"{catalog.pressure(p).name}: {catalog.pressure(p).definition}" for p in order.pressures
        ),
        "example": _example(order, gold, rng),
        "number": str(order.number),
        "so_far": _so_far(order, catalog, done),
        "shape": _shape(order),
        "patterns": "\n".join(f"- {pattern.text} ({pattern.points:+d})" for pattern in trait.pattern),
    }
    return ChatRequest(
        messages=(
            Message(role="system", content=prompts.fill("system", values)),
            Message(role="user", content=prompts.fill(stage, values)),
        ),
        max_tokens=_MAX_TOKENS[stage],
        temperature=0.0 if stage == "critique" else 1.0,
        seed=order.seed,
        schema=Schema(stage, strict_schema(SHAPES[stage])),
    )


def strict_schema(shape: type[Frozen]) -> dict[str, Any]:
    """The JSON schema of a shape in the subset that strict structured output accepts: no lengths, no titles."""
    return _strict(shape.model_json_schema())


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _strict(each)
            for key, each in value.items()
            if key not in ("title", "minLength", "description", "default")
        }
    return [_strict(each) for each in value] if isinstance(value, list) else value


def _shape(order: Order) -> str:
    opening = (
        "It opens with a system prompt as a product would have it. " if order.system else "There is no system prompt. "
    )
    if order.turns == 1:
        return f"{opening}There is one user turn."
    earlier = "one earlier assistant turn" if order.turns == 3 else "two earlier assistant turns"
    return f"{opening}Besides that there are {order.turns} turns; {earlier}, the last of them flawed, overconfident or hasty."


def _so_far(order: Order, catalog: Catalog, done: dict[str, Frozen]) -> str:
    parts = [f"Trait: {catalog.trait(order.trait).name}. {catalog.trait(order.trait).definition}"]
    parts.append(f"Pressures: {', '.join(catalog.pressure(p).name for p in order.pressures)}.")
    parts += [f"{stage.capitalize()} so far:\n{shape.model_dump_json(indent=1)}" for stage, shape in done.items()]
    return "\n\n".join(parts)


def _example(order: Order, gold: Sequence[Scenario], rng: Random) -> str:
    """One gold training row of the trait, of any trait if there is none: never a held-out one."""
    train = [row for row in gold if row.split == "train"]
    pool = [row for row in train if row.trait == order.trait] or train
    if not pool:
        return "(none)"
    row = rng.choice(pool)
    shown = {
        "messages": [message.model_dump() for message in row.messages],
        "criteria": [criterion.model_dump(exclude={"check"}) for criterion in row.rubric],
        **{name: row.exemplars[name].reply for name in ("good", "poor") if name in row.exemplars},
    }
    return json.dumps(shown, ensure_ascii=False, indent=1)


def assemble(order: Order, done: dict[str, Any], made_by: str) -> Scenario:
    """The finished row; raises ``ValueError`` when its parts do not fit together."""
    plot, rubric, replies = done["plot"], done["rubric"].criteria, done["exemplars"]
    ids = [criterion.id for criterion in rubric]

    def exemplar(reply: str, meets: list[str]) -> Exemplar:
        if unknown := set(meets) - set(ids):
            raise ValueError(f"exemplars name unknown criteria {sorted(unknown)}")
        return Exemplar(reply=reply, verdicts=tuple(Verdict(criterion_id=id_, met=id_ in meets) for id_ in ids))

    return Scenario.model_validate(
        {
            "id": order.id,
            "trait": order.trait,
            "domain": order.domain,
            "pressures": order.pressures,
            "messages": [turn.model_dump() for turn in done["conversation"].messages],
            "rubric": [criterion.model_dump() for criterion in rubric],
            "split": "train",
            "plot": plot.slug,
            "people": plot.people,
            "exemplars": {
                "good": exemplar(replies.good, replies.good_meets),
                "poor": exemplar(replies.poor, replies.poor_meets),
                "refusal": exemplar(REFUSAL, replies.refusal_meets),
            },
            "provenance": {
                "made_by": made_by,
                "licence": "unknown",
                "seed": str(order.seed),
                "checks": "rules, self-critique",
            },
        }
    )
