"""A whole study with judges behind HTTP that fail in every way, killed twice: nothing is lost, paid twice or leaked."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forked import TRAITRL, Forked
from length_judge import by_length
from traitrl.cli import main
from traitrl.core import count_grades
from traitrl.judging.scoreboard import SCOREBOARD
from traitrl.store import read_json, read_jsonl, read_manifest
from traitrl.training.ledger import LedgerFile
from traitrl.training.watch import WatchRow
from unruly_server import FAULTS, Unruly, running

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

KEY = "sk-planted-in-a-study"
STUDY = """
name = "judged"
title = "Judged over HTTP"
world = "pocket"
workers = 1
audit_replies = 4
scenarios = "@scenarios"
standard = "@standard"
refusals = "@refusals"

[world_options]
items_per_row = 1
capability_items_per_task = 1
standard_prompts = 60
train_per_cell = 1
train_per_health_cell = 1
heldout_traits = ["truthfulness"]

[judge]
name = "rubric"
model = "judge-of-training"
base_url = "URL"
key_env = "STUDY_JUDGE_KEY"
concurrency = 8
timeout_seconds = 5

[eval_judge]
name = "rubric"
model = "judge-of-evals"
base_url = "URL"
key_env = "STUDY_JUDGE_KEY"
concurrency = 8
timeout_seconds = 5

[watch_judge]
name = "helpfulness"
model = "judge-on-watch"
base_url = "URL"
key_env = "STUDY_JUDGE_KEY"
concurrency = 8
timeout_seconds = 5

[[experiment]]
id = "coherent"
title = "Coherent prior"
model = "@models.coherent"
arms = ["standard", "traits"]

[training]
steps = 2
prompts_per_step = 5
replies_per_prompt = 4
share = 0.2
max_prompt_tokens = 96
max_reply_tokens = 32
watch_every = 1
watch_replies = 4
max_ungraded_share = 0.5

[evals]
items = "@items"
capability = ["lookup"]
max_reply_tokens = 32
max_ungraded_share = 0.5

[persistence]
attacks = "@attacks"
families = ["mental-health"]
items_per_row = 1

[[persistence.prompt]]
id = "bad-medical"
strengths = [1.0]

[analysis]
bootstrap = 50
"""


class Judges:
    """What stands behind the URL: a tenth of the calls fail once, some questions are never answered well."""

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}  # how often each payload was answered in full, whatever the answer said
        self.asked: dict[str, int] = {}  # questions by model
        self.stall_at: tuple[str, int] = ("", 0)  # from the n-th question to that model on nobody is answered
        self.stalled = threading.Event()
        self.unruly = Unruly(self.answer, self.plan)

    def plan(self, number: int, payload: dict[str, Any]) -> str:
        model = payload["model"]
        self.asked[model] = self.asked.get(model, 0) + 1
        if model == self.stall_at[0] and self.asked[model] >= self.stall_at[1]:
            self.stalled.set()
        if self.stalled.is_set() or number == 5:
            return "hang"
        if _lot(payload, 16) == 1:
            return "401"  # for good, and it echoes the key
        passing = [fault for fault in FAULTS if fault != "hang"]
        if number % 10 == 0:
            return passing[number // 10 % len(passing)]
        key = json.dumps(payload, sort_keys=True)
        self.answered[key] = self.answered.get(key, 0) + 1
        return ""

    def answer(self, payload: dict[str, Any]) -> str:
        return (
            "marker-of-no-verdict"
            if _lot(payload, 16) == 2
            else by_length(payload).replace("by length", "marker-of-a-reason")
        )


def _lot(payload: dict[str, Any], of: int) -> int:
    """The same for each try of a question."""
    return zlib.crc32(payload["messages"][-1]["content"].encode()) % of


def killed_when_stalled(judges: Judges, model: str, number: int, study: Path, out: Path) -> str:
    """Run the study until its ``number``-th question to ``model`` from now on, kill it, and return what it printed."""
    judges.stall_at = (model, judges.asked.get(model, 0) + number)
    child = Forked(TRAITRL, "study", "run", str(study), "--out", str(out), screen=study.with_name(f"{model}.txt"))
    deadline = time.monotonic() + 240
    while not judges.stalled.wait(0.05) and child.poll() is None and time.monotonic() < deadline:
        pass
    time.sleep(1)  # answers that are on their way are kept by then
    child.kill()
    assert judges.stalled.is_set(), child.printed
    judges.stall_at = ("", 0)
    judges.stalled.clear()
    return child.printed


def contents(path: Path) -> Iterator[bytes]:
    """All that a file holds, unpacked."""
    yield path.read_bytes()
    if path.suffix == ".eval":
        import zipfile_zstd  # noqa: F401  teaches zipfile the compression of the logs

        with zipfile.ZipFile(path) as log:
            yield from (log.read(name) for name in log.namelist())
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
    elif path.suffix == ".sqlite":
        disk = sqlite3.connect(path)
        yield "\n".join(disk.iterdump()).encode()
        disk.close()


def holding(out: Path, text: str) -> set[str]:
    """Kinds of the files that hold ``text``."""
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.suffix for path in files if any(text.encode() in part for part in contents(path))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Judges, str]]:
    """The finished study, its judges, and what all its runs printed."""
    folder = tmp_path_factory.mktemp("judged")
    study, alone, out, judges = folder / "study.toml", folder / "alone.toml", folder / "out", Judges()
    with pytest.MonkeyPatch.context() as patch, running(judges.unruly) as url:
        patch.setenv("STUDY_JUDGE_KEY", KEY)
        patch.setenv("OMP_NUM_THREADS", "1")
        study.write_text(STUDY.replace("URL", url))
        alone.write_text(study.read_text().replace("workers = 1", "workers = 0"))
        printed = killed_when_stalled(judges, "judge-on-watch", 6, alone, out)
        assert (out / "2-training/coherent/standard/0/ledger.jsonl").exists()
        printed += killed_when_stalled(judges, "judge-of-evals", 20, alone, out)
        assert not list(out.rglob("records.parquet")) and list(out.glob("2-training/*/*/*/manifest.json"))
        child = Forked(TRAITRL, "study", "run", str(alone), "--out", str(out), screen=folder / "last.txt")
        assert child.wait() == 0, child.printed
        yield out, judges, printed + child.printed


def test_every_reply_is_graded_or_ungraded_by_cause(run: tuple[Path, Judges, str]) -> None:
    import pandas as pd

    out, _, printed = run
    assert (out / "6-report" / "index.html").stat().st_size > 100_000 and "report: " in printed
    causes: set[str] = set()
    for arm in ("standard", "traits"):
        training = out / "2-training/coherent" / arm / "0"
        rows = LedgerFile(training / "ledger.jsonl").read()
        assert len({(row.step, row.slot, row.sample) for row in rows}) == len(rows) == 2 * 5 * 4
        assert read_manifest(training).grades == count_grades(rows)
        assert all((row.reward is None) == (row.score is None) for row in rows)
        causes |= set(count_grades(rows).causes)
        watched = read_jsonl(training / "watch.jsonl", WatchRow)
        assert len(watched) == 2 * 4 and all((row.watch_score is None) == bool(row.watch_reason) for row in watched)
    evals = sorted(out.glob("[34]-*/**/records.parquet"))
    assert len(evals) == 4
    for path in evals:
        records = pd.read_parquet(path)
        grades = read_manifest(path.parent).grades
        assert grades is not None and grades.asked == len(records) == records.item_id.nunique()
        assert grades.graded == records.score.notna().sum() and grades.ungraded == records.ungraded_reason.notna().sum()
        by_cause = records.ungraded_reason.dropna().str.split(":").str[0].value_counts().to_dict()
        assert {name: cause.replies for name, cause in grades.causes.items()} == by_cause
        causes |= set(grades.causes)
    assert causes == {"malformed", "client"}  # what fails for a time is asked again
    for path in sorted(out.glob("judges/*/" + SCOREBOARD)):
        board = read_json(path)["scoreboard"]
        assert board["replies"] == board["graded"] + sum(board["ungraded"].values())


def test_what_was_answered_is_not_paid_for_again(run: tuple[Path, Judges, str]) -> None:
    out, judges, _ = run
    assert set(judges.answered.values()) == {1}
    disk = sqlite3.connect(out / "answers.sqlite")
    (kept,) = disk.execute("SELECT COUNT(*) FROM answers").fetchone()
    disk.close()
    assert kept == len(judges.answered) > 200
    assert set(FAULTS) | {"401"} <= set(judges.unruly.served)
    assert sum(judges.unruly.served[fault] for fault in FAULTS) > 0.05 * judges.unruly.requests


def test_the_key_is_in_no_file_and_on_no_screen(run: tuple[Path, Judges, str]) -> None:
    out, judges, printed = run
    assert all(header.get("Authorization") == f"Bearer {KEY}" for header in judges.unruly.headers)
    assert {".eval", ".jsonl", ".sqlite"} <= holding(out, "marker-of-a-reason")  # whoever looks can see
    assert {".eval", ".jsonl", ".parquet", ".sqlite"} <= holding(out, "marker-of-no-verdict")
    assert {".eval", ".jsonl", ".parquet"} <= holding(out, "no: Bearer ***")  # the echo, made harmless
    assert not holding(out, "planted-in-a-study") and "planted-in-a-study" not in printed


def test_another_run_in_a_worker_asks_nobody_anything(
    run: tuple[Path, Judges, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, judges, _ = run
    monkeypatch.setenv("STUDY_JUDGE_KEY", KEY)
    before = judges.unruly.requests
    assert main(["study", "run", str(out.parent / "study.toml"), "--out", str(out)]) == 0
    assert judges.unruly.requests == before and "planted" not in "".join(capfd.readouterr())
