"""The one door to models behind HTTP: `openai_compatible`, `scripted` (the shipped fake) and `cached` (SQLite)."""

from traitrl.chat.cached import Cached as Cached
from traitrl.chat.exchange import (
    ChatError as ChatError,
)
from traitrl.chat.exchange import (
    ChatModel as ChatModel,
)
from traitrl.chat.exchange import (
    ChatReply as ChatReply,
)
from traitrl.chat.exchange import (
    ChatRequest as ChatRequest,
)
from traitrl.chat.exchange import (
    Schema as Schema,
)
from traitrl.chat.exchange import (
    Usage as Usage,
)
from traitrl.chat.openai_compatible import Endpoint as Endpoint
from traitrl.chat.openai_compatible import OpenAICompatible as OpenAICompatible
from traitrl.chat.pool import in_order as in_order
from traitrl.chat.prices import Price as Price
from traitrl.chat.scripted import Scripted as Scripted
