"""Rows that attacks train on: read from a pinned file, put into an order that is the same for every model.

A file is JSON lines, plain or compressed with gzip, or Parquet; its first bytes tell. The conversation of a row to fine-tune on
is in the two columns that the attack names, else in ``messages``, else in ``prompt`` with ``response`` or ``completion``. A
prompt is a text, which becomes one user turn, or a list of messages; a reply is a text or a list of one message. Other columns
are not used, but for an ``id``. A row of RL is a prompt with a rubric and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from traitrl.core import AttackError, Frozen, Message, StandardPrompt, StoreError, TuningRow, first_complaint
from traitrl.core.ids import ItemId
from traitrl.judging.choice import RULES
from traitrl.persistence.config import RlAttackConfig, TuningAttackConfig
from traitrl.persistence.fetch import local_copy, shown
from traitrl.store import clear_os_errors

AttackRow = TuningRow | StandardPrompt
_Row = TypeVar("_Row", bound=Frozen)
_Record = dict[str, Any]
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_USUAL_COLUMNS = (("messages",), ("prompt", "response"), ("prompt", "completion"))
_ITEM_ID = TypeAdapter[str](ItemId)


def attack_rows(attack: TuningAttackConfig | RlAttackConfig) -> Sequence[AttackRow]:
    """The rows of any attack on weights; raises :class:`AttackError` when they cannot be had."""
    return tuning_rows(attack) if isinstance(attack, TuningAttackConfig) else rewarded_rows(attack)


def tuning_rows(attack: TuningAttackConfig) -> list[TuningRow]:
    """The conversations that an attack fine-tunes on, fetched if they are behind an address."""
    columns = (attack.prompt_column, attack.reply_column) if attack.prompt_column else None
    return read_tuning_rows(
        local_copy(attack.data, attack.sha256), attack.sha256, columns=columns, name=shown(attack.data)
    )


def rewarded_rows(attack: RlAttackConfig) -> list[StandardPrompt]:
    """The prompts with rubrics of an attack by RL, fetched if they are behind an address; the rules need a check each."""
    name = shown(attack.data)
    rows = read_rewarded_rows(local_copy(attack.data, attack.sha256), attack.sha256, name=name)
    unruled = ((row.id, criterion.id) for row in rows for criterion in row.rubric if criterion.check is None)
    if attack.judge.name == RULES and (first := next(unruled, None)):
        raise AttackError(f"{name}: criterion {first[1]!r} of row {first[0]} has no check; add one, or name a judge")
    return rows


def prompt_of(row: AttackRow) -> tuple[Message, ...]:
    """The conversation up to the reply."""
    return row.prompt if isinstance(row, TuningRow) else row.messages


def read_tuning_rows(
    path: Path, sha256: str = "", *, columns: tuple[str, str] | None = None, name: str = ""
) -> list[TuningRow]:
    """The conversations of a file; rows without an id that can serve as one are named by their place, ``row:<n>`` from 0.

    ``columns`` are those of prompt and reply, None for the usual ones; ``name`` is what messages call the file. Raises
    :class:`AttackError` for a file that is missing, is not the pinned one, cannot be read or holds no rows.
    """
    name = name or str(path)
    rows: list[TuningRow] = []
    for number, (where, record) in enumerate(_records(path, sha256, name)):
        messages = _conversation(where, record, columns)
        rows.append(_validated(TuningRow, where, {"id": _row_id(record, number), "messages": messages}))
    return _distinct(rows, name)


def read_rewarded_rows(path: Path, sha256: str = "", *, name: str = "") -> list[StandardPrompt]:
    """The prompts with rubrics of a file; arguments and errors are those of :func:`read_tuning_rows`."""
    name = name or str(path)
    records = _records(path, sha256, name)
    return _distinct([_validated(StandardPrompt, where, record) for where, record in records], name)


def in_order(rows: Sequence[_Row], count: int, seed: int) -> list[_Row]:
    """``count`` rows, passing over all rows again and again in a fresh seeded order each time; nothing else enters into it."""
    rng = Random(f"tuning:{seed}")
    chosen: list[_Row] = []
    while len(chosen) < count:
        chosen += rng.sample(rows, len(rows))
    return chosen[:count]


def _records(path: Path, sha256: str, name: str) -> Iterator[tuple[str, _Record]]:
    """Every row of the file with its place, for messages."""
    if not path.is_file():
        raise AttackError(f"no data at {name}; put the file there")
    try:
        with clear_os_errors(path, "read"):
            body = path.read_bytes()
    except StoreError as error:
        raise AttackError(str(error)) from error
    found = hashlib.sha256(body).hexdigest()
    if sha256 and found != sha256:
        raise AttackError(f"{name} has sha256 {found}, pinned is {sha256}; get the pinned revision, or pin this one")
    if body.startswith(_PARQUET):
        return _parquet_records(body, name)
    if body.startswith(_GZIP):
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise AttackError(f"{name}: damaged gzip data ({error}); restore the file") from error
    return _json_records(body, name)


def _json_records(body: bytes, name: str) -> Iterator[tuple[str, _Record]]:
    try:
        lines = body.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise AttackError(f"{name}: not UTF-8 text; give JSON lines, also with gzip, or Parquet") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise AttackError(f"{where}: not valid JSON ({error}); the file may be cut off, restore it") from error
        if not isinstance(record, dict):
            raise AttackError(f"{where}: a row is a JSON object, one a line")
        yield where, record


def _parquet_records(body: bytes, name: str) -> Iterator[tuple[str, _Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(body))
    except (pa.ArrowException, OSError) as error:
        raise AttackError(f"{name}: not a readable Parquet file; restore it") from error
    for number, record in enumerate(table.to_pylist()):
        yield f"{name}: row {number}", record


def _conversation(where: str, record: _Record, columns: tuple[str, ...] | None) -> list[Any]:
    """The messages of a row as they stand there, its reply last."""
    columns = columns or next((usual for usual in _USUAL_COLUMNS if set(usual) <= set(record)), ())
    if not columns or not set(columns) <= set(record):
        wanted = " and ".join(columns) or "`messages`, or `prompt` with `response` or `completion`,"
        raise AttackError(
            f"{where}: no {wanted} among its columns {', '.join(record)}; set prompt_column and reply_column of the attack"
        )
    turns: list[Any] = []
    for column, role in zip(columns, ("user", "assistant")):
        value = record[column]
        if isinstance(value, list):
            turns += [_present(turn) for turn in value]
        elif isinstance(value, str) and value:
            turns.append({"role": role, "content": value})
        else:
            raise AttackError(
                f"{where}: column {column!r} holds {value!r:.60}, and neither a text nor a list of messages"
            )
    return turns


def _present(turn: Any) -> Any:
    """A message without its empty fields: tables have all fields in every row."""
    return {key: value for key, value in turn.items() if value is not None} if isinstance(turn, dict) else turn


def _row_id(record: _Record, number: int) -> str:
    given = record.get("id")
    try:
        return _ITEM_ID.validate_python(str(given)) if given is not None else f"row:{number}"
    except ValidationError:
        return f"row:{number}"  # public data name their rows as they like


def _validated(model: type[_Row], where: str, record: _Record) -> _Row:
    try:
        return model.model_validate(record)
    except ValidationError as error:
        raise AttackError(f"{where}: {first_complaint(error, model)}; restore or repair the file") from error


def _distinct(rows: list[_Row], name: str) -> list[_Row]:
    """The rows, of which there are some, none with the id of another."""
    if not rows:
        raise AttackError(f"{name} holds no rows")
    seen: set[str] = set()
    for row in rows:
        id_ = str(getattr(row, "id", ""))
        if id_ in seen:
            raise AttackError(f"{name}: row id {id_!r} stands twice; rename one")
        seen.add(id_)
    return rows
