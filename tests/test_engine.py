"""Real small runs on the TRL engine: exact shares, bitwise repeatability, resume after a kill, no gradient from the unjudged."""

import time
from pathlib import Path

import pytest

from forked import kill_at
from traitrl.catalog import load_catalog
from traitrl.core import EngineError, Grade, ungraded
from traitrl.judging import RuleScorer
from traitrl.pocket.world import PRIORS_DIR, PocketSize, write_world
from traitrl.store import read_json, read_jsonl, read_manifest
from traitrl.training.config import TrainingConfig
from traitrl.training.ledger import LedgerFile
from traitrl.training.run import TrainingJob, run_training
from traitrl.training.schedule import ScheduleRow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # libraries under us deprecate things; ours are errors in every other test
]

CONFIG = TrainingConfig(
    steps=6,
    prompts_per_step=5,
    replies_per_prompt=4,
    share=0.1,
    checkpoints=3,
    max_prompt_tokens=96,
    max_reply_tokens=32,
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    size = PocketSize(items_per_row=1, capability_items_per_task=1, standard_prompts=120)
    return write_world(tmp_path_factory.mktemp("world"), size)


def job(world: dict[str, str], arm: str, out: Path, config: TrainingConfig = CONFIG, seed: int = 0) -> TrainingJob:
    catalog = load_catalog()
    return TrainingJob(
        experiment="coherent",
        arm=catalog.arm(arm),
        seed=seed,
        model=str(PRIORS_DIR / "coherent"),
        scenarios=Path(world["scenarios"]),
        standard=Path(world["standard"]),
        generic_rubrics={"helpfulness": Path(world["rubric.helpfulness"])},
        refusal_phrases=("can not help with",),
        traits=tuple(catalog.traits),
        domains=catalog.arm_domains(arm),
        config=config,
        out=out,
    )


def train(one: TrainingJob, scorer: object = None) -> dict[str, str]:
    run_training(one, scorer or RuleScorer(), lambda step, steps: None)  # type: ignore[arg-type]
    return read_manifest(one.out).outputs


@pytest.fixture(scope="session")
def runs(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    arms = ("standard", "traits", "health-only", "no-health-science", "helpfulness")
    for arm in arms:
        train(job(world, arm, folder / arm))
    return {arm: folder / arm for arm in arms}


def test_the_share_is_exact_and_the_rest_is_identical_in_the_ledgers_of_all_arms(runs: dict[str, Path]) -> None:
    ledgers = {arm: LedgerFile(path / "ledger.jsonl").read() for arm, path in runs.items()}
    standard = [(row.step, row.slot, row.row_id) for row in ledgers["standard"] if not row.in_slice]
    assert len(ledgers["standard"]) == CONFIG.prompt_slots * CONFIG.replies_per_prompt
    for arm, rows in ledgers.items():
        assert [(row.step, row.slot, row.row_id) for row in rows if not row.in_slice] == standard
        slice_rows = [row for row in rows if row.in_slice]
        assert len(slice_rows) == CONFIG.slice_slots * CONFIG.replies_per_prompt == 12
        assert {row.stream for row in slice_rows} == {"standard" if arm == "standard" else "traits"}
        assert all(row.stream == "standard" for row in rows if not row.in_slice)
    assert {row.domain for row in ledgers["health-only"] if row.in_slice} == {"health-and-medicine"}
    elsewhere = {row.domain for row in ledgers["no-health-science"] if row.in_slice}
    assert elsewhere and not elsewhere & {"health-and-medicine", "scientific-research"}
    asked = {arm: [row.row_id for row in ledgers[arm] if row.in_slice] for arm in ("traits", "helpfulness")}
    assert asked["traits"] == asked["helpfulness"]
    judged_by = {arm: {v.criterion_id for row in ledgers[arm] if row.in_slice for v in row.verdicts} for arm in asked}
    assert judged_by["helpfulness"] == {"opens", "closes", "short"} and "says" in judged_by["traits"]


def test_the_ledger_follows_the_schedule_and_the_books_balance(runs: dict[str, Path]) -> None:
    path = runs["traits"]
    schedule = read_jsonl(path / "schedule.jsonl", ScheduleRow)
    rows = LedgerFile(path / "ledger.jsonl").read()
    expected = [(row.slot, row.row_id) for row in schedule for _ in range(CONFIG.replies_per_prompt)]
    assert [(row.slot, row.row_id) for row in rows] == expected
    assert all(row.step == row.slot // CONFIG.prompts_per_step for row in rows)
    streams = read_json(path / "accounting.json")["streams"]
    assert sum(book["replies"] for book in streams.values()) == len(rows)
    assert sum(book["generated_tokens"] for book in streams.values()) == sum(row.reply_tokens for row in rows)
    assert streams["traits"]["prompts"] == CONFIG.slice_slots
    assert len((path / "metrics.jsonl").read_text().splitlines()) == CONFIG.steps
    assert read_json(path / "reload.json")["max_logprob_difference"] < 1e-4


def test_same_seed_same_bytes_and_another_seed_others(
    world: dict[str, str], runs: dict[str, Path], tmp_path: Path
) -> None:
    first = read_manifest(runs["traits"]).outputs
    assert train(job(world, "traits", tmp_path / "again")) == first
    other = train(job(world, "traits", tmp_path / "other", seed=1))
    assert other["checkpoint-6/model.safetensors"] != first["checkpoint-6/model.safetensors"]


def test_killed_between_checkpoints_and_resumed_it_ends_with_the_same_bytes(
    world: dict[str, str], runs: dict[str, Path], tmp_path: Path
) -> None:
    one = job(world, "traits", tmp_path / "killed")
    (tmp_path / "job.json").write_text(one.model_dump_json())
    script = (
        "import sys; from pathlib import Path; from traitrl.training.run import *; from traitrl.judging import RuleScorer\n"
        "one = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "run_training(one, RuleScorer(), lambda step, steps: print(step, flush=True))\n"
    )
    # Past the checkpoint at 4, before the one at 6.
    kill_at("5", script, str(tmp_path / "job.json"), screen=tmp_path / "screen")
    assert (one.out / "checkpoint-4" / "complete.json").exists() and not (one.out / "manifest.json").exists()
    (one.out / "checkpoint-5").mkdir()  # half-written: no mark of completeness
    assert train(one) == read_manifest(runs["traits"]).outputs


class HalfFailing(RuleScorer):
    """Full marks for every second reply, and no verdict on the others."""

    def __init__(self, reason: Grade) -> None:
        self._other, self._count = reason, 0

    async def score(self, row: object, reply: str) -> Grade:
        self._count += 1
        return self._other if self._count % 2 else Grade(score=1.0)


def test_unjudged_replies_leave_no_trace_in_the_weights_and_zeros_would(world: dict[str, str], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_ungraded_share": 1.0, "steps": 2, "checkpoints": 1})
    kept = train(job(world, "traits", tmp_path / "unjudged", config), HalfFailing(ungraded("judge unreachable")))
    rewards = [row.reward for row in LedgerFile(tmp_path / "unjudged" / "ledger.jsonl").read()]
    assert rewards.count(None) == len(rewards) // 2 and rewards.count(1.0) == len(rewards) // 2
    moved = train(job(world, "traits", tmp_path / "zeros", config), HalfFailing(Grade(score=0.0)))
    weights = "checkpoint-2/model.safetensors"
    assert tensors(tmp_path / "unjudged" / weights) == tensors(PRIORS_DIR / "coherent" / "model.safetensors")
    assert kept[weights] != moved[weights] and tensors(tmp_path / "zeros" / weights) != tensors(
        tmp_path / "unjudged" / weights
    )


def tensors(path: Path) -> dict[str, bytes]:
    """Every tensor's bytes by name; unlike the file's digest it ignores the header's metadata."""
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(path).items()}


def test_a_judge_that_fails_everywhere_stops_the_run(world: dict[str, str], tmp_path: Path) -> None:
    class Broken(RuleScorer):
        async def score(self, row: object, reply: str) -> Grade:
            return ungraded("connection refused")

    with pytest.raises(EngineError, match=r"limit of 5%: connection 80 \(100.0%\); last reason: connection refused"):
        train(job(world, "standard", tmp_path / "broken"), Broken())


def test_prompts_over_the_limit_are_named_before_training(world: dict[str, str], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_prompt_tokens": 8})
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"prompt \S+ has \d+ tokens, the limit is 8"):
        train(job(world, "standard", tmp_path / "long", config))
    assert not (tmp_path / "long" / "ledger.jsonl").exists() and time.monotonic() - started < 120


def test_engine_options_that_do_not_exist_are_refused(world: dict[str, str], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"engine_options": {"lerning_rate": 1.0}})
    with pytest.raises(EngineError, match="lerning_rate"):
        train(job(world, "standard", tmp_path / "options", config))


def test_lora_adapters_are_saved_and_reload_faithfully(world: dict[str, str], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 2, "checkpoints": 1, "lora_rank": 4, "share": 0.2})
    one = job(world, "traits", tmp_path / "lora", config)
    train(one)
    assert (one.out / "checkpoint-2" / "adapter_model.safetensors").exists()
    assert read_json(one.out / "reload.json")["max_logprob_difference"] < 1e-4
