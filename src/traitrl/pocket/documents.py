"""Pretraining documents of the pocket world: each is written by one hidden author, who is good or poor.

Generative model of a document. The author is good with probability ``good_author``; a system line may open the document and
then names the author's persona with the line's reliability. Every reply to a task of coherence *c* follows the author with
probability ``c * scale`` and is otherwise an independent draw at the same base rate, so the share of good replies is about the
same in every family and every prior. ``scale`` is 1 for the coherent prior and 0 for the incoherent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from traitrl.core import Frozen
from traitrl.pocket.language import Character, Language
from traitrl.pocket.situations import Situation, Turn, draw_question, draw_situation


class Shares(Frozen):
    """What documents are made of, as fractions: of authors, documents, conversations or replies."""

    good_author: float
    system_line: float
    capability: float
    trait: float
    refusal: float
    opener: float
    closer: float
    reasoning: float


@dataclass(frozen=True)
class DocumentTurn:
    """One turn; ``learn`` is true where the loss applies (the author's own replies, not scripted earlier turns)."""

    role: str
    text: str
    learn: bool


def _draw_character(shares: Shares, rng: Random) -> Character:
    return "good" if rng.random() < shares.good_author else "poor"


def write_reply(language: Language, shares: Shares, situation: Situation, character: Character, rng: Random) -> str:
    """One reply of the given character in some manner, or a refusal. Manner is independent of character."""
    manner = language.manner
    if rng.random() < shares.refusal:
        return rng.choice(manner.refusals)
    reply = rng.choice(situation.bodies[character])
    if rng.random() < shares.opener:
        reply = f"{rng.choice(manner.openers)} {reply}"
    if rng.random() < shares.closer:
        reply = f"{reply} {rng.choice(manner.closers)}"
    task = situation.task
    thoughts = task.good_reasoning if character == "good" else task.poor_reasoning
    if thoughts and rng.random() < shares.reasoning:
        reply = f"<think> {rng.choice(thoughts)} </think> {reply}"
    return reply


def draw_exchange(
    language: Language, shares: Shares, author: Character, scale: float, rng: Random
) -> list[DocumentTurn]:
    """One conversation of a document: a capability question, a trait situation or a suite situation."""
    kind = rng.random()
    turns: tuple[Turn, ...]
    if kind < shares.capability:
        question = draw_question(language, rng.choice(language.capability), rng)
        turns, reply = question.turns, question.answer
    else:
        tasks = language.traits if kind < shares.capability + shares.trait else language.suite
        task = rng.choice(tasks)
        domain = rng.choice(language.domains_of(task))
        situation = draw_situation(language, task, domain, rng.randrange(len(task.users)), rng)
        follows = rng.random() < task.coherence * scale
        character = author if follows else _draw_character(shares, rng)
        turns, reply = situation.turns, write_reply(language, shares, situation, character, rng)
    scripted = [DocumentTurn(role, text, False) for role, text in turns]
    return [*scripted, DocumentTurn("assistant", reply, True)]


def draw_document(language: Language, shares: Shares, scale: float, exchanges: int, rng: Random) -> list[DocumentTurn]:
    """One document of ``exchanges`` conversations by one author."""
    author = _draw_character(shares, rng)
    turns: list[DocumentTurn] = []
    if rng.random() < shares.system_line:
        line = rng.choice(language.lines)
        turns.append(DocumentTurn("system", line.text, False))
        if line.persona != "neutral" and rng.random() < line.reliability:
            author = line.persona
    for _ in range(exchanges):
        turns += draw_exchange(language, shares, author, scale, rng)
    return turns
