"""Jobs side by side: results in order, events delivered, the first failure ends the rest at once."""

import os
import time
from pathlib import Path

import pytest

from traitrl.core import EngineError
from traitrl.training.launch.local import Report, run_jobs


def square(job: int, report: Report) -> tuple[int, str | None]:
    report({"job": job})
    return job * job, os.environ.get("OMP_NUM_THREADS")


def fail_or_sleep(job: str, report: Report) -> None:
    if job == "fail":
        raise EngineError("the judge is down")
    time.sleep(600)


def test_results_come_in_order_and_every_event_arrives() -> None:
    events: list[int] = []
    before = os.environ.get("OMP_NUM_THREADS")
    results = run_jobs(square, [3, 1, 2], workers=2, on_event=lambda event: events.append(event["job"]))
    assert results == [(9, "1"), (1, "1"), (4, "1")] and sorted(events) == [1, 2, 3]
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert run_jobs(square, [], workers=2, on_event=events.append) == []


def test_without_workers_all_is_done_in_this_process() -> None:
    events: list[int] = []

    def here(job: int, report: Report) -> tuple[int, int]:
        report({"job": job})
        return job, os.getpid()

    results = run_jobs(here, [3, 1], workers=0, on_event=lambda event: events.append(event["job"]))
    assert results == [(3, os.getpid()), (1, os.getpid())] and events == [3, 1]


def test_the_first_failure_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the judge is down"):
        run_jobs(fail_or_sleep, ["sleep", "fail", "sleep"], workers=2, on_event=lambda event: None)
