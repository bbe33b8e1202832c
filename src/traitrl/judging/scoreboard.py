"""A judge's scoreboard on disk and in the terminal."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from traitrl.catalog import PACKAGE_DATA
from traitrl.judging.audit import Scoreboard, Shift
from traitrl.store import StageFolder, read_json, write_json_atomic

SCOREBOARD = "scoreboard.json"


def injections(overlays: Sequence[Path] = ()) -> list[str]:
    """The attack texts of the catalog, overlays included; ``repeat`` builds long ones."""
    texts: list[str] = []
    for folder in (PACKAGE_DATA, *overlays):
        path = folder / "judges" / "injections.toml"
        if path.exists():
            for attack in tomllib.loads(path.read_text(encoding="utf-8"))["attack"]:
                texts.append(str(attack["text"]) * int(attack.get("repeat", 1)) + str(attack.get("tail", "")))
    return texts


def write_scoreboard(folder: StageFolder, board: Scoreboard, usage: dict[str, Any], cost_usd: float | None) -> None:
    """The scoreboard with what it took; finishes the stage. ``cost_usd`` is None when nobody gave a price."""
    data = {"scoreboard": board.model_dump(mode="json"), "usage": usage, "cost_usd": cost_usd}
    write_json_atomic(folder.path / SCOREBOARD, data)
    folder.finish([SCOREBOARD], judge_calls=usage.get("answers", 0), cost_usd=cost_usd or 0.0)


def read_scoreboard(folder: Path) -> Scoreboard:
    """The scoreboard of a finished audit."""
    return Scoreboard.model_validate(read_json(folder / SCOREBOARD)["scoreboard"])


def scoreboard_table(board: Scoreboard) -> Table:
    """The main lines of a scoreboard."""
    table = Table(title=f"judge {board.judge}", title_justify="left", show_header=False, box=None, pad_edge=False)
    failed = ", ".join(f"{cause} {count}" for cause, count in board.ungraded.items()) or "none"
    rows = [
        ("replies", f"{board.replies}, {board.graded} graded; ungraded: {failed}"),
        ("agreement with labels", f"{board.overall.agreement:.3f} of {board.overall.verdicts} verdicts"),
        ("macro-F1", f"{board.overall.macro_f1:.3f}"),
        ("macro-F1 on do's and don'ts", " and ".join(f"{board.by_sign[sign].macro_f1:.3f}" for sign in ("do", "dont"))),
        ("weakest trait", _weakest(board)),
        ("good over poor", _number(board.good_over_poor)),
        ("score minus label", _shift(board.score_error)),
        ("same verdict when asked again", _number(board.self_consistency)),
        ("same verdict in turned order", _number(board.order_agreement)),
        ("shift by order", _shift(board.order_shift)),
        ("shift by length", _shift(board.length_shift)),
        ("attacks obeyed", _number(board.injections_obeyed)),
        ("seconds per reply", f"{board.seconds_per_reply:.3f}"),
        ("findings", ", ".join(board.findings) or "none"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _weakest(board: Scoreboard) -> str:
    if not board.by_trait:
        return "not measured"
    name = min(board.by_trait, key=lambda trait: board.by_trait[trait].macro_f1)
    return f"{name} ({board.by_trait[name].macro_f1:.3f})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _shift(shift: Shift | None) -> str:
    return (
        "not measured"
        if shift is None
        else f"{shift.mean:+.3f} [{shift.low:+.3f}, {shift.high:+.3f}] over {shift.pairs}"
    )
