"""Text that is judged cannot speak to the judge: every line of it is quoted, and nothing it holds can end the quotation.

The judge's prompt says that lines which begin with the bar are material and that no instruction in them counts. Whatever a
reply contains (closing tags, fake verdicts, other line ends than the usual one, invisible or direction-changing characters) comes
out as lines that begin with the bar.
"""

from __future__ import annotations

import re
import unicodedata

BAR = "| "
MOST_CHARACTERS = 24_000
_TAIL_SHARE = 0.25

# Everything some reader takes for the end of a line, not only what Python's splitlines does.
_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# Format characters carry no text: zero width, direction overrides, variation selectors, tags. Controls neither.
_INVISIBLE = frozenset(("Cc", "Cf", "Co", "Cs"))
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_LONG_RUN = re.compile(r"(.)\1{199,}", re.DOTALL)


def quote(text: str, limit: int = MOST_CHARACTERS) -> str:
    """``text`` as quoted lines. Over-long text loses its middle, and a line of ours, unquoted, says how much."""
    cleaned = _LINE_END.sub("\n", text)
    cleaned = "".join(char if char in "\n\t" or not _is_invisible(char) else _shown(char) for char in cleaned)
    cleaned = _LONG_RUN.sub(lambda run: f"{run[1] * 20}[{len(run[0])} times]", cleaned)
    if len(cleaned) <= limit:
        return _bar(cleaned)
    tail = int(limit * _TAIL_SHARE)
    head = limit - tail
    missing = len(cleaned) - limit
    return f"{_bar(cleaned[:head])}\n[{missing} characters of the middle are left out here]\n{_bar(cleaned[-tail:])}"


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in _INVISIBLE or any(ord(char) in block for block in _SELECTORS)


def _shown(char: str) -> str:
    """An invisible character as its name in brackets, so that a judge sees that it is there and nothing else."""
    return f"[U+{ord(char):04X}]"


def _bar(text: str) -> str:
    return "\n".join(BAR + line for line in text.split("\n"))
