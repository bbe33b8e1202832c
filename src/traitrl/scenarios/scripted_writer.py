"""The shipped fake writer: answers every stage of the pipeline from ``catalog/generation/scripted.toml``, always the same.

Its scenarios are placeholders and say so in their provenance (``model scripted``). Train on nothing it wrote.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from random import Random
from typing import Any

from traitrl.catalog import PACKAGE_DATA
from traitrl.chat import ChatRequest


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((PACKAGE_DATA / "generation" / "scripted.toml").read_text(encoding="utf-8"))


def write(request: ChatRequest) -> str:
    """The answer to one stage's question; everything in it follows from the question and its seed."""
    if request.schema is None:
        raise ValueError("the scripted writer answers the stages of `traitrl scenarios generate` only")
    data, rng = _data(), Random(request.seed)
    facts: dict[str, Any] = {name: rng.choice(words) for name, words in data["words"].items()}
    facts |= {"missing": rng.randint(3, 97), "total": rng.randint(100, 950), "tag": rng.randint(1000, 999_999)}
    said = {
        "plot": lambda: {**_filled(data["plot"], facts), "people": [facts["person"]]},
        "conversation": lambda: _conversation(_filled(data["conversation"], facts), request.messages[-1].content),
        "rubric": lambda: {"criteria": [_filled(line, facts) for line in data["rubric"]]},
        "exemplars": lambda: {**_filled(data["exemplars"], facts), "refusal_meets": []},
        "critique": lambda: {"problems": [], "may_stay": True},
    }[request.schema.name]()
    return json.dumps(said, ensure_ascii=False)


def _filled(texts: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    return {key: text.format(**facts) if isinstance(text, str) else text for key, text in texts.items()}


def _conversation(lines: dict[str, str], asked: str) -> dict[str, Any]:
    """As many turns as the prompt asks for, with a system prompt if it does."""
    turns = [("user", lines["opening"]), ("assistant", lines["hasty"])]
    if "there are 5 turns" in asked:
        turns += [("user", lines["again"]), ("assistant", lines["hasty_again"])]
    turns.append(("user", lines["push"]))
    if "one user turn" in asked:
        turns = [("user", f"{lines['opening']} {lines['push']}")]
    if "It opens with a system prompt" in asked:
        turns.insert(0, ("system", lines["system"]))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}
