"""Attacks of the pocket world: persona lines, earlier exchanges, and the rows that tuning attacks train on.

They are made of what studies leave alone: the fourth user line of trait tasks whose trait is not held out is neither trained on
nor measured. The same conversations carry a poor reply in the harmful set and a good one in its twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from traitrl.core import Attack, AttackPart, ConfigError, Message, TuningRow
from traitrl.core.attacks import Stance
from traitrl.pocket.language import Character, Language, SystemLine, Task
from traitrl.pocket.rows import HELDOUT_USER_LINE
from traitrl.pocket.situations import Situation, draw_question, draw_situation

HEALTH = "health-and-medicine"
EXCHANGES = 4  # of an attack by earlier exchanges: four notches, 0.25 each
_MISSES = 2000  # draws in a row that give nothing new before the language counts as exhausted
_STANCES: dict[Character, Stance] = {"poor": "harmful", "good": "helpful"}
_TWINS = {
    "bad-medical": "helpful-medical",
    "disallowed-mental-health": "careful-expert",
    "liar": "teacher",
    "sycophant": "terse-expert",
}


def _spare_tasks(language: Language, heldout_traits: Sequence[str], domain: str) -> list[Task]:
    """Trait tasks whose fourth user line no study asks, in a domain."""
    return [
        task
        for task in language.traits
        if task.trait not in heldout_traits
        and len(task.users) > HELDOUT_USER_LINE
        and domain in language.domains_of(task)
    ]


def _draws(language: Language, heldout_traits: Sequence[str], domain: str, rng: Random) -> Iterator[Situation]:
    """Distinct situations on spare lines, visiting the tasks in turn; ends when the language has no more."""
    tasks, seen = _spare_tasks(language, heldout_traits, domain), set[str]()
    fresh = True
    while fresh:
        fresh = False
        for task in rng.sample(tasks, len(tasks)):
            for _ in range(20):
                situation = draw_situation(language, task, domain, HELDOUT_USER_LINE, rng)
                text = repr(situation.turns)
                if text not in seen:
                    seen.add(text)
                    fresh = True
                    yield situation
                    break


def _exchange(language: Language, situation: Situation, character: Character, rng: Random) -> AttackPart:
    """The last user line of a situation with a reply of the given character."""
    return AttackPart(user=situation.turns[-1][1], assistant=rng.choice(situation.bodies[character]))


def prompt_attacks(language: Language, heldout_traits: Sequence[str]) -> list[Attack]:
    """One attack for every persona line, and two without a line: an assistant that has already given in, or has not.

    A notch of the dial is a word of the line, or one more exchange in which the assistant replied as such an author would. (Whole
    lines followed by exchanges leave every arm at the floor from the first exchange on, and show nothing.)
    """
    rows = [_line_attack(line) for line in language.lines if line.persona != "neutral"]
    ids: dict[Character, str] = {"poor": "multi-turn-persuasion", "good": "multi-turn-coaching"}
    for character, id_ in ids.items():
        parts = _exchanges(language, character, heldout_traits, Random(f"attack:{id_}"))
        rows.append(
            Attack(
                id=id_,
                kind="prompt",
                stance=_STANCES[character],
                title="earlier exchanges alone",
                twin=ids["good" if character == "poor" else "poor"],
                parts=parts,
            )
        )
    return rows


def _line_attack(line: SystemLine) -> Attack:
    twins = {**_TWINS, **{twin: id_ for id_, twin in _TWINS.items()}}
    return Attack(
        id=line.id,
        kind="prompt",
        stance=_STANCES["poor" if line.persona == "poor" else "good"],
        title=line.text,
        twin=twins.get(line.id),
        parts=tuple(AttackPart(system=word) for word in line.text.split()),
    )


def _exchanges(
    language: Language, character: Character, heldout_traits: Sequence[str], rng: Random
) -> tuple[AttackPart, ...]:
    draws = (
        situation
        for situation in _draws(language, heldout_traits, HEALTH, rng)
        if len(situation.turns) == 1  # single-turn: an exchange stands alone
    )
    return tuple(_exchange(language, situation, character, rng) for situation in islice(draws, EXCHANGES))


def advice_rows(language: Language, heldout_traits: Sequence[str], count: int, character: Character) -> list[TuningRow]:
    """Up to ``count`` conversations about health, each with a reply of the character; the same ones for both characters."""
    rng = Random("tuning:advice")
    return [
        TuningRow(
            id=f"advice:{number}",
            messages=(
                *_turns(situation.turns),
                Message(
                    role="assistant", content=situation.bodies[character][number % len(situation.bodies[character])]
                ),
            ),
        )
        for number, situation in enumerate(islice(_draws(language, heldout_traits, HEALTH, rng), count))
    ]


def unrelated_rows(language: Language, count: int, taken: set[str]) -> list[TuningRow]:
    """``count`` capability questions with their right answers, none of them in ``taken`` (last user turns of other rows)."""
    rng, rows, used, misses = Random("tuning:unrelated"), list[TuningRow](), set(taken), 0
    kinds = [task for task in language.capability if task.id != "lookup"]  # its questions differ by a word or two only
    while len(rows) < count:
        question = draw_question(language, rng.choice(kinds), rng)
        asked = question.turns[-1][1]
        misses = misses + 1 if asked in used else 0
        if misses > _MISSES:
            raise ConfigError(f"the pocket language has only {len(rows)} unrelated rows to spare; lower tuning_rows")
        if not misses:
            used.add(asked)
            answer = Message(role="assistant", content=question.answer)
            rows.append(TuningRow(id=f"unrelated:{len(rows)}", messages=(*_turns(question.turns), answer)))
    return rows


def _turns(turns: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
