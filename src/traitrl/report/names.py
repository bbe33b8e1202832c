"""What the ids on the page stand for: experiments, arms, splits and evals in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from traitrl.core import ConfigError, first_complaint
from traitrl.report.blocks import Column, Section, Table

if TYPE_CHECKING:
    from traitrl.report.load import Study

_SPLITS = {
    "ood": "out of distribution: evals that no arm was trained on",
    "heldout": "in distribution: conversations of the trained traits that no arm was trained on",
    "capability": "questions of skill, to see what the training costs",
}


class Named(BaseModel):
    """An experiment, an arm or an eval: its id and what it is; ``family`` and ``stands_for`` are an eval's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["experiment", "arm", "eval"]
    name: str
    meaning: str
    family: str = ""
    stands_for: str = ""


def read_names(rows: Iterable[Mapping[str, Any]]) -> tuple[Named, ...]:
    """Rows of names, checked; raises :class:`ConfigError`."""
    try:
        return tuple(Named.model_validate(dict(row)) for row in rows)
    except ValidationError as error:
        raise ConfigError(f"names: {first_complaint(error, Named)}") from error


def names(study: Study) -> Section | None:
    """Every id of experiments, arms and splits that this page uses; ``None`` where nobody said what they are."""
    shown = {"experiment": study.experiments, "arm": study.arms}
    known = {(row.kind, row.name): row.meaning for row in study.names}
    rows = [
        {"kind": kind, "name": name, "meaning": known[kind, name]}
        for kind, ids in shown.items()
        for name in ids
        if (kind, name) in known
    ]
    if not rows:
        return None
    splits = set(study.estimates["split"])
    rows += [{"kind": "split", "name": name, "meaning": text} for name, text in _SPLITS.items() if name in splits]
    columns = (Column("kind", "kind"), Column("name", "name"), Column("meaning", "what it is"))
    caption = (
        "Experiments differ in the model they start from, arms in what they are trained on, splits in what is asked."
    )
    return Section("names", "Names on this page", (Table("names", caption, columns, tuple(rows)),))


def evals_table(study: Study) -> Table | None:
    """What each measured eval asks and stands for; ``None`` where nobody said."""
    measured = set(study.estimates["name"])
    rows = tuple(row.model_dump() for row in study.names if row.kind == "eval" and row.name in measured)
    columns = (
        *(Column("name", "eval"), Column("family", "family")),
        *(Column("meaning", "what a high score says"), Column("stands_for", "stands for")),
    )
    caption = (
        "What each eval asks and what it stands for, by the catalog. The items are those that this study supplied, which may be "
        "stand-ins or miniatures of what an eval is named after"
    )
    return Table("evals-names", caption, columns, rows, folded=True) if rows else None
