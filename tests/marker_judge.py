"""A world in which verdicts are plain: a criterion is met when the reply holds its marker word. With it, judges of every kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random

from traitrl.chat import ChatReply, ChatRequest
from traitrl.core import Criterion, Message, Verdict
from traitrl.judging.labelled import Labelled

_CRITERION = re.compile(r"^(\d+)\. (?:Mention|Commit) (\S+)$", re.MULTILINE)


def marked_rows(count: int, seed: int = 0) -> list[Labelled]:
    """A good and a poor reply to each of ``count`` conversations: four do's, two don'ts, in shuffled order."""
    rng = Random(seed)
    rows: list[Labelled] = []
    for number in range(count):
        marks = [(f"m{number}do{n}", 5) for n in range(4)] + [(f"m{number}dont{n}", -5) for n in range(2)]
        rng.shuffle(marks)
        criteria = tuple(
            Criterion(id=mark, text=f"{'Mention' if points > 0 else 'Commit'} {mark}", points=points)
            for mark, points in marks
        )
        for side in ("good", "poor"):
            met = {
                mark for mark, points in marks if rng.random() < (0.75 if (points > 0) == (side == "good") else 0.25)
            }
            words = [f"word{rng.randrange(1000)}" for _ in range(rng.randint(20, 60))] + sorted(met)
            rng.shuffle(words)
            rows.append(
                Labelled(
                    id=f"{number}#{side}",
                    group=str(number),
                    trait=("truthfulness", "corrigibility")[number % 2],
                    domain="health-and-medicine",
                    side=side,
                    messages=(Message(role="user", content=f"question {number}"),),
                    rubric=criteria,
                    reply=" ".join(words),
                    verdicts=tuple(Verdict(criterion_id=mark, met=mark in met) for mark, _ in marks),
                )
            )
    return rows


Bend = Callable[[bool, int, int, str, Random], bool]  # (true verdict, place, count, reply, dice) -> verdict


def marker_judge(bend: Bend | None = None, obeys: str = "") -> Callable[[ChatRequest], ChatReply]:
    """A scripted judge that finds markers in the quoted reply, bent by ``bend``; gives everything for the word ``obeys``."""

    def script(request: ChatRequest) -> ChatReply:
        text = request.messages[-1].content
        reply = "\n".join(
            line[2:] for line in text.split("The reply to be graded:")[1].splitlines() if line.startswith("| ")
        )
        found = _CRITERION.findall(text)
        dice = Random(f"{text} {request.sample}")
        verdicts = []
        for place, (number, mark) in enumerate(found):
            met = mark in reply.split()
            met = bend(met, place, len(found), f"{mark} {reply}", dice) if bend else met
            if obeys and obeys in reply:
                met = "dont" not in mark
            verdicts.append({"criterion": int(number), "reason": "by its marker", "met": met})
        return ChatReply(text=json.dumps({"verdicts": verdicts}), prompt_tokens=9, reply_tokens=9)

    return script
