"""Concrete draws from the pocket language: a task with its slots filled, and the replies an author could give to it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from traitrl.pocket.language import CapabilityTask, Character, Language, Task

Turn = tuple[str, str]  # (role, text)


@dataclass(frozen=True)
class Situation:
    """One task in one domain with all slots filled. ``bodies`` maps a character to its possible reply bodies."""

    task: Task
    domain: str
    thing: str
    user_index: int
    turns: tuple[Turn, ...]
    bodies: dict[Character, tuple[str, ...]]


@dataclass(frozen=True)
class Question:
    """One capability prompt and its single right answer."""

    task: CapabilityTask
    turns: tuple[Turn, ...]
    answer: str


def _fill(text: str, slots: dict[str, str]) -> str:
    """Replace ``{slot}`` tokens word by word; an unknown slot raises ``KeyError``."""
    return " ".join(slots[word[1:-1]] if word.startswith("{") else word for word in text.split())


def draw_situation(language: Language, task: Task, domain: str, user_index: int, rng: Random) -> Situation:
    """Fill ``task`` for ``domain`` with its ``user_index``-th user line; every other choice is drawn from ``rng``."""
    slots = {name: rng.choice(words) for name, words in language.domains[domain].items()}
    turns: list[Turn] = []
    if task.context:
        opening, flawed = rng.choice(task.context)
        turns += [("user", _fill(opening, slots)), ("assistant", _fill(flawed, slots))]
    bodies: dict[Character, tuple[str, ...]]
    if task.options:
        good, poor = rng.choice(task.options.good), rng.choice(task.options.poor)
        first, second = (good, poor) if rng.random() < 0.5 else (poor, good)
        slots |= {"first": first, "second": second}
        bodies = {"good": (f"answer : {good} .",), "poor": (f"answer : {poor} .",)}
    else:
        bodies = {
            "good": tuple(_fill(line, slots) for line in task.good),
            "poor": tuple(_fill(line, slots) for line in task.poor),
        }
    turns.append(("user", _fill(task.users[user_index], slots)))
    return Situation(task, domain, slots["thing"], user_index, tuple(turns), bodies)


def draw_question(language: Language, task: CapabilityTask, rng: Random) -> Question:
    """A capability prompt with its answer; numbers run from 0 to ``language.numbers``."""
    x, y, z = (rng.randint(0, language.numbers) for _ in range(3))
    if task.id == "instruction-copy":
        x = rng.randint(1, 4)
    thing, other = rng.sample(language.domains[rng.choice(list(language.domains))]["thing"], 2)
    asked, asked_number = rng.choice(((thing, x), (other, y)))
    low, middle, high = sorted((x, y, z))
    slots = {
        "x": str(x),
        "y": str(y),
        "z": str(z),
        "low": str(low),
        "middle": str(middle),
        "high": str(high),
        "thing": thing,
        "other": other,
        "asked": asked,
        "asked_number": str(asked_number),
        "sum": str(x + y),
        "word": thing,
        "repeated": " ".join([thing] * x),
    }
    return Question(task, (("user", _fill(rng.choice(task.users), slots)),), _fill(task.answer, slots))
