"""Are two things alike? A test of its own: that no difference was found does not answer it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from scipy.special import stdtr, stdtrit

from traitrl.analysis.intervals import Interval

Alike = Literal["equivalent", "different", "undecided", "none"]


class Equivalence(NamedTuple):
    """``p`` of the two one-sided tests, the 1 - 2 ``alpha`` interval they amount to, and what follows; NaN and ``none`` where
    there is no interval."""

    p: float
    low: float
    high: float
    verdict: Alike


def equivalence(found: Interval, margin: float, alpha: float) -> Equivalence:
    """TOST (Schuirmann 1987): is the mean behind ``found`` within ``margin`` of 0?

    ``equivalent`` when both one-sided tests at ``alpha`` reject, that is, when the 1 - 2 ``alpha`` interval lies inside
    (-margin, margin); ``different`` when the whole 1 - ``alpha`` interval of ``found`` lies beyond the margin on one side;
    ``undecided`` otherwise. Without variance the bound of :func:`~traitrl.analysis.intervals.clustered_interval` on what was not
    seen stands in, and there is no p.
    """
    nan = float("nan")
    if found.method == "none":
        return Equivalence(nan, nan, nan, "none")
    if found.method == "sign":
        # found's bounds lie at a share u(alpha) of unseen clusters; at 2 alpha the share is smaller.
        wide, narrow = (1 - level ** (1 / found.n_clusters) for level in (alpha / 2, alpha))
        low, high = (found.mean + (end - found.mean) * narrow / wide for end in (found.ci_low, found.ci_high))
        p = nan
    else:
        half = float(stdtrit(found.df, 1 - alpha)) * found.se
        low, high = found.mean - half, found.mean + half
        p = max(float(stdtr(found.df, sign * found.mean / found.se - margin / found.se)) for sign in (1, -1))
    if -margin < low and high < margin:
        return Equivalence(p, low, high, "equivalent")
    beyond = found.ci_low >= margin or found.ci_high <= -margin
    return Equivalence(p, low, high, "different" if beyond else "undecided")
