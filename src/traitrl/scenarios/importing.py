"""HealthBench and chat files become scenarios without loss: what has no place in a row stays in its provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from traitrl.core import ConfigError, Criterion, Message, Scenario, first_complaint
from traitrl.scenarios.rows import COUNTS, Rejected, Sorter
from traitrl.store import Claim, StageFolder, clear_os_errors, digest_file, read_json

SOURCE_KEY = "imported"  # provenance: the fields of the source row that no field of ours holds, as JSON
FORMATS = ("healthbench", "chat")


def import_scenarios(
    source: Path,
    out: Path,
    kind: str,
    *,
    trait: str,
    domain: str,
    pressures: tuple[str, ...],
    split: str = "train",
    licence: str = "unknown",
    force: bool = False,
) -> dict[str, Any]:
    """Turn each line of ``source`` into a scenario of the given trait and domain; returns the counts.

    ``healthbench``: rows of HealthBench (arXiv 2505.08775) with ``prompt`` and ``rubrics``. ``chat``: rows with ``messages`` and,
    if they have one, ``rubric``: a list of ``{text, points}``. Without a rubric a row cannot be graded and is rejected.
    """
    if kind not in FORMATS:
        raise ConfigError(f"unknown format {kind!r}; valid: {', '.join(FORMATS)}")
    config = {
        "kind": kind,
        "trait": trait,
        "domain": domain,
        "pressures": list(pressures),
        "split": split,
        "licence": licence,
    }
    folder = StageFolder(out, Claim(stage="scenarios-import", config=config, inputs={"source": digest_file(source)}))
    if folder.is_done(force=force):
        return read_json(out / COUNTS)
    make: Callable[[dict[str, Any]], dict[str, Any]] = {"healthbench": _healthbench, "chat": _chat}[kind]
    fixed = {"trait": trait, "domain": domain, "pressures": list(pressures), "split": split}
    rows_in = 0
    with Sorter(folder) as sorter:
        for number, text in _numbered(source):
            rows_in += 1
            try:
                made = make(json.loads(text))
                made["id"] = made["id"] or f"{source.stem}:{number}"
                made["provenance"] |= {"made_by": f"imported from {source.name}", "licence": licence}
                sorter.keep(Scenario.model_validate({**fixed, **made}))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                sorter.reject(Rejected(id="", line=number, rule="import", reason=_why(error), row=text.rstrip("\n")))
        return sorter.finish(rows_in)


def _numbered(source: Path) -> Iterator[tuple[int, str]]:
    with clear_os_errors(source, "read"), source.open(encoding="utf-8", errors="replace") as handle:
        yield from ((number, text) for number, text in enumerate(handle, start=1) if text.strip())


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return first_complaint(error, Scenario)
    if isinstance(error, KeyError):
        return f"key {error.args[0]!r} is missing"
    return f"{type(error).__name__}: {error}"


def _healthbench(data: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in data.items() if key not in ("prompt", "prompt_id", "rubrics")}
    tags = [
        {key: value for key, value in each.items() if key not in ("criterion", "points")} for each in data["rubrics"]
    ]
    rest["rubric_rest"] = tags
    rest["prompt_rest"] = [_beyond(turn) for turn in data["prompt"]]
    return {
        "id": str(data.get("prompt_id", "")),
        "messages": [{"role": turn["role"], "content": turn["content"]} for turn in data["prompt"]],
        "rubric": [
            {"id": f"c{index}", "text": each["criterion"], "points": each["points"]}
            for index, each in enumerate(data["rubrics"], start=1)
        ],
        "provenance": {SOURCE_KEY: json.dumps(rest, ensure_ascii=False, sort_keys=True)},
    }


def _beyond(turn: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in turn.items() if key not in ("role", "content")}


def as_healthbench(row: Scenario) -> dict[str, Any]:
    """The HealthBench row that ``row`` was imported from, field by field."""
    rest = json.loads(row.provenance[SOURCE_KEY])
    tags, turns = rest.pop("rubric_rest"), rest.pop("prompt_rest")
    return {
        **rest,
        "prompt_id": row.id,
        "prompt": [{"role": each.role, "content": each.content, **more} for each, more in zip(row.messages, turns)],
        "rubrics": [{"criterion": each.text, "points": each.points, **more} for each, more in zip(row.rubric, tags)],
    }


def _chat(data: dict[str, Any]) -> dict[str, Any]:
    if not data.get("rubric"):
        raise ValueError(
            "no rubric: add a list `rubric` of {text, points}, or let `traitrl scenarios generate` write scenarios"
        )
    fields = ("id", "messages", "rubric", "plot", "people")
    rest = {key: value for key, value in data.items() if key not in fields}
    rest["messages_rest"] = [_beyond(turn) for turn in data["messages"]]
    known = {*Criterion.model_fields}
    rest["rubric_rest"] = [{key: value for key, value in each.items() if key not in known} for each in data["rubric"]]
    return {
        "id": str(data.get("id", "")),
        "messages": [Message(role=turn["role"], content=turn["content"]).model_dump() for turn in data["messages"]],
        "rubric": [
            {"id": f"c{index}", **{key: value for key, value in each.items() if key in known}}
            for index, each in enumerate(data["rubric"], start=1)
        ],
        "plot": data.get("plot", ""),
        "people": data.get("people", []),
        "provenance": {SOURCE_KEY: json.dumps(rest, ensure_ascii=False, sort_keys=True)},
    }
