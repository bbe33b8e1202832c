"""What an attack took from one arm, and how much less or more than from another. Arrays in, numbers out."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traitrl.analysis.intervals import NO_INTERVAL, Interval, Layout, interval_of, layout_of

NEAR_ZERO = 0.01  # no share is taken of less than one point: it would be a share of noise


class Cells(NamedTuple):
    """One cell per item and seed (n,): integer codes, and the item's clean score and its score under attack in [0, 1]."""

    suite: NDArray[np.int64]
    item: NDArray[np.int64]
    cluster: NDArray[np.int64]
    seed: NDArray[np.int64]
    clean: NDArray[np.float64]
    attacked: NDArray[np.float64]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """The cells of rows as :func:`~traitrl.analysis.attacked.attacked_cells` gives them, all with both scores."""
        suite = pd.factorize(frame["suite_id"], sort=True)[0].astype(np.int64)
        item, cluster, seed = (frame[name].to_numpy(np.int64) for name in ("item", "cluster", "seed"))
        clean, attacked = (frame[name].to_numpy(np.float64) for name in ("clean", "attacked"))
        return cls(suite, item, cluster, seed, clean, attacked)

    def take(self, index: NDArray[np.int64]) -> Self:
        """The cells at ``index``."""
        codes = (self.suite[index], self.item[index], self.cluster[index], self.seed[index])
        return type(self)(*codes, self.clean[index], self.attacked[index])


def shared(*sides: Cells) -> list[Cells]:
    """Each side's cells whose item and seed all sides have, in one order."""
    keys = [_keys(side) for side in sides]
    common = keys[0]
    for other in keys[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    out: list[Cells] = []
    for side, key in zip(sides, keys):
        order = np.argsort(key, kind="stable")
        out.append(side.take(order[np.searchsorted(key[order], common)]))
    return out


def _keys(cells: Cells) -> NDArray[np.int64]:
    """One number per item and seed; a seed is below 2^32, as everywhere."""
    return cells.item * 2**32 + cells.seed


class Sample(NamedTuple):
    """Measurements that share a layout: ``values`` (quantities, n)."""

    values: NDArray[np.float64]
    layout: Layout

    def interval(self, values: NDArray[np.float64], alpha: float, low: float, high: float) -> Interval:
        """The interval of ``values`` (n,) in this layout; see :func:`~traitrl.analysis.intervals.clustered_interval`."""
        return interval_of(values, self.layout, alpha=alpha, low=low, high=high) if len(values) else NO_INTERVAL

    def point(self, values: NDArray[np.float64], alpha: float, low: float, high: float) -> Interval:
        """The mean of ``values`` alone, in the form of an interval that is not known."""
        return NO_INTERVAL._replace(mean=self.mean(values))

    def mean(self, values: NDArray[np.float64]) -> float:
        """Mean over items of their means over seeds; NaN without any."""
        item, n = self.layout.item, self.layout.n_items
        return float((np.bincount(item, values, n) / np.bincount(item, minlength=n)).mean()) if n else float("nan")


def sample(cells: Cells, *values: NDArray[np.float64]) -> Sample:
    """``values``, each (cells,), laid out by the house's rule for averages.

    Within one eval the items are the sample, with their clusters, as in the contrasts. Over several evals the evals are: each
    eval's mean over items is one measurement per seed, all evals weigh the same, and the interval says how far the
    mean would move with other evals like these (and other seeds).
    """
    suites = np.unique(cells.suite)
    if len(suites) < 2:
        return Sample(np.stack(values), layout_of(cells.item, cells.cluster, cells.seed))
    seeds, seed = np.unique(cells.seed, return_inverse=True)
    code, index = np.unique(cells.suite * len(seeds) + seed, return_inverse=True)
    sizes = np.bincount(index)
    suite = code // len(seeds)
    means = np.stack([np.bincount(index, row) / sizes for row in values])
    return Sample(means, layout_of(suite, suite, code % len(seeds)))


def share(layout: Sample, part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Values (n,) whose mean is mean(part) / mean(whole), linearised, so that their interval is the ratio's.

    The usual ratio estimator (Cochran 1977, Sampling Techniques, ch. 6): r + (part - r * whole) / mean(whole). None when the
    whole is nearly nothing.
    """
    size = layout.mean(whole)
    if not size >= NEAR_ZERO:  # also when it is NaN
        return None
    ratio = layout.mean(part) / size
    return ratio + (part - ratio * whole) / size


def normalised_loss(
    layout: Sample, clean: NDArray[np.float64], attacked: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Degradation as a share of the room there was: of the clean score when the mean fell, of what was missing to 1 when it
    rose (then negative). In [-1, 1] for the mean, and 0 when nothing moved."""
    loss = clean - attacked
    return share(layout, loss, clean if layout.mean(loss) >= 0 else 1.0 - clean)


def loss_of(cells: Cells, alpha: float, *, brief: bool = False) -> dict[str, Interval]:
    """``clean``, ``attacked``, ``degradation`` (clean - attacked), ``retention`` (attacked / clean) and ``normalised`` (see
    :func:`normalised_loss`) of one arm; no interval and a NaN mean where there is no room to take a share of. ``brief`` gives
    the interval of degradation only, and means otherwise: eight intervals for each of thousands of evals take long.
    """
    side = Sample.point if brief else Sample.interval
    layout = sample(cells, cells.clean, cells.attacked)
    clean, attacked = layout.values
    kept, normalised = share(layout, attacked, clean), normalised_loss(layout, clean, attacked)
    return {
        "clean": side(layout, clean, alpha, 0.0, 1.0),
        "attacked": side(layout, attacked, alpha, 0.0, 1.0),
        "degradation": layout.interval(clean - attacked, alpha, -1.0, 1.0),
        "retention": NO_INTERVAL if kept is None else side(layout, kept, alpha, 0.0, 1.0 / NEAR_ZERO),
        "normalised": NO_INTERVAL if normalised is None else side(layout, normalised, alpha, -1.0, 1.0),
    }


def resistance_of(arm: Cells, versus: Cells, alpha: float, *, brief: bool = False) -> dict[str, Interval]:
    """``arm`` against ``versus`` on the items and seeds of both; ``brief`` gives the interval of the difference only.

    ``difference``: degradation of ``versus`` minus that of ``arm``, above 0 when the arm loses less;
    ``normalised_difference``: the same of normalised losses; ``level_difference``: score under attack, arm minus versus.
    """
    side = Sample.point if brief else Sample.interval
    ours, theirs = shared(arm, versus)
    layout = sample(ours, ours.clean, ours.attacked, theirs.clean, theirs.attacked)
    clean, attacked, clean_versus, attacked_versus = layout.values
    sides = [normalised_loss(layout, clean_versus, attacked_versus), normalised_loss(layout, clean, attacked)]
    normalised = None if sides[0] is None or sides[1] is None else sides[0] - sides[1]
    difference = (clean_versus - attacked_versus) - (clean - attacked)
    return {
        "difference": layout.interval(difference, alpha, -2.0, 2.0),
        "normalised_difference": NO_INTERVAL if normalised is None else side(layout, normalised, alpha, -2.0, 2.0),
        "level_difference": side(layout, attacked - attacked_versus, alpha, -1.0, 1.0),
    }


def named(intervals: dict[str, Interval]) -> dict[str, Any]:
    """``{name: mean, name_low: ..., name_high: ...}`` of each interval."""
    return {
        key: value
        for name, found in intervals.items()
        for key, value in ((name, found.mean), (f"{name}_low", found.ci_low), (f"{name}_high", found.ci_high))
    }
