"""``traitrl persist``: models that are there already are attacked and compared, and nothing is trained."""

from pathlib import Path

import pandas as pd
import pytest

from traitrl.cli import main
from traitrl.pocket.world import PRIORS_DIR
from traitrl.store import read_json

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

TINY = Path(__file__).parent / "tiny_study.toml"


def test_two_models_are_attacked_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [f"{name}={PRIORS_DIR / name}" for name in ("incoherent", "coherent")]
    out = tmp_path / "held"
    assert main(["persist", *models, "--study", str(TINY), "--out", str(out)]) == 0
    assert "report: " in capsys.readouterr().out
    records = pd.concat(pd.read_parquet(path) for path in out.glob("[34]-*/**/records.parquet"))
    assert set(records["arm"]) == {"incoherent", "coherent"} and set(records["experiment"]) == {"models"}
    assert records["attack"].nunique() > 2 and (records["attack"] == "none").any()
    found = read_json(out / "5-analysis" / "summary.json")["persistence"]
    assert found["baseline"] == "incoherent"
    assert not list(out.glob("2-training/**/*.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("records.parquet")}
    assert main(["persist", *models, "--study", str(TINY), "--out", str(out)]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("records.parquet")}


def test_bad_names_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["coherent"], ["a=x", "a=y"], ["A/b=x"]):
        assert main(["persist", *given, "--study", str(TINY), "--out", str(tmp_path / "o")]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "NAME=MODEL" in err
    assert not (tmp_path / "o").exists()
