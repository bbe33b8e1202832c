"""Arm minus arm, answer by answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from traitrl.analysis.frames import levels, one_family, typed
from traitrl.analysis.intervals import clustered_interval, item_means
from traitrl.analysis.multiplicity import add_verdicts

CONTRAST_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("experiment", "arm", "versus"), "string"),
    "step": "int64",
    "final": "bool",
    **dict.fromkeys(("split", "level", "name", "family"), "string"),
    **dict.fromkeys(("mean_arm", "mean_versus", "difference", "se", "ci_low", "ci_high", "p", "q"), "double"),
    "ahead": "bool",
    "verdict": "string",
    **dict.fromkeys(("n_pairs", "n_unpaired", "n_ungraded", "n_items", "n_clusters", "n_seeds"), "int64"),
    "test": "string",
}
SEED_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("experiment", "arm", "versus", "split", "level", "name"), "string"),
    "seed": "int64",
    "difference": "double",
}
BH_FAMILY = ["experiment", "arm", "versus", "step", "final", "split", "level"]
_ROW = ["experiment", "arm", "versus", "step", "final", "split", "name"]
_CELL = ("item", "cluster", "seed", "difference", "score_arm", "score_versus")
_SIZES = ("n_items", "n_clusters", "n_seeds")
_STATES = {"pairs": "paired", "unpaired": "unpaired", "ungraded": "ungraded"}
_PAIR = ["split", "suite_id", "family", "trait", "item", "cluster", "seed", "sample"]


class Comparison(NamedTuple):
    """``arm`` minus ``versus`` within one experiment."""

    experiment: str
    arm: str
    versus: str


def pair_answers(arm: pd.DataFrame, versus: pd.DataFrame) -> pd.DataFrame:
    """Match answers by item, seed and sample; every answer of either side is in exactly one row, with a ``state``.

    ``paired``: both graded; ``ungraded``: both there, at least one without a score (never counted as 0); ``unpaired``:
    one side only. Columns: the keys, ``score_arm``, ``score_versus``, ``state``.
    """
    sides = [side[[*_PAIR, "score"]] for side in (arm, versus)]
    pairs = sides[0].merge(
        sides[1], on=_PAIR, how="outer", suffixes=("_arm", "_versus"), indicator="side", validate="one_to_one"
    )
    graded = pairs["score_arm"].notna() & pairs["score_versus"].notna()
    pairs["state"] = np.select([pairs["side"] != "both", graded], ["unpaired", "paired"], "ungraded")
    return pairs.drop(columns="side").sort_values(_PAIR, ignore_index=True)


def contrast_tables(
    answers: pd.DataFrame, comparisons: Iterable[Comparison], alpha: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(contrasts, final differences by seed) for ``answers`` as :func:`~traitrl.analysis.frames.prepare` gives them.

    Contrasts have the columns of ``CONTRAST_COLUMNS``, one row per comparison, checkpoint, split and eval (and
    held-out trait). ``n_pairs + n_unpaired + n_ungraded`` is the number of distinct (item, seed, sample) of the two
    arms; ``test`` says how p was found (``t``, ``sign`` or ``none``). The second table has the columns of
    ``SEED_COLUMNS``.
    """
    blocks = [block for comparison in sorted(set(comparisons)) for block in _blocks(answers, comparison)]
    if not blocks:
        return typed([], CONTRAST_COLUMNS), typed([], SEED_COLUMNS)
    views = [(level, view, _cells(view)) for level, view in levels(pd.concat(blocks, ignore_index=True))]
    rows = [row for level, view, cells in views for row in _rows(level, view, cells, alpha)]
    table = typed(rows, CONTRAST_COLUMNS).sort_values([*BH_FAMILY, "name"], ignore_index=True)
    by_seed = [row for level, _, cells in views for row in _seed_rows(level, cells)]
    return add_verdicts(table, BH_FAMILY, alpha), typed(by_seed, SEED_COLUMNS)


def _blocks(answers: pd.DataFrame, comparison: Comparison) -> Iterator[pd.DataFrame]:
    """Paired answers of each checkpoint that both arms were measured at: the final one of each, and every earlier step.

    At an earlier step both stand with the same step; a ``versus`` that was never trained (step 0 only) stands at every
    step of ``arm``.
    """
    within = answers[answers["experiment"] == comparison.experiment]
    arm, versus = (within[within["arm"] == name] for name in (comparison.arm, comparison.versus))
    if arm.empty or versus.empty:
        return
    place = comparison._asdict()
    last = arm[arm["final"]]
    pairs = pair_answers(last, versus[versus["final"]])
    yield pairs.assign(**place, step=last["row_step"].max(), final=True)
    untrained = versus["step"].max() == 0
    for step in sorted(arm.loc[~arm["final"], "step"].unique()):
        here = arm[~arm["final"] & (arm["step"] == step)]
        # Seeds for which this step is the last are in the final row; their partners stay out of this one.
        there = versus[~versus["seed"].isin(last.loc[last["step"] == step, "seed"])]
        there = there if untrained else there[there["step"] == step]
        if len(there):
            yield pair_answers(here, there).assign(**place, step=step, final=False)


def _cells(view: pd.DataFrame) -> pd.DataFrame:
    """Both scores and their difference per row, seed and item, averaged over the samples that are paired."""
    paired = view[view["state"] == "paired"]
    cells = paired.groupby([*_ROW, "seed", "item", "cluster"], as_index=False)[["score_arm", "score_versus"]].mean()
    return cells.assign(difference=cells["score_arm"] - cells["score_versus"])


def _seed_rows(level: str, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The final differences of one level, seed by seed."""
    means = cells[cells["final"]].groupby([*_ROW, "seed"], as_index=False)["difference"].mean()
    return means.assign(level=level).to_dict("records")


def _rows(level: str, view: pd.DataFrame, cells: pd.DataFrame, alpha: float) -> Iterator[dict[str, Any]]:
    """The contrast rows of one level, before the control of false discoveries."""
    states = {f"n_{name}": view["state"] == state for name, state in _STATES.items()}
    groups = view.assign(**states).groupby(_ROW)
    facts = groups[list(states)].sum().assign(family=one_family(groups["family"]))
    where = cells.groupby(_ROW).indices
    item, cluster, seed, *scores = (cells[name].to_numpy() for name in _CELL)
    for row in facts.reset_index().to_dict("records"):
        index = where.get(tuple(row[name] for name in _ROW), np.array([], dtype=np.int64))
        difference, *sides = (score[index] for score in scores)
        found = clustered_interval(
            difference, item[index], cluster[index], seed[index], alpha=alpha, low=-1.0, high=1.0
        )
        arm, versus = (float(item_means(side, item[index]).mean()) if len(index) else np.nan for side in sides)
        yield {
            **{str(name): value for name, value in row.items()},
            "level": level,
            "mean_arm": arm,
            "mean_versus": versus,
            "difference": found.mean,
            "ahead": found.mean > 0,
            "test": found.method,
            "q": np.nan,
            "verdict": "none",
            **{name: getattr(found, name) for name in ("se", "ci_low", "ci_high", "p", *_SIZES)},
        }
