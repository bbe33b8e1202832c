"""How alike two conversations are: MinHash signatures of word shingles, candidates by LSH, and shared runs of words.

MinHash: Broder 1997; locality-sensitive hashing as in Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.
Both from datasketch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
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

    made = MinHash(num_perm=PERMUTATIONS, scheme=_SCHEME, permutations=_permutations())
    made.update_batch([shingle.encode() for shingle in shingles])
    return made.hashvalues


@cache
def _permutations() -> Any:
    """Those of every signature: to draw them takes as long as to sign a row."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, scheme=_SCHEME).permutations


class Neighbours:
    """Finds rows whose estimated Jaccard similarity with an earlier row is at least ``threshold``."""

    def __init__(self, threshold: float) -> None:
        """``threshold`` in (0, 1]."""
        from datasketch import MinHashLSH

        self._threshold = threshold
        shape = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)  # for its choice of bands and their width
        self._width = shape.r
        # Of every band what stands at its place in earlier rows (hashed) and their keys. Most hold one key, and a set for each,
        # as in datasketch's own index, would take most of the memory of a large run.
        self._bands: list[dict[int, int | list[int]]] = [{} for _ in range(shape.b)]
        self._signatures: dict[int, Any] = {}

    def alike(self, values: np.ndarray[Any, Any]) -> Iterator[tuple[int, float]]:
        """Keys added before that are at least as similar as the threshold, with the estimate; lowest key first."""
        found: set[int] = set()
        for band, place in zip(self._bands, self._places(values)):
            keys = band.get(place)
            if isinstance(keys, int):
                found.add(keys)
            elif keys:
                found.update(keys)
        for key in sorted(found):
            estimate = float((self._signatures[key] == values).mean())
            if estimate >= self._threshold:
                yield key, estimate

    def add(self, key: int, values: np.ndarray[Any, Any]) -> None:
        """Remember a row under a number that was not used before."""
        for band, place in zip(self._bands, self._places(values)):
            keys = band.setdefault(place, key)
            if isinstance(keys, list):
                keys.append(key)
            elif keys != key:
                band[place] = [keys, key]
        self._signatures[key] = values

    def _places(self, values: np.ndarray[Any, Any]) -> Iterator[int]:
        raw, size = values.tobytes(), self._width * values.itemsize
        return (hash(raw[start : start + size]) for start in range(0, len(self._bands) * size, size))


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
