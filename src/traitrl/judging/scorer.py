"""The interface every judge implements; it knows nothing of torch, training or evals."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from traitrl.core import Grade, Message, Rubric


class Judged(Protocol):
    """Anything with a conversation and a rubric: scenarios, standard prompts, eval items."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation up to the reply."""
        ...

    def as_rubric(self) -> Rubric:
        """What the reply is graded by."""
        ...


class Scorer(Protocol):
    """Gives a grade for one reply. Must never raise for a bad reply: what cannot be judged is *ungraded*, with a reason."""

    @property
    def name(self) -> str:
        """The judge's name, as written into every record."""
        ...

    async def score(self, row: Judged, reply: str) -> Grade:
        """Grade ``reply`` as the next turn of ``row``'s conversation."""
        ...


async def score_all(scorer: Scorer, rows: Sequence[Judged], replies: Sequence[str]) -> list[Grade]:
    """Grades in the order of the replies; raises ``ValueError`` when the two lengths differ."""
    if len(rows) != len(replies):
        raise ValueError(f"{len(rows)} rows but {len(replies)} replies")
    return list(await asyncio.gather(*(scorer.score(row, reply) for row, reply in zip(rows, replies))))
