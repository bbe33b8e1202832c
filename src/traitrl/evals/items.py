"""The items task: rows of prompts with rubrics, from a JSONL file, as one Inspect task graded by a traitrl scorer.

All suite rows that come as items run as a single Inspect task, so that their prompts form full batches and the fixed cost of
a task is paid once; the suite id travels in each sample's metadata and the log groups its metrics by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import Score, Target, grouped, mean
from inspect_ai.scorer import Scorer as InspectScorer
from inspect_ai.scorer import scorer as inspect_scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from traitrl.core import EvalItem, Grade, Messages, Transform, unchanged
from traitrl.evals.provider import ITEM_ORDER
from traitrl.judging import Scorer

GradedReplies = dict[str, tuple[str, Grade]]  # item id -> the reply and its grade
_MESSAGE = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


def sample_of(item: EvalItem, order: int, asked: Messages | None = None) -> Sample:
    """One item as an Inspect sample; its place in the dataset travels with the final user turn.

    ``asked`` is the conversation that the model sees, where an attack makes it another than the item's.
    """
    messages = asked or item.messages
    turns: list[ChatMessage] = [_MESSAGE[message.role](content=message.content) for message in messages]
    turns[-1] = ChatMessageUser(content=messages[-1].content, metadata={ITEM_ORDER: order})
    metadata = {"suite_id": item.suite_id, "cluster": item.cluster, "domain": item.domain, "trait": item.trait}
    return Sample(id=item.id, input=turns, metadata=metadata)


@solver
def reply_once() -> Solver:
    """One reply to the conversation as it stands."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await generate(state)

    return solve


def rubric_scorer(judge: Scorer, items: dict[str, EvalItem], graded: GradedReplies) -> InspectScorer:
    """Grades each reply with the item's rubric. Verdicts, and why a reply is *ungraded*, stay in the score's metadata.

    Replies and grades are added to ``graded`` too: reading them back from the log takes long.
    Judge and items reach the scorer by closure: Inspect copies a scorer's arguments into the log of every single sample.
    """

    @inspect_scorer(metrics=[grouped(mean(), "suite_id", all=False)], name="rubric")
    def by_rubric() -> InspectScorer:
        async def score(state: TaskState, target: Target) -> Score:
            reply = state.output.completion
            id_ = str(state.sample_id)
            grade = await judge.score(items[id_], reply)
            graded[id_] = (reply, grade)
            notes = {"verdicts": [verdict.model_dump() for verdict in grade.verdicts], "judge": judge.name}
            if grade.score is None:
                why = grade.ungraded_reason
                return Score.unscored(reason="grader_failed", answer=reply, explanation=why, metadata=notes)
            return Score(value=grade.score, answer=reply, metadata=notes)

        return score

    return by_rubric()


def items_task(
    name: str,
    items: Sequence[EvalItem],
    judge: Scorer,
    graded: GradedReplies,
    attack: Transform = unchanged,
    *,
    judge_sees_attack: bool = False,
) -> Task:
    """The items as one Inspect task; ``graded`` fills as it runs. The model is asked what ``attack`` makes of the conversations.

    The judge is given the items themselves: neither the attack nor what was attacked is known to it. With
    ``judge_sees_attack`` it is given what the model was asked.
    """
    attacked = [item.model_copy(update={"messages": attack(item.messages)}) for item in items]
    samples = [sample_of(item, order, asked.messages) for order, (item, asked) in enumerate(zip(items, attacked))]
    judged = attacked if judge_sees_attack else items
    return Task(
        dataset=MemoryDataset(samples, name=name),
        solver=reply_once(),
        scorer=rubric_scorer(judge, {item.id: item for item in judged}, graded),
        name=name,
    )
