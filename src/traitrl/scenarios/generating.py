"""The generate stage: any model writes scenarios, stage by stage, and every order ends as a kept or a rejected row.

Resuming needs no journal: every answer is kept in ``answers.sqlite`` in the stage folder, and the same command asks the same
questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from traitrl.catalog import Catalog
from traitrl.chat import Cached, ChatError, ChatModel, Usage, in_order
from traitrl.core import Frozen, Scenario, first_complaint
from traitrl.scenarios.drafting import SHAPES, STAGES, Order, Prompts, assemble, stage_request
from traitrl.scenarios.rows import COUNTS, Rejected, Sorter
from traitrl.scenarios.rules import check_row
from traitrl.store import Claim, StageFolder, digest_json, dump_line, read_json

ANSWERS = "answers.sqlite"
ASKED_AGAIN = 2  # times that a malformed answer is asked again
TRANSPORT = "no-answer"

OnOrder = Callable[[int, int, Usage], None]


@dataclass(frozen=True)
class Writer:
    """What writes and what it is shown."""

    model: ChatModel
    catalog: Catalog
    prompts: Prompts
    gold: Sequence[Scenario] = ()
    licence: str = "unknown"
    concurrency: int = 8


class _Drop(Exception):  # noqa: N818  a verdict on a draft, not an error
    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = rule, reason


async def generate(
    writer: Writer,
    orders: Sequence[Order],
    out: Path,
    on_order: OnOrder = lambda done, total, usage: None,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Write every order; returns the counts. Orders the model gave no answer for are rejected as ``no-answer``, and leave the
    stage unfinished: the same command then asks for those alone."""
    config = {
        "model": writer.model.identity,
        "orders": digest_json([order.__dict__ for order in orders]),
        "prompts": digest_json(writer.prompts.texts),
        "catalog": digest_json(writer.catalog.model_dump(mode="json", include={"traits", "domains", "pressures"})),
        "gold": digest_json([row.model_dump(mode="json") for row in writer.gold]),
        "licence": writer.licence,
    }
    folder = StageFolder(out, Claim(stage="scenarios-generate", config=config))
    if folder.is_done(force=force):
        return read_json(out / COUNTS)
    model = Cached(writer.model, out / ANSWERS)
    cached = replace(writer, model=model)
    done = 0

    async def work(order: Order) -> Scenario | Rejected:
        return await _write(order, cached)

    with Sorter(folder) as sorter:
        try:
            async for _, result in in_order(orders, work, writer.concurrency):
                if isinstance(result, Rejected):
                    sorter.reject(result)
                else:
                    sorter.keep(result)
                done += 1
                on_order(done, len(orders), model.usage)
        finally:
            await model.aclose()
        return sorter.finish(len(orders), _usage(model.usage), complete=not sorter.reasons[TRANSPORT])


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "calls": usage.calls,
        "cached": usage.cached,
        "prompt_tokens": usage.prompt_tokens,
        "reply_tokens": usage.reply_tokens,
        "failures": dict(sorted(usage.failures.items())),
    }


async def _write(order: Order, writer: Writer) -> Scenario | Rejected:
    done: dict[str, Frozen] = {}
    try:
        for stage in STAGES:
            done[stage] = await _ask(stage, order, writer, done)
        if not done["critique"].may_stay:  # type: ignore[attr-defined]
            raise _Drop("critique", "; ".join(done["critique"].problems) or "no reason given")  # type: ignore[attr-defined]
        row = assemble(order, done, f"model {writer.model.name}")
    except _Drop as drop:
        return _rejected(order, drop.rule, drop.reason, done)
    except ChatError as error:
        return _rejected(order, TRANSPORT, str(error), done)
    except ValidationError as error:
        return _rejected(order, "schema", first_complaint(error, Scenario), done)
    except ValueError as error:
        return _rejected(order, "schema", str(error).splitlines()[0], done)
    row = row.model_copy(update={"provenance": {**row.provenance, "licence": writer.licence}})
    complaints = check_row(row, writer.catalog.trait(row.trait))
    if complaints:
        reason = "; ".join(each.message for each in complaints)
        return Rejected(id=row.id, line=order.number, rule=complaints[0].rule, reason=reason, row=dump_line(row))
    return row


async def _ask(stage: str, order: Order, writer: Writer, done: dict[str, Frozen]) -> Frozen:
    """One stage's answer in its shape; a malformed one is asked again at most ASKED_AGAIN times."""
    request = stage_request(stage, order, writer.catalog, writer.prompts, done, writer.gold)
    why = ""
    for sample in range(1 + ASKED_AGAIN):
        reply = await writer.model.ask(replace(request, sample=sample))
        if reply.finish == "length":
            why = f"cut at {request.max_tokens} tokens"
            continue
        try:
            return SHAPES[stage].model_validate_json(_inner_json(reply.text))
        except ValidationError as error:
            why = first_complaint(error, SHAPES[stage])
    raise _Drop(f"malformed-{stage}", f"{why}; asked {1 + ASKED_AGAIN} times")


def _inner_json(text: str) -> str:
    """The JSON object in an answer: some models wrap it in a code fence although they are asked not to."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _rejected(order: Order, rule: str, reason: str, done: dict[str, Frozen]) -> Rejected:
    drafts = {stage: shape.model_dump(mode="json") for stage, shape in done.items()}
    return Rejected(
        id=order.id, line=order.number, rule=rule, reason=reason, row=json.dumps(drafts, ensure_ascii=False)
    )


@dataclass(frozen=True)
class Estimate:
    """What a run would ask, from the sizes of the prompts and of the gold rows at four characters a token."""

    calls: int
    prompt_tokens: int
    reply_tokens: int


def estimate(writer: Writer, orders: Sequence[Order]) -> Estimate:
    """Tokens of a run without retries. Each stage is shown what the stages before it brought."""
    sizes = _typical_sizes(writer.gold)
    prompt = reply = 0
    for order in orders:
        so_far = 0
        for stage in STAGES:
            request = stage_request(stage, order, writer.catalog, writer.prompts, {}, writer.gold)
            prompt += sum(len(message.content) for message in request.messages) // 4 + so_far
            so_far += sizes[stage]
            reply += sizes[stage]
    return Estimate(calls=len(orders) * len(STAGES), prompt_tokens=prompt, reply_tokens=reply)


def _typical_sizes(gold: Sequence[Scenario]) -> dict[str, int]:
    """Mean tokens of each stage's answer, from the gold rows; 300 where there are none."""
    rows = list(gold[:100])
    if not rows:
        return dict.fromkeys(STAGES, 300)

    def mean(parts: Callable[[Scenario], int]) -> int:
        return sum(map(parts, rows)) // len(rows) // 4

    return {
        "plot": 150,
        "conversation": mean(lambda row: sum(len(message.content) + 40 for message in row.messages)),
        "rubric": mean(lambda row: sum(len(each.text) + 50 for each in row.rubric)),
        "exemplars": mean(lambda row: sum(len(each.reply) + 60 for each in row.exemplars.values())),
        "critique": 80,
    }
