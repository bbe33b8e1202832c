"""From a judge's answer to verdicts, or to the reason why it is none."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any, cast

from traitrl.chat import ChatReply, Schema
from traitrl.core import Criterion, Rubric, Verdict

_MOST_CHARACTERS = 200_000
# Each may be searched to the end of the answer: thousands of them would hold up every other question for seconds.
_MOST_BROKEN = 100
_OPENING = re.compile(r'\{(?=\s*["}])')


class MalformedError(ValueError):
    """The answer does not hold one verdict for each criterion."""


@cache
def verdict_schema(count: int) -> Schema:
    """``count`` verdicts, each with its reason before it: what is written first informs what comes after."""
    verdict = {
        "type": "object",
        "properties": {
            "criterion": {"type": "integer", "enum": list(range(1, count + 1))},
            "reason": {"type": "string"},
            "met": {"type": "boolean"},
        },
        "required": ["criterion", "reason", "met"],
        "additionalProperties": False,
    }
    body = {
        "type": "object",
        "properties": {"verdicts": {"type": "array", "items": verdict}},
        "required": ["verdicts"],
        "additionalProperties": False,
    }
    return Schema("verdicts", body)


def read_verdicts(reply: ChatReply, criteria: tuple[Criterion, ...]) -> tuple[Verdict, ...]:
    """One verdict per criterion, in their order; raises :class:`MalformedError` for anything else."""
    if reply.finish == "length":
        raise MalformedError("cut at the token limit")
    data = final_object(reply.text)
    found = data.get("verdicts")
    if not isinstance(found, list):
        raise MalformedError("no list `verdicts`")
    by_number: dict[int, Verdict] = {}
    for each in cast("list[Any]", found):
        number, reason, met = _parts(each)
        if not 1 <= number <= len(criteria):
            raise MalformedError(f"verdict on criterion {number} of {len(criteria)}")
        if number in by_number:
            raise MalformedError(f"two verdicts on criterion {number}")
        by_number[number] = Verdict(criterion_id=criteria[number - 1].id, reason=reason, met=met)
    if len(by_number) != len(criteria):
        raise MalformedError(f"{len(by_number)} verdicts for {len(criteria)} criteria")
    return tuple(by_number[number] for number in range(1, len(criteria) + 1))


def _parts(each: Any) -> tuple[int, str, bool]:
    if not isinstance(each, dict):
        raise MalformedError("a verdict is no object")
    parts = cast("dict[str, Any]", each)
    number, reason, met = parts.get("criterion"), parts.get("reason", ""), parts.get("met")
    if isinstance(number, bool) or not isinstance(number, int):
        raise MalformedError("a verdict names no criterion by its number")
    if not isinstance(met, bool):
        raise MalformedError(f"the verdict on criterion {number} is neither true nor false")
    # Half of a surrogate pair is legal in JSON, but no record that holds one can be written.
    text = str(reason)
    return number, text if text.isascii() else text.encode(errors="replace").decode(), met


def final_object(text: str) -> dict[str, Any]:
    """The JSON object the answer consists of, or the last one in it: only the final structured verdict counts.

    An object among the pieces of a larger one is not it: a judge that quotes the reply without escaping it breaks its own
    object, and what can still be read is then the reply's.
    """
    if len(text) > _MOST_CHARACTERS:
        raise MalformedError(f"{len(text)} characters long")
    decoder, opening, broken = json.JSONDecoder(), _OPENING.search(text), 0
    last: dict[str, Any] | None = None
    start = end = 0
    while opening:
        try:
            value, after = decoder.raw_decode(text, opening.start())
        except RecursionError:
            raise MalformedError("nested too deeply") from None
        except ValueError:
            broken += 1
            if broken > _MOST_BROKEN:
                raise MalformedError(f"more than {_MOST_BROKEN} broken JSON objects") from None
            opening = _OPENING.search(text, opening.end())
            continue
        last, start, end = cast("dict[str, Any]", value), opening.start(), after
        opening = _OPENING.search(text, end)
    if last is None:
        raise MalformedError("no JSON object")
    if text.count("{", 0, start) > text.count("}", 0, start) or "}" in text[end:]:
        raise MalformedError("the last JSON object stands among pieces of a broken one")
    return last


def met_probability(reply: ChatReply) -> float | None:
    """P(true) / (P(true) + P(false)) at the last verdict token; None when the endpoint gave no log-probabilities for it."""
    for token, tops in reversed(reply.logprobs):
        if token.strip().lower() in ("true", "false"):
            weights = {"true": 0.0, "false": 0.0}
            for text, logprob in {token: 0.0, **tops}.items() if not tops else tops.items():
                if text.strip().lower() in weights:
                    weights[text.strip().lower()] += math.exp(logprob)
            total = sum(weights.values())
            return weights["true"] / total if total else None
    return None


def expected_score(rubric: Rubric, probabilities: dict[str, float]) -> float:
    """The HealthBench score (see :func:`traitrl.core.score_verdicts`) with each verdict replaced by its probability."""
    earned = sum(criterion.points * probabilities[criterion.id] for criterion in rubric.criteria)
    possible = sum(criterion.points for criterion in rubric.criteria if criterion.points > 0)
    return min(1.0, max(0.0, earned / possible))
