"""What several attacks say together: selective or rigid, narrow or spreading, lasting or soon mended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traitrl.analysis.config import AttackFacts
from traitrl.analysis.degradation import (
    NEAR_ZERO,
    Cells,
    Sample,
    loss_of,
    named,
    normalised_loss,
    resistance_of,
    sample,
    share,
    shared,
)
from traitrl.analysis.intervals import NO_INTERVAL, Interval, difference_interval
from traitrl.analysis.subsets import or_none


class Place(NamedTuple):
    """Where cells belong."""

    experiment: str
    attack: str
    strength: float
    split: str
    arm: str


Grid = Mapping[Place, pd.DataFrame]


def grid_of(cells: pd.DataFrame) -> dict[Place, pd.DataFrame]:
    """The usable cells (both scores there) of every place."""
    usable = cells[np.isfinite(cells["clean"]) & np.isfinite(cells["attacked"])]
    found: dict[Place, pd.DataFrame] = {}
    for _, group in usable.groupby(list(Place._fields)):
        first = group.iloc[0]
        experiment, attack, split, arm = (str(first[name]) for name in ("experiment", "attack", "split", "arm"))
        found[Place(experiment, attack, float(first["strength"]), split, arm)] = group
    return found


def selectivity(grid: Grid, facts: Sequence[AttackFacts], baseline: str, alpha: float) -> Iterator[dict[str, Any]]:
    """Per arm and harmful attack with a twin: resistance to the attack minus loss of steerability by the twin, JSON-ready.

    ``resistance`` is degradation of the baseline minus that of the arm; ``steering_loss`` how much less the twin lifts the arm
    than the baseline; both on the items and seeds that all four measurements share, absolute and (``normalised_*``) as shares of
    the room there was. ``selectivity`` is their difference, above 0 when the arm resists more than it stiffens. The twin is
    taken at the attack's strength; when it was not run there, at the strength of the same rank if both were run at equally
    many. Otherwise the row has nulls and says so in ``missing``.
    """
    by_id = {fact.id: fact for fact in facts}
    for place in sorted(grid):
        fact = by_id.get(place.attack)
        if fact is None or fact.stance != "harmful" or fact.twin is None or place.arm == baseline:
            continue
        strength = _twin_strength(grid, place, fact.twin)
        row: dict[str, Any] = {**place._asdict(), "versus": baseline, "twin": fact.twin, "twin_strength": strength}
        twin = place._replace(attack=fact.twin, strength=float("nan") if strength is None else strength)
        places = [place, place._replace(arm=baseline), twin, twin._replace(arm=baseline)]
        absent = [p for p in places if p not in grid]
        sides = [] if absent else shared(*(Cells.of(grid[p]) for p in places))
        found = _selectivity(sides, alpha) if sides and len(sides[0].item) else _NO_SELECTIVITY
        missing = "" if sides and len(sides[0].item) else _why_missing(absent, strength)
        yield {**row, **finite(named(found)), "n_cells": len(sides[0].item) if sides else 0, "missing": missing}


_PARTS = ("resistance", "steering_loss", "selectivity")
_NO_SELECTIVITY = {f"{prefix}{name}": NO_INTERVAL for prefix in ("", "normalised_") for name in _PARTS}


def _why_missing(absent: list[Place], strength: float | None) -> str:
    if strength is None:
        return "the twin was not run at a matching strength"
    lacking = "; ".join(f"{place.arm} under {place.attack} {place.strength:g}" for place in absent)
    return f"not measured: {lacking}" if lacking else "no item was measured under both by both arms"


def _twin_strength(grid: Grid, place: Place, twin: str) -> float | None:
    """The strength at which ``twin`` is the partner of ``place``."""

    def ladder(attack: str) -> list[float]:
        where = (place.experiment, attack, place.split)
        return sorted({p.strength for p in grid if (p.experiment, p.attack, p.split) == where})

    ours, theirs = ladder(place.attack), ladder(twin)
    if place.strength in theirs:
        return place.strength
    return theirs[ours.index(place.strength)] if len(ours) == len(theirs) else None


def _selectivity(sides: list[Cells], alpha: float) -> dict[str, Interval]:
    """``sides``: attack on the arm and on the baseline, twin on the arm and on the baseline; the same items and seeds."""
    layout = sample(sides[0], *(values for side in sides for values in (side.clean, side.attacked)))
    clean, attacked = layout.values[0::2], layout.values[1::2]
    arm, versus, twin_arm, twin_versus = clean - attacked
    parts = {"": (versus - arm, twin_arm - twin_versus)}
    shares = [normalised_loss(layout, *pair) for pair in zip(clean, attacked)]
    known = [value for value in shares if value is not None]
    if len(known) == len(shares):
        parts["normalised_"] = (known[1] - known[0], known[2] - known[3])
    found = dict(_NO_SELECTIVITY)
    for prefix, (resists, stiffens) in parts.items():
        for name, values in zip(_PARTS, (resists, stiffens, resists - stiffens)):
            bound = 4.0 if name == "selectivity" else 2.0
            found[f"{prefix}{name}"] = layout.interval(values, alpha, -bound, bound)
    return found


def asymmetry(grid: Grid, facts: Sequence[AttackFacts], baseline: str, alpha: float) -> Iterator[dict[str, Any]]:
    """Damage in the domain of the attack's data against damage elsewhere, per arm, JSON-ready.

    ``damage_gap``: degradation in-domain minus out-of-domain. ``resistance_gap``: how much more the arm resists (against the
    baseline) out-of-domain than in-domain, the asymmetry that the paper reports; null for the baseline.
    """
    families = {fact.id: set(fact.domain_families) for fact in facts if fact.domain_families}
    for place in sorted(grid):
        if place.attack not in families:
            continue
        inside, outside = _parts(grid[place], families[place.attack])
        if inside is None or outside is None:
            continue
        losses = [loss_of(cells, alpha)["degradation"] for cells in (inside, outside)]
        gaps = {"in_domain": losses[0], "out_of_domain": losses[1]}
        gaps["damage_gap"] = difference_interval(*losses, alpha=alpha, low=-2.0, high=2.0)
        resists = [NO_INTERVAL, NO_INTERVAL]
        other = place._replace(arm=baseline)
        if place.arm != baseline and other in grid:
            theirs = _parts(grid[other], families[place.attack])
            resists = [
                resistance_of(ours, against, alpha)["difference"] if against is not None else NO_INTERVAL
                for ours, against in zip((inside, outside), theirs)
            ]
        gaps |= {"resistance_in_domain": resists[0], "resistance_out_of_domain": resists[1]}
        gaps["resistance_gap"] = difference_interval(resists[1], resists[0], alpha=alpha, low=-4.0, high=4.0)
        yield {**place._asdict(), "versus": baseline, **finite(named(gaps))}


def _parts(cells: pd.DataFrame, families: set[str]) -> list[Cells | None]:
    """(in-domain, out-of-domain) cells; None for a part without any."""
    inside = cells["family"].isin(families)
    return [Cells.of(part) if len(part) else None for part in (cells[inside], cells[~inside])]


def recovery(grid: Grid, facts: Sequence[AttackFacts], alpha: float) -> Iterator[dict[str, Any]]:
    """What further benign steps gave back, per arm and number of those steps (``strength``), JSON-ready.

    ``attacked`` is the score before them, at dose ``from_strength`` of attack ``of``, ``recovered`` after them; ``share`` is
    (recovered - attacked) / (clean - attacked), null when nearly nothing had been lost. All on the items and seeds of both.
    """
    by_id = {fact.id: fact for fact in facts if fact.recovery_of is not None}
    for place in sorted(grid):
        fact = by_id.get(place.attack)
        if fact is None or fact.recovery_of is None:
            continue
        doses = [p.strength for p in grid if p == place._replace(attack=fact.recovery_of, strength=p.strength)]
        dose = fact.recovery_from if fact.recovery_from is not None else max(doses, default=None)
        row = {**place._asdict(), "of": fact.recovery_of, "from_strength": dose}
        before = grid.get(place._replace(attack=fact.recovery_of, strength=-1.0 if dose is None else dose))
        if before is None:
            yield {
                **row,
                **finite(named(dict.fromkeys(_RECOVERY, NO_INTERVAL))),
                "missing": "the attack itself was not measured",
            }
            continue
        ours, theirs = shared(Cells.of(grid[place]), Cells.of(before))
        layout = sample(ours, ours.clean, theirs.attacked, ours.attacked)
        yield {**row, **finite(named(_recovery(layout, *layout.values, alpha=alpha))), "missing": ""}


_RECOVERY = ("clean", "attacked", "recovered", "regained", "share")


def _recovery(
    layout: Sample,
    clean: NDArray[np.float64],
    attacked: NDArray[np.float64],
    after: NDArray[np.float64],
    *,
    alpha: float,
) -> dict[str, Interval]:
    """The intervals of one row; ``regained`` is after minus attacked."""
    shares = share(layout, after - attacked, clean - attacked)
    values = (clean, attacked, after, after - attacked)
    bounds = ((0.0, 1.0),) * 3 + ((-1.0, 1.0),)
    found = {name: layout.interval(v, alpha, *ends) for name, v, ends in zip(_RECOVERY, values, bounds)}
    most = 1.0 / NEAR_ZERO
    return {**found, "share": NO_INTERVAL if shares is None else layout.interval(shares, alpha, -most, most)}


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` with None for NaN."""
    return {key: or_none(value) if isinstance(value, float) else value for key, value in row.items()}
