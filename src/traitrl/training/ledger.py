"""The ledger: every reply that was sampled and judged in training, and the accounting read from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traitrl.core import Frozen, Verdict
from traitrl.store import clear_os_errors, dump_line, read_jsonl, write_jsonl
from traitrl.training.schedule import Stream


class LedgerRow(Frozen):
    """One sampled reply. ``step`` counts completed optimizer steps before it; ``reward`` is what the gradient saw."""

    step: int
    slot: int
    sample: int
    in_slice: bool
    stream: Stream
    row_id: str
    trait: str | None = None
    domain: str | None = None
    reply: str
    prompt_tokens: int
    reply_tokens: int
    truncated: bool
    score: float | None
    ungraded_reason: str | None = None
    reward: float | None
    refusal: bool = False
    verdicts: tuple[Verdict, ...] = ()


class LedgerFile:
    """An append-only JSONL file that can be cut back to a checkpoint, so that a resumed run never counts a step twice."""

    def __init__(self, path: Path) -> None:
        """``path`` is created on the first append."""
        self.path = path

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Add the rows of one step and hand them to the operating system."""
        with clear_os_errors(self.path, "append to"), self.path.open("a", encoding="utf-8") as handle:
            handle.write("".join(dump_line(row) + "\n" for row in rows))

    def read(self) -> list[LedgerRow]:
        """All rows, in order."""
        return read_jsonl(self.path, LedgerRow) if self.path.exists() else []

    def cut_back(self, completed_steps: int) -> None:
        """Drop everything sampled after ``completed_steps`` optimizer steps, a half-written last line included."""
        if not self.path.exists():
            return
        kept: list[str] = []
        with clear_os_errors(self.path, "read"):
            lines = self.path.read_text(encoding="utf-8").split("\n")
        for line in lines[:-1]:  # what follows the last line feed is empty or cut off
            if LedgerRow.model_validate_json(line).step >= completed_steps:
                break
            kept.append(line)
        write_jsonl(self.path, [LedgerRow.model_validate_json(line) for line in kept])


def account(rows: Iterable[LedgerRow]) -> dict[str, dict[str, int]]:
    """Compute spent per stream: prompts, replies, generated and prompt tokens, judge calls, ungraded, truncated."""
    streams: dict[str, dict[str, int]] = {}
    prompts: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        book = streams.setdefault(
            row.stream,
            dict.fromkeys(
                ("prompts", "replies", "generated_tokens", "prompt_tokens", "judge_calls", "ungraded", "truncated"), 0
            ),
        )
        prompts[row.stream].add(row.slot)
        book["replies"] += 1
        book["judge_calls"] += 1
        book["generated_tokens"] += row.reply_tokens
        book["prompt_tokens"] += row.prompt_tokens
        book["ungraded"] += row.score is None
        book["truncated"] += row.truncated
    for stream, book in streams.items():
        book["prompts"] = len(prompts[stream])
    return streams


def reward_curve(rows: Iterable[LedgerRow], steps: int, points: int = 20) -> list[dict[str, Any]]:
    """Mean reward per stream in about ``points`` windows of steps; ungraded replies are left out."""
    width = max(1, steps // points)
    sums: dict[tuple[int, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.reward is not None:
            sums[(row.step // width, row.stream)].append(row.reward)
    return [
        {
            "step": (window + 1) * width,
            "stream": stream,
            "reward_mean": sum(values) / len(values),
            "replies": len(values),
        }
        for (window, stream), values in sorted(sums.items())
    ]
