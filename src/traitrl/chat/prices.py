"""What tokens cost."""

from __future__ import annotations

from traitrl.chat.exchange import Usage
from traitrl.core import Frozen


class Price(Frozen):
    """Dollars per million tokens. Unknown is not free: a model without a price has no cost, not cost 0."""

    prompt_usd: float
    reply_usd: float

    def of(self, prompt_tokens: int, reply_tokens: int) -> float:
        """Dollars."""
        return (prompt_tokens * self.prompt_usd + reply_tokens * self.reply_usd) / 1e6

    def of_usage(self, usage: Usage) -> float:
        """Dollars of what was really sent."""
        return self.of(usage.prompt_tokens, usage.reply_tokens)
