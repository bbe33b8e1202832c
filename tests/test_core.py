"""Scores, ids, conversations: the arithmetic and the edges everything else stands on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from traitrl.core import (
    Check,
    Criterion,
    Grade,
    Message,
    Record,
    Rubric,
    Scenario,
    StandardPrompt,
    Verdict,
    check_id,
    first_complaint,
    grade_from_verdicts,
    nearest,
    score_verdicts,
    ungraded,
)


def rubric(*points: int) -> Rubric:
    return Rubric(criteria=tuple(Criterion(id=f"c{i}", text="do it", points=p) for i, p in enumerate(points)))


def verdicts(*met: bool) -> list[Verdict]:
    return [Verdict(criterion_id=f"c{i}", met=m) for i, m in enumerate(met)]


@pytest.mark.parametrize(
    ("points", "met", "score"),
    [
        ((5, 3, -4), (True, True, False), 1.0),
        ((5, 3, -4), (False, False, False), 0.0),
        ((5, 3, -4), (False, False, True), 0.0),  # only a fault: clipped, not negative
        ((5, 3, -4), (True, False, True), 1 / 8),
        ((5, 3, -4), (True, False, False), 5 / 8),
        ((10, -10), (True, True), 0.0),
    ],
)
def test_hand_cases_of_the_healthbench_formula(points: tuple, met: tuple, score: float) -> None:
    assert score_verdicts(rubric(*points), verdicts(*met)) == pytest.approx(score)


NONZERO = st.integers(-10, 10).filter(bool)


@given(
    st.lists(st.tuples(NONZERO, st.booleans()), min_size=1, max_size=8).filter(lambda rows: any(p > 0 for p, _ in rows))
)
def test_score_is_bounded_and_moves_the_right_way(rows: list[tuple[int, bool]]) -> None:
    points, met = [p for p, _ in rows], [m for _, m in rows]
    score = score_verdicts(rubric(*points), verdicts(*met))
    assert 0.0 <= score <= 1.0
    for index, (value, was_met) in enumerate(rows):
        if not was_met:
            flipped = score_verdicts(rubric(*points), verdicts(*[m or i == index for i, m in enumerate(met)]))
            assert flipped >= score if value > 0 else flipped <= score


def test_verdicts_must_match_the_criteria_one_for_one() -> None:
    for wrong in (verdicts(True), [*verdicts(True, True), *verdicts(True)], []):
        with pytest.raises(ValueError, match="one for one"):
            score_verdicts(rubric(5, -3), wrong)


def test_rubrics_refuse_what_cannot_be_scored() -> None:
    with pytest.raises(ValidationError, match="positive"):
        rubric(-3)
    with pytest.raises(ValidationError, match="not be 0"):
        rubric(0)
    with pytest.raises(ValidationError, match="distinct"):
        Rubric(criteria=(rubric(1).criteria[0], rubric(2).criteria[0]))


def test_a_grade_is_either_a_score_or_a_reason() -> None:
    assert grade_from_verdicts(rubric(2), verdicts(True)).score == 1.0
    assert ungraded("judge timed out").score is None
    for fields in ({}, {"score": 0.0, "ungraded_reason": "both"}):
        with pytest.raises(ValidationError):
            Grade(**fields)
    common = {"experiment": "e", "arm": "a", "seed": 0, "step": 0, "checkpoint": "c", "suite_id": "s", "family": "f"}
    with pytest.raises(ValidationError):
        Record(**common, item_id="i", cluster="c", split="ood", judge="j")


@given(st.text(max_size=40))
def test_ids_never_escape_a_folder(text: str) -> None:
    try:
        kept = check_id(text)
    except ValueError:
        return
    assert "/" not in kept and "\\" not in kept and ".." not in kept and kept


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "a\\b", "A", "x" * 121, ".hidden", "a..b", "con\n"])
def test_ids_refuse(bad: str) -> None:
    with pytest.raises(ValueError, match="id"):
        check_id(bad)


def test_nearest_name_is_suggested() -> None:
    assert "'truthfulness'" in nearest("truthfullness", ["truthfulness", "corrigibility"])
    assert "valid: a, b" in nearest("zzzzzz", ["b", "a"])


def test_checks_need_their_argument() -> None:
    for fields in ({"kind": "contains"}, {"kind": "at_most_words", "values": ("x",)}, {"kind": "equals", "limit": 3}):
        with pytest.raises(ValidationError, match="takes"):
            Check(**fields)


@pytest.mark.parametrize(
    "roles", [["assistant"], ["user", "user"], ["user", "assistant"], ["system"], ["user", "system", "user"]]
)
def test_conversations_end_with_the_user(roles: list[str]) -> None:
    messages = tuple(Message(role=role, content="x") for role in roles)
    with pytest.raises(ValidationError, match="alternate"):
        Scenario(
            id="s", trait="t", domain="d", pressures=("p",), messages=messages, rubric=rubric(1).criteria, split="train"
        )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"role": "user", "contents": "x"}, "key 'content' is missing"),
        ({"role": "user", "content": "x", "contents": "y"}, "unknown key 'contents'; did you mean 'content'?"),
        ({"role": "users", "content": "x"}, "'role': input should be 'system', 'user' or 'assistant', got 'users'"),
        ({"role": "user", "content": ["x"]}, "'content': input should be a valid string"),
    ],
)
def test_a_complaint_is_one_line_with_the_key_and_what_to_do(data: dict, said: str) -> None:
    with pytest.raises(ValidationError) as found:
        Message.model_validate(data)
    assert first_complaint(found.value, Message) == said


def test_a_complaint_about_the_inside_names_the_path_and_the_valid_key_there() -> None:
    row = {"id": "a", "kind": "k", "messages": [{"role": "user", "content": "x", "contnet": 1}], "rubric": []}
    with pytest.raises(ValidationError) as found:
        StandardPrompt.model_validate(row)
    assert first_complaint(found.value, StandardPrompt).startswith(
        "unknown key 'messages.0.contnet'; did you mean 'content'?"
    )
