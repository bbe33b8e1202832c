"""Batched sampling from local Hugging Face weights, bitwise repeatable: fixed batches in a fixed order, one seed a batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traitrl.sampling import quick_draws

Chat = list[dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """One sampled reply and its cost; ``truncated`` means it was cut at the token limit."""

    text: str
    prompt_tokens: int
    reply_tokens: int
    truncated: bool


class LocalModel:
    """A causal language model on this machine. ``reference`` is a folder or a hub name, adapters included."""

    def __init__(self, reference: str, *, batch_size: int = 128) -> None:
        """Loads the weights; one torch thread when there is no GPU, since threads of several runs spin against each other."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        self._torch = torch
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(1)
        if (Path(reference) / "adapter_config.json").exists():
            from peft import AutoPeftModelForCausalLM as Loader
        else:
            from transformers import AutoModelForCausalLM as Loader
        model: Any = Loader.from_pretrained(reference)
        self._model = model.to(device).eval()
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(reference, padding_side="left")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._batch_size = batch_size

    def answer(
        self,
        chats: Sequence[Chat],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> list[Answer]:
        """One reply per chat, in order. ``temperature`` 0 decodes greedily.

        Chats are batched by length and position, which depends on the list alone; batch *b* is sampled with ``seed + b``.
        """
        texts = [
            self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats
        ]
        encoded = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        order = sorted(range(len(chats)), key=lambda index: (len(encoded[index]), index))
        answers: list[Answer | None] = [None] * len(chats)
        for batch, start in enumerate(range(0, len(order), self._batch_size)):
            chosen = order[start : start + self._batch_size]
            self._torch.manual_seed(seed + batch)
            replies = self._sample([encoded[index] for index in chosen], max_tokens, temperature)
            for index, reply in zip(chosen, replies, strict=True):
                answers[index] = reply
            on_batch(min(start + self._batch_size, len(order)))
        return [answer for answer in answers if answer is not None]

    def _sample(self, prompts: list[list[int]], max_tokens: int, temperature: float) -> list[Answer]:
        batch = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._model.device)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature
            else {"do_sample": False}
        )
        with self._torch.no_grad(), quick_draws():
            tokens = self._model.generate(
                **batch, max_new_tokens=max_tokens, pad_token_id=self._tokenizer.pad_token_id, **sampling
            )
        ends = self._end_tokens()
        answers: list[Answer] = []
        for prompt, row in zip(prompts, tokens[:, batch["input_ids"].shape[1] :].tolist()):
            length = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
            text = self._tokenizer.decode(row[:length], skip_special_tokens=True)
            cut = length == max_tokens and row[length - 1] not in ends
            answers.append(Answer(text, len(prompt), length, cut))
        return answers

    def _end_tokens(self) -> set[int]:
        configured = self._model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {token for token in [*ends, self._tokenizer.eos_token_id] if token is not None}
