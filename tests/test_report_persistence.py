"""The section on persistence, from synthetic records through the real analysis: what it shows, and when it is not there."""

import csv
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attacked_records import FACTS, claims, study_records
from test_report_synthetic import HOSTILE, Synthetic
from traitrl.analysis.config import AnalysisConfig, AttackFacts, Subset
from traitrl.analysis.persistence import PERSISTENCE_COLUMNS
from traitrl.analysis.run import run_analysis
from traitrl.core import StoreError
from traitrl.report.build import all_sections, build_report
from traitrl.report.load import load_study
from traitrl.report.under_attack import COLUMNS


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments; in the second the standard arm was not put under "bad", and one answer is ungraded."""
    folder = tmp_path_factory.mktemp("attacked")
    rows = study_records()
    for row in study_records(seed=1):
        if (row.arm, row.attack) != ("standard", "bad"):
            rows.append(row.model_copy(update={"experiment": "incoherent"}))
    lost = next(index for index, row in enumerate(rows) if row.attack == "bad")
    rows[lost] = rows[lost].model_copy(update={"score": None, "ungraded_reason": "timeout"})
    clean = [row for row in study_records() if row.attack == "none" and row.seed == 0]
    rows += [row.model_copy(update={"attack": "flat", "strength": 1.0, "score": 0.0}) for row in clean]
    pq.write_table(pa.Table.from_pylist([row.model_dump() for row in rows]), folder / "records.parquet")
    facts = (
        *FACTS,
        AttackFacts(id="flat", title=f"Flat {HOSTILE}", kind="prompt", stance="harmful"),
        AttackFacts(id="gone", title="Never ran", kind="drift", stance="benign"),
    )
    subsets = (Subset(name="all", title="All", experiment="coherent", arm="traits", expectation="gain"),)
    config = AnalysisConfig(attacks=facts, persistence_claims=claims(), subsets=subsets)
    run_analysis([folder / "records.parquet"], folder / "5-analysis", config)
    return folder / "5-analysis"


@pytest.fixture(scope="module")
def built(analysis: Path) -> Path:
    return build_report(analysis, [], analysis.parent / "6-report", title="Attacked")


@pytest.fixture(scope="module")
def section(built: Path) -> str:
    return built.read_text().split('<section id="persistence">', 1)[1].split("</section>", 1)[0]


def rows(built: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((built.parent / "tables" / f"{name}.csv").read_text().splitlines()))


def test_the_page_reads_columns_that_the_analysis_writes() -> None:
    assert set(COLUMNS) <= set(PERSISTENCE_COLUMNS)


def test_a_study_without_attacks_has_no_such_section(tmp_path: Path) -> None:
    sections = all_sections(load_study(Synthetic(n_evals=2).write(tmp_path), [], []))
    assert "persistence" not in {section.id for section in sections}


def test_claims_stand_with_words_and_outcomes(built: Path, section: str) -> None:
    found = {row["title"]: row for row in rows(built, "persistence-claims")}
    assert found["Claim resists"]["outcome"] == "as expected"
    assert found["Claim steers"]["expected"] == "alike within ±5 points"
    assert found["Claim falls"]["comparison"] == "every arm"
    assert 10 < float(found["Claim resists"]["difference_points"]) < 20
    assert "degrades-less" not in section and "loses less" in section


def test_every_arm_stands_in_the_table_of_its_attack(built: Path, section: str) -> None:
    held = rows(built, "persistence-tuning")
    assert {row["arm"] for row in held} == {"prior", "standard", "traits"}
    assert {row["name"] for row in held} == {"all", "in-domain", "out-of-domain"}
    arm = next(row for row in held if (row["strength"], row["arm"], row["name"]) == ("15", "traits", "out-of-domain"))
    assert float(arm["degradation_points"]) == pytest.approx(6, abs=2)
    assert float(arm["normalised_points"]) == pytest.approx(100 * 6 / 70, abs=3)
    assert float(arm["difference_low_points"]) > 0
    assert "tuning (Bad medical advice): tuning, harmful, twin: advice. Every arm under this attack." in section


def test_attacks_are_explained_once_with_the_units_of_their_strengths(built: Path) -> None:
    held = {row["id"]: row for row in rows(built, "persistence-attacks")}
    assert held["bad"]["title"] == "Bad medical persona" and held["bad"]["twin"] == "good"
    assert held["bad"]["strengths"] == "50%, 100%" and held["tuning"]["strengths"] == "5 steps, 15 steps"
    assert held["mend"]["after"] == "tuning" and held["tuning"]["domain"] == "health"
    assert held["gone"]["strengths"] == "not measured"
    recovery = rows(built, "persistence-recovery")[0]
    assert (recovery["label"], recovery["attack"], recovery["strength"]) == ("mend · 5 steps", "mend", "5")
    assert (recovery["after"], recovery["of"], recovery["from_strength"]) == ("tuning · 15 steps", "tuning", "15")


def test_every_figure_has_its_files(built: Path, section: str) -> None:
    names = re.findall(r'<figure id="figure-([^"]+)"', section)
    assert set(names) == {
        "persistence-overview",
        "persistence-selectivity-coherent",
        "persistence-selectivity-incoherent",
        *(f"persistence-dose-{attack}{end}" for attack in ("tuning", "advice") for end in ("", "-domain")),
    }
    for name in names:
        assert (built.parent / "figures" / f"{name}.svg").read_text().startswith("<svg")
        assert rows(built, name)
    dose = rows(built, "persistence-dose-tuning")
    assert {row["step"] for row in dose} == {"0", "5", "15"}
    clean = next(row for row in dose if (row["experiment"], row["arm"], row["step"]) == ("coherent", "traits", "0"))
    assert float(clean["mean_points"]) == pytest.approx(70, abs=2)


def test_doses_are_censored_in_words(built: Path) -> None:
    half = {(row["experiment"], row["name"], row["arm"]): row for row in rows(built, "persistence-half-dose")}
    assert half["coherent", "out-of-domain", "traits"]["half"] == "≥ 15"
    assert float(half["coherent", "out-of-domain", "standard"]["half"]) == pytest.approx(12.5, abs=0.6)


def test_what_shows_nothing_and_what_is_missing_is_told(section: str) -> None:
    assert "coherent, ood: every arm lies at the floor (below 5 points), so that the attack shows nothing" in section
    assert "gone (Never ran): no record in coherent." in section
    assert "bad · 100%: standard was not measured (incoherent, seeds 0, 1, 2)." in section
    assert "Ungraded answers under attack, left out and never counted as 0: 1." in section
    assert HOSTILE not in section and "&lt;script&gt;" in section


def test_the_limits_say_where_attacked_records_are(built: Path) -> None:
    assert "records were made under an attack and are in the section on persistence" in built.read_text()


def test_every_eval_under_attack_is_in_a_csv_and_not_on_the_page(built: Path, section: str) -> None:
    held = rows(built, "persistence-evals")
    assert {"med-a", "sch-d", "honesty"} <= {row["name"] for row in held}
    assert 'id="table-persistence-evals"' not in section and 'href="tables/persistence-evals.csv"' in section


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(analysis: Path, built: Path, tmp_path: Path) -> None:
    again = build_report(analysis, [], tmp_path, title="Attacked")
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("persistence*"))
    assert again.read_bytes() == built.read_bytes() and names
    assert [n for n in names if (tmp_path / n).read_bytes() != (built.parent / n).read_bytes()] == []


def test_half_of_the_results_is_refused(analysis: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(analysis, tmp_path / "5-analysis")
    pq.write_table(
        pq.read_table(folder / "persistence.parquet").drop_columns(["clean"]), folder / "persistence.parquet"
    )
    with pytest.raises(StoreError, match="no clean"):
        load_study(folder, [], [])
    (folder / "persistence.parquet").unlink()
    with pytest.raises(StoreError, match=r"persistence\.parquet is missing"):
        load_study(folder, [], [])


def test_attacks_that_never_ran_leave_a_section_that_says_so(tmp_path: Path) -> None:
    clean = [row for row in study_records(seeds=(0,)) if row.attack == "none"]
    pq.write_table(pa.Table.from_pylist([row.model_dump() for row in clean]), tmp_path / "r.parquet")
    config = AnalysisConfig(attacks=FACTS, persistence_claims=claims())
    run_analysis([tmp_path / "r.parquet"], tmp_path / "a", config)
    page = build_report(tmp_path / "a", [], tmp_path / "r", title="t").read_text()
    assert "Nothing was measured under attack." in page and "bad (Bad medical persona): no record in coherent." in page
