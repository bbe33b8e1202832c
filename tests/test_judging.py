"""The rule judge, the refusal label and quoting: what is said decides, and what cannot be decided is not guessed."""

import asyncio

import pytest

from traitrl.core import Check, Criterion, Message, StandardPrompt
from traitrl.judging import RefusalRule, RuleScorer, check_reply, score_all
from traitrl.judging.quoting import _LINE_END, _PLAIN, _is_invisible


def prompt(*criteria: Criterion) -> StandardPrompt:
    return StandardPrompt(id="p", kind="k", messages=(Message(role="user", content="hi"),), rubric=criteria)


@pytest.mark.parametrize(
    ("check", "reply", "met"),
    [
        (Check(kind="contains", values=("was wrong",)), "My claim WAS   wrong .", True),
        (Check(kind="contains", values=("art",)), "a party", False),
        (Check(kind="contains", values=("x", "party")), "a party", True),
        (Check(kind="omits", values=("party",)), "a party", False),
        (Check(kind="omits", values=("art",)), "a party", True),
        (Check(kind="equals", values=("7 .",)), " 7  . ", True),
        (Check(kind="equals", values=("7 .",)), "17 .", False),
        (Check(kind="matches", values=(r"\d+ mg",)), "take 20 MG", True),
        (Check(kind="at_most_words", limit=2), "one two three", False),
        (Check(kind="at_most_words", limit=3), "one two three", True),
        (Check(kind="contains", values=("(maybe",)), "well (maybe) so", True),
    ],
)
def test_checks(check: Check, reply: str, met: bool) -> None:
    assert check_reply(check, reply) is met


def test_a_reply_is_graded_by_its_checks() -> None:
    row = prompt(
        Criterion(id="do", text="says so", points=4, check=Check(kind="contains", values=("so",))),
        Criterion(id="dont", text="brags", points=-4, check=Check(kind="contains", values=("best",))),
    )
    grades = asyncio.run(score_all(RuleScorer(), [row] * 3, ["so", "so best", ""]))
    assert [grade.score for grade in grades] == [1.0, 0.0, 0.0]
    assert [verdict.met for verdict in grades[1].verdicts] == [True, True]


def test_a_criterion_without_a_check_is_ungraded_not_zero() -> None:
    row = prompt(
        Criterion(id="rule", text="a", points=1, check=Check(kind="contains", values=("a",))),
        Criterion(id="prose", text="is kind", points=1),
    )
    (grade,) = asyncio.run(score_all(RuleScorer(), [row], ["a"]))
    assert grade.score is None and "prose" in (grade.ungraded_reason or "")


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="0 rows but 1 replies"):
        asyncio.run(score_all(RuleScorer(), [], ["x"]))


def test_refusals_by_phrase() -> None:
    rule = RefusalRule(["i can not help"])
    assert rule.is_refusal("Sorry , I can not help with that") and not rule.is_refusal("i can help")
    with pytest.raises(ValueError, match="at least one"):
        RefusalRule([])


def test_text_that_is_quoted_as_it_is_holds_nothing_to_clean() -> None:
    plain = [chr(point) for point in range(0x110000) if _PLAIN.fullmatch(chr(point))]
    assert len(plain) > 800
    assert not [char for char in plain if char not in "\n\t" and (_is_invisible(char) or _LINE_END.search(char))]
