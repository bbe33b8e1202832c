"""What a dose of poor advice costs, by where a model starts: two priors and three arms, on items that no study asks.

    python benchmarks/resistance.py --out runs/resistance

Trains `standard` and `traits` as the default study does (seed 0) from both priors in which authors are coherent, fine-tunes each,
and the priors themselves, on poor advice, and asks 24 items of each eval outside health whose coherence is .8 or more. Prints
the mean score before, the loss after each dose with its standard error over evals, in points, and the fall of the log-odds over
the score before: the table of docs/decisions/0009. Finished trainings are kept in the folder. About 10 minutes on one idle core.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path
from statistics import fmean, stdev

from pressure import STUDY, development_items, fed, row_scores, trained

from traitrl.catalog import load_catalog
from traitrl.pocket.world import PRIORS_DIR, PocketSize, write_world
from traitrl.study.config import load_study

DOSES = (2, 4, 8, 16)
HEALTH = ("health", "mental-health")


def log_odds(points: float) -> float:
    """Of a mean score in points."""
    return math.log(points / (100 - points))


def loss(before: dict[str, float], after: dict[str, float]) -> str:
    """The mean loss over evals with its standard error, and in brackets the fall of the log-odds over the score before."""
    lost = [score - after[name] for name, score in before.items()]
    high, low = fmean(before.values()), fmean(after.values())
    error = stdev(lost) / len(lost) ** 0.5
    return f"{high - low:7.1f} +-{error:3.1f} ({(log_odds(high) - log_odds(low)) / (high / 100):5.2f})"


def main() -> None:
    """Train, feed, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/resistance"))
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    options = load_study(STUDY).world_options
    size = PocketSize(
        items_per_row=48, heldout_traits=tuple(options["heldout_traits"]), hostile_share=options["hostile_share"]
    )
    names = write_world(args.out / "world", size)
    with Path(names["covariates"]).open(encoding="utf-8", newline="") as handle:
        coherent = {row["suite_id"] for row in csv.DictReader(handle) if float(row["coherence"]) >= 0.8}
    elsewhere = {spec.id for spec in load_catalog(()).suite("paper53") if spec.family not in HEALTH}
    items = development_items(names, coherent & elsewhere)
    print(f"{'':20}{'before':>8}", *(f"{f'{dose} steps':>20}" for dose in DOSES))
    for prior in ("coherent", "aligned"):
        for arm in ("prior", "standard", "traits"):
            cell = args.out / f"{prior}-{arm}-{args.steps}"
            model = str(PRIORS_DIR / prior) if arm == "prior" else trained(arm, args.steps, names, cell, prior)
            before = row_scores(model, items)
            after = (row_scores(tuned, items) for tuned in fed(model, names, DOSES, cell / "tuned"))
            print(
                f"{prior:9} {arm:10}{fmean(before.values()):8.1f}", *(loss(before, rows) for rows in after), flush=True
            )


if __name__ == "__main__":
    main()
