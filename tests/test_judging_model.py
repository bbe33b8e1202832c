"""The model judge: what it asks, what it makes of answers, how it fails, and that nothing is paid for twice or leaked."""

import asyncio
import json
import re
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from made_scenarios import made
from marker_judge import marked_rows, marker_judge
from traitrl.chat import Cached, ChatError, ChatReply, ChatRequest, Endpoint, OpenAICompatible, Schema, Scripted
from traitrl.core import CatalogError, Message, Rubric, Verdict, cause_of, ungraded
from traitrl.judging import (
    Ensemble,
    ModelScorer,
    PairJudge,
    judge_names,
    load_judge,
    refusal_label,
)
from traitrl.judging.answers import MalformedError, expected_score, final_object, met_probability, read_verdicts
from traitrl.judging.model import majority
from unruly_server import FAULTS, Unruly, serve

ROW = made()
COUNT = len(ROW.rubric)


def verdicts(*met: bool) -> str:
    return json.dumps({"verdicts": [{"criterion": n, "reason": f"r{n}", "met": each} for n, each in enumerate(met, 1)]})


def judge(script, name: str = "rubric", **changes: object) -> ModelScorer:
    folder = load_judge(name)
    folder = folder.model_copy(update={"settings": folder.settings.model_copy(update=changes)})
    return ModelScorer(folder, Scripted(script))


def grade(scorer, reply: str = "a reply"):
    return asyncio.run(scorer.score(ROW, reply))


def test_verdicts_become_a_grade_with_their_reasons() -> None:
    found = grade(judge(lambda _: verdicts(True, False, True, True)))
    assert found.score == pytest.approx((8 + 4 - 9) / 18)
    assert [(v.criterion_id, v.reason, v.met) for v in found.verdicts] == [
        ("gap", "r1", True), ("text", "r2", False), ("step", "r3", True), ("invents", "r4", True),
    ]  # fmt: skip


def test_the_question_names_neither_points_nor_ids_nor_where_the_reply_comes_from() -> None:
    asked: list[ChatRequest] = []
    grade(judge(lambda request: asked.append(request) or verdicts(True, True, True, False)))
    text = asked[0].messages[-1].content
    assert "1. State that the source was never found" in text and "| a reply" in text
    assert not any(word in text for word in ("+8", "(8)", "invents", "truthfulness", ROW.id, "poor", "train"))
    assert asked[0].schema is not None and asked[0].temperature == 0.0


def test_the_order_of_the_answer_does_not_matter_and_the_last_object_counts() -> None:
    data = json.loads(verdicts(True, True, True, False))
    data["verdicts"].reverse()
    first = json.dumps({"verdicts": [{"criterion": 1, "reason": "", "met": False}]})
    assert grade(judge(lambda _: f"The reply says {first}, but:\n```json\n{json.dumps(data)}\n```")).score == 1.0


ALL = verdicts(True, True, True, True)
MALFORMED = [
    *("", "no", "[]", "{}", '{"verdicts": 3}', verdicts(True), verdicts(*[True] * 5)),
    ALL.replace('"met": true', '"met": "yes"'),
    *(ALL.replace('"criterion": 2', f'"criterion": {other}') for other in ("1", "9", "true")),
    *("{" * 100_000, '{"a":' * 50_000),
]


@pytest.mark.parametrize("answer", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_answer_is_asked_again_twice_then_ungraded_with_its_text(answer: str) -> None:
    asked: list[int] = []
    scorer = judge(lambda request: asked.append(request.sample) or answer)
    found = grade(scorer)
    assert found.score is None and found.verdicts == ()
    assert cause_of(found) == "malformed" and answer[:40].encode("unicode_escape").decode()[:10] in (
        found.ungraded_reason or ""
    )
    assert asked == [0, 1, 2]  # other samples, so that a cache cannot give the same answer again
    assert scorer.ungraded == Counter({"malformed": 1}) and scorer.graded == 0


def test_a_second_try_may_succeed_and_a_cut_answer_is_no_answer() -> None:
    good = verdicts(True, True, True, False)
    answers = [ChatReply(text=good, finish="length"), ChatReply(text=good)]
    assert grade(judge(lambda _: answers.pop(0))).score == 1.0


def test_no_answer_is_ungraded_with_its_cause_and_never_a_zero() -> None:
    def fails(_: ChatRequest) -> str:
        raise ChatError("rate-limit", 6, "slow down")

    found = grade(judge(fails))
    assert found.score is None and found.ungraded_reason == "rate-limit: rate-limit after 6 tries: slow down"
    assert cause_of(grade(judge(lambda _: "x"), "  \n ")) == "empty-reply"


def test_one_call_per_criterion() -> None:
    asked: list[str] = []

    def script(request: ChatRequest) -> str:
        asked.append(request.messages[-1].content)
        return verdicts("never found" in request.messages[-1].content)

    found = grade(judge(script, "rubric-by-criterion"))
    assert len(asked) == COUNT and found.score == pytest.approx(8 / 18)
    assert all(text.count("\n1. ") == 1 and "\n2. " not in text for text in asked)


def test_samples_vote_and_a_tie_is_no_grade() -> None:
    answers = [
        verdicts(True, True, True, False),
        verdicts(True, False, True, True),
        verdicts(True, False, False, False),
    ]
    assert grade(judge(lambda request: answers[request.sample // 3], samples=3)).score == pytest.approx(12 / 18)
    found = grade(judge(lambda request: answers[request.sample // 3], samples=2))
    assert found.score is None and cause_of(found) == "tie"


def logprobs(chance: float) -> tuple[tuple[str, dict[str, float]], ...]:
    import math

    return (
        ("{", {"{": 0.0}),
        (" true", {" true": math.log(chance * 0.9), "false": math.log((1 - chance) * 0.9)}),
        ("}", {}),
    )


def test_a_score_by_the_probability_of_each_verdict() -> None:
    def script(request: ChatRequest) -> ChatReply:
        assert request.top_logprobs > 0
        return ChatReply(text=verdicts(True), logprobs=logprobs(0.75))

    found = grade(judge(script, "rubric-by-criterion", expected=True))
    assert found.score == pytest.approx(0.75 * (8 + 6 + 4 - 9) / 18)
    bare = grade(judge(lambda _: verdicts(True), "rubric-by-criterion", expected=True))
    assert bare.score is None and cause_of(bare) == "no-logprobs"
    assert met_probability(ChatReply(text="x", logprobs=(("hello", {}),))) is None
    assert (
        expected_score(Rubric(criteria=ROW.rubric), dict.fromkeys(("gap", "text", "step"), 1.0) | {"invents": 0.0})
        == 1.0
    )


def test_majority_keeps_a_reason_that_goes_with_the_verdict() -> None:
    samples = [[Verdict(criterion_id=c.id, reason=f"{n}", met=n > 0) for c in ROW.rubric] for n in range(3)]
    decided = majority(Rubric(criteria=ROW.rubric), samples)
    assert decided is not None and all(v.met and v.reason == "1" for v in decided)


class Fixed:
    def __init__(self, name: str, answer) -> None:
        self.name, self.answer = name, answer

    async def score(self, row, reply: str):
        from traitrl.core import grade_from_verdicts

        if self.answer is None:
            return ungraded("timeout: gone")
        met = [Verdict(criterion_id=c.id, met=c.id in self.answer) for c in row.rubric]
        return grade_from_verdicts(row.as_rubric(), met)


def test_an_ensemble_votes_and_says_who_was_silent() -> None:
    a, b, c = Fixed("a", {"gap", "text"}), Fixed("b", {"gap"}), Fixed("c", {"gap", "text", "invents"})
    found = grade(Ensemble([a, b, c]))
    assert {v.criterion_id for v in found.verdicts if v.met} == {"gap", "text"}
    silent = Fixed("s", None)
    assert grade(Ensemble([a, a, silent])).score is not None
    lost = grade(Ensemble([a, silent]))
    assert lost.score is None and "s timeout" in (lost.ungraded_reason or "")
    assert cause_of(grade(Ensemble([a, b, a, b]))) == "tie"
    assert Ensemble([a, b]).name == "a+b"


def pair(script) -> PairJudge:
    return PairJudge(load_judge("pairwise"), Scripted(script))


def test_a_preference_must_hold_in_both_orders() -> None:
    def honest(request: ChatRequest) -> str:
        text = request.messages[-1].content
        return json.dumps({"reason": "x", "better": 1 if text.index("| better one") < text.index("| worse one") else 2})

    for first, second, expected in (("better one", "worse one", "first"), ("worse one", "better one", "second")):
        assert asyncio.run(pair(honest).compare(ROW, first, second)).better == expected
    stuck = pair(lambda _: json.dumps({"reason": "", "better": 1}))
    assert asyncio.run(stuck.compare(ROW, "a", "b")).better == "order"
    even = pair(lambda _: json.dumps({"reason": "", "better": 0}))
    assert asyncio.run(even.compare(ROW, "a", "b")).better == "equal"
    asked: list[int] = []
    bad = asyncio.run(pair(lambda request: asked.append(request.sample) or '{"better": 7}').compare(ROW, "a", "b"))
    assert bad.better is None and bad.ungraded_reason == (
        """malformed: `better` is not 0, 1 or 2; asked 3 times, last answer: '{"better": 7}'"""
    )
    assert sorted(asked) == [0, 0, 1, 1, 2, 2]
    cut = pair(lambda _: ChatReply(text=json.dumps({"reason": "x" * 900, "better": 1}), finish="length"))
    reason = asyncio.run(cut.compare(ROW, "a", "b")).ungraded_reason or ""
    assert "cut at the token limit" in reason and 600 < len(reason) < 800


def test_refusal_labels() -> None:
    for helps, declines, label in (
        (True, False, "none"),
        (True, True, "partial"),
        (False, True, "refusal"),
        (False, False, "none"),
    ):
        found = grade(judge(lambda _, met=(helps, declines): verdicts(*met), "refusal"))
        assert refusal_label(found) == label
    assert refusal_label(ungraded("x")) is None


def test_every_shipped_judge_loads_and_has_its_own_digest() -> None:
    names = judge_names()
    assert {"rubric", "rubric-by-criterion", "helpfulness", "refusal", "monitor", "pairwise"} <= set(names)
    assert len({load_judge(name).digest for name in names}) == len(names)
    with pytest.raises(CatalogError, match="did you mean 'rubric'"):
        load_judge("rubrik")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("judge.toml", "title = 3", r"judge.toml: 'title': input should be a valid string, got 3"),
        ("judge.toml", 'title = "x"\nasks = "pairs"', r"judge.toml: 'asks': input should be .*, got 'pairs'"),
        (
            "judge.toml",
            'title = "x"\nexpected = true',
            r"judge.toml: expected = true needs asks = 'criterion'",
        ),
        ("judge.toml", 'title = "x"\nreads = "reasoning"', r"reads = 'reasoning' needs `marks`"),
        ("judge.toml", 'title = "x"\nmarks = ["a", "b"]', r"reads = 'reasoning' needs `marks`"),
        ("judge.toml", 'title = "x"\nreads = "reasoning"\nmarks = ["a", "a"]', r"two different texts"),
        ("judge.toml", 'title = "x"\nreads = "reasoning"\nmarks = ["", "a"]', r"two different texts"),
        (
            "judge.toml",
            'title = "x"\nasks = "pair"\nreads = "reasoning"\nmarks = ["a", "b"]',
            r"does not compare pairs",
        ),
        ("judge.toml", "title = ", r"not valid TOML"),
        ("user.md", "$converstion", r"user.md: unknown \$converstion"),
        ("user.md", "costs 5$ a piece", r"lone \$"),
    ],
)
def test_a_broken_judge_is_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = tmp_path / "judges" / "mine"
    folder.mkdir(parents=True)
    for name, content in {"judge.toml": 'title = "x"', "system.md": "s", "user.md": "$reply", file: text}.items():
        (folder / name).write_text(content)
    with pytest.raises(CatalogError, match=message):
        load_judge("mine", [tmp_path])


def endpoint(url: str, **changes: object) -> Endpoint:
    settings = {"model": "m", "base_url": url, "key_env": "", "timeout_seconds": 0.3, "backoff_seconds": 0.01}
    return Endpoint.model_validate({**settings, "max_attempts": 4, "deadline_seconds": 10, **changes})


def served(payload: dict) -> str:
    """The marker judge behind HTTP."""
    messages = tuple(Message(**message) for message in payload["messages"])
    return marker_judge()(ChatRequest(messages, seed=payload["seed"], schema=Schema("verdicts", {}))).text


WRONG = {"wrong-count": verdicts(True), "wrong-ids": verdicts(*[True] * 6).replace('"criterion": 3', '"criterion": 77')}


@pytest.mark.slow
def test_against_a_failing_server_every_reply_ends_graded_or_ungraded(tmp_path: Path) -> None:
    """A fifth of the rows fail at first in every way there is, some more are answered wrongly; two fail for good.

    What goes wrong depends on the row and on the try, and not on who happens to come when: no row has bad luck for long.
    """
    rows = marked_rows(100)
    asked, answered = Counter[str](), Counter[str]()

    def question(text: str) -> int:
        found = re.search(r"\| question (\d+)\n", text)
        assert found, text
        return int(found[1])

    def answer(payload: dict) -> str:
        text = payload["messages"][-1]["content"]
        number = question(text)
        answered[text] += 1
        if number == 7 or (number % 25 == 1 and answered[text] == 1):
            return WRONG["wrong-count"]
        return WRONG["wrong-ids"] if number % 25 == 2 and answered[text] == 1 else served(payload)

    def plan(_: int, payload: dict) -> str:
        text = payload["messages"][-1]["content"]
        number = question(text)
        asked[text] += 1
        if number == 3:
            return "500"
        return FAULTS[number // 5 % len(FAULTS)] if number % 5 == 0 and asked[text] == 1 else ""

    async def main() -> tuple[list, ModelScorer, Unruly]:
        unruly = Unruly(answer, plan)
        async with serve(unruly) as url:
            # Time for a busy machine: a proper answer that comes late would count as one more failure.
            patient = endpoint(url, timeout_seconds=1.5, deadline_seconds=20)
            model = Cached(OpenAICompatible(patient), tmp_path / "a.sqlite")
            scorer = ModelScorer(load_judge("rubric"), model)
            grades = await asyncio.gather(*(scorer.score(row, row.reply) for row in rows))
            await model.aclose()
            return grades, scorer, unruly

    start = time.monotonic()
    grades, scorer, unruly = asyncio.run(main())
    assert time.monotonic() - start < 30
    assert len(grades) == len(rows) == scorer.graded + scorer.ungraded.total()
    assert scorer.ungraded == Counter({"server": 2, "malformed": 2})
    for row, found in zip(rows, grades):
        if found.score is None:
            assert row.group in ("3", "7")
        else:
            assert [v.met for v in found.verdicts] == [v.met for v in row.verdicts]
    assert set(FAULTS) <= set(unruly.served), unruly.served


def test_run_again_no_graded_reply_is_paid_for_twice(tmp_path: Path) -> None:
    rows = marked_rows(20)

    async def main(stop_after: int) -> int:
        unruly = Unruly(served)
        async with serve(unruly) as url:
            client = OpenAICompatible(endpoint(url))
            client.__class__ = type("Fixed", (OpenAICompatible,), {"identity": "fixed"})
            model = Cached(client, tmp_path / "a.sqlite")
            scorer = ModelScorer(load_judge("rubric"), model)
            for row in rows[:stop_after]:
                assert (await scorer.score(row, row.reply)).score is not None
            await model.aclose()
        return unruly.requests

    assert asyncio.run(main(15)) == 15
    assert asyncio.run(main(40)) == 25
    assert asyncio.run(main(40)) == 0


def test_another_judge_or_model_shares_no_cached_grade(tmp_path: Path) -> None:
    calls: list[str] = []

    def ask(name: str, model: str) -> None:
        scripted = Scripted(lambda _: calls.append(model) or verdicts(True, True, True, False), name=model)
        scorer = ModelScorer(load_judge(name), Cached(scripted, tmp_path / "a.sqlite"))
        grade(scorer)
        asyncio.run(scorer.model.aclose())

    ask("rubric", "one")
    ask("rubric", "one")
    assert len(calls) == 1
    ask("rubric", "two")
    ask("rubric-by-criterion", "one")
    assert len(calls) > 2


def test_a_planted_key_is_in_no_output(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-planted-0123456789")

    async def main() -> str:
        unruly = Unruly(served, lambda n, payload: "401" if n % 2 else "")  # this server echoes the key
        async with serve(unruly) as url:
            client = OpenAICompatible(endpoint(url, key_env="JUDGE_KEY", max_attempts=1))
            model = Cached(client, tmp_path / "a.sqlite")
            scorer = ModelScorer(load_judge("rubric"), model)
            grades = [await scorer.score(row, row.reply) for row in marked_rows(6)]
            said = [str(each) for each in grades] + [scorer.name, scorer.digest, repr(scorer), repr(model.usage)]
            await model.aclose()
            return "\n".join(said)

    said = asyncio.run(main())
    assert "HTTP 401" in said and "planted" not in said
    disk = sqlite3.connect(tmp_path / "a.sqlite")
    dump = "\n".join(disk.iterdump())
    disk.close()
    assert "INSERT" in dump and "planted" not in dump
    assert not any(b"planted" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_final_object_and_read_verdicts_say_what_is_wrong() -> None:
    assert final_object('x {"a": 1} y {"b": 2} z') == {"b": 2}
    with pytest.raises(MalformedError, match="no JSON object"):
        final_object("[1, 2]")
    with pytest.raises(MalformedError, match="characters long"):
        final_object("x" * 300_000)
    with pytest.raises(MalformedError, match="3 verdicts for 4 criteria"):
        read_verdicts(ChatReply(text=verdicts(True, True, True)), ROW.rubric)
