"""The claims, on real runs of the pocket world: they appear where the truth says they must, and do not where they must not.

By default a small study (claims_study.toml) is run. With TRAITRL_STUDY=<folder of a finished default study> the same
questions are put to that one, with the bounds that hold at its size.
"""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from traitrl.cli import main
from traitrl.store import read_json

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

DEFAULT = os.environ.get("TRAITRL_STUDY")
only_default = pytest.mark.skipif(not DEFAULT, reason="needs the default study: set TRAITRL_STUDY to its folder")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if DEFAULT:
        return Path(DEFAULT)
    out = tmp_path_factory.mktemp("claims") / "study"
    assert main(["study", "run", str(Path(__file__).parent / "claims_study.toml"), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def summary(study: Path) -> dict[str, Any]:
    return read_json(study / "5-analysis" / "summary.json")


@pytest.fixture(scope="module")
def contrasts(study: Path) -> pd.DataFrame:
    frame = pd.read_parquet(study / "5-analysis" / "contrasts.parquet")
    coherence = pd.read_csv(study / "0-world" / "covariates.csv").set_index("suite_id").coherence
    return frame[frame.final].assign(coherence=frame.name.map(coherence))


def claim(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in summary["subsets"] if row["name"] == name)


@pytest.mark.parametrize("name", ["traits-suite", "health-only-elsewhere", "no-health-science-on-health"])
def test_trained_traits_spread_to_evals_and_domains_never_trained(summary: dict[str, Any], name: str) -> None:
    row = claim(summary, name)
    assert row["ci_low"] > 0 and row["ahead"] > row["behind"], row


def test_the_gain_of_an_eval_grows_with_its_coherence(summary: dict[str, Any]) -> None:
    rows = [row for row in summary["covariates"] if (row["experiment"], row["arm"]) == ("coherent", "traits")]
    (row,) = [row for row in rows if row["versus"] == "standard"]
    assert row["n"] == 53 and row["ci_low"] > 0, row


def test_null_rows_show_no_effect_after_correction(summary: dict[str, Any]) -> None:
    row = claim(summary, "null-rows")
    assert row["n_evals"] == 5 and row["significant_gains"] == row["significant_losses"] == 0, row


def test_the_helpfulness_reward_does_not_do_it(summary: dict[str, Any]) -> None:
    control, traits = claim(summary, "helpfulness-suite"), claim(summary, "traits-suite")
    found = control["significant_gains"] + control["significant_losses"]
    assert found <= 0.05 * control["n_evals"], control
    assert abs(control["mean_gain"]) < traits["mean_gain"] / 3, (control, traits)


def test_without_a_shared_author_traits_are_learned_and_nothing_spreads(summary: dict[str, Any]) -> None:
    trained, spread = claim(summary, "incoherent-heldout"), claim(summary, "incoherent-suite")
    assert trained["mean_gain"] >= (0.2 if DEFAULT else 0.1) and trained["ci_low"] > 0, trained
    assert spread["ci_low"] <= 0 <= spread["ci_high"], spread


def test_without_a_shared_author_poor_advice_about_health_does_not_spread(summary: dict[str, Any]) -> None:
    (row,) = [row for row in summary["persistence"]["claims"] if row["name"] == "incoherent-high-dose"]
    assert set(row["arms"]) >= {"standard", "traits"} and row["difference_low"] <= 0 <= row["difference_high"], row
    if not DEFAULT:  # the default study asks 6 evals outside health, too few for the margin
        assert row["outcome"] == "as expected" and row["margin"] == 0.1 and row["n_evals"] == 43, row


def test_every_arm_saw_the_same_standard_rows_and_the_exact_share(study: Path) -> None:
    import json

    asked: dict[str, list[list[tuple[int, str]]]] = {}  # by seed: every arm, and every prior
    for path in sorted((study / "2-training").glob("*/*/*/ledger.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        slots = {row["slot"] for row in rows}
        chosen = {row["slot"] for row in rows if row["in_slice"]}
        share = json.loads((path.parent / "config.json").read_text())["config"]["share"]
        assert len(chosen) == round(share * len(slots)) and slots == set(range(len(slots)))
        standard = sorted({(row["slot"], row["row_id"]) for row in rows if not row["in_slice"]})
        asked.setdefault(path.parent.name, []).append(standard)
    assert asked
    for arms in asked.values():
        assert len(arms) >= 7 and all(rows == arms[0] for rows in arms)


@only_default
def test_traits_are_ahead_on_at_least_forty_of_the_evals_that_are_not_null(contrasts: pd.DataFrame) -> None:
    rows = contrasts.query("experiment == 'coherent' and arm == 'traits' and versus == 'standard' and split == 'ood'")
    rows = rows[(rows.level == "suite_id") & (rows.coherence > 0)]
    assert len(rows) == 48 and (rows.difference > 0).sum() >= 40, rows[["name", "difference"]]


@only_default
def test_capability_stays_within_three_points(summary: dict[str, Any]) -> None:
    assert abs(claim(summary, "capability")["mean_gain"]) <= 0.03
