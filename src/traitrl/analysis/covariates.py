"""Does the gain of an eval follow something known about the eval?"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from traitrl.analysis.config import AnalysisConfig
from traitrl.analysis.intervals import independent_interval
from traitrl.analysis.subsets import or_none
from traitrl.core import ConfigError
from traitrl.store import clear_os_errors


def read_covariates(path: Path) -> pd.DataFrame:
    """The CSV as a frame indexed by ``suite_id`` with one float column per covariate; a blank cell is NaN.

    Raises :class:`ConfigError` naming file and line for a missing or repeated suite id, a ragged line, or a cell that
    is no number.
    """
    with clear_os_errors(path, "read"):
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    header = [name.strip() for name in lines[0]] if lines else []
    if header.count("suite_id") != 1 or len(header) < 2 or len(set(header)) != len(header) or "" in header:
        raise ConfigError(f"{path}: the first line must name suite_id once and at least one covariate, each once")
    rows: dict[str, dict[str, float]] = {}
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ConfigError(f"{path}:{number}: {len(cells)} cells under {len(header)} column names")
        row = dict(zip(header, (cell.strip() for cell in cells)))
        suite_id = row.pop("suite_id")
        if not suite_id or suite_id in rows:
            raise ConfigError(f"{path}:{number}: suite_id {suite_id!r} is empty or given twice")
        rows[suite_id] = {name: _number(cell, f"{path}:{number}: {name}") for name, cell in row.items()}
    names = [name for name in header if name != "suite_id"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype=float)


def _number(cell: str, where: str) -> float:
    """A finite number, or NaN for a blank cell."""
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value) or (cell and math.isnan(value)):
        raise ConfigError(f"{where} is {cell!r}, not a number; leave it blank when it is unknown")
    return value


def summarise_covariates(
    contrasts: pd.DataFrame, covariates: pd.DataFrame, config: AnalysisConfig
) -> list[dict[str, Any]]:
    """Gain against each covariate over the final out-of-distribution evals of every comparison, JSON-ready.

    ``spearman`` has a percentile interval from ``config.bootstrap`` resamples of evals; ``by_value`` has the mean gain
    with a t interval over the evals of each distinct value. ``n`` counts evals with both a difference and a covariate.
    """
    wanted = contrasts["final"] & (contrasts["split"] == "ood") & (contrasts["level"] == "suite_id")
    rows = contrasts[wanted & contrasts["difference"].notna()].sort_values("name")
    lines = []
    for key, group in rows.groupby(["experiment", "arm", "versus"]):
        for covariate in covariates.columns:
            values = covariates[covariate].reindex(group["name"]).to_numpy(dtype=float)
            known = ~np.isnan(values)
            if known.any():
                names = ("experiment", "arm", "versus", "covariate")
                place = dict(zip(names, map(str, (*key, covariate))))
                gains = group["difference"].to_numpy(dtype=float)[known]
                lines.append({**place, **_against(values[known], gains, config, "\x1f".join(place.values()))})
    return lines


def _against(
    values: NDArray[np.float64], gains: NDArray[np.float64], config: AnalysisConfig, key: str
) -> dict[str, Any]:
    """Rank correlation and mean gain by value. ``key`` gives each line its own stream of resamples."""
    rng = np.random.default_rng([config.seed, crc32(key.encode())])
    low, high = spearman_interval(values, gains, rng, config.bootstrap, config.alpha)
    by_value = []
    for value in np.unique(values):
        found = independent_interval(gains[values == value], alpha=config.alpha, low=-1.0, high=1.0)
        by_value.append(
            {
                "value": float(value),
                "mean_gain": found.mean,
                "ci_low": or_none(found.ci_low),
                "ci_high": or_none(found.ci_high),
                "n": found.n_items,
            }
        )
    return {
        "spearman": or_none(float(spearman(values[None], gains[None])[0])),
        "ci_low": or_none(low),
        "ci_high": or_none(high),
        "n": len(gains),
        "by_value": by_value,
    }


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's correlation of each row of ``x`` and ``y`` (rows, n); ties share ranks; NaN if a side is constant."""
    ranks = [rankdata(side, axis=1) for side in (x, y)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt(np.sum(a**2, axis=1) * np.sum(b**2, axis=1))
    defined = scale > 0
    return np.where(defined, np.sum(a * b, axis=1) / np.where(defined, scale, 1.0), np.nan)


def spearman_interval(
    x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator, resamples: int, alpha: float
) -> tuple[float, float]:
    """Percentile bootstrap over the n pairs of ``x`` and ``y`` (n,). NaN below four pairs, or when fewer than half of
    the resamples have a defined correlation."""
    nothing = (float("nan"), float("nan"))
    if len(x) < 4:
        return nothing
    draw = rng.integers(0, len(x), size=(resamples, len(x)))
    found = spearman(x[draw], y[draw])
    found = found[~np.isnan(found)]
    if 2 * len(found) < resamples:
        return nothing
    low, high = np.quantile(found, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
