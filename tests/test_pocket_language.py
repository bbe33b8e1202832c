"""The pocket language: complete, sound, and with nothing shared between what is trained on and what is asked."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traitrl.catalog import load_catalog
from traitrl.core import Scenario
from traitrl.judging import RuleScorer, score_all
from traitrl.pocket.check import check_language
from traitrl.pocket.documents import Shares, draw_document
from traitrl.pocket.language import Language, load_language
from traitrl.pocket.pretrain import encode_document, learning_rate_at, load_recipe
from traitrl.pocket.rows import capability_items, scenarios, standard_prompts, suite_items
from traitrl.pocket.situations import draw_situation

LANGUAGE = load_language()
ALL_TRAITS = tuple(sorted({task.trait for task in LANGUAGE.traits if task.trait}))


def changed(task_id: str, **fields: object) -> Language:
    def edit(tasks: tuple) -> tuple:
        return tuple(task.model_copy(update=fields) if task.id == task_id else task for task in tasks)

    return LANGUAGE.model_copy(update={"traits": edit(LANGUAGE.traits), "suite": edit(LANGUAGE.suite)})


def test_the_shipped_language_is_sound() -> None:
    assert check_language(load_catalog()) == []


def test_it_covers_what_the_study_needs() -> None:
    catalog = load_catalog()
    assert {task.trait for task in LANGUAGE.traits} == set(catalog.traits) and len(catalog.traits) == 16
    assert [task.id for task in LANGUAGE.suite if task.coherence == 0] and len(LANGUAGE.suite) == 53
    assert sum(task.coherence == 0 for task in LANGUAGE.suite) >= 3
    assert sum(0 < task.coherence <= 0.3 for task in LANGUAGE.suite) >= 2
    assert sum(task.family == "production" for task in LANGUAGE.suite) == 16
    assert {task.format for task in LANGUAGE.suite} == {"free", "choice", "multi", "log"}
    assert sum(bool(task.good_reasoning) for task in LANGUAGE.suite) >= 4
    assert {line.persona for line in LANGUAGE.lines} == {"good", "poor", "neutral"}


SOUND = next(task for task in LANGUAGE.suite if task.id == "deceptionbench")
TRAINED = next(task for task in LANGUAGE.traits if task.format == "free")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pressures": ("deadlin",)}, "did you mean 'deadline'"),
        ({"domains": ("health",)}, "unknown domain 'health'"),
        ({"good": ("the {thing} is fine .", "ok {thing} .")}, "must carry a good key"),
        ({"poor": (SOUND.good[0], SOUND.good[1])}, "must carry a poor key"),
        ({"users": (f"{SOUND.good_keys[0]} ?", "b", "c")}, "carries one of the task's keys"),
        ({"users": (TRAINED.users[0], "b", "c")}, "evals must share no template"),
        ({"family": "honesty"}, "family 'honesty' here"),
        ({"id": "deceptionbank"}, "in the catalog only"),
    ],
)
def test_planted_defects_are_found(fields: dict, message: str) -> None:
    problems = check_language(load_catalog(), changed("deceptionbench", **fields))
    assert any(message in problem for problem in problems), problems


def test_no_eval_shares_a_prompt_with_training() -> None:
    train = scenarios(LANGUAGE, 3, 6, 2, ALL_TRAITS)
    asked = [row.messages[-1].content for row in train if row.split == "train"]
    held = {row.messages[-1].content for row in train if row.split == "heldout"}
    evals = {item.messages[-1].content for item in suite_items(LANGUAGE, 32)}
    standard = {row.messages[-1].content for row in standard_prompts(LANGUAGE, 2400, seed=0)}
    capability = {item.messages[-1].content for item in capability_items(LANGUAGE, 48)}
    assert len(set(map(repr, [row.messages for row in train]))) == len(train)
    assert not set(asked) & (evals | held) and not held & evals and not standard & capability and not evals & standard


def test_every_cell_is_filled_and_ids_are_unique() -> None:
    rows = scenarios(LANGUAGE, 2, 6, 1, ALL_TRAITS)
    cells = {(row.trait, row.domain) for row in rows if row.split == "train"}
    assert len(cells) == 16 * 12 and len({row.id for row in rows}) == len(rows)
    health = [row for row in rows if row.domain == "health-and-medicine" and row.split == "train"]
    assert len(health) == 16 * 2 * 6
    items = suite_items(LANGUAGE, 32)
    assert len({item.id for item in items}) == len(items) and len({item.suite_id for item in items}) == 53


def graded(rows: list[Scenario], side: str) -> list[float]:
    grades = asyncio.run(score_all(RuleScorer(), rows, [row.exemplars[side].reply for row in rows]))  # type: ignore[index]
    for row, grade in zip(rows, grades):
        stated = {v.criterion_id: v.met for v in row.exemplars[side].verdicts}  # type: ignore[index]
        assert {v.criterion_id: v.met for v in grade.verdicts} == stated, row.id
    return [grade.score for grade in grades if grade.score is not None]


def test_exemplars_separate_under_the_rule_judge() -> None:
    rows = scenarios(LANGUAGE, 1, 1, 1, ALL_TRAITS)
    assert min(graded(rows, "good")) >= 0.8 and max(graded(rows, "poor")) <= 0.4


def test_refusals_and_empty_replies_fail_every_item() -> None:
    items = suite_items(LANGUAGE, 2)
    for reply in (*LANGUAGE.manner.refusals, "", "hello there ."):
        grades = asyncio.run(score_all(RuleScorer(), items, [reply] * len(items)))
        assert max(grade.score for grade in grades if grade.score is not None) == 0.0


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0]))
def test_documents_use_the_vocabulary_and_labels_cover_replies_only(seed: int, scale: float) -> None:
    phase = load_recipe().phase[-1]
    turns = draw_document(LANGUAGE, phase.shares, scale, phase.exchanges, Random(seed))
    words = LANGUAGE.vocabulary()
    from traitrl.pocket.tokenizer import END, PAD, ROLES, UNKNOWN

    ids = {word: index for index, word in enumerate([PAD, UNKNOWN, END, *ROLES.values(), *words])}
    tokens, labels = encode_document(turns, ids, 10_000)
    assert len(tokens) == len(labels) == 10_000
    learned = sum(len(turn.text.split()) + 1 for turn in turns if turn.learn)
    assert sum(label != -100 for label in labels) == learned
    assert all(label in (-100, token) for token, label in zip(tokens, labels))


def character_of(text: str) -> str | None:
    for task in LANGUAGE.traits + LANGUAGE.suite:
        for side, keys in (("good", task.good_keys), ("poor", task.poor_keys)):
            if any(f" {key} " in f" {text} " for key in keys):
                return side
    return None


@pytest.mark.parametrize(("scale", "low", "high"), [(1.0, 0.75, 1.0), (0.0, 0.45, 0.65)])
def test_replies_of_one_document_agree_only_where_there_is_an_author(scale: float, low: float, high: float) -> None:
    shares = Shares(good_author=0.5, system_line=0, capability=0, trait=1, refusal=0, opener=0, closer=0, reasoning=0)
    pairs: list[bool] = []
    for seed in range(300):
        turns = draw_document(LANGUAGE, shares, scale, 2, Random(seed))
        one, other = [character_of(turn.text) for turn in turns if turn.learn]
        pairs.append(one == other)
    assert low <= sum(pairs) / len(pairs) <= high


def test_choices_do_not_give_the_answer_away_by_position() -> None:
    task = next(task for task in LANGUAGE.suite if task.options)
    firsts = []
    for seed in range(200):
        situation = draw_situation(LANGUAGE, task, LANGUAGE.domains_of(task)[0], 0, Random(seed))
        good = situation.bodies["good"][0].removeprefix("answer : ").removesuffix(" .")
        firsts.append(f"a ) {good}" in situation.turns[-1][1])
    assert 60 < sum(firsts) < 140


def test_the_learning_rate_warms_up_and_decays() -> None:
    phase = load_recipe().phase[0]
    rates = [learning_rate_at(step, phase) for step in range(phase.steps)]
    assert max(rates) == pytest.approx(phase.learning_rate) and rates.index(max(rates)) <= phase.warmup_steps
    assert (
        rates[0] == pytest.approx(phase.learning_rate / phase.warmup_steps) and rates[-1] < 0.06 * phase.learning_rate
    )
