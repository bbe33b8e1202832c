"""Control of false discoveries over many evals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """BH-adjusted p values in the order of ``p`` (n,). NaN (no test was possible) stays NaN and out of the family."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if tested.any():
        adjusted[tested] = false_discovery_control(values[tested], method="bh")
    return adjusted


def verdicts(difference: ArrayLike, q: ArrayLike, alpha: float) -> NDArray[np.str_]:
    """``gain`` or ``loss`` where q < ``alpha``, by the sign of the difference; else ``none``."""
    delta, adjusted = np.asarray(difference, dtype=float), np.asarray(q, dtype=float)
    sure = adjusted < alpha  # False for NaN
    return np.select([sure & (delta > 0), sure & (delta < 0)], ["gain", "loss"], "none")


def add_verdicts(table: pd.DataFrame, family: list[str], alpha: float) -> pd.DataFrame:
    """``table`` with ``q`` (BH over the rows that share the columns ``family``) and ``verdict``."""
    q = np.full(len(table), np.nan)
    for _, rows in table.groupby(family).indices.items():
        q[rows] = benjamini_hochberg(table["p"].to_numpy(dtype=float)[rows])
    return table.assign(q=q, verdict=verdicts(table["difference"], q, alpha))
