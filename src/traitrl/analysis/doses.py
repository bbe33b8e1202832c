"""At which dose has an attack taken half? Interpolated on the ladder of doses, censored when the ladder ends before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from traitrl.analysis.config import AttackFacts
from traitrl.analysis.subsets import or_none

_HALF = 0.5
_KEY = ["experiment", "split", "attack", "level", "name", "arm"]


def first_crossing(doses: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """The smallest dose at which ``values`` is at or below ``level``, on straight lines between the (ascending) doses.

    Unmeasured values (NaN) are passed over. None when the level is not reached or nothing was measured.
    """
    known = [(dose, value) for dose, value in zip(doses, values) if not math.isnan(value)]
    for index, (dose, value) in enumerate(known):
        if value > level:
            continue
        if index == 0:
            return float(dose)
        before, above = known[index - 1]
        return float(before + (dose - before) * (above - level) / (above - value))
    return None


def half_doses(table: pd.DataFrame, facts: Sequence[AttackFacts], baseline: str) -> Iterator[dict[str, Any]]:
    """One JSON-ready row per arm, harmful tuning attack or drift, and pooled scope (all evals, in-domain, out-of-domain).

    ``half_dose``: where retention is 1/2, that is, the arm's score half of its own clean one. ``half_dose_low`` and
    ``half_dose_high``: where the ends of retention's interval are 1/2. ``fixed_dose``: where the arm's score is half of the
    baseline's clean score, ``fixed_level``, the same height for all arms. None means not reached up to ``max_dose``: censored.
    ``table`` has the columns of ``PERSISTENCE_COLUMNS``.
    """
    ids = {fact.id for fact in facts if fact.kind == "drift" or (fact.kind == "tuning" and fact.stance == "harmful")}
    pooled = table[table["attack"].isin(ids) & table["level"].isin(["all", "domain"])]
    for scope, group in pooled.groupby(_KEY[:-1]):
        clean = group.loc[group["arm"] == baseline].sort_values("strength")["clean"].dropna()
        fixed_level = float(clean.iloc[0]) * _HALF if len(clean) else math.nan
        for arm, ladder in group.groupby("arm"):
            measured = ladder[ladder["retention"].notna()].sort_values("strength")
            if len(measured):
                yield {**dict(zip(_KEY, map(str, (*scope, arm)))), **_half_dose(measured, fixed_level)}


def _half_dose(ladder: pd.DataFrame, fixed_level: float) -> dict[str, Any]:
    """The doses of one arm; ``ladder`` is sorted by strength and has at least one row."""
    doses = [0.0, *ladder["strength"].tolist()]

    def crossing(column: str) -> float | None:
        return first_crossing(doses, [1.0, *ladder[column].tolist()], _HALF)

    half = crossing("retention")
    scores = [float(ladder["clean"].iloc[0]), *ladder["attacked"].tolist()]
    fixed = None if math.isnan(fixed_level) else first_crossing(doses, scores, fixed_level)
    return {
        "half_dose": half,
        "half_dose_low": crossing("retention_low"),
        "half_dose_high": crossing("retention_high"),
        "censored": half is None,
        "fixed_level": or_none(fixed_level),
        "fixed_dose": fixed,
        "fixed_censored": fixed is None and not math.isnan(fixed_level),
        "max_dose": doses[-1],
    }
