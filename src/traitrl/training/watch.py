"""The proxy watch: a second judge looks at a fixed sample of the replies while the first one is trained against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from traitrl.core import Frozen
from traitrl.judging import Judged, Scorer, score_all
from traitrl.store import clear_os_errors, dump_line, read_jsonl, write_jsonl
from traitrl.training.ledger import LedgerRow


class WatchRow(Frozen):
    """One reply with the score it was trained on and the one the watch judge gives it; ``None`` means ungraded."""

    step: int
    slot: int
    sample: int
    stream: str
    row_id: str
    score: float | None
    watch_score: float | None
    watch_reason: str | None = None
    judge: str


class Watch:
    """Grades ``replies`` evenly spaced replies of every ``every``-th step. Its grades reach no gradient."""

    def __init__(self, scorer: Scorer, path: Path, every: int, replies: int) -> None:
        """``every`` and ``replies`` are at least 1."""
        if every < 1 or replies < 1:
            raise ValueError(f"a watch looks every 1 or more steps at 1 or more replies, got {every} and {replies}")
        self._scorer, self._path, self._every, self._replies = scorer, path, every, replies

    async def look(self, step: int, lines: Sequence[LedgerRow], asked: Sequence[Judged]) -> None:
        """``lines`` and ``asked`` have one entry for each reply of the step."""
        if step % self._every or not lines:
            return
        count = min(self._replies, len(lines))
        places = [index * len(lines) // count for index in range(count)]
        grades = await score_all(
            self._scorer, [asked[place] for place in places], [lines[place].reply for place in places]
        )
        rows = [
            WatchRow(
                step=step,
                slot=lines[place].slot,
                sample=lines[place].sample,
                stream=lines[place].stream,
                row_id=lines[place].row_id,
                score=lines[place].score,
                watch_score=grade.score,
                watch_reason=grade.ungraded_reason,
                judge=self._scorer.name,
            )
            for place, grade in zip(places, grades)
        ]
        with clear_os_errors(self._path, "append to"), self._path.open("a", encoding="utf-8") as handle:
            handle.write("".join(dump_line(row) + "\n" for row in rows))

    def cut_back(self, completed_steps: int) -> None:
        """Drop what was watched after ``completed_steps`` optimizer steps, a half-written last line included."""
        if self._path.exists():
            with clear_os_errors(self._path, "read"):
                lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
            rows = [WatchRow.model_validate_json(line) for line in lines]
            write_jsonl(self._path, [row for row in rows if row.step < completed_steps])

    def read(self) -> list[WatchRow]:
        """Everything watched so far."""
        return read_jsonl(self._path, WatchRow) if self._path.exists() else []
