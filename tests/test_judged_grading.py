"""``traitrl grade`` with a judge behind HTTP: what failed is counted by cause, and too much of it stops the grading."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from length_judge import by_length
from made_scenarios import made
from traitrl.cli import main
from traitrl.core import EvalItem, Record, count_grades
from traitrl.evals.run import heldout_item, write_records
from traitrl.store import read_json, read_jsonl, read_manifest, write_jsonl
from traitrl.study.regrade import Regrade
from traitrl.training.ledger import LedgerFile, LedgerRow
from unruly_server import Unruly, running

REPLIES = 40  # in the ledger and in the eval each


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """What a study leaves behind: a ledger and one evaluation."""
    scenarios = [made(number) for number in range(REPLIES)]
    items = [heldout_item(row).model_copy(update={"id": f"item-{n}"}) for n, row in enumerate(scenarios)]
    write_jsonl(tmp_path / "1-scenarios" / "scenarios.jsonl", scenarios)
    write_jsonl(tmp_path / "0-world" / "items.jsonl", items)
    for folder in ("2-training/e/a/0", "3-evals/e/a/0/step-000000"):
        (tmp_path / folder).mkdir(parents=True)
    ledger = LedgerFile(tmp_path / "2-training/e/a/0/ledger.jsonl")
    ledger.append([ledger_row(number, row.id) for number, row in enumerate(scenarios)])
    write_records(tmp_path / "3-evals/e/a/0/step-000000/records.parquet", [record(item) for item in items])
    return tmp_path


def ledger_row(number: int, row_id: str) -> LedgerRow:
    return LedgerRow(
        step=0, slot=number, sample=0, in_slice=True, stream="traits", row_id=row_id, reply=f"trained reply {number}",
        prompt_tokens=1, reply_tokens=3, truncated=False, score=0.5, reward=0.5,
    )  # fmt: skip


def record(item: EvalItem) -> Record:
    return Record(
        experiment="e", arm="a", seed=0, step=0, checkpoint="step-000000", suite_id="s", family="f", item_id=item.id,
        cluster=item.cluster, split="ood", score=0.5, judge="rules", reply=f"a reply to {item.id} of many words",
    )  # fmt: skip


def grade(study: Path, url: str, *flags: str) -> int:
    model = ["--judge", "rubric", "--model", "m", "--base-url", url, "--key-env", "", "--concurrency", "4"]
    return main(["grade", str(study), *model, *flags])


def asked(payload: dict) -> str:
    return payload["messages"][-1]["content"]


def test_what_failed_is_counted_by_cause_in_comparison_and_manifest(study: Path, capsys) -> None:
    def answer(payload: dict) -> str:
        return "no" if "trained reply 7\n" in asked(payload) else by_length(payload)

    unruly = Unruly(answer, lambda n, payload: "400" if "reply to item-3 of" in asked(payload) else "")
    with running(unruly) as url:
        assert grade(study, url) == 0
    assert "ungraded by cause: client 1 (1.2%), malformed 1 (1.2%)" in capsys.readouterr().out
    folder = study / "grades" / "rubric-m"
    grades = read_jsonl(folder / "grades.jsonl", Regrade)
    count = count_grades(grades)
    assert (count.asked, count.graded, count.ungraded) == (2 * REPLIES, 2 * REPLIES - 2, 2)
    assert read_manifest(folder).grades == count
    comparison = read_json(folder / "comparison.json")
    assert comparison["all"]["grades"] == count.model_dump(mode="json")
    causes = {name: list(part["grades"]["causes"]) for name, part in comparison["sources"].items()}
    assert list(causes.values()) == [["malformed"], ["client"]]
    assert sum(part["grades"]["asked"] for part in comparison["sources"].values()) == count.asked


def test_past_the_limit_the_grading_stops_and_goes_on_later_without_paying_twice(study: Path, capsys) -> None:
    answered: Counter[str] = Counter()

    def answer(payload: dict) -> str:
        answered[json.dumps(payload, sort_keys=True)] += 1
        return by_length(payload)

    # Late, so that no answer is still on its way at the fifth failure: it would be lost, and asked for again.
    unruly = Unruly(answer, lambda n, payload: "late 400" if n >= 20 else "")
    with running(unruly) as url:
        assert grade(study, url) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        # 4 of 80 may fail: at the fifth nobody is asked any more, except who is being asked already.
        assert error.startswith(
            f"traitrl: grading {study} again by rubric:m stopped: 5 of 25 replies so far (80 in all)"
        )
        assert ": client 5 (2" in error and "--max-ungraded-share" in error
        assert unruly.requests <= 20 + 5 + 4 and sum(answered.values()) == 20
        assert not [
            path for path in study.rglob("*") if path.name in ("grades.jsonl", "manifest.json", "comparison.json")
        ]
        unruly.plan = lambda n, payload: ""
        assert grade(study, url) == 0
    assert len(answered) == 2 * REPLIES and set(answered.values()) == {1}
    assert "0 ungraded now" in capsys.readouterr().out


def test_a_limit_of_ones_own(study: Path, capsys) -> None:
    unruly = Unruly(by_length, lambda n, payload: "400" if "trained reply 1" in asked(payload) else "")  # 11 of 80
    with running(unruly) as url:
        assert grade(study, url) == 2
        assert grade(study, url, "--max-ungraded-share", "1.5") == 2
        assert "between 0 and 1, got 1.5" in capsys.readouterr().err
        assert grade(study, url, "--max-ungraded-share", "0.2") == 0  # the same folder goes on
    assert "client 11 (13.8%)" in capsys.readouterr().out


def test_a_judge_that_does_not_apply_grades_nothing_and_is_not_stopped(study: Path, capsys) -> None:
    unruly = Unruly(by_length)
    with running(unruly) as url:
        flags = ["--judge", "monitor", "--model", "m", "--base-url", url, "--key-env", ""]
        assert main(["grade", str(study), *flags]) == 0
    out = capsys.readouterr().out
    assert "80 ungraded now" in out and "no-reasoning 80 (100.0%)" in out and "now none" in out
    assert not unruly.requests
