"""Attacks that show nothing: where every arm lies at the floor or at the ceiling, or none moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

FLOOR, CEILING = 0.05, 0.95
_PLACE = ["experiment", "split", "attack", "strength"]


def blind_spots(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One JSON-ready line per experiment, split, attack and strength whose rows over all evals cannot tell arms apart.

    ``warning``: ``floor`` (every arm's score under attack below .05: whatever an arm had was lost, so that the arm that started
    higher looks worse), ``ceiling`` (every one above .95) or ``unmoved`` (the interval of every arm's degradation includes
    0). That a benign attack or drift moves no arm is a finding, no blind spot. ``table`` has ``PERSISTENCE_COLUMNS``.
    """
    for place, group in table[table["level"] == "all"].groupby(_PLACE):
        measured = group[group["attacked"].notna()]
        kind = _blindness(measured) if len(measured) else ""
        if kind == "unmoved" and ((measured["stance"] == "benign") | (measured["kind"] == "drift")).all():
            continue
        if kind:
            yield {**dict(zip(_PLACE, place)), "warning": kind, "arms": sorted(map(str, measured["arm"]))}


def _blindness(rows: pd.DataFrame) -> str:
    """``floor``, ``ceiling``, ``unmoved`` or nothing, for the measured arms of one cell."""
    if (rows["attacked"] < FLOOR).all():
        return "floor"
    if (rows["attacked"] > CEILING).all():
        return "ceiling"
    includes_zero = (rows["degradation_low"] <= 0) & (rows["degradation_high"] >= 0)  # False without an interval
    return "unmoved" if includes_zero.all() else ""
