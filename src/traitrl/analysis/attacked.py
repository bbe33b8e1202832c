"""Records made under attack, each beside the clean record of the same item, arm and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from traitrl.analysis.config import AttackFacts
from traitrl.analysis.frames import ANSWER, check_answers, check_items

PLACE = ["experiment", "attack", "strength", "split"]
_ANSWER = [*[name for name in ANSWER if name != "step"], "attack", "strength"]
_RUN = ["experiment", "arm", "seed"]
_CELL = [*_RUN, "attack", "strength", "split", "suite_id", "family", "item", "cluster"]


class Attacked(NamedTuple):
    """``cells``: one row per experiment, arm, seed, attack, strength and item, with ``clean`` and ``attacked`` (means over
    the graded samples; NaN without any), ``n_answers`` (graded, under attack), ``n_ungraded`` (of both conditions) and
    ``n_without_clean`` (1 when the item has no clean record in this run).

    ``earlier_checkpoints`` counts attacked records of checkpoints before the last clean one, which are in no cell.
    """

    cells: pd.DataFrame
    earlier_checkpoints: int


def attacked_cells(records: pd.DataFrame, answers: pd.DataFrame) -> Attacked:
    """Pair what ``records`` holds under attack with the final clean ``answers`` (see
    :func:`~traitrl.analysis.frames.prepare`).

    An item is measured by the mean of its graded samples, clean and attacked, so that the two may differ in number. An
    ungraded answer is counted and never a zero. Raises :class:`~traitrl.core.StoreError` for two records of one answer
    under one attack and for an item whose family, split, cluster or trait differs from its clean record.
    """
    records = records.assign(trait=records["trait"].fillna(""))
    attacked = records[records["attack"] != "none"]
    last = answers.groupby(_RUN)["step"].max().rename("last").reset_index()
    attacked = attacked.merge(last, on=_RUN, how="left")
    early = attacked["step"] < attacked["last"]  # False where the run has no clean record
    attacked = attacked[~early]
    check_answers(attacked.sort_values(_ANSWER, ignore_index=True), _ANSWER)
    check_items(records.sort_values([*ANSWER, "attack", "strength"]))
    item = ["experiment", "suite_id", "item_id"]
    known = answers[[*item, "item", "cluster"]].drop_duplicates()
    attacked = attacked.drop(columns=["cluster", "last"]).merge(known, on=item, how="left")
    # An item that no arm answered without attack: -1, and each still a cell of its own.
    unknown = attacked["item"].isna()
    codes = pd.factorize(attacked["suite_id"] + "\x1f" + attacked["item_id"], sort=True)[0]
    attacked["item"] = attacked["item"].where(~unknown, -1.0 - codes).astype("int64")
    attacked["cluster"] = attacked["cluster"].where(~unknown, -1.0 - codes).astype("int64")
    attacked["graded"] = attacked["score"].notna()
    cells = attacked.groupby(_CELL, as_index=False).agg(
        attacked=("score", "mean"), n_answers=("graded", "sum"), n=("graded", "size")
    )
    cells = cells.merge(_clean_cells(answers), on=[*_RUN, "item"], how="left")
    cells["n_without_clean"] = cells["n_clean"].isna().astype("int64")
    ungraded = cells["n"] - cells["n_answers"] + cells["n_clean_ungraded"].fillna(0)
    cells["n_ungraded"] = ungraded.astype("int64")
    cells = cells.drop(columns=["n", "n_clean", "n_clean_ungraded"])
    return Attacked(cells.sort_values([*PLACE, "arm", "seed", "suite_id", "item"], ignore_index=True), int(early.sum()))


def _clean_cells(answers: pd.DataFrame) -> pd.DataFrame:
    """The clean mean of every run's items at its final checkpoint, with how many answers there were and were ungraded."""
    groups = answers[answers["final"]].groupby([*_RUN, "item"], as_index=False)
    clean = groups.agg(clean=("score", "mean"), n_clean=("graded", "size"), graded=("graded", "sum"))
    return clean.assign(n_clean_ungraded=clean["n_clean"] - clean["graded"]).drop(columns="graded")


def missing_cells(cells: pd.DataFrame, answers: pd.DataFrame, facts: Sequence[AttackFacts]) -> Iterator[dict[str, Any]]:
    """What an experiment under attack lacks: ``{experiment, attack, strength, arm, seeds}``, JSON-ready.

    Every attack at every strength that one arm of the experiment met is owed by all its arms and seeds. ``strength`` and
    ``arm`` are None for a configured attack of which the experiment has no record; without any attacked record, every
    experiment lacks all.
    """
    runs = answers[_RUN].drop_duplicates()
    place = [*_RUN, "attack", "strength"]
    tested = cells[place].drop_duplicates()
    usable = cells.loc[np.isfinite(cells["clean"]) & np.isfinite(cells["attacked"]), place].drop_duplicates()
    for experiment in sorted(set(tested["experiment"]) or set(answers["experiment"])):
        here, good, owed = (side[side["experiment"] == experiment] for side in (tested, usable, runs))
        for fact in facts:
            if fact.id not in set(here["attack"]):
                yield {"experiment": experiment, "attack": fact.id, "strength": None, "arm": None, "seeds": []}
        met = set(zip(good["attack"], good["strength"], good["arm"], good["seed"]))
        for attack, strength in sorted(set(zip(here["attack"], here["strength"]))):
            for arm, seeds in owed.groupby("arm")["seed"]:
                lost = sorted(int(seed) for seed in seeds if (attack, strength, arm, seed) not in met)
                if lost:
                    found = {"experiment": experiment, "attack": attack, "strength": float(strength)}
                    yield {**found, "arm": str(arm), "seeds": lost}
