"""The analysis stage: records to estimates.parquet, contrasts.parquet, summary.json and, with attacks, persistence.parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from traitrl.analysis.config import AnalysisConfig
from traitrl.analysis.contrasts import CONTRAST_COLUMNS, Comparison, contrast_tables
from traitrl.analysis.covariates import read_covariates, summarise_covariates
from traitrl.analysis.estimates import ESTIMATE_COLUMNS, estimate_table
from traitrl.analysis.frames import prepare, read_records
from traitrl.analysis.persistence import PERSISTENCE_COLUMNS, persistence
from traitrl.analysis.subsets import check_subsets, summarise_subset
from traitrl.store import write_bytes_atomic, write_json_atomic

ESTIMATES, CONTRASTS, SUMMARY = "estimates.parquet", "contrasts.parquet", "summary.json"
PERSISTENCE = "persistence.parquet"  # only in a study with attacks, as is the key "persistence" of the summary


def run_analysis(record_files: Sequence[Path], out: Path, config: AnalysisConfig) -> dict[str, Any]:
    """Analyse all records of ``record_files``, write the outputs into ``out``, each atomically, and return the
    summary. Attacked records are in ``persistence.parquet`` and in the summary's ``persistence``, and nowhere else.

    The result depends on the set of records only, not on their order. Nothing is written unless everything succeeded.
    Raises :class:`~traitrl.core.StoreError` for malformed or contradicting records and
    :class:`~traitrl.core.ConfigError` for a subset, claim or covariate file that does not fit them.
    """
    records = read_records(record_files)
    answers = prepare(records)
    check_subsets(config, answers)
    covariates = read_covariates(Path(config.covariates)) if config.covariates else None
    estimates = estimate_table(answers, config.alpha)
    contrasts, by_seed = contrast_tables(answers, comparisons(answers, config), config.alpha)
    lasting = persistence(records, answers, config)
    summary: dict[str, Any] = {
        "subsets": [summarise_subset(subset, contrasts, by_seed, config.alpha) for subset in config.subsets],
        "covariates": [] if covariates is None else summarise_covariates(contrasts, covariates, config),
        "ungraded": _ungraded(records),
        "records": len(records),
        "checks": _checks(records, answers, config),
    }
    _write_table(out / ESTIMATES, estimates, ESTIMATE_COLUMNS)
    _write_table(out / CONTRASTS, contrasts, CONTRAST_COLUMNS)
    if lasting is not None:
        summary["persistence"] = lasting.summary
        _write_table(out / PERSISTENCE, lasting.table, PERSISTENCE_COLUMNS)
    write_json_atomic(out / SUMMARY, summary)
    return summary


def comparisons(answers: pd.DataFrame, config: AnalysisConfig) -> set[Comparison]:
    """Every other arm against the baseline, experiment by experiment, and whatever else a subset asks for."""
    present = answers[["experiment", "arm"]].drop_duplicates().itertuples(index=False, name=None)
    against_baseline = {
        Comparison(experiment, arm, config.baseline) for experiment, arm in present if arm != config.baseline
    }
    return against_baseline | {Comparison(s.experiment, s.arm, s.versus) for s in config.subsets}


def _ungraded(records: pd.DataFrame) -> dict[str, int]:
    """How many records, attacks included, are ungraded, by reason."""
    counts = records.loc[records["score"].isna(), "ungraded_reason"].value_counts()
    return {str(reason): int(count) for reason, count in sorted(counts.items())}


def _checks(records: pd.DataFrame, answers: pd.DataFrame, config: AnalysisConfig) -> dict[str, Any]:
    """What a careful reader asks before believing a table.

    ``attacked_records`` are left out of estimates, contrasts and subsets; ``items_with_several_judges`` were graded by different
    judges in different arms or checkpoints; ``final_steps`` shows runs that ended early; ``without_baseline`` names
    experiments that have no contrast with the baseline.
    """
    judges = answers[answers["graded"]].groupby(["experiment", "item"])["judge"].nunique()
    run = ["experiment", "arm", "seed"]
    last = answers.groupby(run, as_index=False)["step"].max()
    arms = answers.groupby("experiment")["arm"].unique()
    return {
        "attacked_records": len(records) - len(answers),
        "items_with_several_judges": int((judges > 1).sum()),
        "final_steps": [
            {"experiment": experiment, "arm": arm, "seed": seed, "step": step}
            for experiment, arm, seed, step in zip(*(last[name].tolist() for name in (*run, "step")))
        ],
        "without_baseline": sorted(str(name) for name, present in arms.items() if config.baseline not in present),
    }


def _write_table(path: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """``table`` as Parquet with exactly these columns and types, NaN as null, however few its rows."""
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False).replace_schema_metadata(None), sink)
    write_bytes_atomic(path, sink.getvalue().to_pybytes())
