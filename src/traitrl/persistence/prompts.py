"""Where prompt attacks come from: a file of attacks, or the catalog's personas; and how several become one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from traitrl.catalog import Catalog
from traitrl.core import Attack, AttackPart, ConfigError, nearest
from traitrl.core.attacks import Stance
from traitrl.core.taxonomy import Persona
from traitrl.persistence.config import PromptAttackConfig
from traitrl.store import read_jsonl


def persona_attack(persona: Persona) -> Attack:
    """A persona as a prompt attack: each line of its text and then each exchange is one notch of the dial."""
    lines = tuple(AttackPart(system=line.strip()) for line in persona.text.splitlines() if line.strip())
    turns = tuple(AttackPart(user=user, assistant=assistant) for user, assistant in persona.turns)
    return Attack(
        id=persona.id,
        kind="prompt",
        stance=persona.stance,
        title=persona.title,
        twin=persona.twin,
        strength=persona.strength,
        parts=lines + turns,
    )


def known_attacks(catalog: Catalog, file: Path | None) -> dict[str, Attack]:
    """Prompt attacks by id: those of ``file``, one a line, or without a file the catalog's personas."""
    if file is None:
        return {persona.id: persona_attack(persona) for persona in catalog.personas.values()}
    return {attack.id: attack for attack in read_jsonl(file, Attack) if attack.kind == "prompt"}


def composed(id_: str, attacks: tuple[Attack, ...]) -> Attack:
    """Several prompt attacks as one: its parts are theirs one after the other, its stance is harmful if one of them is."""
    stance: Stance = "harmful" if any(attack.stance == "harmful" for attack in attacks) else attacks[0].stance
    parts = tuple(part for attack in attacks for part in attack.parts)
    title = " + ".join(attack.id for attack in attacks)
    return Attack(id=id_, kind="prompt", stance=stance, title=title, parts=parts)


def resolve_prompt(wanted: PromptAttackConfig, known: Mapping[str, Attack]) -> tuple[Attack, tuple[float, ...]]:
    """The attack that a study asks for, with its strengths; raises :class:`ConfigError` for an unknown id."""
    for name in wanted.compose or (wanted.id,):
        if name not in known:
            raise ConfigError(f"persistence.prompt: unknown attack {name!r}{nearest(name, known)}")
    attack = known.get(wanted.id)
    if wanted.compose:
        attack = composed(wanted.id, tuple(known[name] for name in wanted.compose))
    assert attack is not None
    return attack, wanted.strengths or (attack.strength,)
