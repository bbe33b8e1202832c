"""Stages that sort scenarios into kept and rejected: streamed line by line, nothing dropped, counts in = kept + rejected.

Every stage of the pipeline reads one JSONL file and fills one stage folder: ``scenarios.jsonl`` (kept rows), ``rejected.jsonl``
(each with its line, rule and reason, and the row itself as it was read) and a manifest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from traitrl.core import Frozen, Scenario, StoreError, first_complaint
from traitrl.store import StageFolder, clear_os_errors, dump_line, write_json_atomic

CHUNK = 500  # rows that a worker is handed at once
_In = TypeVar("_In")
_Out = TypeVar("_Out")

KEPT, REJECTED, COUNTS = "scenarios.jsonl", "rejected.jsonl", "counts.json"


class Rejected(Frozen):
    """A row that is not used, and why. ``row`` is the line as it was read."""

    id: str
    line: int
    rule: str
    reason: str
    row: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a scenario file: a valid row, or what is wrong with it."""

    number: int
    raw: str
    row: Scenario | None
    complaint: str = ""

    @property
    def id(self) -> str:
        """The row's id, as far as it can be told."""
        if self.row is not None:
            return self.row.id
        try:
            data = json.loads(self.raw)
            return str(data.get("id", "")) if isinstance(data, dict) else ""
        except (ValueError, RecursionError):
            return ""

    def rejected(self, rule: str, reason: str) -> Rejected:
        """This line as a rejected row."""
        return Rejected(id=self.id, line=self.number, rule=rule, reason=reason, row=self.raw)


def read_lines(path: Path) -> Iterator[Line]:
    """Every non-empty line, parsed. A malformed line is handed on as such; only an unreadable file raises."""
    for number, raw in read_raw(path):
        yield parse_line(number, raw)


def read_raw(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every non-empty line: what goes to a worker process, which parses it there."""
    with clear_os_errors(path, "read"), path.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            if raw.strip():
                yield number, raw


def parse_line(number: int, raw: bytes) -> Line:
    """One line, parsed as a :class:`Scenario`."""
    text = raw.rstrip(b"\r\n").decode("utf-8", "replace")
    if "\ufffd" in text and b"\xef\xbf\xbd" not in raw:
        return Line(number, text, None, "not UTF-8 text; save the file as UTF-8")
    try:
        return Line(number, text, Scenario.model_validate_json(text))
    except ValidationError as error:
        return Line(number, text, None, first_complaint(error, Scenario))


class Sorter:
    """Writes kept and rejected rows of one stage as they come, and finishes the stage only when the counts agree."""

    def __init__(self, folder: StageFolder) -> None:
        """``folder`` must be claimed. Files of an interrupted run are begun anew."""
        self._folder = folder
        self._out = folder.path
        with clear_os_errors(self._out, "write"):
            self._kept = (self._out / KEPT).open("w", encoding="utf-8")
            self._rejected = (self._out / REJECTED).open("w", encoding="utf-8")
        self.kept = 0
        self.reasons: Counter[str] = Counter()

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: object) -> None:
        with clear_os_errors(self._out, "write"):
            self._kept.close()
            self._rejected.close()

    def keep(self, row: Scenario | str) -> None:
        """Keep a row, changed or as it was read."""
        with clear_os_errors(self._out, "write"):
            self._kept.write((row if isinstance(row, str) else dump_line(row)) + "\n")
        self.kept += 1

    def reject(self, row: Rejected) -> None:
        """Put a row aside with its reason."""
        with clear_os_errors(self._out, "write"):
            self._rejected.write(dump_line(row) + "\n")
        self.reasons[row.rule] += 1

    def finish(
        self, rows_in: int, more: dict[str, Any] | None = None, outputs: Iterable[str] = (), *, complete: bool = True
    ) -> dict[str, Any]:
        """Close the stage and return its counts. Raises :class:`StoreError` when a row was lost or doubled.

        With ``complete`` False the files are written and the stage stays open, to be continued by the same command.
        """
        self.__exit__()
        rejected = self.reasons.total()
        if rows_in != self.kept + rejected:
            raise StoreError(
                f"{self._out}: {rows_in} rows in, {self.kept} kept and {rejected} rejected: rows were lost or doubled; "
                "this is a defect of traitrl, please report it"
            )
        counts = {"in": rows_in, "kept": self.kept, "rejected": rejected, "reasons": dict(sorted(self.reasons.items()))}
        counts |= more or {}
        write_json_atomic(self._out / COUNTS, counts)
        if complete:
            self._folder.finish([KEPT, REJECTED, COUNTS, *outputs])
        return counts


def mapped(
    pool: ProcessPoolExecutor | None, work: Callable[[_In], _Out], items: Iterator[_In], ahead: int = 8
) -> Iterator[_Out]:
    """``map`` over a pool that never holds more than ``ahead`` items: the pool's own would read the whole file at once."""
    if pool is None:
        yield from map(work, items)
        return
    waiting = [pool.submit(work, item) for item in islice(items, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(work, item) for item in islice(items, 1)]


def chunks(items: Iterator[_In], size: int) -> Iterator[list[_In]]:
    """Lists of ``size`` items, the last one shorter; no more is drawn than is handed on."""
    for first in items:
        yield list(chain([first], islice(items, size - 1)))
