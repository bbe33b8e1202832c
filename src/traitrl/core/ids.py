"""Identifiers. They become folder and file names, so they are checked where they enter."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:#-]{0,199}")


def check_id(value: str) -> str:
    """Return ``value`` if it can name a file: lower case, digits, ``.``, ``_`` and ``-``, at most 120 characters.

    Raises ``ValueError`` for anything else, path separators and ``..`` included.
    """
    if not _ID.fullmatch(value) or ".." in value:
        raise ValueError(f"id {value!r} must be lower-case letters, digits, '.', '_' or '-', and no path separators")
    return value


def check_item_id(value: str) -> str:
    """Like :func:`check_id` for ids of rows that never name a file: capitals, ``:`` and ``#`` are allowed as well."""
    if not _ITEM_ID.fullmatch(value) or ".." in value:
        raise ValueError(f"item id {value!r} must be letters, digits, '.', '_', ':', '#' or '-', no path separators")
    return value


Id = Annotated[str, AfterValidator(check_id)]
ItemId = Annotated[str, AfterValidator(check_item_id)]


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest valid name, or a list of all when nothing is close."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"
