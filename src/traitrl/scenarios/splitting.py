"""The split stage: training and held-out by plot cluster, never by row, so that no story is on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

from traitrl.core import ConfigError, Scenario
from traitrl.scenarios.deduping import Signatures
from traitrl.scenarios.rows import COUNTS, Sorter, read_lines
from traitrl.scenarios.similarity import Clusters, Neighbours
from traitrl.store import Claim, StageFolder, digest_file, read_json

SAME_PLOT = 0.5  # Jaccard similarity of word trigrams above which two conversations tell one story


def split_scenarios(
    source: Path,
    out: Path,
    *,
    heldout_share: float,
    heldout_traits: tuple[str, ...],
    seed: int = 0,
    workers: int = 1,
    force: bool = False,
) -> dict[str, Any]:
    """Set ``split`` of every row: of each held-out trait, whole clusters spread over its cells until the share is reached.

    A cluster is rows of one ``plot`` and rows that are alike, linked through each other. A cluster with a row outside
    ``heldout_traits`` is trained on. Raises :class:`ConfigError` for a share outside [0, 1].
    """
    if not 0 <= heldout_share <= 1:
        raise ConfigError(f"the held-out share must lie in [0, 1], got {heldout_share}")
    config = {
        "heldout_share": heldout_share,
        "heldout_traits": sorted(heldout_traits),
        "seed": seed,
        "alike": SAME_PLOT,
    }
    folder = StageFolder(out, Claim(stage="scenarios-split", config=config, inputs={"source": digest_file(source)}))
    if folder.is_done(force=force):
        return read_json(out / COUNTS)
    signs = Signatures(source, workers)
    roots = plot_clusters(signs)
    cells: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for root, valid, cell in zip(roots, signs.valid, signs.cells):
        if valid:
            cells[root].append(cell)
    held = _choose(cells, heldout_share, frozenset(heldout_traits), seed)
    rows_in, splits = 0, Counter[str]()
    with Sorter(folder) as sorter:
        for index, line in enumerate(read_lines(source)):
            rows_in += 1
            if line.row is None:
                sorter.reject(line.rejected("schema", line.complaint))
                continue
            row: Scenario = line.row.model_copy(update={"split": "heldout" if roots[index] in held else "train"})
            splits[row.split] += 1
            sorter.keep(row)
        return sorter.finish(rows_in, {"clusters": len(cells), "train": splits["train"], "heldout": splits["heldout"]})


def plot_clusters(signs: Signatures, threshold: float = SAME_PLOT) -> list[int]:
    """For every row the number of its cluster: its first row."""
    clusters, near = Clusters(), Neighbours(threshold)
    first_of_plot: dict[str, int] = {}
    for index, plot in enumerate(signs.plots):
        if not signs.valid[index]:
            continue
        if plot:
            clusters.join(index, first_of_plot.setdefault(plot, index))
        for other, _ in near.alike(signs.values[index]):
            clusters.join(index, other)
        near.add(index, signs.values[index])
    return [clusters.root(index) for index in range(len(signs.ids))]


def _choose(cells: dict[int, list[tuple[str, str]]], share: float, traits: frozenset[str], seed: int) -> set[int]:
    """Clusters to hold out, in a seeded order: of every trait round(share x rows), of no cell more than ceil(share x rows)."""
    sizes = Counter(cell for members in cells.values() for cell in members)
    of_trait = Counter(trait for members in cells.values() for trait, _ in members)
    room = {cell: ceil(share * size - 1e-9) for cell, size in sizes.items() if cell[0] in traits}
    need = {trait: round(share * size) for trait, size in of_trait.items()}
    order = sorted(cells)
    Random(seed).shuffle(order)
    held: set[int] = set()
    for root in order:
        wanted, by_trait = Counter(cells[root]), Counter(trait for trait, _ in cells[root])
        fits = all(room.get(cell, 0) >= count for cell, count in wanted.items())
        if fits and all(need[trait] >= count for trait, count in by_trait.items()):
            held.add(root)
            for cell, count in wanted.items():
                room[cell] -= count
            need = {trait: number - by_trait[trait] for trait, number in need.items()}
    return held
