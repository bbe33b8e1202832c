"""What a person sees while a study runs."""

import io

from rich.console import Console

from traitrl.study.progress import StudyProgress, attack_table, win_table

EVENTS = [
    {"kind": "plan", "runs": ["coherent / prior / seed 0", "coherent / traits / seed 0"]},
    {"kind": "progress", "run": "coherent / traits / seed 0", "stage": "training", "done": 3, "total": 10},
    {"kind": "progress", "run": "coherent / traits / seed 0", "stage": "training", "done": 10, "total": 10},
    {"kind": "progress", "run": "coherent / traits / seed 0", "stage": "step-000010", "done": 5, "total": 50},
    {"kind": "finished", "run": "coherent / prior / seed 0"},
    {"kind": "finished", "run": "coherent / traits / seed 0"},
    {"kind": "stage", "stage": "analysis"},
]


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with StudyProgress(Console(file=out, force_terminal=terminal, width=120)) as progress:
        for event in EVENTS:
            progress.on_event(event)
    return out.getvalue()


def test_without_a_terminal_there_is_one_plain_line_a_run() -> None:
    assert shown(False).splitlines() == [
        "  [1/2] coherent / prior / seed 0",
        "  [2/2] coherent / traits / seed 0",
        "  analysis ...",
    ]


def test_on_a_terminal_there_are_bars_for_the_study() -> None:
    text = shown(True)
    assert "study" in text and "2/2" in text and "[2/2] coherent / traits / seed 0" in text


def test_the_win_table_says_when_nothing_was_measured() -> None:
    row = {"title": "a claim", "expectation": "gain", "ahead": 0, "n_evals": 0, "mean_gain": None, "ci_low": None}
    row |= {"ci_high": None, "significant_gains": 0, "significant_losses": 0}
    measured = row | {"title": "b", "ahead": 2, "n_evals": 3, "mean_gain": 0.123, "ci_low": 0.01, "ci_high": 0.2}
    out = io.StringIO()
    Console(file=out, width=120).print(win_table({"subsets": [row, measured]}))
    assert "no data" in out.getvalue() and "+12.3 [+1.0, +20.0]" in out.getvalue() and "2 of 3" in out.getvalue()


def test_claims_about_attacks_are_printed_with_their_outcome_and_nothing_without_them() -> None:
    assert attack_table({"subsets": []}) is None
    row = {"title": "Bad persona", "expectation": "degrades-less", "outcome": "not as expected"}
    measured = {**row, "difference": -0.061, "difference_low": -0.141, "difference_high": 0.02}
    silent = {**row, "outcome": "no verdict", "difference": None, "difference_low": None, "difference_high": None}
    out = io.StringIO()
    Console(file=out, width=120).print(attack_table({"persistence": {"claims": [measured, silent]}}))
    assert (
        "-6.1 [-14.1, +2.0]" in out.getvalue() and "not as expected" in out.getvalue() and "no data" in out.getvalue()
    )
