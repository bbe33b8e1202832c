"""How alike two conversations are: MinHash signatures of word shingles, candidates by LSH, and shared runs of words.

MinHash: Broder 1997; locality-sensitive hashing as in Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
Both from datasketch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from traitrl.core import Scenario
from traitrl.scenarios.rules import words

if TYPE_CHECKING:
    import numpy as np

SHINGLE_WORDS = 3
PERMUTATIONS = 128
_SCHEME = "affine32"  # named, because signatures of different schemes do not compare


def conversation_words(row: Scenario) -> list[str]:
    """The words of the conversation without its system turn: products share system prompts, and that is no plot."""
    return [word for message in row.messages if message.role != "system" for word in words(message.content)]


def runs(tokens: list[str], size: int) -> set[str]:
    """Every run of ``size`` words; a shorter text is one run."""
    if len(tokens) < size:
        return {" ".join(tokens)} if tokens else set()
    return {" ".join(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}


def signature(shingles: Iterable[str]) -> np.ndarray[Any, Any]:
    """The MinHash values, shape [PERMUTATIONS]."""
    from datasketch import MinHash

    made = MinHash(num_perm=PERMUTATIONS, scheme=_SCHEME)
    made.update_batch([shingle.encode() for shingle in shingles])
    return made.hashvalues


class Neighbours:
    """Finds rows whose estimated Jaccard similarity with an earlier row is at least ``threshold``."""

    def __init__(self, threshold: float) -> None:
        """``threshold`` in (0, 1]."""
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self._signatures: dict[int, Any] = {}

    def alike(self, values: np.ndarray[Any, Any]) -> Iterator[tuple[int, float]]:
        """Keys added before that are at least as similar as the threshold, with the estimate; lowest key first."""
        probe = _minhash(values)
        for key in sorted(map(int, self._index.query(probe))):  # type: ignore[arg-type]
            estimate = float((self._signatures[key] == values).mean())
            if estimate >= self._threshold:
                yield key, estimate

    def add(self, key: int, values: np.ndarray[Any, Any]) -> None:
        """Remember a row under a number that was not used before."""
        self._index.insert(key, _minhash(values), check_duplication=False)
        self._signatures[key] = values


def _minhash(values: np.ndarray[Any, Any]) -> Any:
    from datasketch import LeanMinHash

    return LeanMinHash(seed=1, hashvalues=values, scheme=_SCHEME)


class Clusters:
    """Union-find over row numbers."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def root(self, key: int) -> int:
        """The smallest number of the cluster of ``key``."""
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def join(self, one: int, other: int) -> None:
        """Put both into one cluster."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low
