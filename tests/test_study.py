"""The whole path, small and real: finished once, killed in every stage, refused when changed."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from forked import TRAITRL, Forked
from traitrl.cli import main
from traitrl.core import Record
from traitrl.pocket.world import PRIORS_DIR
from traitrl.store import read_json, read_jsonl, read_manifest, write_json_atomic
from traitrl.study.regrade import Regrade

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

TINY = Path(__file__).parent / "tiny_study.toml"  # all in one process
# They show wall seconds.
CLOCKED = ("index.html", "tables/compute.csv", "tables/compute-runs.csv", "tables/judge-rules.csv", "scoreboard.json")


def with_two_workers(folder: Path) -> Path:
    path = folder / "two.toml"
    path.write_text(TINY.read_text().replace("workers = 0", "workers = 2"))
    return path


def start(out: Path, study: Path = TINY) -> subprocess.Popen:
    command = [sys.executable, "-m", "traitrl.cli", "study", "run", str(study), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outputs(out: Path) -> dict[str, dict[str, str]]:
    """Digests of every stage's outputs, without the files that show wall seconds."""
    stages = {
        str(path.parent.relative_to(out)): read_manifest(path.parent).outputs for path in out.rglob("manifest.json")
    }
    return {
        stage: {name: value for name, value in files.items() if name not in CLOCKED} for stage, files in stages.items()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, screen = tmp_path_factory.mktemp("study") / "whole", io.StringIO()
    with redirect_stdout(screen), redirect_stderr(screen):
        code = main(["study", "run", str(TINY), "--out", str(out)])
    printed = screen.getvalue()
    assert code == 0, printed
    assert printed.count("not run: absent on coherent / ") == 3 and "no data at no-such-folder/rows.jsonl" in printed
    assert "report: " in printed and "Claims, with 95% intervals" in printed and "of 53" in printed
    return out


def test_every_stage_left_its_files(finished: Path) -> None:
    import pandas as pd

    stages = outputs(finished)
    evals = [f"3-evals/coherent/{arm}/0/step-{step:06d}" for arm in ("standard", "traits") for step in (2, 4)]
    training = [f"2-training/coherent/{arm}/0" for arm in ("prior", "standard", "traits")]
    attacks = ("bad-medical/0.5", "bad-medical/1", "bad-advice/ladder", "bad-advice/1", "bad-advice/3")
    attacks += ("recovery/ladder", "recovery/2")
    cells = [
        f"4-persistence/coherent/{arm}/0/{attack}" for arm in ("prior", "standard", "traits") for attack in attacks
    ]
    expected = [
        "0-world",
        "1-scenarios",
        "judges/rules",
        "5-analysis",
        "6-report",
        "3-evals/coherent/prior/0/step-000000",
    ]
    assert sorted(stages) == sorted([*expected, *evals, *training, *cells])
    records = pd.read_parquet(finished / evals[-1] / "records.parquet")
    assert list(records.columns) == list(Record.model_fields) and records.suite_id.nunique() == 53 + 1 + 1
    assert records.score.between(0, 1).all() and records.ungraded_reason.isna().all()
    assert len(list((finished / evals[-1]).glob("*.eval"))) == 1
    page = (finished / "6-report" / "index.html").read_text()
    assert len(page) > 100_000 and "rules, judge of training and evals. No bias was clear" in page
    assert read_json(finished / "judges/rules/scoreboard.json")["scoreboard"]["overall"]["agreement"] == 1.0


def test_what_was_answered_under_attack_is_recorded_and_what_could_not_be_is_listed(finished: Path) -> None:
    import pandas as pd

    root = finished / "4-persistence"
    for path in sorted(root.glob("*/*/*/*/*/records.parquet")):
        experiment, arm, seed, attack, strength, _ = path.relative_to(root).parts
        records = pd.read_parquet(path)
        assert list(records.columns) == list(Record.model_fields) and len(records) == 4 + 1
        (cell,) = records[["experiment", "arm", "seed", "attack", "strength"]].drop_duplicates().to_dict("records")
        expected = {
            "experiment": experiment,
            "arm": arm,
            "seed": int(seed),
            "attack": attack,
            "strength": float(strength),
        }
        assert cell == expected
        clean = pd.read_parquet(sorted((finished / "3-evals" / experiment / arm / seed).glob("*/records.parquet"))[-1])
        paired = clean.merge(records, on=["suite_id", "item_id", "cluster", "step", "checkpoint"])
        assert len(paired) == len(records)
    missing = read_json(root / "missing.json")
    assert [(row["arm"], row["attack"]) for row in missing] == [
        (arm, "absent") for arm in ("prior", "standard", "traits")
    ]
    orders = {path.read_bytes() for path in root.glob("*/*/*/bad-advice/ladder/order.jsonl")}
    books = {path.read_bytes() for path in root.glob("*/*/*/bad-advice/ladder/accounting.json")}
    assert len(orders) == len(books) == 1  # same data, same order, same compute whoever is attacked


def test_running_again_changes_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["study", "run", str(TINY), "--out", str(finished)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_records_that_came_later_are_analysed_with_the_others(finished: Path, tmp_path: Path) -> None:
    """As after ``--seeds 3`` in the folder of a study of one seed."""
    out = tmp_path / "grown"
    shutil.copytree(finished, out)
    claim = read_json(out / "5-analysis" / "stage.json")
    claim["inputs"].pop(next(name for name in claim["inputs"] if "traits" in name))
    write_json_atomic(out / "5-analysis" / "stage.json", claim)
    (out / "5-analysis" / "summary.json").write_text("{}")
    assert main(["study", "run", str(TINY), "--out", str(out)]) == 0
    assert outputs(out) == outputs(finished)
    assert read_json(out / "5-analysis" / "summary.json") == read_json(finished / "5-analysis" / "summary.json")


KILL_AT = (
    "0-world/scenarios.jsonl",
    "1-scenarios/stage.json",
    "judges/rules/stage.json",
    "2-training/coherent/traits/0/checkpoint-2/complete.json",
    "3-evals/coherent/traits/0/step-000002/stage.json",
    "4-persistence/coherent/traits/0/bad-advice/ladder/checkpoint-1/complete.json",
    "5-analysis/stage.json",
    "6-report/stage.json",
)


def test_killed_in_every_stage_it_ends_with_the_same_digests(finished: Path, tmp_path: Path) -> None:
    out, two = tmp_path / "killed", with_two_workers(tmp_path)
    killed_in: set[str] = set()
    for sign in KILL_AT:
        if (out / sign).exists():
            continue  # an earlier life got that far before it was killed
        killed_in.add(sign.split("/")[0])
        study = two if sign.startswith("2-training") else TINY
        child = Forked(TRAITRL, "study", "run", str(study), "--out", str(out), screen=tmp_path / "screen")
        deadline = time.monotonic() + 240
        while not (out / sign).exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        child.kill()
        assert (out / sign).exists(), f"{sign} never came: {child.printed}"
    # The first three stages are written within milliseconds: one may be there before the kill that was meant for another.
    assert killed_in >= {"0-world", "2-training", "3-evals", "4-persistence", "5-analysis", "6-report"}
    assert not (out / "6-report" / "manifest.json").exists(), "the last kill came too late to test anything"
    child = start(out)
    printed, _ = child.communicate(timeout=600)
    assert child.returncode == 0, printed
    assert outputs(out) == outputs(finished)


def test_workers_die_with_their_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"TRAITRL_TEST_MARK={tmp_path.name}-{os.getpid()}"
    monkeypatch.setenv(*mark.split("="))
    out = tmp_path / "orphans"
    claim = out / "2-training/coherent/traits/0/stage.json"
    with start(out, with_two_workers(tmp_path)) as child:
        while not claim.exists() and child.poll() is None:
            time.sleep(0.01)
        assert len(carrying(mark)) >= 3  # the main process and two workers
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while carrying(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not carrying(mark)


def carrying(mark: str) -> list[str]:
    """Ids of other living processes with ``mark`` in their environment."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.name != str(os.getpid()) and mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
        except OSError:
            continue  # gone, or not ours
    return found


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("traitrl: ")]
    assert len(lines) == 1 and "Traceback" not in error
    return lines[0]


def test_a_changed_study_is_refused_and_the_folder_stays_as_it_was(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed.toml"
    changed.write_text(TINY.read_text().replace("steps = 4", "steps = 6"))
    before = outputs(finished)
    message = refused(capsys, "study", "run", str(changed), "--out", str(finished))
    assert "config.config.steps (4 there, 6 now)" in message and "--force" in message
    assert outputs(finished) == before


def test_damage_in_the_folder_is_named_by_file_and_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "damaged"))
    shutil.rmtree(copy / "2-training" / "coherent" / "traits")
    path = copy / "1-scenarios" / "scenarios.jsonl"
    path.write_text(path.read_text()[:-30])
    lines = len(path.read_text().splitlines())
    shutil.rmtree(copy / "3-evals")
    assert f"scenarios.jsonl:{lines}: " in refused(capsys, "study", "run", str(TINY), "--out", str(copy), "--force")


def test_damaged_weights_are_refused_with_the_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Path(shutil.copytree(PRIORS_DIR / "coherent", tmp_path / "model"))
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    study = tmp_path / "study.toml"
    study.write_text(TINY.read_text().replace("@models.coherent", str(model)))
    assert "sha256 is" in refused(capsys, "study", "run", str(study), "--out", str(tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("ledger.jsonl"))


def test_stored_answers_are_graded_again_beside_the_old_grades(finished: Path, tmp_path: Path, capsys) -> None:
    study = tmp_path / "copy"
    shutil.copytree(finished, study)
    before = outputs(study)
    assert main(["grade", str(study), "--judge", "rules"]) == 0
    assert "0 ungraded now" in capsys.readouterr().out
    grades = read_jsonl(study / "grades" / "rules" / "grades.jsonl", Regrade)
    assert {grade.source.split("/")[0] for grade in grades} >= {"2-training", "3-evals"}
    # The same judge gives the same grades, also where an arm's slice was rewarded by a generic rubric.
    assert all(grade.score == pytest.approx(grade.old_score) for grade in grades)
    assert main(["grade", str(study), "--judge", "rules", "--limit", "3"]) == 2  # other grades want another folder
    assert "limit" in capsys.readouterr().err
    assert {name: files for name, files in outputs(study).items() if "grades" not in name} == before
    # The next run trains and asks nothing, and shows the new grades.
    assert main(["study", "run", str(TINY), "--out", str(study)]) == 0
    assert {name: files for name, files in outputs(study).items() if "grades" not in name} | {
        "6-report": {}
    } == before | {"6-report": {}}
    page = (study / "6-report" / "index.html").read_text()
    assert '<section id="regrades">' in page and 'href="tables/regrade-rules-arms.csv"' in page
