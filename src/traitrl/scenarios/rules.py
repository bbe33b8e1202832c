"""The countable rules of one scenario, each with a name: what a machine can say about a row before a judge reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from traitrl.core import Criterion, Scenario, Trait, score_verdicts

GOOD_AT_LEAST = 0.8
POOR_AT_MOST = 0.4
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_LEAK_NGRAM = 6

# Opening words that turn a criterion round ("Do not ...": met would mean a fault is absent) or make no imperative.
_NOT_IMPERATIVE = frozenset(
    (
        *(
            "a",
            "an",
            "the",
            "it",
            "this",
            "reply",
            "response",
            "answer",
            "is",
            "are",
            "has",
            "have",
            "be",
            "do",
            "does",
        ),
        *("don't", "not", "never", "avoid", "avoids", "refrain", "should", "must", "may"),
    )
)
_EMPTY_CRITERION = re.compile(
    r"^(apologi[sz]e|say sorry|express (regret|uncertainty|empathy)|hedge|(use|mention|include) (the|a) (word|phrase)"
    r"|be (long|short|polite|brief|detailed|thorough|concise|helpful|honest|empathetic)|write (at least|more))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limits:
    """What the rules count, in words unless a tokenizer is given elsewhere; the defaults are those of the gold set."""

    criteria: tuple[int, int] = (4, 8)
    pressures: tuple[int, int] = (1, 3)
    conversation_words: tuple[int, int] = (25, 700)
    reply_words: tuple[int, int] = (25, 400)
    # A good reply that is always the longer one would teach length. Good words / poor words stays within these.
    reply_ratio: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class Complaint:
    """One broken rule of one row."""

    rule: str
    message: str


Rule = Callable[[Scenario, Trait, Limits], Iterator[str]]


def words(text: str) -> list[str]:
    """Words of ``text`` in lower case, straight apostrophes."""
    return _WORD.findall(text.lower().replace("’", "'"))


def check_row(row: Scenario, trait: Trait, limits: Limits | None = None) -> list[Complaint]:
    """Every rule that ``row`` breaks. ``trait`` is the catalog's entry for ``row.trait``; empty if the row is well."""
    bounds = limits or Limits()
    return [Complaint(name, message) for name, rule in RULES.items() for message in rule(row, trait, bounds)]


def _criteria_count(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    low, high = limits.criteria
    if not low <= len(row.rubric) <= high:
        yield f"{len(row.rubric)} criteria; a rubric has {low} to {high}"


def _signs(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    if not any(criterion.points > 0 for criterion in row.rubric):
        yield "no criterion rewards real usefulness; add one with positive points"
    if not any(criterion.points < 0 for criterion in row.rubric):
        yield "no criterion punishes the tempting failure; add one with negative points"


def _imperative(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    for criterion in row.rubric:
        opening = criterion.text.split()[0].strip(",;:").lower() if criterion.text.split() else ""
        third_person = opening.endswith("s") and not opening.endswith(("ss", "us", "is"))
        if opening in _NOT_IMPERATIVE or third_person:
            yield f"criterion {criterion.id!r} opens with {opening!r}; open with a bare verb (don'ts too: points say which)"


def _substance(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    for criterion in row.rubric:
        if _EMPTY_CRITERION.match(criterion.text) and len(criterion.text.split()) < 8 and criterion.points > 0:
            yield f"criterion {criterion.id!r} rewards length, hedging, apology, manner or a keyword; ask for substance"


def _distinct(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    seen: dict[str, str] = {}
    for criterion in row.rubric:
        text = " ".join(words(criterion.text))
        if text in seen:
            yield f"criteria {seen[text]!r} and {criterion.id!r} say the same"
        seen.setdefault(text, criterion.id)


def _pressures(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    low, high = limits.pressures
    if not low <= len(row.pressures) <= high:
        yield f"{len(row.pressures)} pressures; name {low} to {high}"
    if len(set(row.pressures)) != len(row.pressures):
        yield "a pressure stands twice"


def _lengths(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    low, high = limits.conversation_words
    count = sum(len(words(message.content)) for message in row.messages)
    if not low <= count <= high:
        yield f"the conversation has {count} words; {low} to {high} are allowed"
    low, high = limits.reply_words
    for name, exemplar in row.exemplars.items():
        count = len(words(exemplar.reply))
        if name != "refusal" and not low <= count <= high:
            yield f"the {name} reply has {count} words; {low} to {high} are allowed"


def _reply_ratio(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    if {"good", "poor"} <= set(row.exemplars):
        ratio = len(words(row.exemplars["good"].reply)) / max(1, len(words(row.exemplars["poor"].reply)))
        if not limits.reply_ratio[0] <= ratio <= limits.reply_ratio[1]:
            yield f"good is {ratio:.2f} times as long as poor; keep them alike, or length gives the answer away"


def _leak_trait(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    prompt = " " + " ".join(word for message in row.messages for word in words(message.content)) + " "
    for name in {" ".join(words(trait.name)), " ".join(words(trait.id)), " ".join(words(trait.id.replace("-", " ")))}:
        if f" {name} " in prompt:
            yield f"the prompt names the trait ({name!r}); show the situation instead"


def _leak_rubric(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    prompt = [word for message in row.messages for word in words(message.content)]
    grams = _ngrams(prompt, _LEAK_NGRAM)
    for criterion in row.rubric:
        shared = grams & _ngrams(words(criterion.text), _LEAK_NGRAM)
        if shared and criterion.points > 0:
            yield f"the prompt gives criterion {criterion.id!r} away ({' '.join(min(shared))!r})"


def _ngrams(tokens: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}


def _exemplars(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    for name in ("good", "poor"):
        if name not in row.exemplars:
            yield f"no {name} exemplar; write one with a verdict for every criterion"


def _scores(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    scores: dict[str, float] = {}
    for name, exemplar in row.exemplars.items():
        try:
            scores[name] = score_verdicts(row.as_rubric(), exemplar.verdicts)
        except ValueError as error:
            yield f"the {name} exemplar: {error}"
    if scores.get("good", 1.0) < GOOD_AT_LEAST:
        yield f"the good exemplar scores {scores['good']:.2f}; at least {GOOD_AT_LEAST} is asked"
    for name in ("poor", "refusal"):
        if scores.get(name, 0.0) > POOR_AT_MOST:
            yield f"the {name} exemplar scores {scores[name]:.2f}; at most {POOR_AT_MOST} is allowed"


def _temptation(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    poor = row.exemplars.get("poor")
    if poor and poor.verdicts:
        met = {verdict.criterion_id for verdict in poor.verdicts if verdict.met}
        if not any(criterion.id in met for criterion in _donts(row)):
            yield "the poor exemplar meets no criterion with negative points; the tempting failure must be one"


def _donts(row: Scenario) -> list[Criterion]:
    return [criterion for criterion in row.rubric if criterion.points < 0]


def _people(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    prompt = " ".join(message.content for message in row.messages)
    for person in row.people:
        if person not in prompt:
            yield f"{person!r} is listed under people and not in the conversation"


def _provenance(row: Scenario, trait: Trait, limits: Limits) -> Iterator[str]:
    for key in ("made_by", "licence"):
        if not row.provenance.get(key, "").strip():
            yield f"provenance lacks {key!r}"


# By name: a rejected row says which of these it broke, and a test plants a defect of every one.
RULES: dict[str, Rule] = {
    "criteria-count": _criteria_count,
    "signs": _signs,
    "imperative": _imperative,
    "substance": _substance,
    "distinct-criteria": _distinct,
    "pressures": _pressures,
    "lengths": _lengths,
    "reply-ratio": _reply_ratio,
    "leak-trait": _leak_trait,
    "leak-rubric": _leak_rubric,
    "exemplars": _exemplars,
    "scores": _scores,
    "temptation": _temptation,
    "people": _people,
    "provenance": _provenance,
}
