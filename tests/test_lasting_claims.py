"""The claims about attacks, on real runs of the pocket world whose truth is known. Their negative control is in test_claims.py.

By default a small study (lasting_study.toml) is run. With TRAITRL_LASTING_STUDY=<folder of a finished pocket-persistence study>
the same questions are put to that one, and those about its prior and its negative control too.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from traitrl.cli import main
from traitrl.store import read_json

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


FINISHED = os.environ.get("TRAITRL_LASTING_STUDY")
only_finished = pytest.mark.skipif(not FINISHED, reason="needs a study: set TRAITRL_LASTING_STUDY to its folder")


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    out = Path(FINISHED) if FINISHED else tmp_path_factory.mktemp("lasting") / "study"
    if not FINISHED:
        assert main(["study", "run", str(Path(__file__).parent / "lasting_study.toml"), "--out", str(out)]) == 0
    summary = read_json(out / "5-analysis" / "summary.json")
    return {row["name"]: row for row in summary["persistence"]["claims"]}


def test_under_a_bad_persona_the_traits_arm_loses_less(claims: dict[str, dict[str, Any]]) -> None:
    row = claims["bad-persona"]
    assert row["outcome"] == "as expected" and row["difference_low"] > 0, row
    assert row["arms"]["standard"]["degradation_low"] > 0.05, row  # there was something to resist


def test_a_helpful_persona_steers_both_alike(claims: dict[str, dict[str, Any]]) -> None:
    row = claims["helpful-persona"]
    assert row["outcome"] == "as expected" and row["margin"] == 0.1, row


@pytest.mark.parametrize("name", ["low-dose", pytest.param("low-dose-prior", marks=only_finished)])
def test_at_a_low_dose_of_poor_advice_the_traits_arm_loses_less(claims: dict[str, dict[str, Any]], name: str) -> None:
    row = claims[name]
    assert row["outcome"] == "as expected" and row["difference_low"] > 0 and row["n_evals"] == 53, row
    assert row["arms"][row["versus"]]["degradation_low"] > 0.02, row


def test_the_highest_dose_brings_every_arm_down(claims: dict[str, dict[str, Any]]) -> None:
    row, low = claims["high-dose"], claims["low-dose"]
    assert row["outcome"] == "as expected" and set(row["arms"]) == {
        *(["prior"] if FINISHED else []),
        "standard",
        "traits",
    }, row
    for arm, found in row["arms"].items():
        assert found["degradation_low"] > 0.05 and found["degradation"] > low["arms"][arm]["degradation"], (arm, row)


@only_finished
def test_without_a_shared_author_poor_advice_does_not_spread(claims: dict[str, dict[str, Any]]) -> None:
    here, there = claims["incoherent-high-dose"], claims["high-dose"]
    assert here["outcome"] == "as expected" and here["margin"] == 0.1, here
    for arm in ("standard", "traits"):
        assert here["arms"][arm]["degradation"] < there["arms"][arm]["degradation"] / 3, (here, there)
