"""One line per claim: how many evals of a subset moved, and by how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from traitrl.analysis.config import AnalysisConfig, Subset
from traitrl.analysis.intervals import independent_interval
from traitrl.analysis.multiplicity import benjamini_hochberg, verdicts
from traitrl.core import ConfigError
from traitrl.core.ids import nearest


def check_subsets(config: AnalysisConfig, answers: pd.DataFrame) -> None:
    """Raise :class:`ConfigError` for a subset whose experiment or arm has no records."""
    arms = {str(name): set(group["arm"]) for name, group in answers.groupby("experiment")}
    for subset in config.subsets:
        if subset.experiment not in arms:
            raise ConfigError(
                f"subset {subset.name!r}: no records of experiment {subset.experiment!r}"
                f"{nearest(subset.experiment, arms)}"
            )
        for arm in (subset.arm, subset.versus):
            if arm not in arms[subset.experiment]:
                raise ConfigError(
                    f"subset {subset.name!r}: no records of arm {arm!r} in experiment {subset.experiment!r}"
                    f"{nearest(arm, arms[subset.experiment])}"
                )


def summarise_subset(subset: Subset, contrasts: pd.DataFrame, by_seed: pd.DataFrame, alpha: float) -> dict[str, Any]:
    """The final contrasts of the subset's evals in one line, JSON-ready (null where the data cannot say).

    ``mean_gain`` is the mean over evals of their differences with a t interval over evals; ``seed_gains`` is the same
    mean for each of ``seeds``. Significance is BH within the subset. ``untested`` names evals without a usable pair,
    which are in no count; ``missing`` names families and suite ids of the subset that no contrast has.

    Raises :class:`ConfigError` when no eval matches.
    """
    rows, missing = _select(subset, contrasts)
    usable = rows[rows["difference"].notna()]
    difference = usable["difference"].to_numpy(dtype=float)
    found = independent_interval(difference, alpha=alpha, low=-1.0, high=1.0)
    called = verdicts(difference, benjamini_hochberg(usable["p"]), alpha)
    seeds = by_seed[_same_place(by_seed, subset) & by_seed["name"].isin(usable["name"])]
    seed_gains = seeds.groupby("seed")["difference"].mean()
    names = ("name", "title", "experiment", "arm", "versus", "split", "level", "expectation", "margin")
    return {
        **{name: getattr(subset, name) for name in names},
        "n_evals": len(usable),
        "ahead": int(np.sum(difference > 0)),
        "behind": int(np.sum(difference < 0)),
        "tied": int(np.sum(difference == 0)),
        "mean_gain": or_none(found.mean),
        "ci_low": or_none(found.ci_low),
        "ci_high": or_none(found.ci_high),
        "significant_gains": int(np.sum(called == "gain")),
        "significant_losses": int(np.sum(called == "loss")),
        "seeds": [int(seed) for seed in seed_gains.index],
        "seed_gains": [float(gain) for gain in seed_gains],
        "untested": sorted(rows.loc[rows["difference"].isna(), "name"]),
        "missing": missing,
    }


def or_none(value: float) -> float | None:
    """``value``, or None when it is not finite: JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def _same_place(table: pd.DataFrame, subset: Subset) -> pd.Series:
    """Which rows are of the subset's experiment, arms, split and level."""
    wanted = ("experiment", "arm", "versus", "split", "level")
    return pd.Series(
        np.logical_and.reduce([(table[name] == getattr(subset, name)).to_numpy() for name in wanted]), index=table.index
    )


def _select(subset: Subset, contrasts: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """(the subset's final contrasts, filter values that match nothing)."""
    rows = contrasts[_same_place(contrasts, subset) & contrasts["final"]]
    families, names = set(rows["family"]), set(rows["name"])
    missing = sorted(({*subset.families, *subset.exclude_families} - families) | ({*subset.suite_ids} - names))
    if subset.families:
        rows = rows[rows["family"].isin(subset.families)]
    rows = rows[~rows["family"].isin(subset.exclude_families)]
    if subset.suite_ids:
        rows = rows[rows["name"].isin(subset.suite_ids)]
    if rows.empty:
        hint = "".join(nearest(name, families | names) for name in missing[:1])
        raise ConfigError(f"subset {subset.name!r} matches no eval of split {subset.split!r}{hint}")
    return rows, missing
