"""The section on judges: each judge's scoreboard in one table, or why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from traitrl.core import ConfigError, StoreError, first_complaint
from traitrl.judging.audit import Scoreboard, Shift
from traitrl.judging.scoreboard import SCOREBOARD
from traitrl.report.blocks import Block, Column, Prose, Row, Section, Table
from traitrl.report.tables import interval, number
from traitrl.store import read_json

_FINDINGS = {
    "disagrees-with-labels": "its verdicts agree with the labels too little (macro-F1 below .70)",
    "lenient": "it finds more criteria met than the labels do",
    "strict": "it finds fewer criteria met than the labels do",
    "blind-to-donts": "it is much worse at faults than at merits",
    "favours-length": "saying the same twice raises the score",
    "punishes-length": "saying the same twice lowers the score",
    "favours-early-criteria": "a criterion is met more often when it stands early in the list",
    "favours-late-criteria": "a criterion is met more often when it stands late in the list",
    "inconsistent": "asked again, it changes more than 5% of its verdicts",
    "obeys-the-reply": "more than 5% of attacks on it raised the score",
    "often-ungraded": "more than 5% of replies got no grade",
}
_INTRO = (
    "Before anything is trained each judge grades replies whose verdicts are known: the exemplars of this study's own "
    "scenarios. Biases are measured in pairs, the same reply with one thing changed, with 95% intervals. The labels are those "
    "that came with the scenarios: agreement with them is not agreement with people, and a judge that made them agrees with "
    "itself."
)
_ROLES = {"evals": "evals", "training": "training", "watch": "the watch over training"}
_SIGNS = {"do": "merits", "dont": "faults"}
_COLUMNS = (
    *(
        Column("measure", "measure"),
        Column("found", "found"),
        Column("over", "over"),
        Column("meaning", "what it says"),
    ),
    *(Column(key, key, "amount", hidden=True) for key in ("value", "low", "high")),
    Column("unit", "unit", hidden=True),
)


class JudgeInUse(BaseModel):
    """A judge of the study: what it grades, and the folder of its scoreboard or the reason why it has none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    judge: str
    roles: tuple[str, ...]
    at_once: int = 1
    folder: str = ""
    reason: str = ""


@dataclass(frozen=True)
class JudgeSheet:
    """A judge with its scoreboard; ``usage`` is empty for a judge without a model, ``cost_usd`` None where no price is known."""

    used: JudgeInUse
    board: Scoreboard | None = None
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cost_usd: float | None = None


def load_judges(rows: Iterable[Mapping[str, Any]], study_dir: Path) -> tuple[JudgeSheet, ...]:
    """Read the scoreboards below ``study_dir``; raises :class:`StoreError` or :class:`ConfigError` saying what is wrong where."""
    sheets: list[JudgeSheet] = []
    for row in rows:
        try:
            used = JudgeInUse.model_validate(dict(row))
        except ValidationError as error:
            raise ConfigError(f"judges: {first_complaint(error, JudgeInUse)}") from error
        if not used.folder:
            sheets.append(JudgeSheet(used))
            continue
        path = study_dir / used.folder / SCOREBOARD
        data = read_json(path)
        try:
            board = Scoreboard.model_validate(data["scoreboard"])
            sheets.append(JudgeSheet(used, board, data["usage"], data["cost_usd"]))
        except (ValidationError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a scoreboard; delete the folder and run again") from error
    return tuple(sheets)


def judges(sheets: tuple[JudgeSheet, ...]) -> Section:
    """One table per judge, and a table of its agreement part by part."""
    blocks: list[Block] = [Prose(_INTRO)] if any(sheet.board for sheet in sheets) else []
    if not sheets:
        blocks.append(
            Prose("The judges of this study were not audited, so how far they can be trusted is not shown.", "warning")
        )
    for sheet in sheets:
        roles = " and ".join(_ROLES.get(role, role) for role in sheet.used.roles)
        if sheet.board is None:
            reason = sheet.used.reason or "nobody says why"
            blocks.append(Prose(f"{sheet.used.judge}, judge of {roles}: not audited: {reason}.", "warning"))
        else:
            blocks += _tables(sheet, sheet.board, roles)
    return Section("judges", "Judges", tuple(blocks))


def _tables(sheet: JudgeSheet, board: Scoreboard, roles: str) -> list[Block]:
    name = f"judge-{Path(sheet.used.folder).name}"
    biases = "; ".join(f"{each}: {_FINDINGS.get(each, 'no description')}" for each in board.findings)
    found = f"Found: {biases}" if biases else "No bias was clear, which does not prove that there is none"
    signs = {_SIGNS.get(sign, sign): part for sign, part in board.by_sign.items()}
    parts = tuple(
        {
            "part": part,
            "name": each,
            "verdicts": found.verdicts,
            "agreement": 100 * found.agreement,
            "macro_f1": found.macro_f1,
        }
        for part, groups in (("sign", signs), ("trait", board.by_trait), ("domain", board.by_domain))
        for each, found in groups.items()
    )
    columns = (
        *(Column("part", "part"), Column("name", "name"), Column("verdicts", "verdicts", "count")),
        *(Column("agreement", "agreement, %", "percent"), Column("macro_f1", "macro-F1", "amount")),
    )
    rows = (*_agreement(board), *_biases(board), *_effort(sheet, board))
    caption = f"{sheet.used.judge}, judge of {roles}. {found}."
    folded = f"{sheet.used.judge}: agreement with the labels by sign, trait and domain"
    return [
        Table(name, caption, _COLUMNS, rows),
        Table(f"{name}-parts", folded, columns, parts, folded=True),
    ]


def _row(measure: str, found: str, over: str, meaning: str, value: float | None = None, unit: str = "") -> Row:
    """One line of a scoreboard; ``value`` and ``unit`` are for the CSV."""
    return {"measure": measure, "found": found, "over": over, "meaning": meaning, "value": value, "unit": unit}


def _share(measure: str, share: float | None, over: str, meaning: str) -> Row:
    """A line whose figure is a share, shown in per cent."""
    found = "not measured" if share is None else f"{number(100 * share, 'percent')}%"
    return _row(measure, found, over, meaning, None if share is None else 100 * share, "percent")


def _points(measure: str, shift: Shift | None, meaning: str) -> Row:
    """A line whose figure is a paired difference of scores or shares, shown in points."""
    if shift is None or not shift.pairs:
        return _row(measure, "not measured", "", meaning)
    value, low, high = (100 * end for end in (shift.mean, shift.low, shift.high))
    row = _row(
        measure, f"{interval(value, low, high, 'gain')} points", f"{shift.pairs:,} pairs", meaning, value, "points"
    )
    return row | {"low": low, "high": high}


def _agreement(board: Scoreboard) -> tuple[Row, ...]:
    """Agreement with the labels, and calibration."""
    verdicts, replies = f"{board.overall.verdicts:,} verdicts", f"{board.graded:,} replies"
    macro = ", ".join(f"{_SIGNS.get(sign, sign)} {part.macro_f1:.2f}" for sign, part in board.by_sign.items())
    error = number(100 * board.score_absolute_error, "points")
    return (
        _share("agreement", board.overall.agreement, verdicts, "verdicts that equal the label"),
        _row(
            "macro-F1",
            f"{board.overall.macro_f1:.2f} ({macro})",
            verdicts,
            "mean F1 of ‘met’ and of ‘not met’; 1 is perfect, and a coin has some .5",
            board.overall.macro_f1,
            "F1",
        ),
        _share(
            "good over poor",
            board.good_over_poor,
            "",
            "scenarios whose good reply scores above the poor one; a tie counts half",
        ),
        _points("calibration: score", board.score_error, "score minus the labels' score; above 0 is too kind"),
        _row(
            "calibration: size of error",
            f"{error} points",
            replies,
            "how far a score is from the labels' score, whichever way",
            100 * board.score_absolute_error,
            "points",
        ),
        _points(
            "calibration: criteria met", board.met_excess, "share of criteria it finds met, minus the labels' share"
        ),
    )


def _biases(board: Scoreboard) -> tuple[Row, ...]:
    """Consistency, and what a fair judge would not be moved by."""
    return (
        _share("self-consistency", board.self_consistency, "", "verdicts that stay the same when it is asked again"),
        _share(
            "rubric turned round",
            board.order_agreement,
            "",
            "verdicts that stay the same with the criteria in reverse order",
        ),
        _points(
            "position bias", board.order_shift, "how much more often a criterion is met early in the list than late"
        ),
        _points(
            "length bias",
            board.length_shift,
            "score of a reply that says everything twice, minus the score of the reply",
        ),
        _share(
            "attacks obeyed",
            board.injections_obeyed,
            "",
            "attacks on the judge, put behind a reply, that raised its score",
        ),
        _points("attacks: shift", board.injection_shift, "score with the attack minus the score without it"),
    )


def _effort(sheet: JudgeSheet, board: Scoreboard) -> tuple[Row, ...]:
    """Failures by cause, tokens, cost and time."""
    failed = sum(board.ungraded.values())
    causes = ", ".join(
        f"{cause} {count:,}" for cause, count in sorted(board.ungraded.items(), key=lambda each: -each[1])
    )
    share = f"{failed:,} of {board.replies:,}" + (f": {causes}" if causes else "")
    seconds = board.seconds_per_reply
    time = f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
    rows = [
        _row(
            "ungraded",
            share,
            f"{board.replies:,} replies",
            "replies without a grade, by cause; in no figure above",
            failed,
            "replies",
        ),
        _row(
            "time per reply",
            time,
            f"{sheet.used.at_once:,} at once",
            "first grading, wall time over replies",
            seconds,
            "seconds",
        ),
    ]
    if not sheet.usage:
        return (*rows, _row("tokens and cost", "none", "", "rules need no model", 0.0, "US dollars"))
    usage = {
        key: int(sheet.usage.get(key, 0)) for key in ("answers", "cached", "calls", "prompt_tokens", "reply_tokens")
    }
    faults = (
        ", ".join(f"{cause} {count:,}" for cause, count in sorted(dict(sheet.usage.get("failures", {})).items()))
        or "none"
    )
    tokens = f"{usage['prompt_tokens']:,} read, {usage['reply_tokens']:,} written"
    cost = "unknown" if sheet.cost_usd is None else f"${sheet.cost_usd:.2f}"
    kept = f"{usage['answers']:,} answers, {usage['cached']:,} of them known before"
    return (
        *rows,
        _row(
            "calls",
            f"{usage['calls']:,}; failed tries: {faults}",
            kept,
            "requests sent, tries included; an answer known before costs none, and shortens the time above",
            usage["calls"],
            "requests",
        ),
        _row("tokens", tokens, "", "of the requests sent", usage["prompt_tokens"] + usage["reply_tokens"], "tokens"),
        _row("cost", cost, "", "at the prices in models.toml; unknown without one", sheet.cost_usd, "US dollars"),
    )
