"""The command line as a user meets it: fast help, one clear line for bad input, nothing harmed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from traitrl.cli import build_parser, main
from traitrl.verbs.study import shipped_study

STUDY = shipped_study("pocket").read_text()


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(args)
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    code, _, err = run(capsys, *args)
    assert code == 2 and err.count("\n") == 1 and err.startswith("traitrl: "), (code, err)
    return err


def test_help_needs_no_heavy_library() -> None:
    heavy = ["torch", "numpy", "pydantic", "rich", "inspect_ai", "pandas", "altair"]
    script = f"import sys; from traitrl.cli import main; main([]); sys.exit(sum(m in sys.modules for m in {heavy}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "usage: traitrl" in done.stdout, done


def test_every_verb_has_examples_in_its_help() -> None:
    def parsers(parser):
        yield parser
        for action in parser._actions:
            for child in (
                getattr(action, "choices", None) or {} if isinstance(getattr(action, "choices", None), dict) else {}
            ):
                yield from parsers(action.choices[child])

    for parser in parsers(build_parser()):
        assert parser.epilog is None or "traitrl" in parser.epilog
    text = subprocess.run(
        [sys.executable, "-m", "traitrl.cli", "study", "run", "--help"], capture_output=True, text=True
    ).stdout
    assert "examples:" in text and "Interrupted? The same command continues." in text


def test_a_study_file_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cases = {
        "unknown key 'training.stpes'; did you mean 'steps'?": ("steps = 100", "stpes = 100"),
        "share": ("share = 0.05", "share = 1.5"),
        "unknown arm 'helpfullness'; did you mean 'helpfulness'?": ('"helpfulness"]', '"helpfulness", "helpfullness"]'),
        "experiment 'coherent' has no arm 'helpfulness'": (', "helpfulness"]', "]"),
        "did you mean 'paper53'": ('suite = "paper53"', 'suite = "paper35"'),
        "did you mean 'models.coherent'": ('"@models.coherent"', '"@models.coherant"'),
        "unknown world 'poket'; did you mean 'pocket'?": ('world = "pocket"', 'world = "poket"'),
        "unknown row 'lookups'": ('"lookup",', '"lookups",'),
        "path separators": ('id = "incoherent"', 'id = "in/coherent"'),
        "world_options: unknown key 'heldout_trait'; did you mean 'heldout_traits'?": (
            "heldout_traits = [",
            "heldout_trait = [",
        ),
        "attack 'bad-medical': no experiment 'cohrent'; did you mean 'coherent'?": (
            'id = "bad-medical"\n',
            'id = "bad-medical"\nexperiments = ["cohrent"]\n',
        ),
        "not valid TOML": ("[training]", "[training"),
    }
    for message, (old, new) in cases.items():
        assert old in STUDY, old
        path = tmp_path / "study.toml"
        path.write_text(STUDY.replace(old, new, 1))
        error = refused(capsys, "study", "run", str(path), "--out", str(tmp_path / "out"))
        assert message in error, (message, error)
        assert not list((tmp_path / "out").glob("2-*")), "nothing may be trained"


def test_a_missing_study_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere.toml" in refused(capsys, "study", "run", str(tmp_path / "nowhere.toml"), "--out", str(tmp_path))
    assert "--seeds" in refused(capsys, "study", "run", "pocket", "--out", str(tmp_path), "--seeds", "0")


def test_dry_run_prints_the_resolved_study_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(capsys, "study", "run", "pocket", "--out", str(tmp_path / "o"), "--seeds", "3", "--dry-run")
    assert code == 0 and json.loads(out)["seeds"] == [0, 1, 2] and not (tmp_path / "o").exists()


def test_check_passes_here_and_names_file_and_line_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(capsys, "check")[:2] == (0, "all data files are valid\n")
    (tmp_path / "traits").mkdir()
    (tmp_path / "traits" / "thrift.toml").write_text('id = "thrift"\nnmae = "Thrift"\n')
    code, out, _ = run(capsys, "check", "--catalog", str(tmp_path))
    assert code == 2 and "thrift.toml:2: " in out and "'name'" in out


@pytest.mark.parametrize("kind", ["traits", "domains", "pressures", "personas", "arms", "suite", "sets"])
def test_the_catalog_can_be_listed(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    code, out, _ = run(capsys, "catalog", kind)
    assert code == 0 and len(out.splitlines()) >= 6


def test_show_prints_a_file_that_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "study", "show", "pocket")[1] == STUDY
