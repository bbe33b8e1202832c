"""Rows to fine-tune on: read from a pinned file, put into an order that is the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from traitrl.core import AttackError, StoreError, TuningRow
from traitrl.store import digest_file, read_jsonl


def read_tuning_rows(path: Path, sha256: str = "") -> list[TuningRow]:
    """The conversations of a JSONL file; rows without an id are named by their place, ``row:<n>`` from 0.

    Raises :class:`AttackError` for a file that is missing, is not the pinned one, cannot be read or holds no rows.
    """
    if not path.is_file():
        raise AttackError(f"no data at {path}; put the file there")
    try:
        found = digest_file(path)
        if sha256 and found != sha256:
            raise AttackError(
                f"{path} has sha256 {found}, pinned is {sha256}; get the pinned revision, or pin this one"
            )
        rows = read_jsonl(path, TuningRow)
    except (StoreError, UnicodeDecodeError) as error:
        raise AttackError(str(error) if isinstance(error, StoreError) else f"{path}: not UTF-8 text") from error
    if not rows:
        raise AttackError(f"{path} holds no rows")
    named = [
        row if "id" in row.model_fields_set else row.model_copy(update={"id": f"row:{n}"}) for n, row in enumerate(rows)
    ]
    ids = [row.id for row in named]
    if len(set(ids)) != len(ids):
        raise AttackError(f"{path}: row id {next(id_ for id_ in ids if ids.count(id_) > 1)!r} stands twice; rename one")
    return named


def in_order(rows: Sequence[TuningRow], count: int, seed: int) -> list[TuningRow]:
    """``count`` rows, passing over all rows again and again in a fresh seeded order each time; nothing else enters into it."""
    rng = Random(f"tuning:{seed}")
    chosen: list[TuningRow] = []
    while len(chosen) < count:
        chosen += rng.sample(rows, len(rows))
    return chosen[:count]
