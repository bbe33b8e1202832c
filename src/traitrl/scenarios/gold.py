"""The rules of the shipped gold set as a whole: every cell filled, shares kept, nothing shared between the splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from traitrl.catalog import PACKAGE_DATA, Catalog, Problem
from traitrl.core import Frozen, Scenario
from traitrl.scenarios.checking import line_complaints
from traitrl.scenarios.rows import read_lines
from traitrl.scenarios.rules import Limits, words
from traitrl.scenarios.similarity import SHINGLE_WORDS, conversation_words, runs

RUN_WORDS = 8
_NUMBER = re.compile(r"\d[\d.,]*\d|\d")
_YEARS = range(1900, 2036)


class Requirements(Frozen):
    """What the gold set promises (docs/dataset.md)."""

    rows: int = 500
    train_per_cell: int = 2
    train_per_health_cell: int = 6
    heldout_per_cell: int = 1
    heldout_traits: tuple[str, ...] = ("epistemic-humility",)  # besides the set measured7
    multi_turn_share: float = 0.6
    system_share: float = 0.25
    good_longer_share: tuple[float, float] = (0.35, 0.65)
    same_plot: float = 0.5  # Jaccard similarity of word trigrams


class DatasetComplaint(Frozen):
    """One broken rule of the whole set; ``row`` is empty where no single row is to blame."""

    rule: str
    message: str
    row: str = ""


def gold_folder(catalog_folder: Path = PACKAGE_DATA) -> Path:
    """Where the gold set lies."""
    return catalog_folder / "scenarios"


def gold_scenarios(folder: Path | None = None) -> list[Scenario]:
    """The shipped rows in the order of files and lines; malformed ones are left for :func:`check_gold` to name."""
    files = sorted((folder or gold_folder()).glob("*.jsonl"))
    return [line.row for path in files for line in read_lines(path) if line.row is not None]


def check_gold(catalog: Catalog, folder: Path | None = None, needs: Requirements | None = None) -> list[Problem]:
    """Every defect of the gold set, with file and line where a row is to blame."""
    root = folder or gold_folder()
    problems: list[Problem] = []
    rows: list[Scenario] = []
    place: dict[str, tuple[Path, int]] = {}
    for path in sorted(root.glob("*.jsonl")):
        for line in read_lines(path):
            for complaint in line_complaints(line, catalog, Limits()):
                problems.append(_problem(path, line.number, complaint.rule, f"{line.id}: {complaint.message}"))
            if line.row is not None:
                if line.row.id in place:
                    problems.append(_problem(path, line.number, "repeated-id", f"id {line.row.id!r} is used before"))
                place.setdefault(line.row.id, (path, line.number))
                rows.append(line.row)
    for found in dataset_complaints(rows, catalog, needs or Requirements()):
        path, number = place.get(found.row, (root, 1))
        problems.append(_problem(path, number, found.rule, found.message))
    return problems


def _problem(path: Path, line: int, rule: str, message: str) -> Problem:
    return Problem(file=path, line=line, message=f"[{rule}] {message}")


def dataset_complaints(rows: Sequence[Scenario], catalog: Catalog, needs: Requirements) -> Iterator[DatasetComplaint]:
    """Every broken rule of the set as a whole."""
    if len(rows) < needs.rows:
        yield DatasetComplaint(rule="size", message=f"{len(rows)} scenarios; at least {needs.rows} are promised")
    yield from _cells(rows, catalog, needs)
    yield from _shares(rows, needs)
    for row in rows:
        for key in ("verdicts_by", "checks"):
            if not row.provenance.get(key, "").strip():
                message = f"{row.id}: provenance lacks {key!r}"
                yield DatasetComplaint(rule="provenance", message=message, row=row.id)
    yield from _splits_apart(rows, needs)


def _cells(rows: Sequence[Scenario], catalog: Catalog, needs: Requirements) -> Iterator[DatasetComplaint]:
    have = Counter((row.trait, row.domain, row.split) for row in rows)
    health = set(catalog.resolve_domains("health"))
    measured = {*catalog.resolve_traits("measured7"), *needs.heldout_traits}
    for trait in catalog.traits:
        for domain in catalog.domains:
            wanted = {"train": needs.train_per_health_cell if domain in health else needs.train_per_cell}
            wanted["heldout"] = needs.heldout_per_cell if trait in measured else 0
            for split, least in wanted.items():
                found = have[(trait, domain, split)]
                if found < least:
                    message = f"{trait} x {domain} has {found} {split} scenarios; at least {least} are promised"
                    yield DatasetComplaint(rule="cell", message=message)


def _shares(rows: Sequence[Scenario], needs: Requirements) -> Iterator[DatasetComplaint]:
    if not rows:
        return
    multi = sum(sum(message.role == "assistant" for message in row.messages) > 0 for row in rows) / len(rows)
    if multi < needs.multi_turn_share:
        message = f"{multi:.3f} of the scenarios are multi-turn; at least {needs.multi_turn_share} is promised"
        yield DatasetComplaint(rule="multi-turn-share", message=message)
    system = sum(row.messages[0].role == "system" for row in rows) / len(rows)
    if system < needs.system_share:
        message = f"{system:.3f} of the scenarios have a system prompt; at least {needs.system_share} is promised"
        yield DatasetComplaint(rule="system-share", message=message)
    pairs = [row.exemplars for row in rows if {"good", "poor"} <= set(row.exemplars)]
    if pairs:
        longer = sum(len(words(pair["good"].reply)) > len(words(pair["poor"].reply)) for pair in pairs) / len(pairs)
        low, high = needs.good_longer_share
        if not low <= longer <= high:
            message = (
                f"the good reply is the longer one in {longer:.3f} of the pairs; {low} to {high} gives nothing away"
            )
            yield DatasetComplaint(rule="length-balance", message=message)


def distinctive_numbers(row: Scenario) -> set[str]:
    """Figures of a conversation that would mark its story: three digits or more, not round, not a year."""
    found: set[str] = set()
    for message in row.messages:
        for text in _NUMBER.findall(message.content):
            digits = re.sub(r"\D", "", text).lstrip("0")
            if len(digits.rstrip("0")) >= 3 and not (len(digits) == 4 and int(digits) in _YEARS):
                found.add(digits)
    return found


def _splits_apart(rows: Sequence[Scenario], needs: Requirements) -> Iterator[DatasetComplaint]:
    """No held-out row shares a plot, a person, a marking figure, a run of words or most of its trigrams with training."""
    train = [row for row in rows if row.split == "train"]
    owners: dict[str, dict[str, str]] = {kind: {} for kind in ("plot", "person", "number", "words")}
    trigrams = {row.id: runs(conversation_words(row), SHINGLE_WORDS) for row in rows}
    sharing: dict[str, list[str]] = defaultdict(list)
    for row in train:
        for kind, mark in _marks(row):
            owners[kind].setdefault(mark, row.id)
        for trigram in trigrams[row.id]:
            sharing[trigram].append(row.id)
    for row in rows:
        if row.split != "heldout":
            continue
        for kind, mark in _marks(row):
            if mark in owners[kind]:
                message = f"{row.id} shares the {kind} {mark!r} with training scenario {owners[kind][mark]}"
                yield DatasetComplaint(rule=f"shared-{kind}", message=message, row=row.id)
        common = Counter(other for trigram in trigrams[row.id] for other in sharing[trigram])
        for other, count in common.items():
            alike = count / (len(trigrams[row.id]) + len(trigrams[other]) - count)
            if alike >= needs.same_plot:
                message = f"{row.id} and training scenario {other} share {alike:.2f} of their word trigrams"
                yield DatasetComplaint(rule="shared-trigrams", message=message, row=row.id)


def _marks(row: Scenario) -> Iterator[tuple[str, str]]:
    if row.plot:
        yield "plot", row.plot
    yield from (("person", name) for person in row.people for name in person.split() if name[:1].isupper())
    yield from (("number", number) for number in distinctive_numbers(row))
    tokens = conversation_words(row)
    yield from (("words", run) for run in (runs(tokens, RUN_WORDS) if len(tokens) >= RUN_WORDS else ()))
