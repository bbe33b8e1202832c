"""Record files to one checked, canonically ordered DataFrame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.core.groupby import SeriesGroupBy

from traitrl.analysis.config import Level
from traitrl.core import StoreError
from traitrl.store import clear_os_errors

# The columns statistics read; replies stay on disk.
_SCHEMA = pa.schema(
    [
        *[pa.field(name, pa.string(), nullable=False) for name in ("experiment", "arm")],
        *[pa.field(name, pa.int64(), nullable=False) for name in ("seed", "step")],
        *[pa.field(name, pa.string(), nullable=False) for name in ("suite_id", "family", "item_id", "cluster")],
        pa.field("trait", pa.string()),
        *[pa.field(name, pa.string(), nullable=False) for name in ("split", "attack")],
        pa.field("strength", pa.float64(), nullable=False),
        pa.field("sample", pa.int64(), nullable=False),
        pa.field("refusal", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("ungraded_reason", pa.string()),
        pa.field("judge", pa.string(), nullable=False),
    ]
)
_SPLITS = ("ood", "heldout", "capability")
ANSWER = ["experiment", "arm", "seed", "step", "suite_id", "item_id", "sample"]
_ITEM = ["experiment", "suite_id", "item_id"]
_FIXED_PER_ITEM = ["family", "split", "cluster", "trait"]


def read_records(files: Sequence[Path]) -> pd.DataFrame:
    """All records of ``files`` as a frame with the columns of ``Record`` that statistics use, one row an answer.

    Raises :class:`StoreError`, naming the file, for an unreadable file, a missing or mistyped column, or a row that no
    ``Record`` could be; and for no records at all.
    """
    frames = [_read_one(Path(file)) for file in files]
    if not sum(len(frame) for frame in frames):
        raise StoreError(f"no records in {len(frames)} file(s); run the evals first")
    return pd.concat(frames, ignore_index=True)


def _read_one(path: Path) -> pd.DataFrame:
    """One records file, cast to the schema above and checked row by row."""
    mend = "rebuild it by running the evals again"
    try:
        with clear_os_errors(path, "read"):
            table = pq.read_table(path, columns=[n for n in pq.read_schema(path).names if n in _SCHEMA.names])
    except pa.ArrowException as error:
        raise StoreError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); {mend}") from error
    missing = [name for name in _SCHEMA.names if name not in table.column_names]
    if missing:
        raise StoreError(f"{path}: no column {', '.join(missing)}; {mend}")
    columns = []
    for field in _SCHEMA:
        column = table.column(field.name)
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise StoreError(f"{path}: column {field.name} is {column.type}, not {field.type}; {mend}") from error
        if column.null_count and not field.nullable:
            raise StoreError(f"{path}: column {field.name} has {column.null_count} empty value(s); {mend}")
    table = pa.table(columns, names=_SCHEMA.names)
    _check_rows(path, table, mend)
    frame = table.drop_columns(["refusal"]).to_pandas()
    # 1.0 refused, 0.0 not, NaN not labelled: a plain float column, whatever the file's mixture of nulls.
    frame["refusal"] = table.column("refusal").cast(pa.float64()).to_numpy()
    return frame.assign(file=str(path))


def _check_rows(path: Path, table: pa.Table, mend: str) -> None:
    """Raise for the first row that breaks a rule of ``Record``."""
    score = table.column("score").to_numpy()  # null as NaN
    has_score, has_reason = (~np.asarray(table.column(name).is_null()) for name in ("score", "ungraded_reason"))
    with np.errstate(invalid="ignore"):
        in_range = ~has_score | ((score >= 0.0) & (score <= 1.0))
    strength, clean = table.column("strength").to_numpy(), table.column("attack").to_numpy() == "none"
    fits = np.isfinite(strength) & np.where(clean, strength == 0, strength > 0)
    rules = {
        "a score outside [0, 1] or not a number": in_range,
        "neither or both of score and ungraded_reason": has_score != has_reason,
        f"a split other than {', '.join(_SPLITS)}": np.isin(table.column("split").to_numpy(), _SPLITS),
        "a negative step": table.column("step").to_numpy() >= 0,
        "a strength that does not fit its attack (0 without one, above 0 with one)": fits,
    }
    for fault, holds in rules.items():
        broken = np.flatnonzero(~holds)
        if len(broken):
            raise StoreError(f"{path}: row {broken[0]} has {fault} ({len(broken)} such row(s)); {mend}")


def prepare(records: pd.DataFrame) -> pd.DataFrame:
    """The unattacked records, checked across files, in one order, so that the order of the input cannot matter.

    Adds ``item`` and ``cluster`` as integer codes (``item`` is unique per suite row and item id; a blank cluster means
    that the item stands alone), ``graded``, ``final`` (the answer is from the largest step of its experiment, arm and
    seed) and ``row_step``, the step under which it is tabled: its own, or for final answers the arm's largest step
    over all seeds.

    Raises :class:`StoreError` for two records of one answer, for an item whose family, split, cluster or trait
    differs between records, and when nothing is left.
    """
    frame = records[records["attack"] == "none"].copy()
    if frame.empty:
        raise StoreError("every record is from an attack; the analysis compares arms without attack first")
    frame["trait"] = frame["trait"].fillna("")
    frame = frame.sort_values(ANSWER, ignore_index=True)
    check_answers(frame, ANSWER)
    check_items(frame)
    item_name = frame["suite_id"] + "\x1f" + frame["item_id"]
    frame["cluster"] = pd.factorize(frame["cluster"].where(frame["cluster"] != "", "\x1f" + item_name), sort=True)[0]
    frame["item"] = pd.factorize(item_name, sort=True)[0]
    frame["graded"] = frame["score"].notna()
    last = frame.groupby(["experiment", "arm", "seed"])["step"].transform("max")
    frame["final"] = frame["step"] == last
    arm_last = frame.groupby(["experiment", "arm"])["step"].transform("max")
    frame["row_step"] = frame["step"].where(~frame["final"], arm_last)
    return frame


def check_answers(frame: pd.DataFrame, answer: list[str]) -> None:
    """Raise :class:`StoreError` unless there is one record per answer: per value of the columns ``answer``."""
    twice = frame[frame.duplicated(answer, keep=False)]
    if len(twice):
        first = twice.iloc[0]
        same = twice[(twice[answer] == first[answer]).all(axis=1)]
        where = ", ".join(f"{key} {first[key]}" for key in answer)
        files = " and ".join(sorted(set(same.get("file", pd.Series(["the records"])))))
        judges = ", ".join(sorted(set(same["judge"])))
        raise StoreError(
            f"{len(same)} records of one answer ({where}; judges: {judges}) in {files}; pass each answer once"
        )


def check_items(frame: pd.DataFrame) -> None:
    """Raise :class:`StoreError` unless every item has one family, split, cluster and trait."""
    once = frame.drop_duplicates([*_ITEM, *_FIXED_PER_ITEM])
    clash = once[once.duplicated(_ITEM, keep=False)]
    if len(clash):
        one, other = clash.iloc[0], clash.iloc[1]
        name = next(name for name in _FIXED_PER_ITEM if one[name] != other[name])
        files = " and ".join(sorted({str(row.get("file", "the records")) for row in (one, other)}))
        raise StoreError(
            f"item {one['item_id']} of {one['suite_id']} has {name} {one[name]!r} and {other[name]!r} in {files}; "
            "these records are of different versions of the suite, evaluate again"
        )


def levels(frame: pd.DataFrame) -> Iterator[tuple[Level, pd.DataFrame]]:
    """``frame`` per level of aggregation with a column ``name``: evals always, traits for the held-out split."""
    yield "suite_id", frame.assign(name=frame["suite_id"])
    heldout = frame[(frame["split"] == "heldout") & (frame["trait"] != "")]
    if len(heldout):
        yield "trait", heldout.assign(name=heldout["trait"])


def typed(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """``rows`` with exactly these columns, in order and of these Arrow types, also when there is no row."""
    kinds = {"string": "str", "double": "float64", "int64": "int64", "bool": "bool"}
    return pd.DataFrame(rows, columns=list(columns)).astype({name: kinds[kind] for name, kind in columns.items()})


def one_family(families: SeriesGroupBy) -> pd.Series:
    """Per group of a grouped ``family`` column: the family shared by all its rows, or ``"mixed"``."""
    return families.first().where(families.nunique() == 1, "mixed")
