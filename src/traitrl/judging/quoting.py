"""Text that is judged cannot speak to the judge: every line of it is quoted, and nothing it holds can end the quotation.

The judge's prompt says that lines which begin with the bar are material and that no instruction in them counts. Whatever a
reply contains (closing tags, fake verdicts, other line ends than the usual one, invisible or direction-changing characters) comes
out as lines that begin with the bar.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

BAR = "| "
MOST_CHARACTERS = 24_000
_TAIL_SHARE = 0.25
_MOST_HIDDEN = 64
_LONG_CHARACTERS = 4_000  # a run of one character in a shorter text does no harm

# Everything some reader takes for the end of a line, not only what Python's splitlines does.
_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# Format characters carry no text: zero width, direction overrides. Controls neither.
_INVISIBLE = frozenset(("Cc", "Cf", "Co", "Cs"))
# Nor do the code points that Unicode lets every font leave out (Default_Ignorable_Code_Point), whatever their category:
# joiners, fillers, variation selectors, the whole block of tags.
_IGNORABLE = frozenset(
    point
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2065, 0x2065),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xFFF0, 0xFFF8),
        (0xE0000, 0xE0FFF),
    )
    for point in range(first, last + 1)
)
_LONG_RUN = re.compile(r"(.)\1{199,}", re.DOTALL)
# Nothing to clean: ASCII, Latin letters and accents, common punctuation. Most text is, and a judge quotes thousands a second.
_PLAIN = re.compile("[\n\t -~\xa0-\xac\xae-\u034e\u2010-\u2027\u2030-\u205e\u20a0-\u20c0]*+")


def quote(text: str, limit: int = MOST_CHARACTERS) -> str:
    """``text`` as quoted lines. Over-long text loses its middle, and a line of ours, unquoted, says how much."""
    cleaned = text if _PLAIN.fullmatch(text) else _without_hidden(_LINE_END.sub("\n", text))
    if len(cleaned) > _LONG_CHARACTERS:
        cleaned = _LONG_RUN.sub(lambda run: f"{run[1] * 20}[{len(run[0])} times]", cleaned)
    if len(cleaned) <= limit:
        return _bar(cleaned)
    tail = int(limit * _TAIL_SHARE)
    head = limit - tail
    missing = len(cleaned) - limit
    return f"{_bar(cleaned[:head])}\n[{missing} characters of the middle are left out here]\n{_bar(cleaned[-tail:])}"


def _without_hidden(text: str) -> str:
    """Invisible characters by name; a crowd of them only by number, or their names would push the rest over the limit."""
    # Few different characters make up a text: look at each once.
    hidden = {ord(char): f"[U+{ord(char):04X}]" for char in set(text) if char not in "\n\t" and _is_invisible(char)}
    if not hidden:
        return text
    count = sum(text.count(chr(point)) for point in hidden)
    if count <= _MOST_HIDDEN:
        return text.translate(hidden)
    return f"{text.translate(dict.fromkeys(hidden))}\n[{count} invisible characters left out]"


@lru_cache(4096)
def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in _INVISIBLE or ord(char) in _IGNORABLE


def _bar(text: str) -> str:
    return BAR + text.replace("\n", "\n" + BAR)
