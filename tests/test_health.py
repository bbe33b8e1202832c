"""Health of a run: manner curves and the proxy watch raise alarms when, and only when, something drifted."""

import asyncio
from pathlib import Path

import pytest

from traitrl.core import Criterion, Grade, Message, StandardPrompt, Verdict, grade_from_verdicts, ungraded
from traitrl.judging import RefusalRule
from traitrl.training.health import health, hedges_per_100_words, manner_curves, repetition
from traitrl.training.ledger import LedgerFile, LedgerRow
from traitrl.training.reward import RewardRouter
from traitrl.training.schedule import ScheduleRow
from traitrl.training.watch import Watch, WatchRow

PLAIN = "one two three four five six seven eight nine ten"


def rows(reply_at, steps: int = 40, per_step: int = 8, **changes: object) -> list[LedgerRow]:
    """``reply_at(part)`` is the reply at ``part`` of the run, in [0, 1)."""
    return [
        LedgerRow.model_validate(
            {
                "step": step,
                "slot": step,
                "sample": n,
                "in_slice": True,
                "stream": "traits",
                "row_id": "r",
                "reply": reply_at(step / steps),
                "prompt_tokens": 5,
                "reply_tokens": len(reply_at(step / steps).split()),
                "truncated": False,
                "score": n % 2,
                "reward": n % 2,
                **changes,
            }
        )
        for step in range(steps)
        for n in range(per_step)
    ]


def watched(gap_at, steps: int = 40, per_step: int = 4) -> list[WatchRow]:
    return [
        WatchRow(
            step=s,
            slot=s,
            sample=n,
            stream="traits",
            row_id="r",
            score=0.9,
            watch_score=0.9 - gap_at(s / steps),
            judge="w",
        )
        for s in range(steps)
        for n in range(per_step)
    ]


def test_a_steady_run_raises_no_alarm() -> None:
    found = health(rows(lambda part: PLAIN), watched(lambda part: 0.3))  # a constant distance is taste, not drift
    assert found["alarms"] == []
    assert [entry["window"] for entry in found["manner"]] == [0, 1, 2, 3]
    assert found["watch"][0]["gap"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("late", "name"),
    [
        ("one two three " * 4, "repetition of the traits stream rose"),
        ("perhaps it might be so and maybe I think it may be", "hedges_per_100_words of the traits stream rose"),
        (
            " ".join([PLAIN, "a b c d e f g h i j k l m n o p q r s t u v w x y z"]),
            "mean reply length went from 10.0 to",
        ),
    ],
)
def test_a_drift_of_manner_is_named(late: str, name: str) -> None:
    (alarm,) = health(rows(lambda part: late if part >= 0.5 else PLAIN))["alarms"]
    assert name in alarm


def test_rising_refusals_are_named() -> None:
    calm, stiff = rows(lambda part: PLAIN, steps=20), rows(lambda part: PLAIN, steps=40, refusal=True)
    (alarm,) = health([*calm, *(row for row in stiff if row.step >= 20)])["alarms"]
    assert "refusal of the traits stream rose from 0.00 to 1.00" in alarm


def test_diverging_judges_are_named_and_converging_ones_are_not() -> None:
    (alarm,) = health(rows(lambda part: PLAIN), watched(lambda part: 0.4 * part))["alarms"]
    assert alarm.startswith("the training judge and the watch judge diverge: their difference went from +0.0")
    assert health(rows(lambda part: PLAIN), watched(lambda part: 0.4 * (1 - part)))["alarms"] == []


def test_few_replies_raise_no_alarm() -> None:
    assert health(rows(lambda part: PLAIN, per_step=2, steps=8), watched(lambda part: part, steps=8))["alarms"] == []


def test_windows_tell_streams_apart() -> None:
    other = [row.model_copy(update={"stream": "standard"}) for row in rows(lambda part: "x y")]
    curves = manner_curves([*rows(lambda part: PLAIN), *other])
    assert {(entry["stream"], entry["reply_tokens"]) for entry in curves} == {("traits", 10.0), ("standard", 2.0)}


def test_measures_by_hand() -> None:
    assert repetition("a b c") == repetition("") == 0.0
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert hedges_per_100_words("It may be so") == pytest.approx(25.0)
    assert hedges_per_100_words("Maybelline and Mayfair") == hedges_per_100_words("") == 0.0


class Judge:
    def __init__(self, score: bool, fails: bool = False) -> None:
        self.name, self.good, self.fails, self.asked = "watcher", score, fails, 0

    async def score(self, row: StandardPrompt, reply: str) -> Grade:
        self.asked += 1
        if self.fails:
            return ungraded("timeout: gone")
        return grade_from_verdicts(row.as_rubric(), [Verdict(criterion_id="c", met=self.good)])


def test_the_watch_looks_every_kth_step_at_a_fixed_sample_and_moves_no_reward(tmp_path: Path) -> None:
    row = StandardPrompt(
        id="s", kind="k", messages=(Message(role="user", content="x"),), rubric=(Criterion(id="c", text="t", points=1),)
    )
    schedule = [ScheduleRow(slot=n, in_slice=False, stream="standard", row_id="s") for n in range(6)]
    judge, watcher = Judge(True), Judge(False)
    watch = Watch(watcher, tmp_path / "watch.jsonl", every=2, replies=2)
    router = RewardRouter(
        schedule, {"s": row}, judge, RefusalRule(["no"]), LedgerFile(tmp_path / "l.jsonl"), 1.0, watch
    )
    for step in range(6):
        found = asyncio.run(router.rewards(step, [step] * 4, list("abcd"), [1] * 4, [1] * 4, [False] * 4))
        assert found == [1.0] * 4
    assert judge.asked == 24 and watcher.asked == 6
    seen = watch.read()
    assert [(each.step, each.sample) for each in seen] == [(s, n) for s in (0, 2, 4) for n in (0, 2)]
    assert all(each.score == 1.0 and each.watch_score == 0.0 for each in seen)
    with (tmp_path / "watch.jsonl").open("a") as handle:
        handle.write('{"step": 5, "cut of')
    watch.cut_back(3)
    assert {each.step for each in watch.read()} == {0, 2}


def test_a_watch_judge_that_fails_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    lines = rows(lambda part: PLAIN, steps=1)
    watch = Watch(Judge(True, fails=True), tmp_path / "w.jsonl", every=1, replies=3)
    asked = [
        StandardPrompt(
            id="r",
            kind="k",
            messages=(Message(role="user", content="x"),),
            rubric=(Criterion(id="c", text="t", points=1),),
        )
    ] * 8
    asyncio.run(watch.look(0, lines, asked))
    found = health(lines, watch.read())
    assert found["watch"] == [{"window": 0, "replies": 0, "ungraded": 3, "gap": None}] and found["alarms"] == []
    with pytest.raises(ValueError, match="every 1 or more"):
        Watch(Judge(True), tmp_path / "w", every=0, replies=1)
