"""Inspect's door to local checkpoints: ``traitrl/<name>``.

Inspect sends requests as its scheduler pleases; tables are bitwise equal only when batches are not formed by arrival. So the
provider waits until every request that can be outstanding is there (the runner says how many), orders them by item, and then
samples the fixed batches. Requests that no announcement covers (agentic tasks) are answered after a short quiet spell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from traitrl.core import EvalError
from traitrl.evals.local import Answer, Chat, LocalModel

ITEM_ORDER = "traitrl_order"  # key in a user message's metadata: where the item stands in its dataset
_QUIET_SECONDS = 0.05
_STALL_SECONDS = 120.0


@dataclass
class _Request:
    order: tuple[int, str]
    chat: Chat
    config: GenerateConfig
    reply: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class LocalCheckpointApi(ModelAPI):
    """Answers with the weights of one checkpoint. ``reference`` is where they lie; the model name only labels the logs."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  Inspect's own signature
        *,
        reference: str,
        announced: int = 0,
        batch_size: int = 128,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> None:
        """``announced`` requests will come at once and are answered together."""
        super().__init__(model_name, base_url, api_key, [], config)
        self._model = LocalModel(reference, batch_size=batch_size)
        self._announced, self._on_batch = announced, on_batch
        self._waiting: list[_Request] = []
        self._timer: asyncio.Task[None] | None = None
        self.answered = 0

    def max_connections(self) -> int:
        """As many as were announced: the batch is ours to form, not the scheduler's."""
        return max(256, self._announced)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One sampled reply; tool calls are not supported by this provider."""
        if tools:
            raise EvalError(
                f"{self.model_name}: the local provider offers no tool calls; serve the model over HTTP for this task"
            )
        request = _Request(_order(input), [{"role": m.role, "content": m.text} for m in input], config)
        self._waiting.append(request)
        if len(self._waiting) == self._announced:
            await self._answer_all()
        elif self._timer is None:
            self._timer = asyncio.create_task(
                self._give_up_when_stalled() if self._announced else self._answer_when_quiet()
            )
        answer = await request.reply
        output = ModelOutput.from_content(
            self.model_name, answer.text, stop_reason="max_tokens" if answer.truncated else "stop"
        )
        total = answer.prompt_tokens + answer.reply_tokens
        output.usage = ModelUsage(
            input_tokens=answer.prompt_tokens, output_tokens=answer.reply_tokens, total_tokens=total
        )
        return output

    async def _no_more_for(self, seconds: float) -> None:
        """Return once no request has come for that long."""
        seen = -1
        while seen != len(self._waiting):
            seen = len(self._waiting)
            await asyncio.sleep(seconds)
        self._timer = None

    async def _answer_when_quiet(self) -> None:
        await self._no_more_for(_QUIET_SECONDS)
        await self._answer_all()

    async def _give_up_when_stalled(self) -> None:
        """Announced requests that never come must not make everybody wait for ever."""
        await self._no_more_for(_STALL_SECONDS)
        error = EvalError(
            f"{self.model_name}: {len(self._waiting)} of {self._announced} announced requests came; see the log"
        )
        for request in self._waiting:
            request.reply.set_exception(error)
        self._waiting = []

    async def _answer_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = sorted(self._waiting, key=lambda request: request.order), []
        config = batch[0].config
        try:
            answers = await asyncio.to_thread(
                self._model.answer,
                [request.chat for request in batch],
                max_tokens=config.max_tokens or 1024,
                temperature=1.0 if config.temperature is None else config.temperature,
                seed=config.seed or 0,
                on_batch=self._on_batch,
            )
        except Exception as error:
            for request in batch:
                request.reply.set_exception(error)
            return
        for request, answer in zip(batch, answers, strict=True):
            self.answered += 1
            request.reply.set_result(answer)


def _order(messages: list[ChatMessage]) -> tuple[int, str]:
    """Where a request stands: by the item's announced order, then by its text."""
    last = messages[-1]
    return int((last.metadata or {}).get(ITEM_ORDER, 0)), last.text


@modelapi(name="traitrl")
def traitrl_provider() -> type[ModelAPI]:
    """Registers ``traitrl/<name>`` with Inspect."""
    return LocalCheckpointApi


def checkpoint_id(experiment: str, arm: str, seed: int, step: int, attack: str = "none", strength: float = 0.0) -> str:
    """The model name in Inspect's logs; it carries the checkpoint, since Inspect's own identity ignores the weights."""
    name = f"{experiment}.{arm}.seed{seed}.step{step:06d}"
    return name if attack == "none" else f"{name}.{attack}.{strength:g}"
