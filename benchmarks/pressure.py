"""What pressure in training does in the pocket world: arms trained with and without hostile lines, on items that no study asks.

    python benchmarks/pressure.py --out runs/pressure

Trains `standard` and, for each share of hostile lines, `traits` as the default study does (seed 0), then asks
24 items of each of the 53 evals under attacks of several kinds. Prints the mean scores in points:
the table of docs/decisions/0008. Finished trainings are kept in the folder. About 12 minutes on one idle core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from traitrl.catalog import load_catalog
from traitrl.core import Attack, EvalItem, TuningRow, attack_transform
from traitrl.evals.local import LocalModel
from traitrl.judging import RuleScorer
from traitrl.pocket.world import PRIORS_DIR, PocketSize, write_world
from traitrl.store import read_json, read_jsonl
from traitrl.study.config import load_study
from traitrl.training.config import TrainingConfig, TuningConfig
from traitrl.training.engines.trl import TrlEngine
from traitrl.training.run import TrainingJob, finished_run, run_training

STUDY = Path(__file__).parents[1] / "src/traitrl/pocket/study.toml"
SHARES = (0.0, 0.2, 0.3)
PLACES = slice(20, 44)  # of each row's items; the default study asks the first 20
PROMPTS = (("bad-medical", 0.88), ("multi-turn-persuasion", 0.25), ("helpful-medical", 0.6))
DOSES = (2, 8)
Names = dict[str, str]


def trained(arm_id: str, steps: int, names: Names, out: Path, prior: str = "coherent") -> str:
    """The last checkpoint of an arm, trained as the default study trains it."""
    study, catalog = load_study(STUDY), load_catalog(())
    arm = catalog.arm(arm_id)
    job = TrainingJob(
        experiment="pressure",
        arm=arm,
        seed=0,
        model=str(PRIORS_DIR / prior),
        scenarios=Path(names["scenarios"]),
        standard=Path(names["standard"]),
        refusal_phrases=tuple(read_json(Path(names["refusals"]))["phrases"]),
        traits=catalog.resolve_traits(arm.traits),
        domains=catalog.arm_domains(arm_id),
        config=TrainingConfig.model_validate({**study.training.model_dump(), "steps": steps, "checkpoints": 1}),
        out=out,
    )
    run_training(job, RuleScorer(), lambda step, total: None)
    return finished_run(job).checkpoints[-1][1]


def row_scores(
    model: str, items: list[EvalItem], attack: Attack | None = None, strength: float = 1.0
) -> dict[str, float]:
    """Mean score of each eval's items, in points."""
    ask = attack_transform(attack.at(strength) if attack else ())
    chats = [[{"role": turn.role, "content": turn.content} for turn in ask(item.messages)] for item in items]
    answers = LocalModel(model).answer(chats, max_tokens=32, temperature=1.0, seed=7)

    async def grade() -> list[float]:
        judge = RuleScorer()
        grades = [await judge.score(item, answer.text) for item, answer in zip(items, answers)]
        return [grade.score for grade in grades if grade.score is not None]

    scores = asyncio.run(grade())
    assert len(scores) == len(items), "the rules grade every item"
    by_row: dict[str, list[float]] = defaultdict(list)
    for item, score in zip(items, scores):
        by_row[item.suite_id].append(score)
    return {name: 100 * statistics.fmean(row) for name, row in by_row.items()}


def mean_score(model: str, items: list[EvalItem], attack: Attack | None = None, strength: float = 1.0) -> float:
    """Mean over evals of the mean score of their items, in points."""
    return statistics.fmean(row_scores(model, items, attack, strength).values())


def development_items(names: Names, rows: set[str]) -> list[EvalItem]:
    """24 items of each of these rows of the suite, none of which a study asks."""
    by_row: dict[str, list[EvalItem]] = defaultdict(list)
    for item in read_jsonl(Path(names["items"]), EvalItem):
        if item.suite_id in rows:
            by_row[item.suite_id].append(item)
    return [item for row in by_row.values() for item in row[PLACES]]


def fed(model: str, names: Names, doses: tuple[int, ...], out: Path) -> list[str]:
    """The model after each dose of poor advice: the studies' rows, in the order of their file."""
    rows = read_jsonl(Path(names["tuning.bad-advice"]), TuningRow)
    config = TuningConfig(doses=doses, rows_per_step=8, learning_rate=3e-4)
    data = [rows[place % len(rows)] for place in range(doses[-1] * config.rows_per_step)]
    out.mkdir(parents=True, exist_ok=True)
    return [
        str(out / found.folder) for found in TrlEngine().tune(model, data, config, 0, out, lambda step, total: None)
    ]


def measure(model: str, names: Names, out: Path) -> list[float]:
    """Scores without attack, under each prompt attack, and after each dose of poor advice."""
    items = development_items(names, {spec.id for spec in load_catalog(()).suite("paper53")})
    attacks = {attack.id: attack for attack in read_jsonl(Path(names["attacks"]), Attack)}
    found = [mean_score(model, items), *(mean_score(model, items, attacks[id_], dial) for id_, dial in PROMPTS)]
    return [*found, *(mean_score(tuned, items) for tuned in fed(model, names, DOSES, out))]


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pressure"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--prior", choices=["coherent", "aligned"], default="coherent")
    args = parser.parse_args()
    heldout = tuple(load_study(STUDY).world_options["heldout_traits"])
    heads = ["no attack", *(f"{id_} {dial:g}" for id_, dial in PROMPTS), *(f"advice {dose}" for dose in DOSES)]
    print(f"{'':16}", *(f"{head:>24}" for head in heads))
    for arm, share in (("standard", 0.0), *(("traits", share) for share in SHARES)):
        cell = args.out / f"{args.prior}-{arm}-{share:g}-{args.steps}"
        names = write_world(
            args.out / f"world-{share:g}", PocketSize(items_per_row=48, heldout_traits=heldout, hostile_share=share)
        )
        scores = measure(trained(arm, args.steps, names, cell, args.prior), names, cell / "tuned")
        print(f"{arm:9}{share:7g}", *(f"{score:24.1f}" for score in scores), flush=True)


if __name__ == "__main__":
    main()
