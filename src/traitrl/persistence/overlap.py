"""Attack data never overlap what was trained on or is evaluated: exact and near duplicates are found and refused by name.

Compared are conversations up to the reply, without their system turn, as words in lower case. Exact: the same last user turn (of
five words or more) or the same conversation. Near: Jaccard similarity of the sets of word trigrams, computed exactly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel

from traitrl.core import ConfigError, Message
from traitrl.scenarios.rules import words
from traitrl.scenarios.similarity import runs
from traitrl.store import digest_file, read_jsonl

TRIGRAM = 3
TELLING_WORDS = 5  # shorter last turns ("go on, please") are shared by chance


class _Conversation(BaseModel):
    """What scenarios, standard prompts and eval items have in common."""

    id: str
    messages: tuple[Message, ...]


class Known:
    """Conversations that attack data must stay away from."""

    def __init__(self, rows: Iterable[tuple[str, Sequence[Message]]]) -> None:
        """``rows`` are (name, messages up to the reply)."""
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._exact: dict[str, str] = {}
        self._index: dict[str, list[int]] = defaultdict(list)
        for name, messages in rows:
            shingles = _shingles(messages)
            for key in _exact_keys(messages):
                self._exact.setdefault(key, name)
            for shingle in shingles:
                self._index[shingle].append(len(self._names))
            self._names.append(name)
            self._sizes.append(len(shingles))

    def nearest(self, messages: Sequence[Message]) -> tuple[float, str]:
        """Similarity in [0, 1] of the closest known conversation and its name; (0, "") when nothing is shared."""
        for key in _exact_keys(messages):
            if key in self._exact:
                return 1.0, self._exact[key]
        shingles = _shingles(messages)
        shared = Counter(row for shingle in shingles for row in self._index.get(shingle, ()))
        scored = ((count / (len(shingles) + self._sizes[row] - count), -row) for row, count in shared.items())
        similarity, row = max(scored, default=(0.0, 0))
        return similarity, self._names[-row] if similarity else ""


def _conversation(messages: Sequence[Message]) -> str:
    return " ".join(word for message in messages if message.role != "system" for word in words(message.content))


def _shingles(messages: Sequence[Message]) -> set[str]:
    return runs(_conversation(messages).split(), TRIGRAM)


def _exact_keys(messages: Sequence[Message]) -> list[str]:
    last = words(messages[-1].content)
    keys = [f"conversation {_conversation(messages)}"]
    return [*keys, f"last turn {' '.join(last)}"] if len(last) >= TELLING_WORDS else keys


def known_conversations(files: Sequence[Path]) -> Known:
    """The conversations of JSONL files whose rows have ``id`` and ``messages``; read once per process and content."""
    return _known(tuple((path, digest_file(path)) for path in files))


@lru_cache(maxsize=4)
def _known(files: tuple[tuple[Path, str], ...]) -> Known:
    rows = ((f"{row.id} of {path.name}", row.messages) for path, _ in files for row in read_jsonl(path, _Conversation))
    return Known(rows)


def refuse_overlap(
    attack: str, rows: Iterable[tuple[str, Sequence[Message]]], known: Known, near_duplicate: float
) -> None:
    """Raise :class:`ConfigError`, naming the first rows, when a conversation of the attack is (nearly) a known one."""
    found: list[str] = []
    for name, messages in rows:
        similarity, other = known.nearest(messages)
        if similarity >= near_duplicate:
            found.append(f"{name} and {other} ({similarity:.2f})")
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ConfigError(
            f"attack {attack!r} overlaps training or eval data, which would make its numbers void: {', '.join(found[:3])}{more}; "
            "drop these rows from the attack's data"
        )
