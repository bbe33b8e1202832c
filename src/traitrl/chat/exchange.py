"""What is asked of a model and what comes back. Plain dataclasses: thousands a second pass through here."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from traitrl.core import Message, TraitrlError

Cause = Literal[
    "connect", "reset", "timeout", "deadline", "rate-limit", "server", "client", "cut", "not-json", "shape", "scripted"
]


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON schema the reply must follow, with the name that endpoints ask for."""

    name: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a model. ``sample`` tells repeats of the same question apart, in caches and in seeds."""

    messages: tuple[Message, ...]
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    sample: int = 0
    schema: Schema | None = None
    top_logprobs: int = 0

    def key(self, identity: str) -> str:
        """SHA-256 over everything that can change the answer of the model ``identity``."""
        parts: list[Any] = [
            identity,
            [[message.role, message.content] for message in self.messages],
            self.max_tokens,
            self.temperature,
            self.seed,
            self.sample,
            self.schema.body if self.schema else None,
            self.top_logprobs,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer. ``finish`` is ``stop`` for a complete one and ``length`` for one cut at the token limit.

    ``logprobs`` holds, for each token of the reply, the token's text and its most likely alternatives with their
    log-probabilities in nats; empty unless they were asked for and the endpoint gives them.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    reply_tokens: int = 0
    cached: bool = False
    logprobs: tuple[tuple[str, dict[str, float]], ...] = ()


class ChatError(TraitrlError):
    """No usable answer came. ``cause`` says of which kind the last failure was, ``attempts`` how often it was tried."""

    def __init__(self, cause: Cause, attempts: int, detail: str) -> None:
        """``detail`` must already be free of secrets."""
        super().__init__(f"{cause} after {attempts} {'try' if attempts == 1 else 'tries'}: {detail}")
        self.cause: Cause = cause
        self.attempts = attempts


@dataclass
class Usage:
    """Running totals of one model. ``calls`` counts requests on the wire, retries included; cached answers cost none."""

    answers: int = 0
    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])

    def add(self, reply: ChatReply) -> None:
        """Count one answer."""
        self.answers += 1
        if reply.cached:
            self.cached += 1
        else:
            self.prompt_tokens += reply.prompt_tokens
            self.reply_tokens += reply.reply_tokens


class ChatModel(Protocol):
    """A model that answers. Every implementation passes the shared contract test in ``tests/test_chat.py``."""

    @property
    def name(self) -> str:
        """The model's name as written into records and manifests."""
        ...

    @property
    def identity(self) -> str:
        """Whatever distinguishes its answers from another model's: endpoint, name, settings. Never a key."""
        ...

    @property
    def usage(self) -> Usage:
        """Totals since it was opened."""
        ...

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The answer; raises :class:`ChatError` when none could be had within the limits of the model."""
        ...

    async def aclose(self) -> None:
        """Release connections and files. Asking again afterwards opens them anew."""
        ...
