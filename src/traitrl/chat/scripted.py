"""The shipped fake: a model whose answers are a function of the question. No network, no cost, the same every time."""

from __future__ import annotations

from collections.abc import Callable

from traitrl.chat.exchange import ChatReply, ChatRequest, Usage

Script = Callable[[ChatRequest], "str | ChatReply"]


class Scripted:
    """See :class:`traitrl.chat.ChatModel`. The script may raise :class:`traitrl.chat.ChatError` to play a failing model."""

    def __init__(self, script: Script, name: str = "scripted") -> None:
        """``name`` must change when the script's answers do: caches go by it."""
        self._script = script
        self._name = name
        self._usage = Usage()

    @property
    def name(self) -> str:
        """See :class:`traitrl.chat.ChatModel`."""
        return self._name

    @property
    def identity(self) -> str:
        """See :class:`traitrl.chat.ChatModel`."""
        return f"scripted:{self._name}"

    @property
    def usage(self) -> Usage:
        """See :class:`traitrl.chat.ChatModel`."""
        return self._usage

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See :class:`traitrl.chat.ChatModel`. Tokens are counted as words."""
        self._usage.calls += 1
        answer = self._script(request)
        if isinstance(answer, str):
            asked = sum(len(message.content.split()) for message in request.messages)
            answer = ChatReply(text=answer, prompt_tokens=asked, reply_tokens=len(answer.split()))
        self._usage.add(answer)
        return answer

    async def aclose(self) -> None:
        """See :class:`traitrl.chat.ChatModel`."""
