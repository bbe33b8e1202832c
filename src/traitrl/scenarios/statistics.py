"""What a dataset holds, counted: cells, pressures, turns, lengths, reading level, rubrics, exemplars, second readings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from statistics import mean, median, quantiles

from pydantic import Field

from traitrl.core import Frozen, Scenario, score_verdicts
from traitrl.scenarios.rules import words

_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
_VOWELS = re.compile(r"[aeiouyáéíóúàèäëïöüâêîôûåæø]+")


class Spread(Frozen):
    """Five numbers of a distribution."""

    least: float
    quarter: float
    middle: float
    three_quarters: float
    most: float


class DatasetStats(Frozen):
    """Counts over one dataset. ``cells`` maps ``trait|domain|split`` to rows; shares are fractions of all rows."""

    rows: int
    train: int
    heldout: int
    cells: dict[str, int]
    pressures: dict[str, int]
    messages: dict[str, int]
    multi_turn_share: float
    system_share: float
    conversation_words: Spread
    reading_grade: Spread
    criteria: dict[str, int]
    negative_criteria_share: float
    good_words: Spread
    poor_words: Spread
    good_longer_share: float = Field(description="rows whose good reply is the longer one; .5 gives nothing away")
    good_score: Spread
    poor_score: Spread
    verdicts: int
    second_read: int = Field(description="rows with verdicts of a second reading")
    criteria_disagreed: int = Field(
        description="verdicts in which the second reading differed from the writer's intent"
    )
    verdicts_compared: int
    people: int


def dataset_stats(rows: Sequence[Scenario]) -> DatasetStats:
    """All counts; raises ``ValueError`` for an empty dataset."""
    if not rows:
        raise ValueError("no scenarios to count")
    good = [len(words(row.exemplars["good"].reply)) for row in rows if "good" in row.exemplars]
    poor = [len(words(row.exemplars["poor"].reply)) for row in rows if "poor" in row.exemplars]
    pairs = [row for row in rows if {"good", "poor"} <= set(row.exemplars)]
    longer = [len(words(row.exemplars["good"].reply)) > len(words(row.exemplars["poor"].reply)) for row in pairs]
    criteria = [criterion for row in rows for criterion in row.rubric]
    read = [row for row in rows if "verdicts_by" in row.provenance]
    return DatasetStats(
        rows=len(rows),
        train=sum(row.split == "train" for row in rows),
        heldout=sum(row.split == "heldout" for row in rows),
        cells=dict(sorted(Counter(f"{row.trait}|{row.domain}|{row.split}" for row in rows).items())),
        pressures=dict(sorted(Counter(name for row in rows for name in row.pressures).items())),
        messages=dict(sorted(Counter(str(len(_turns(row))) for row in rows).items())),
        multi_turn_share=mean(len(_turns(row)) > 1 for row in rows),
        system_share=mean(row.messages[0].role == "system" for row in rows),
        conversation_words=_spread([sum(len(words(each.content)) for each in row.messages) for row in rows]),
        reading_grade=_spread([reading_grade(" ".join(each.content for each in _turns(row))) for row in rows]),
        criteria=dict(sorted(Counter(str(len(row.rubric)) for row in rows).items())),
        negative_criteria_share=mean(criterion.points < 0 for criterion in criteria),
        good_words=_spread(good),
        poor_words=_spread(poor),
        good_longer_share=mean(longer) if longer else 0.0,
        good_score=_spread(_scores(rows, "good")),
        poor_score=_spread(_scores(rows, "poor")),
        verdicts=sum(len(exemplar.verdicts) for row in rows for exemplar in row.exemplars.values()),
        second_read=len(read),
        criteria_disagreed=sum(int(row.provenance.get("verdicts_disagreed", "0")) for row in read),
        verdicts_compared=sum(int(row.provenance.get("verdicts_compared", "0")) for row in read),
        people=len({person for row in rows for person in row.people}),
    )


def reading_grade(text: str) -> float:
    """Flesch-Kincaid grade level (Kincaid et al. 1975): 0.39 words/sentence + 11.8 syllables/word - 15.59.

    Syllables are counted as groups of vowels without a silent final e: a rough measure, for comparison only.
    """
    tokens = words(text)
    if not tokens:
        return 0.0
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    syllables = sum(max(1, len(_VOWELS.findall(word)) - (word.endswith("e") and len(word) > 3)) for word in tokens)
    return 0.39 * len(tokens) / sentences + 11.8 * syllables / len(tokens) - 15.59


def _turns(row: Scenario) -> list:  # type: ignore[type-arg]
    return [message for message in row.messages if message.role != "system"]


def _scores(rows: Sequence[Scenario], name: str) -> list[float]:
    found = [(row, row.exemplars.get(name)) for row in rows]  # type: ignore[arg-type]
    return [
        score_verdicts(row.as_rubric(), exemplar.verdicts) for row, exemplar in found if exemplar and exemplar.verdicts
    ]


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(least=0, quarter=0, middle=0, three_quarters=0, most=0)
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Spread(least=min(values), quarter=low, middle=median(values), three_quarters=high, most=max(values))
