"""What a careful reader checks first in a run: cuts, groups without variance, failures, manner, and a second judge's view."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from traitrl.training.ledger import LedgerRow
from traitrl.training.watch import WatchRow

# A third of the replies cut off is where the one public replication's reward gain was mostly about learning not to be cut;
# groups without variance give no gradient.
_LIMITS = {"truncated_share": 0.33, "ungraded_share": 0.01, "flat_group_share": 0.8}
_WINDOWS = 4
_FEWEST = 20  # replies in a window below which a shift is no news
_RISES = {"repetition": 0.15, "refusal": 0.15, "hedges_per_100_words": 1.0}
_DIVERGENCE = 0.15  # of a score: training judge minus watch judge, last window against first

_HEDGES = re.compile(
    r"\b(?:might|may|perhaps|possibly|maybe|could be|it depends|not (?:entirely )?sure|cannot be certain|i think|i believe"
    r"|seems?|generally|in some cases|to some extent)\b"
)


def health(rows: Sequence[LedgerRow], watched: Sequence[WatchRow] = ()) -> dict[str, Any]:
    """Shares over the whole run, manner by window of steps and stream, and ``alarms``: what crossed a line, in words.

    The training judge may come to like what a reply looks like. So length, repetition, refusals and hedges are followed, and
    where a second judge watches, the distance between the two (reward hacking shows as a growing one).
    """
    groups: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row.reward is not None:
            groups[row.slot].append(row.reward)
    total = max(1, len(rows))
    half = len(rows) // 2
    lengths = [sum(row.reply_tokens for row in part) / max(1, len(part)) for part in (rows[:half], rows[half:])]
    shares = {
        "truncated_share": sum(row.truncated for row in rows) / total,
        "ungraded_share": sum(row.score is None for row in rows) / total,
        "flat_group_share": sum(max(each) == min(each) for each in groups.values()) / max(1, len(groups)),
        "refusal_share": sum(row.refusal for row in rows) / total,
    }
    alarms = [f"{name} is {shares[name]:.2f}, above {limit}" for name, limit in _LIMITS.items() if shares[name] > limit]
    if lengths[0] and not 0.5 < lengths[1] / lengths[0] < 2.0:
        alarms.append(f"mean reply length went from {lengths[0]:.1f} to {lengths[1]:.1f} tokens")
    manner, divergence = manner_curves(rows), watch_curve(watched)
    return {
        **shares,
        "reply_tokens_first_half": lengths[0],
        "reply_tokens_second_half": lengths[1],
        "manner": manner,
        "watch": divergence,
        "alarms": [*alarms, *_manner_alarms(manner), *_watch_alarms(divergence)],
    }


def repetition(reply: str) -> float:
    """Share of word trigrams that stood in the reply before; 0 for replies of fewer than four words."""
    words = reply.lower().split()
    trigrams = [tuple(words[start : start + 3]) for start in range(len(words) - 2)]
    return 1 - len(set(trigrams)) / len(trigrams) if len(trigrams) > 1 else 0.0


def hedges_per_100_words(reply: str) -> float:
    """Hedging phrases for each hundred words."""
    words = len(reply.split())
    return 100 * len(_HEDGES.findall(reply.lower())) / words if words else 0.0


_MANNER: dict[str, Callable[[LedgerRow], float]] = {
    "reply_tokens": lambda row: float(row.reply_tokens),
    "repetition": lambda row: repetition(row.reply),
    "refusal": lambda row: float(row.refusal),
    "hedges_per_100_words": lambda row: hedges_per_100_words(row.reply),
}


def _window(step: int, steps: int) -> int:
    return min(_WINDOWS - 1, step * _WINDOWS // max(1, steps))


def manner_curves(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """Means of each measure in four windows of steps, by stream."""
    steps = max((row.step for row in rows), default=0) + 1
    parts: dict[tuple[int, str], list[LedgerRow]] = defaultdict(list)
    for row in rows:
        parts[(_window(row.step, steps), row.stream)].append(row)
    return [
        {"window": window, "stream": stream, "replies": len(part)}
        | {name: mean(measure(row) for row in part) for name, measure in _MANNER.items()}
        for (window, stream), part in sorted(parts.items())
    ]


def watch_curve(watched: Sequence[WatchRow]) -> list[dict[str, Any]]:
    """Training judge minus watch judge in four windows of steps; replies that one of them did not grade are only counted."""
    steps = max((row.step for row in watched), default=0) + 1
    parts: dict[int, list[WatchRow]] = defaultdict(list)
    for row in watched:
        parts[_window(row.step, steps)].append(row)
    curve: list[dict[str, Any]] = []
    for window, part in sorted(parts.items()):
        gaps = [row.score - row.watch_score for row in part if row.score is not None and row.watch_score is not None]
        ungraded = len(part) - len(gaps)
        curve.append(
            {"window": window, "replies": len(gaps), "ungraded": ungraded, "gap": mean(gaps) if gaps else None}
        )
    return curve


def _ends(curve: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """First and last window, if both hold enough replies to speak of a change."""
    full = [entry for entry in curve if entry["replies"] >= _FEWEST]
    return (full[0], full[-1]) if len(full) > 1 else None


def _manner_alarms(manner: Sequence[dict[str, Any]]) -> list[str]:
    alarms: list[str] = []
    for stream in sorted({entry["stream"] for entry in manner}):
        ends = _ends([entry for entry in manner if entry["stream"] == stream])
        for name, limit in _RISES.items():
            if ends and ends[1][name] - ends[0][name] > limit:
                alarms.append(f"{name} of the {stream} stream rose from {ends[0][name]:.2f} to {ends[1][name]:.2f}")
    return alarms


def _watch_alarms(curve: Sequence[dict[str, Any]]) -> list[str]:
    ends = _ends(curve)
    if ends and ends[1]["gap"] - ends[0]["gap"] > _DIVERGENCE:
        change = f"from {ends[0]['gap']:+.2f} to {ends[1]['gap']:+.2f}"
        return [f"the training judge and the watch judge diverge: their difference went {change}"]
    return []
