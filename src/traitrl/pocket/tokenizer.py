"""The word-level tokenizer of the pocket world, in Hugging Face format with a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<|pad|>", "<|unknown|>", "<|end|>"
ROLES = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}

# Spaces matter: the tokenizer splits on them. The generation marker tells SFT which tokens are the assistant's own.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> "
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }} <|end|>{% endgeneration %} "
    "{% else %}{{ message.content }} <|end|> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


def build_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word of ``words`` plus the pad, unknown, end and role tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    special = [PAD, UNKNOWN, END, *ROLES.values()]
    vocabulary = {word: index for index, word in enumerate([*special, *words])}
    model = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    model.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=list(ROLES.values()),
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
