"""The dataset in the layouts others read: Hugging Face datasets, parquet, and verl's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from traitrl.core import ConfigError, Scenario
from traitrl.store import clear_os_errors, dump_line, write_bytes_atomic

FORMATS = ("hf", "parquet", "verl")
_SPLITS = {"train": "train", "heldout": "test"}  # the names that datasets and verl look for


def export_scenarios(rows: Sequence[Scenario], kind: str, out: Path) -> list[Path]:
    """Write ``rows`` below ``out`` and return the files. Raises :class:`ConfigError` for another format, or a full folder."""
    if kind not in FORMATS:
        raise ConfigError(f"unknown format {kind!r}; valid: {', '.join(FORMATS)}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder")
    if kind == "hf":
        return _hugging_face(rows, out)
    make = _parquet_row if kind == "parquet" else _verl_row
    return [
        _write_parquet(out / f"{_SPLITS[split]}.parquet", [make(row) for row in part]) for split, part in _parts(rows)
    ]


def _parts(rows: Sequence[Scenario]) -> Iterator[tuple[str, list[Scenario]]]:
    for split in _SPLITS:
        if part := [row for row in rows if row.split == split]:
            yield split, part


def _hugging_face(rows: Sequence[Scenario], out: Path) -> list[Path]:
    """``data/<split>.jsonl`` and a README.md whose head tells the hub and ``load_dataset`` what lies where."""
    made: list[Path] = []
    files: list[str] = []
    for split, part in _parts(rows):
        path = out / "data" / f"{_SPLITS[split]}.jsonl"
        # Maps with free keys are text here: a column of a table has one set of keys for all rows.
        lines = [json.dumps(_flat(row), ensure_ascii=False) for row in part]
        write_bytes_atomic(path, ("\n".join(lines) + "\n").encode())
        made.append(path)
        files.append(f"  - split: {_SPLITS[split]}\n    path: data/{path.name}")
    licences = sorted({row.provenance.get("licence", "unknown") for row in rows})
    head = "---\nconfigs:\n- config_name: default\n  data_files:\n" + "\n".join(files) + "\nlanguage:\n- en\n"
    head += f"license: {licences[0].lower() if len(licences) == 1 else 'other'}\n"
    body = f"{len(rows)} rows. Licences: {', '.join(licences)}. Written by `traitrl scenarios export`."
    text = f"{head}---\n\n# Beneficial-trait scenarios\n\n{body}\n"
    write_bytes_atomic(out / "README.md", text.encode())
    return [*made, out / "README.md"]


def _flat(row: Scenario) -> dict[str, Any]:
    """A row whose columns have one type each: rule checks and provenance as JSON text, exemplars as a list."""
    data = row.model_dump(mode="json")
    data["rubric"] = [
        {**criterion, "check": json.dumps(criterion["check"]) if criterion["check"] else ""}
        for criterion in data["rubric"]
    ]
    data["exemplars"] = [{"name": name, **exemplar} for name, exemplar in data["exemplars"].items()]
    data["provenance"] = json.dumps(data["provenance"], ensure_ascii=False, sort_keys=True)
    return data


def unflatten(data: dict[str, Any]) -> Scenario:
    """The row behind a line of the Hugging Face or parquet layout: nothing is lost on the way."""
    data = dict(data)
    data["rubric"] = [
        {**criterion, "check": json.loads(criterion["check"]) if criterion["check"] else None}
        for criterion in data["rubric"]
    ]
    data["exemplars"] = {
        each["name"]: {"reply": each["reply"], "verdicts": each["verdicts"]} for each in data["exemplars"]
    }
    data["provenance"] = json.loads(data["provenance"])
    return Scenario.model_validate(data)


def _parquet_row(row: Scenario) -> dict[str, Any]:
    return _flat(row)


def _verl_row(row: Scenario) -> dict[str, Any]:
    """The columns verl's RLHFDataset reads; the whole scenario travels in ``ground_truth`` for the reward function."""
    return {
        "data_source": f"traitrl/{row.trait}",
        "prompt": [message.model_dump() for message in row.messages],
        "ability": row.domain,
        "reward_model": {"style": "rubric", "ground_truth": dump_line(row)},
        "extra_info": {"split": _SPLITS[row.split], "index": row.id, "trait": row.trait, "domain": row.domain},
    }


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with clear_os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        write_bytes_atomic(path, sink.getvalue().to_pybytes())
    return path
