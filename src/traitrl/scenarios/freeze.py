"""Freeze the scenarios of a study: what may be trained on and what is held out, with everything left out named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from traitrl.core import Frozen, Scenario
from traitrl.store import Claim, StageFolder, digest_file, read_jsonl, write_bytes_atomic, write_jsonl


class Rejected(Frozen):
    """A row that is not used, and why."""

    id: str
    reason: str


def freeze_scenarios(
    source: Path, out: Path, traits: tuple[str, ...], domains: tuple[str, ...], *, force: bool = False
) -> Path:
    """Write ``scenarios.jsonl``, ``rejected.jsonl`` and ``card.md`` into ``out``; kept + rejected = rows read.

    Rejected are rows of unknown traits or domains, repeated ids, and training rows whose final user turn a held-out row repeats.
    Returns the path of the kept rows.
    """
    config = {"traits": list(traits), "domains": list(domains)}
    folder = StageFolder(out, Claim(stage="scenarios", config=config, inputs={"source": digest_file(source)}))
    if folder.is_done(force=force):
        return out / "scenarios.jsonl"
    rows = read_jsonl(source, Scenario)
    asked_heldout = {row.messages[-1].content for row in rows if row.split == "heldout"}
    kept: list[Scenario] = []
    rejected: list[Rejected] = []
    seen: set[str] = set()
    for row in rows:
        reason = _why_not(row, traits, domains, seen, asked_heldout)
        if reason:
            rejected.append(Rejected(id=row.id, reason=reason))
        else:
            seen.add(row.id)
            kept.append(row)
    write_jsonl(out / "scenarios.jsonl", kept)
    write_jsonl(out / "rejected.jsonl", rejected)
    write_bytes_atomic(out / "card.md", _card(kept, rejected, source).encode())
    folder.finish(["scenarios.jsonl", "rejected.jsonl", "card.md"])
    return out / "scenarios.jsonl"


def _why_not(
    row: Scenario, traits: tuple[str, ...], domains: tuple[str, ...], seen: set[str], heldout: set[str]
) -> str | None:
    if row.trait not in traits:
        return f"unknown trait {row.trait!r}"
    if row.domain not in domains:
        return f"unknown domain {row.domain!r}"
    if row.id in seen:
        return "repeats the id of an earlier row"
    if row.split == "train" and row.messages[-1].content in heldout:
        return "a held-out row asks the same"
    return None


def _card(kept: list[Scenario], rejected: list[Rejected], source: Path) -> str:
    splits = Counter(row.split for row in kept)
    lines = [
        "# Scenarios of this study",
        "",
        f"Read from `{source.name}`: {len(kept)} kept, {len(rejected)} rejected (reasons in rejected.jsonl).",
        f"Training {splits['train']}, held out {splits['heldout']}.",
        "",
        "| trait | training | held out |",
        "|---|---|---|",
    ]
    cells = Counter((row.trait, row.split) for row in kept)
    traits = sorted({row.trait for row in kept})
    lines += [f"| {trait} | {cells[(trait, 'train')]} | {cells[(trait, 'heldout')]} |" for trait in traits]
    return "\n".join(lines) + "\n"
