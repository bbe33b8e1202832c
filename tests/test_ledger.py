"""Rewards and the ledger: every reply is written down, a failure to judge is not a zero, a resume never counts twice."""

import asyncio
from pathlib import Path

import pytest

from traitrl.core import (
    Arm,
    Criterion,
    EngineError,
    Grade,
    Message,
    Scenario,
    StandardPrompt,
    Verdict,
    grade_from_verdicts,
    ungraded,
)
from traitrl.judging import RefusalRule
from traitrl.training.health import health
from traitrl.training.ledger import LedgerFile, account, reward_curve
from traitrl.training.reward import RewardRouter, with_slice_rubric
from traitrl.training.schedule import ScheduleRow

RUBRIC = (Criterion(id="c", text="t", points=1),)
ASK = (Message(role="user", content="hello"),)
ROWS = {
    "std": StandardPrompt(id="std", kind="k", messages=ASK, rubric=RUBRIC),
    "sc": Scenario(id="sc", trait="t", domain="d", pressures=("p",), messages=ASK, rubric=RUBRIC, split="train"),
}
SCHEDULE = [
    ScheduleRow(slot=0, in_slice=False, stream="standard", row_id="std"),
    ScheduleRow(slot=1, in_slice=True, stream="traits", row_id="sc"),
    ScheduleRow(slot=2, in_slice=False, stream="standard", row_id="std"),
]


class ScriptedScorer:
    """Good for "good", ungraded for "?", poor for all else."""

    name = "scripted"

    async def score(self, row: object, reply: str) -> Grade:
        if reply == "?":
            return ungraded("judge timed out")
        return grade_from_verdicts(ROWS["std"].as_rubric(), [Verdict(criterion_id="c", met=reply == "good")])


def router(path: Path, limit: float = 1.0) -> RewardRouter:
    return RewardRouter(SCHEDULE, ROWS, ScriptedScorer(), RefusalRule(["no way"]), LedgerFile(path), limit)


def rewards(one: RewardRouter, step: int, slots: list[int], replies: list[str]) -> list[float | None]:
    n = len(slots)
    return asyncio.run(one.rewards(step, slots, replies, [3] * n, [5] * n, [reply == "cut" for reply in replies]))


def test_every_reply_is_in_the_ledger_and_the_unjudged_have_no_reward(tmp_path: Path) -> None:
    one = router(tmp_path / "l.jsonl")
    assert rewards(one, 0, [0, 0, 1, 1], ["good", "bad", "?", "good"]) == [1.0, 0.0, None, 1.0]
    rows = LedgerFile(tmp_path / "l.jsonl").read()
    assert [(row.slot, row.sample, row.row_id, row.reward) for row in rows] == [
        (0, 0, "std", 1.0),
        (0, 1, "std", 0.0),
        (1, 0, "sc", None),
        (1, 1, "sc", 1.0),
    ]
    assert rows[2].ungraded_reason == "judge timed out" and rows[2].trait == "t" and rows[2].in_slice


def test_past_the_limit_of_failures_the_run_stops_with_the_reason(tmp_path: Path) -> None:
    one = router(tmp_path / "l.jsonl", limit=0.1)
    rewards(one, 0, [0] * 60, ["good"] * 60)
    with pytest.raises(EngineError, match=r"20 of 80 replies are ungraded.*judge timed out"):
        rewards(one, 1, [1] * 20, ["?"] * 20)
    assert len(LedgerFile(tmp_path / "l.jsonl").read()) == 80


def test_a_resumed_run_counts_the_failures_already_in_the_ledger(tmp_path: Path) -> None:
    rewards(router(tmp_path / "l.jsonl"), 0, [0] * 70, ["?"] * 30 + ["good"] * 40)
    with pytest.raises(EngineError, match="30 of 71"):
        rewards(router(tmp_path / "l.jsonl", limit=0.4), 1, [0], ["good"])


def test_cutting_back_keeps_completed_steps_and_drops_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    for step in range(3):
        rewards(router(path), step, [step], ["good"])
    whole = path.read_text()
    path.write_text(whole + whole[:40])  # killed in the middle of a write
    LedgerFile(path).cut_back(2)
    assert [row.step for row in LedgerFile(path).read()] == [0, 1]
    assert whole.startswith(path.read_text())
    LedgerFile(path).cut_back(0)
    assert LedgerFile(path).read() == []
    LedgerFile(tmp_path / "none.jsonl").cut_back(5)


def test_accounting_and_curves_add_up(tmp_path: Path) -> None:
    one = router(tmp_path / "l.jsonl")
    rewards(one, 0, [0, 0, 1, 1], ["good", "cut", "?", "good"])
    rewards(one, 1, [2, 2], ["bad", "bad"])
    rows = LedgerFile(tmp_path / "l.jsonl").read()
    book = account(rows)
    assert book["standard"] == {
        "prompts": 2,
        "replies": 4,
        "generated_tokens": 12,
        "prompt_tokens": 20,
        "judge_calls": 4,
        "ungraded": 0,
        "truncated": 1,
    }
    assert book["traits"]["ungraded"] == 1 and book["traits"]["prompts"] == 1
    curve = reward_curve(rows, steps=2, points=2)
    assert [(point["step"], point["stream"], point["reward_mean"]) for point in curve] == [
        (1, "standard", 0.5),
        (1, "traits", 1.0),
        (2, "standard", 0.0),
    ]


def test_health_names_what_crossed_a_line(tmp_path: Path) -> None:
    one = router(tmp_path / "l.jsonl")
    rewards(one, 0, [0, 0, 0, 0], ["good", "bad", "good", "bad"])
    report = health(LedgerFile(tmp_path / "l.jsonl").read())
    assert report["alarms"] == [] and report["flat_group_share"] == 0.0
    rewards(one, 1, [2] * 8, ["cut"] * 8)
    alarms = " ".join(health(LedgerFile(tmp_path / "l.jsonl").read())["alarms"])
    assert "truncated_share is 0.67" in alarms and "ungraded" not in alarms


def test_a_generic_rubric_replaces_the_scenarios_own() -> None:
    generic = {"helpfulness": (Criterion(id="h", text="is helpful", points=2),)}
    own, control = (
        Arm(id="t", title="", slice="traits"),
        Arm(id="h", title="", slice="traits", slice_rubric="helpfulness"),
    )
    assert with_slice_rubric(own, [ROWS["sc"]], generic) == [ROWS["sc"]]
    (row,) = with_slice_rubric(control, [ROWS["sc"]], generic)
    assert row.rubric == generic["helpfulness"] and row.messages == ROWS["sc"].messages
    with pytest.raises(EngineError, match="'helpfulness'"):
        with_slice_rubric(control, [ROWS["sc"]], {})
