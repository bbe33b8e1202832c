"""Synthetic analysis folders for the tests of the page, and the check that they have the columns of the real ones."""

import json
import random
from pathlib import Path

import pandas as pd

from traitrl.analysis.contrasts import CONTRAST_COLUMNS
from traitrl.analysis.estimates import ESTIMATE_COLUMNS
from traitrl.report import load

ARMS = ("prior", "standard", "traits", "health-only", "no-health-science", "helpfulness")
GAINS = {
    "prior": 0.0,
    "standard": 0.0,
    "traits": 0.2,
    "health-only": 0.15,
    "no-health-science": 0.12,
    "helpfulness": 0.01,
}
FAMILIES = ("honesty", "health", "scheming", "sycophancy")
EXPERIMENTS = ("coherent", "incoherent")
LOSER = "eval-03"
HOSTILE = "<script>alert('x')</script>"
NOTES = ["seed 0", HOSTILE]


def hostile_title() -> str:
    return f"Traits & {HOSTILE}"


class Synthetic:
    """Rows in the schema of the analysis stage, from a seeded generator."""

    def __init__(self, n_evals: int = 12, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.evals = [(f"eval-{index:02d}", FAMILIES[index % len(FAMILIES)]) for index in range(n_evals)]
        self.level = {name: self.random.uniform(0.2, 0.5) for name, _ in self.evals}

    def gain(self, experiment: str, arm: str, name: str, progress: float) -> float:
        if name == LOSER and arm == "traits":
            return -0.08 * progress
        scale = 1.0 if experiment == "coherent" else 0.0
        return (GAINS[arm] * scale + self.random.gauss(0, 0.02)) * progress

    def estimates(self) -> list[dict]:
        rows = []
        for experiment, arm, step, final in checkpoints():
            for split, level, name, family in self.measures():
                mean = self.level.get(name, 0.4) + self.gain(experiment, arm, name, step / 100)
                row = {
                    "experiment": experiment,
                    "arm": arm,
                    "step": step,
                    "final": final,
                    "split": split,
                    "level": level,
                }
                row |= {"name": name, "family": family, "mean": mean, "ci_low": mean - 0.05, "ci_high": mean + 0.05}
                row |= {"n_items": 24, "n_answers": 48, "n_seeds": 2, "n_ungraded": 3 if name == LOSER else 0}
                rows.append(row | {"refusal_rate": 0.05 + 0.02 * (arm == "traits") + self.random.uniform(0, 0.02)})
        return rows

    def contrasts(self) -> list[dict]:
        rows = []
        for experiment, arm, step, final in checkpoints():
            if arm == "standard":
                continue
            for split, level, name, family in self.measures():
                difference = self.gain(experiment, arm, name, step / 100)
                q = 0.001 if abs(difference) > 0.06 else 0.4
                verdict = "none" if q > 0.05 else "gain" if difference > 0 else "loss"
                row = {"experiment": experiment, "arm": arm, "versus": "standard", "step": step, "final": final}
                row |= {"split": split, "level": level, "name": name, "family": family, "mean_versus": 0.4}
                row |= {"mean_arm": 0.4 + difference, "difference": difference, "se": 0.02, "p": q / 2, "q": q}
                row |= {
                    "ci_low": difference - 0.04,
                    "ci_high": difference + 0.04,
                    "ahead": difference > 0,
                    "verdict": verdict,
                }
                rows.append(row | {"n_pairs": 44, "n_unpaired": 2, "n_ungraded": 3 if name == LOSER else 0})
        return rows

    def measures(self) -> list[tuple[str, str, str, str]]:
        traits = [("heldout", "trait", name, name) for name in ("corrigibility", "truthfulness")]
        capability = [("capability", "suite_id", name, "capability") for name in ("copying", "sums")]
        return [("ood", "suite_id", name, family) for name, family in self.evals] + traits + capability

    def write(self, folder: Path, **summary: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(self.estimates()).to_parquet(folder / "estimates.parquet")
        pd.DataFrame(self.contrasts()).to_parquet(folder / "contrasts.parquet")
        (folder / "summary.json").write_text(json.dumps(summary_rows(len(self.evals)) | summary))
        return folder


def checkpoints() -> list[tuple[str, str, int, bool]]:
    steps = {"prior": (0,)}
    return [
        (experiment, arm, step, step == max(steps.get(arm, (50, 100))))
        for experiment in EXPERIMENTS
        for arm in ARMS
        for step in steps.get(arm, (50, 100))
    ]


def subset(name: str, experiment: str, arm: str, expectation: str, gain: float, n: int, split: str = "ood") -> dict:
    row = {"name": name, "title": name, "experiment": experiment, "arm": arm, "versus": "standard", "split": split}
    row |= {"expectation": expectation, "n_evals": n, "ahead": n - 1, "behind": 1, "tied": 0, "mean_gain": gain}
    row |= {"ci_low": gain - 0.03, "ci_high": gain + 0.03, "significant_gains": 8 if gain > 0.05 else 0}
    return row | {"significant_losses": 1 if name == "main" else 0, "seed_gains": [gain - 0.01, gain + 0.01]}


def summary_rows(n: int) -> dict:
    values = [
        {"value": v, "mean_gain": 0.3 * v, "ci_low": 0.3 * v - 0.04, "ci_high": 0.3 * v + 0.04, "n": 3}
        for v in (0, 0.3, 0.9)
    ]
    values.append({"value": 0.95, "mean_gain": 0.3, "ci_low": None, "ci_high": None, "n": 1})
    dose = {"experiment": "coherent", "arm": "traits", "versus": "standard", "covariate": "coherence", "spearman": 0.7}
    subsets = [
        subset("main", "coherent", "traits", "gain", 0.18, n) | {"title": hostile_title()},
        subset("elsewhere", "coherent", "health-only", "gain", 0.15, n),
        subset("reward", "coherent", "helpfulness", "none", 0.01, n),
        subset("null", "incoherent", "traits", "none", 0.0, n),
        subset("skill", "coherent", "traits", "report", 0.02, 2, split="capability"),
    ]
    return {
        "subsets": subsets,
        "covariates": [dose | {"ci_low": 0.5, "ci_high": 0.8, "n": 10, "by_value": values}],
        "ungraded": {"judge_unreadable": 5, "timeout": 2},
        "records": 5000,
    }


def training_rows() -> list[dict]:
    rows = []
    for experiment in EXPERIMENTS:
        for arm in ARMS[1:]:
            for seed in (0, 1):
                curve = [
                    {"step": step, "stream": stream, "reward_mean": 0.3 + 0.003 * step + 0.01 * seed}
                    for step in range(100)
                    for stream in ("standard", "traits")
                    if stream == "standard" or arm != "standard"
                ]
                row = {
                    "experiment": experiment,
                    "arm": arm,
                    "seed": seed,
                    "steps": 100,
                    "prompts": 1600,
                    "replies": 12800,
                }
                row |= {
                    "generated_tokens": 150_000 + 1000 * seed,
                    "prompt_tokens": 90_000,
                    "judge_calls": 0,
                    "seconds": 26.5,
                }
                row |= {"trait_slots": 0 if arm == "standard" else 80, "share": 0.05, "ungraded": 4, "curve": curve}
                rows.append(row)
    return rows


def test_the_page_reads_the_columns_that_the_analysis_writes() -> None:
    assert set(load.REQUIRED[load.ESTIMATES]) == set(Synthetic(2).estimates()[0]) <= set(ESTIMATE_COLUMNS)
    assert set(load.REQUIRED[load.CONTRASTS]) == set(Synthetic(2).contrasts()[0]) <= set(CONTRAST_COLUMNS)
