"""The mean score of every arm on every eval and trait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from traitrl.analysis.frames import levels, one_family, typed
from traitrl.analysis.intervals import clustered_interval

ESTIMATE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("experiment", "arm"), "string"),
    "step": "int64",
    "final": "bool",
    **dict.fromkeys(("split", "level", "name", "family"), "string"),
    **dict.fromkeys(("mean", "ci_low", "ci_high"), "double"),
    **dict.fromkeys(("n_items", "n_answers", "n_seeds", "n_ungraded"), "int64"),
    "refusal_rate": "double",
}
_ROW = ["experiment", "arm", "final", "row_step", "split", "name"]
_NOTHING = np.array([], dtype=np.int64)


def estimate_table(answers: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """``ESTIMATE_COLUMNS``, one row per experiment, arm, checkpoint, split and eval (and held-out trait).

    ``answers`` is what :func:`~traitrl.analysis.frames.prepare` gives. Samples of an item are averaged first, then
    seeds, then items. ``n_answers`` counts the graded answers behind the mean, ``n_ungraded`` those left out of it,
    ``n_items`` the items with at least one graded answer. ``refusal_rate`` is over the answers that carry a refusal
    label. A row without any graded answer stays, with a null mean.
    """
    rows = [row for level, view in levels(answers) for row in _rows(level, view, alpha)]
    table = typed(rows, ESTIMATE_COLUMNS)
    return table.sort_values(["experiment", "arm", "step", "final", "split", "level", "name"], ignore_index=True)


def _rows(level: str, view: pd.DataFrame, alpha: float) -> Iterator[dict[str, Any]]:
    """The rows of one level."""
    groups = view.groupby(_ROW)
    facts = groups.agg(n=("graded", "size"), n_answers=("graded", "sum"), refusal_rate=("refusal", "mean"))
    facts["family"] = one_family(groups["family"])
    by = [*_ROW, "seed", "item", "cluster"]
    cells = view[view["graded"]].groupby(by, as_index=False)["score"].mean()
    where = cells.groupby(_ROW).indices
    arrays = [cells[name].to_numpy() for name in ("score", "item", "cluster", "seed")]
    for row in facts.reset_index().to_dict("records"):
        index = where.get(tuple(row[name] for name in _ROW), _NOTHING)
        found = clustered_interval(*(array[index] for array in arrays), alpha=alpha, low=0.0, high=1.0)
        yield {
            **{name: row[name] for name in ("experiment", "arm", "final", "split", "name", "family")},
            "level": level,
            "step": row["row_step"],
            "mean": found.mean,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "n_items": found.n_items,
            "n_answers": row["n_answers"],
            "n_seeds": found.n_seeds,
            "n_ungraded": row["n"] - row["n_answers"],
            "refusal_rate": row["refusal_rate"],
        }
