"""``traitrl judge audit`` and ``scenarios check --judge`` as a user runs them, against a real local server."""

import json
import re
from pathlib import Path

import pytest

from made_scenarios import made
from marker_judge import marked_rows
from traitrl.cli import main
from traitrl.judging.labelled import spread
from traitrl.store import read_json, write_jsonl
from unruly_server import Unruly, running


def all_met(payload: dict) -> str:
    criteria = payload["messages"][-1]["content"].split("The criteria:")[1]
    count = len(re.findall(r"^\d+\. ", criteria, re.MULTILINE))
    verdicts = [{"criterion": number, "reason": "always", "met": True} for number in range(1, count + 1)]
    return json.dumps({"verdicts": verdicts})


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "in.jsonl", [made(number) for number in range(8)])
    return tmp_path / "in.jsonl"


def test_an_audit_writes_its_scoreboard_and_is_not_paid_twice(
    scenarios: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("AUDIT_KEY", "sk-planted-in-audit")
    unruly = Unruly(all_met)
    with running(unruly) as url:
        model = ["--model", "m", "--base-url", url, "--key-env", "AUDIT_KEY"]
        command = ["judge", "audit", "rubric", *model, "--scenarios", str(scenarios), "--out", str(tmp_path / "audit")]
        assert main(command) == 0
        asked = unruly.requests
        assert main(command) == 0
        assert unruly.requests == asked > 0
    said = capsys.readouterr().out
    assert "lenient" in said and "judge rubric:m" in said
    board = read_json(tmp_path / "audit" / "scoreboard.json")
    assert board["scoreboard"]["graded"] == 24 and board["usage"]["calls"] == asked and board["cost_usd"] is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"planted-in-audit" in path.read_bytes()]


def test_a_judge_with_criteria_of_its_own_is_refused_in_one_line(scenarios: Path, tmp_path: Path, capsys) -> None:
    model = ["--model", "m", "--base-url", "http://localhost:1/v1", "--key-env", ""]
    command = ["judge", "audit", "helpfulness", *model, "--scenarios", str(scenarios), "--out", str(tmp_path / "audit")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "no scoreboard: judge 'helpfulness' has criteria of its own" in said and said.count("\n") == 1
    assert not (tmp_path / "audit").exists()


def test_the_check_asks_its_judge_on_one_loop(scenarios: Path, tmp_path: Path, capsys) -> None:
    unruly = Unruly(all_met)
    with running(unruly) as url:
        model = ["--model", "m", "--base-url", url, "--key-env", ""]
        assert (
            main(["scenarios", "check", str(scenarios), "--judge", "rubric", *model, "--out", str(tmp_path / "o")]) == 0
        )
    assert "8  separation" in capsys.readouterr().out and unruly.requests == 16


def test_a_limit_keeps_pairs_together() -> None:
    rows = marked_rows(50)
    chosen = spread(rows, 20)
    assert len(chosen) == 20 and len({row.group for row in chosen}) == 10
    assert {row.side for row in chosen if row.group == chosen[0].group} == {"good", "poor"}
    assert len(spread(rows, 1)) == 2


def test_a_flag_that_cannot_be_is_one_line(scenarios: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--key-env", "", "--concurrency", "0"]
    command = ["judge", "audit", "rubric", *model, "--scenarios", str(scenarios), "--out", str(tmp_path / "audit")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said == "traitrl: --concurrency: Input should be greater than or equal to 1\n"
    assert not (tmp_path / "audit").exists()
