"""The dedupe stage: near-duplicate conversations inside and across splits. Where both are alike, the held-out row stays."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from traitrl.scenarios.checking import _chunks, _mapped
from traitrl.scenarios.rows import COUNTS, Line, Sorter, read_lines
from traitrl.scenarios.similarity import SHINGLE_WORDS, Neighbours, conversation_words, runs, signature
from traitrl.store import Claim, StageFolder, digest_file, read_json

NEAR_DUPLICATE = 0.7  # Jaccard similarity of word trigrams


def dedupe_scenarios(
    source: Path, out: Path, *, threshold: float = NEAR_DUPLICATE, workers: int = 1, force: bool = False
) -> dict[str, Any]:
    """Reject every row that is nearly the same as one that stays; returns the counts.

    Held-out rows are compared first, then training rows, each in the order of the file: of two alike, the earlier stays.
    """
    config = {"threshold": threshold, "shingle_words": SHINGLE_WORDS}
    folder = StageFolder(out, Claim(stage="scenarios-dedupe", config=config, inputs={"source": digest_file(source)}))
    if folder.is_done(force=force):
        return read_json(out / COUNTS)
    signs = Signatures(source, workers)
    stays = Neighbours(threshold)
    duplicate_of: dict[int, tuple[int, float]] = {}
    for heldout in (True, False):
        for index in np.flatnonzero(signs.valid & (signs.heldout == heldout)).tolist():
            values = signs.values[index]
            nearest_one = next(stays.alike(values), None)
            if nearest_one is None:
                stays.add(index, values)
            else:
                duplicate_of[index] = nearest_one
    with Sorter(folder) as sorter:
        for index, line in enumerate(read_lines(source)):
            if line.row is None:
                sorter.reject(line.rejected("schema", line.complaint))
            elif index in duplicate_of:
                other, alike = duplicate_of[index]
                reason = f"nearly the same as {signs.ids[other]!r}: {alike:.2f} of their word trigrams agree (estimate)"
                rule = "near-duplicate-across" if signs.heldout[other] != signs.heldout[index] else "near-duplicate"
                sorter.reject(line.rejected(rule, reason))
            else:
                sorter.keep(line.raw)
        return sorter.finish(len(signs.ids))


class Signatures:
    """The MinHash signature of every row of a file, in its order: ``values`` has shape [rows, PERMUTATIONS]."""

    def __init__(self, source: Path, workers: int = 1) -> None:
        """Reads the file once; rows of a wrong schema have ``valid`` False."""
        self.ids: list[str] = []
        valid: list[bool] = []
        heldout: list[bool] = []
        plots: list[str] = []
        parts: list[Any] = []
        pool = ProcessPoolExecutor(workers) if workers > 1 else None
        with pool or nullcontext():
            for chunk in _mapped(pool, _sign_chunk, _chunks(read_lines(source))):
                for id_, is_valid, is_heldout, plot, values in chunk:
                    self.ids.append(id_)
                    valid.append(is_valid)
                    heldout.append(is_heldout)
                    plots.append(plot)
                    parts.append(values)
        self.valid = np.array(valid, dtype=bool)
        self.heldout = np.array(heldout, dtype=bool)
        self.plots = plots
        self.values = np.array(parts)


def _sign_chunk(lines: list[Line]) -> list[tuple[str, bool, bool, str, Any]]:
    signed: list[tuple[str, bool, bool, str, Any]] = []
    for line in lines:
        row = line.row
        shingles = runs(conversation_words(row), SHINGLE_WORDS) if row else set[str]()
        values = signature(shingles)
        signed.append(
            (line.id, row is not None, row is not None and row.split == "heldout", row.plot if row else "", values)
        )
    return signed
