"""Read the analysis folder and the training rows into one frozen value, on the 0-100 scale the page speaks in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from traitrl.core import ConfigError, StoreError, first_complaint
from traitrl.judging.scoreboard import SCOREBOARD
from traitrl.report.blocks import Frame, plain
from traitrl.report.judges import JudgeSheet, load_judges
from traitrl.report.names import Named, read_names
from traitrl.report.palette import order_arms
from traitrl.report.regrades import GRADES, Regraded, load_regrades
from traitrl.report.under_attack import PERSISTENCE, UnderAttack, load_under_attack
from traitrl.store import clear_os_errors, digest_file, read_json

ESTIMATES, CONTRASTS, SUMMARY = "estimates.parquet", "contrasts.parquet", "summary.json"

REQUIRED = {
    ESTIMATES: (
        *("experiment", "arm", "step", "final", "split", "level", "name", "family", "mean", "ci_low", "ci_high"),
        *("n_items", "n_answers", "n_seeds", "n_ungraded", "refusal_rate"),
    ),
    CONTRASTS: (
        *(
            "experiment",
            "arm",
            "versus",
            "step",
            "final",
            "split",
            "level",
            "name",
            "family",
            "mean_arm",
            "mean_versus",
        ),
        *("difference", "se", "ci_low", "ci_high", "p", "q", "ahead", "verdict", "n_pairs", "n_unpaired", "n_ungraded"),
    ),
}
_SCORES = ("mean", "ci_low", "ci_high", "refusal_rate", "mean_arm", "mean_versus", "difference", "se")
_KEY = ("experiment", "arm", "versus", "step", "split", "level", "name")
_SUBSET_KEYS = (
    *("name", "title", "experiment", "arm", "versus", "split", "expectation"),
    *("n_evals", "ahead", "mean_gain", "ci_low", "ci_high"),
)


class CurvePoint(BaseModel):
    """Mean reward of one stream at one training step."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: int
    stream: str
    reward_mean: float | None = None


class TrainingRun(BaseModel):
    """What one training run consumed. Anything a run did not count is ``None`` and shown as not counted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    experiment: str
    arm: str
    seed: int
    steps: float | None = None
    prompts: float | None = None
    replies: float | None = None
    generated_tokens: float | None = None
    prompt_tokens: float | None = None
    judge_calls: float | None = None
    seconds: float | None = None
    trait_slots: float | None = None
    share: float | None = None
    ungraded: float | None = None
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True)
class Lead:
    """The contrast the page opens with."""

    experiment: str
    arm: str
    versus: str


@dataclass(frozen=True)
class Study:
    """Everything the page shows. Scores, differences and rates are times 100; ``digests`` are of the files read."""

    estimates: Frame
    contrasts: Frame
    subsets: tuple[dict[str, Any], ...]
    covariates: tuple[dict[str, Any], ...]
    ungraded: dict[str, int]
    checks: dict[str, Any]
    records: int
    digests: dict[str, str]
    training: tuple[TrainingRun, ...]
    notes: tuple[str, ...]
    experiments: tuple[str, ...]
    arms: tuple[str, ...]
    lead: Lead | None
    under_attack: UnderAttack | None = None
    names: tuple[Named, ...] = ()
    judges: tuple[JudgeSheet, ...] = ()
    regrades: tuple[Regraded, ...] = ()
    unfinished_regrades: tuple[str, ...] = ()

    def final_estimates(self, split: str, level: str = "suite_id") -> Frame:
        """Estimates at each arm's final checkpoint."""
        frame = self.estimates
        return frame[frame["final"] & (frame["split"] == split) & (frame["level"] == level)]

    def final_contrasts(self, split: str, level: str = "suite_id", **where: str) -> Frame:
        """Contrasts at each arm's final checkpoint, where the named columns have the given values."""
        frame = self.contrasts
        frame = frame[frame["final"] & (frame["split"] == split) & (frame["level"] == level)]
        for column, value in where.items():
            frame = frame[frame[column] == value]
        return frame

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most training seeds behind a trained arm; zeros when nothing was trained or counted."""
        frame = self.estimates
        counts = frame[frame["final"] & (frame["step"] > 0)]["n_seeds"].dropna()
        return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)

    def place(self, experiment: str, arm: str) -> tuple[int, int]:
        """Where an arm of an experiment stands in the order of the page."""
        return self.experiments.index(experiment), self.arms.index(arm)

    @property
    def baseline(self) -> str:
        """The arm the others are compared with; empty when nothing was compared."""
        return self.lead.versus if self.lead else ""


def load_study(
    analysis_dir: Path,
    training_rows: Iterable[Mapping[str, Any]],
    notes: Sequence[str] = (),
    *,
    names: Iterable[Mapping[str, Any]] = (),
    judges: Iterable[Mapping[str, Any]] = (),
    study_dir: Path | None = None,
) -> Study:
    """Read and check all inputs; raises :class:`StoreError` or :class:`ConfigError` saying what is wrong where.

    Scoreboards of ``judges`` and added grades lie below ``study_dir``, which is the parent of ``analysis_dir`` if not given.
    """
    study_dir = study_dir or analysis_dir.parent
    estimates = _read_frame(analysis_dir / ESTIMATES)
    contrasts = _read_frame(analysis_dir / CONTRASTS)
    summary = read_json(analysis_dir / SUMMARY)
    subsets = _read_subsets(analysis_dir / SUMMARY, summary)
    covariates = tuple(_in_points(row) for row in summary.get("covariates", ()))
    training = tuple(
        sorted((_training_run(row) for row in training_rows), key=lambda run: (run.experiment, run.arm, run.seed))
    )
    found = {*estimates["experiment"], *contrasts["experiment"], *(run.experiment for run in training)}
    named = [*(row["experiment"] for row in subsets), *sorted(found)]
    under_attack = load_under_attack(analysis_dir, summary)
    regrades, unfinished = load_regrades(study_dir)
    files = (ESTIMATES, CONTRASTS, SUMMARY, *((PERSISTENCE,) if under_attack else ()))
    sheets = load_judges(judges, study_dir)
    read = [analysis_dir / name for name in files]
    read += [study_dir / sheet.used.folder / SCOREBOARD for sheet in sheets if sheet.board]
    read += [study_dir / "grades" / regraded.folder / GRADES for regraded in regrades]
    study = Study(
        estimates=estimates,
        contrasts=contrasts,
        subsets=subsets,
        covariates=covariates,
        ungraded=dict(sorted(_flat(summary.get("ungraded", {})).items())),
        checks=dict(summary.get("checks", {})),
        records=int(summary.get("records", 0)),
        digests={str(path.relative_to(study_dir)): digest_file(path) for path in read},
        training=training,
        notes=tuple(notes),
        experiments=tuple(dict.fromkeys(named)),
        arms=order_arms([*estimates["arm"], *contrasts["arm"], *contrasts["versus"], *(run.arm for run in training)]),
        lead=_lead(subsets, contrasts),
        under_attack=under_attack,
        names=read_names(names),
        judges=sheets,
        regrades=regrades,
        unfinished_regrades=unfinished,
    )
    return replace(
        study,
        estimates=in_order(estimates, [], study),
        contrasts=in_order(contrasts, [], study),
        training=tuple(sorted(training, key=lambda run: (named.index(run.experiment), study.arms.index(run.arm)))),
    )


def in_order(frame: Frame, first: list[str], study: Study) -> Frame:
    """Rows sorted by the columns in ``first`` (then dropped), by experiment and by arm in the study's order."""
    ranks = {"_experiment": (study.experiments, "experiment"), "_arm": (study.arms, "arm")}
    ranked = frame.assign(**{key: frame[column].map(list(names).index) for key, (names, column) in ranks.items()})
    return ranked.sort_values([*first, *ranks], kind="stable").drop(columns=[*first, *ranks]).reset_index(drop=True)


def _read_frame(path: Path) -> Frame:
    """One parquet file, its rows in a fixed order, scores in points. Refuses missing columns and repeated rows."""
    import pandas as pd

    if not path.exists():
        raise StoreError(f"{path} is missing; run the analysis stage first")
    with clear_os_errors(path, "read"):
        frame = pd.read_parquet(path)
    columns = REQUIRED[path.name]
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise StoreError(f"{path}: no column {', '.join(missing)}; rebuild it with the analysis stage")
    key = [column for column in _KEY if column in columns]
    repeated = frame[frame.duplicated(key)]
    if len(repeated):
        raise StoreError(
            f"{path}: more than one row for {repeated.iloc[0][key].to_dict()}; rebuild it with the analysis stage"
        )
    frame = frame[list(columns)].copy()
    frame["final"] = frame["final"].astype(bool)
    for column in _SCORES:
        if column in columns:
            frame[column] = frame[column].astype(float) * 100
    return frame.sort_values(by=key, kind="stable").reset_index(drop=True)


def _read_subsets(path: Path, summary: Any) -> tuple[dict[str, Any], ...]:
    rows = summary.get("subsets", ()) if isinstance(summary, dict) else ()
    for row in rows:
        missing = [key for key in _SUBSET_KEYS if key not in row]
        if missing:
            raise StoreError(
                f"{path}: subset {row.get('name', '?')} has no {', '.join(missing)}; rebuild it with the analysis stage"
            )
    return tuple(_in_points(row) for row in rows)


def _in_points(row: Mapping[str, Any]) -> dict[str, Any]:
    """A summary row with gains and the margin times 100 and NaN as ``None``; a Spearman correlation keeps its scale."""
    correlation = "spearman" in row
    out = {key: plain(value) for key, value in row.items()}
    for key in () if correlation else ("mean_gain", "ci_low", "ci_high", "margin"):
        if out.get(key) is not None:
            out[key] = out[key] * 100
    if out.get("seed_gains"):
        out["seed_gains"] = [None if gain is None else gain * 100 for gain in out["seed_gains"]]
    if correlation:
        out["by_value"] = [_in_points(point) for point in out.get("by_value", ())]
    return out


def _training_run(row: Mapping[str, Any]) -> TrainingRun:
    try:
        return TrainingRun.model_validate(dict(row))
    except ValidationError as error:
        place = f"training row {row.get('arm', '?')}/{row.get('seed', '?')}"
        raise ConfigError(f"{place}: {first_complaint(error, TrainingRun)}") from error


def _flat(counts: Mapping[str, Any], prefix: str = "") -> dict[str, int]:
    """Nested counts with their path as key, so that any depth of grouping is shown."""
    out: dict[str, int] = {}
    for key, value in counts.items():
        name = f"{prefix}{key}"
        out.update(_flat(value, f"{name} / ") if isinstance(value, Mapping) else {name: int(value)})
    return out


def _lead(subsets: tuple[dict[str, Any], ...], contrasts: Frame) -> Lead | None:
    """The first claim of the study, else the first contrast there is."""
    if subsets:
        return Lead(*(str(subsets[0][key]) for key in ("experiment", "arm", "versus")))
    if len(contrasts):
        return Lead(*(str(contrasts.iloc[0][key]) for key in ("experiment", "arm", "versus")))
    return None
