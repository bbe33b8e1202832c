"""The shipped dataset: sound by every rule, described truly by its card, readable in a real browser."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from traitrl.catalog import load_catalog
from traitrl.cli import main
from traitrl.core import Scenario, score_verdicts
from traitrl.scenarios.browsing import browse_page
from traitrl.scenarios.card import data_card
from traitrl.scenarios.decontamination import decontaminate_scenarios
from traitrl.scenarios.deduping import dedupe_scenarios
from traitrl.scenarios.gold import check_gold, gold_folder, gold_scenarios
from traitrl.scenarios.statistics import dataset_stats, reading_grade

ROWS = gold_scenarios()
CATALOG = load_catalog()


def gold_file(tmp_path: Path) -> Path:
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(row.model_dump_json() + "\n" for row in ROWS))
    return path


def test_the_gold_set_keeps_every_promise() -> None:
    assert [str(problem) for problem in check_gold(CATALOG)] == []
    assert len(ROWS) >= 500
    assert len({row.id for row in ROWS}) == len(ROWS)


def test_a_damaged_copy_is_caught_with_file_and_line(tmp_path: Path) -> None:
    for path in gold_folder().glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    target = sorted(tmp_path.glob("*.train.jsonl"))[0]
    lines = target.read_text().splitlines()
    lines[0] = lines[0].replace('"points":', '"pionts":', 1)
    lines[1] = lines[2]
    target.write_text("\n".join(lines) + "\n")
    found = [str(problem) for problem in check_gold(CATALOG, tmp_path)]
    assert any(f"{target.name}:1: [schema]" in problem for problem in found)
    assert any(f"{target.name}:3: [repeated-id]" in problem for problem in found)
    assert sum("[cell]" in problem for problem in found) >= 1


def test_every_verdict_has_a_reason_and_every_row_its_readings() -> None:
    for row in ROWS:
        assert {"good", "poor", "refusal"} == set(row.exemplars)
        assert all(verdict.reason for exemplar in row.exemplars.values() for verdict in exemplar.verdicts), row.id
        assert row.provenance["licence"] == "CC-BY-4.0"


def test_the_best_answer_is_never_the_refusal() -> None:
    for row in ROWS:
        scores = {name: score_verdicts(row.as_rubric(), each.verdicts) for name, each in row.exemplars.items()}
        assert scores["good"] - max(scores["poor"], scores["refusal"]) >= 0.4, row.id


def test_pressures_and_turns_are_spread() -> None:
    pressures = Counter(name for row in ROWS for name in row.pressures)
    assert set(pressures) == set(CATALOG.pressures)
    assert max(pressures.values()) < 4 * min(pressures.values())
    assert {1, 3, 5} == {sum(message.role != "system" for message in row.messages) for row in ROWS}


def test_the_card_tells_what_the_data_hold() -> None:
    card = (Path(__file__).parent.parent / "docs" / "dataset.md").read_text()
    assert card.split("a test compares them with the data.\n\n")[1] == data_card(dataset_stats(ROWS))


def test_no_near_duplicates_and_no_eval_text(tmp_path: Path) -> None:
    path = gold_file(tmp_path)
    assert dedupe_scenarios(path, tmp_path / "a", threshold=0.5)["rejected"] == 0
    counts = decontaminate_scenarios(path, tmp_path / "b", CATALOG.suite("paper53"))
    assert counts["rejected"] == 0 and counts["evals_compared"] >= 1


def test_reading_grade_by_hand() -> None:
    # 2 sentences, 6 words, 7 vowel groups counted: 0.39 * 3 + 11.8 * 7 / 6 - 15.59
    assert reading_grade("The cat sat. It saw water.") == pytest.approx(0.39 * 3 + 11.8 * 7 / 6 - 15.59)
    assert reading_grade("") == 0.0


def test_show_and_stats_from_the_command_line(capsys) -> None:
    row = ROWS[0]
    assert main(["scenarios", "show", row.id]) == 0
    shown = capsys.readouterr().out
    assert row.rubric[0].text.split()[0] in shown and "poor exemplar, score" in shown
    assert main(["scenarios", "show", row.id[:-1] + "x"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["scenarios", "stats"]) == 0
    assert f"{len(ROWS)}: " in capsys.readouterr().out
    assert main(["scenarios", "coverage", "--steps", "200", "--prompts", "64"]) == 0
    assert "each is shown" in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_browser_reads_filters_and_searches(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "this test needs a browser: install the Debian package `chromium` (apt-get install chromium)"
    page = browse_page(ROWS, tmp_path / "browse.html")
    wanted: Scenario = next(row for row in ROWS if row.people)
    word = wanted.people[0].split()[0]
    script = f"""<script>
    const state = () => document.getElementById("count").textContent;
    const before = state();
    const trait = document.getElementById("trait");
    trait.value = {wanted.trait!r}; trait.dispatchEvent(new Event("change"));
    const filtered = state();
    const search = document.getElementById("search");
    search.value = {word!r}; search.dispatchEvent(new Event("input"));
    document.querySelector("#list button").click();
    window.dispatchEvent(new HashChangeEvent("hashchange"));
    document.title = [before, filtered, state(), document.querySelector("h2").textContent].join("; ");
    </script>"""
    page.write_text(page.read_text().replace("</body>", script + "</body>"))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'p'}",
    ]
    done = subprocess.run([chromium, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr[-1000:]
    before, filtered, found, heading = title[1].split("; ")
    of_trait = sum(row.trait == wanted.trait for row in ROWS)
    assert before == f"{len(ROWS)} of {len(ROWS)} scenarios" and filtered == f"{of_trait} of {len(ROWS)} scenarios"
    assert 1 <= int(found.split()[0]) < of_trait
    assert any(row.id == heading and word in str(row.messages) for row in ROWS)
    assert "CC-BY-4.0" in done.stdout and "good exemplar, score" in done.stdout
