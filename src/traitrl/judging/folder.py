"""Judges as data: a folder of prompts and settings under ``catalog/judges/<name>/``, known by its digest."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from traitrl.catalog import PACKAGE_DATA
from traitrl.core import CatalogError, Criterion, Frozen, Rubric, first_complaint, nearest

_PLACES = {"system.md": frozenset[str](), "user.md": frozenset(("conversation", "reply", "criteria", "count"))}
_PAIR_PLACES = frozenset(("conversation", "first", "second", "criteria", "count"))


class JudgeSettings(Frozen):
    """``judge.toml``. ``criterion`` are the judge's own criteria, if it does not read the row's rubric."""

    title: str
    asks: Literal["rubric", "criterion", "pair"] = Field(
        default="rubric",
        description="one call for the whole rubric, one per criterion, or a choice between two replies",
    )
    samples: int = Field(default=1, ge=1, description="answers per question; verdicts by majority")
    temperature: float = Field(default=0.0, ge=0.0)
    max_tokens: int = Field(default=2048, ge=16)
    expected: bool = Field(
        default=False, description="score by the probability of each verdict; asks = 'criterion' only"
    )
    shows_system: bool = Field(default=True, description="whether the judge sees the system turn")
    reads: Literal["reply", "reasoning"] = Field(default="reply", description="the whole reply, or its reasoning alone")
    marks: tuple[str, str] | None = Field(
        default=None, description="what opens and closes reasoning in a reply; reads = 'reasoning' only"
    )
    criterion: tuple[Criterion, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> JudgeSettings:
        if self.expected and self.asks != "criterion":
            raise ValueError("expected = true needs asks = 'criterion'")
        if (self.reads == "reasoning") != (self.marks is not None):
            raise ValueError("reads = 'reasoning' needs `marks`, and only that does")
        if self.marks is not None and (self.asks == "pair" or "" in self.marks or self.marks[0] == self.marks[1]):
            raise ValueError("`marks` are two different texts, of a judge that does not compare pairs")
        return self


class JudgeFolder(Frozen):
    """A judge as it stands on disk."""

    name: str
    settings: JudgeSettings
    system: str
    user: str

    @property
    def digest(self) -> str:
        """SHA-256 of all that shapes its questions."""
        parts = [self.settings.model_dump(mode="json"), self.system, self.user]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def rubric(self) -> Rubric | None:
        """Its own criteria, or None for a judge that reads the row's."""
        return Rubric(criteria=self.settings.criterion) if self.settings.criterion else None


def judge_names(overlays: Sequence[Path] = ()) -> list[str]:
    """Every judge of the package and of ``overlays``."""
    folders = [folder / "judges" for folder in (PACKAGE_DATA, *overlays)]
    return sorted({path.parent.name for folder in folders for path in folder.glob("*/judge.toml")})


def load_judge(name: str, overlays: Sequence[Path] = ()) -> JudgeFolder:
    """One judge; the last overlay that has it wins. Raises :class:`CatalogError` with the file and what to do."""
    found = [folder / "judges" / name for folder in (PACKAGE_DATA, *overlays)]
    found = [folder for folder in found if (folder / "judge.toml").exists()]
    if not found:
        raise CatalogError(f"unknown judge {name!r}{nearest(name, judge_names(overlays))}")
    folder = found[-1]
    texts: dict[str, str] = {}
    for file in ("judge.toml", *_PLACES):
        try:
            texts[file] = (folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogError(f"{folder / file}: {error}; a judge has judge.toml, system.md and user.md") from error
    settings = _settings(folder / "judge.toml", texts["judge.toml"])
    for file, known in _PLACES.items():
        allowed = _PAIR_PLACES if settings.asks == "pair" and known else known
        template = Template(texts[file])
        unknown = sorted(set(template.get_identifiers()) - allowed) if template.is_valid() else ["(a lone $: write $$)"]
        if unknown:
            raise CatalogError(f"{folder / file}: unknown ${', $'.join(unknown)}; known: {sorted(allowed)}")
    return JudgeFolder(name=name, settings=settings, system=texts["system.md"].strip(), user=texts["user.md"].strip())


def _settings(path: Path, text: str) -> JudgeSettings:
    try:
        settings = JudgeSettings.model_validate(tomllib.loads(text))
        if settings.criterion:
            Rubric(criteria=settings.criterion)
        return settings
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{path}: not valid TOML: {error}; correct the syntax") from error
    except ValidationError as error:
        raise CatalogError(f"{path}: {first_complaint(error, JudgeSettings)}; correct it") from error
