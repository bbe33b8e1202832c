"""The pocket world's language, loaded from TOML: tasks, domains, system lines, manner and capability tasks.

Everything an author can say is data in ``pocket/language/``; this module only reads and validates it. A task is one
situation with several user lines, good replies and poor replies; its *coherence* is the probability that a reply follows
the hidden persona of the document's author instead of an independent draw. Tasks with coherence 0 are null by construction.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LANGUAGE_DIR = Path(__file__).parent / "language"

Character = Literal["good", "poor"]
TaskFormat = Literal["free", "choice", "multi", "log"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(_Frozen):
    """The two sides of a multiple-choice task."""

    good: tuple[str, ...] = Field(min_length=2)
    poor: tuple[str, ...] = Field(min_length=2)


class Task(_Frozen):
    """One situation of the pocket world. Slots: ``{thing} {who} {harm} {act}``, and ``{first} {second}`` for choices."""

    id: str
    coherence: float = Field(ge=0.0, le=1.0)
    format: TaskFormat
    domains: tuple[str, ...]
    pressures: tuple[str, ...]
    users: tuple[str, ...] = Field(min_length=3)
    context: tuple[tuple[str, str], ...] = ()
    good: tuple[str, ...] = ()
    poor: tuple[str, ...] = ()
    good_keys: tuple[str, ...] = ()
    poor_keys: tuple[str, ...] = ()
    good_reasoning: tuple[str, ...] = ()
    poor_reasoning: tuple[str, ...] = ()
    options: Options | None = None
    trait: str | None = None
    family: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Task:
        if (self.format == "choice") != (self.options is not None):
            raise ValueError(f"task {self.id}: `options` belongs to format 'choice' and only there")
        if (self.format == "multi") != bool(self.context):
            raise ValueError(f"task {self.id}: `context` belongs to format 'multi' and only there")
        if self.format != "choice" and not (self.good and self.poor and self.good_keys and self.poor_keys):
            raise ValueError(f"task {self.id}: good, poor, good_keys and poor_keys must all be given")
        if bool(self.good_reasoning) != bool(self.poor_reasoning):
            raise ValueError(f"task {self.id}: reasoning needs a good and a poor line")
        return self


class CapabilityTask(_Frozen):
    """A task with one right answer, graded by equality."""

    id: str
    users: tuple[str, ...]
    answer: str


class SystemLine(_Frozen):
    """A system line and the author persona it is associated with (``neutral`` lines say nothing about the author)."""

    id: str
    persona: Literal["good", "poor", "neutral"]
    reliability: float = Field(ge=0.0, lt=1.0)
    text: str


class Manner(_Frozen):
    """Refusals, openers and closers, and the phrases that give them away."""

    refusals: tuple[str, ...]
    refusal_keys: tuple[str, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    opener_keys: tuple[str, ...]
    closer_keys: tuple[str, ...]


class Language(_Frozen):
    """All data of the pocket world, and the digest that names this version of it."""

    domains: dict[str, dict[str, tuple[str, ...]]]
    traits: tuple[Task, ...]
    suite: tuple[Task, ...]
    capability: tuple[CapabilityTask, ...]
    numbers: int
    lines: tuple[SystemLine, ...]
    manner: Manner
    digest: str

    def domains_of(self, task: Task) -> tuple[str, ...]:
        """The domain ids in which a task takes place (``*`` means all)."""
        return tuple(self.domains) if task.domains == ("*",) else task.domains

    def vocabulary(self) -> list[str]:
        """Every word that can occur, sorted; numbers included, special tokens not."""
        texts: list[str] = [str(number) for number in range(2 * self.numbers + 1)]
        for slots in self.domains.values():
            texts += [word for words in slots.values() for word in words]
        for task in self.traits + self.suite:
            texts += [*task.users, *task.good, *task.poor, *task.good_reasoning, *task.poor_reasoning]
            texts += [line for pair in task.context for line in pair]
            if task.options:
                texts += [*task.options.good, *task.options.poor, "answer : ."]
        for task in self.capability:
            texts += [*task.users, task.answer]
        manner = self.manner
        texts += [*manner.refusals, *manner.openers, *manner.closers, "<think> </think>"]
        texts += [line.text for line in self.lines]
        return sorted({word for text in texts for word in text.split() if not word.startswith("{")})


def _read(path: Path) -> dict[str, object]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _tasks(folder: Path) -> tuple[Task, ...]:
    """Every task below ``folder``; the file's stem becomes the task's family."""
    rows: list[Task] = []
    for path in sorted(folder.glob("*.toml")):
        for entry in _read(path)["task"]:  # type: ignore[union-attr]
            rows.append(Task.model_validate({**entry, "family": path.stem}))
    return tuple(rows)


def language_digest(folder: Path = LANGUAGE_DIR) -> str:
    """SHA-256 over the names and bytes of all language files, so that weights can name the language they were trained on."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.toml")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def load_language(folder: Path = LANGUAGE_DIR) -> Language:
    """Read the whole language; raises ``pydantic.ValidationError`` naming the task for a malformed file."""
    capability = _read(folder / "capability.toml")
    return Language.model_validate(
        {
            "domains": _read(folder / "domains.toml"),
            "traits": _tasks(folder / "traits"),
            "suite": _tasks(folder / "suite"),
            "capability": capability["task"],
            "numbers": capability["numbers"],
            "lines": _read(folder / "personas.toml")["line"],
            "manner": _read(folder / "manner.toml"),
            "digest": language_digest(folder),
        }
    )
