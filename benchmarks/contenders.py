"""One contender, run alone in a fresh process: ``python contenders.py training|evals NAME JOB.json SCRATCH``.

``ours`` goes through the package as a study does. ``bare`` does the same work with TRL or Inspect alone, as a user of those
libraries would write it. What was measured goes to ``SCRATCH/result.json``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from traitrl.core import StandardPrompt
from traitrl.evals.run import EvalJob, load_items, run_evals
from traitrl.judging import RuleScorer
from traitrl.store import read_jsonl, write_json_atomic
from traitrl.training.config import TrainingConfig
from traitrl.training.run import TrainingJob, run_training, training_scenarios
from traitrl.training.schedule import build_schedule

FIRST_TIMED = 2  # the clock starts when this many steps are done: the first ones warm caches up
_PLACES = ("output_dir", "logging_dir", "run_name")  # fields of a GRPOConfig that only say where things lie


class StepClock:
    """Notes when each optimizer step ended."""

    def __init__(self) -> None:
        """Nothing noted yet."""
        self._ends: dict[int, float] = {}

    def note(self, step: int, steps: int = 0) -> None:
        """Step ``step`` has just ended."""
        self._ends[step] = time.perf_counter()

    def result(self, rewards: list[float]) -> dict[str, Any]:
        """Seconds per step, and the mean rewards of the steps by which equal work is recognised."""
        last = max(self._ends)
        seconds = (self._ends[last] - self._ends[FIRST_TIMED]) / (last - FIRST_TIMED)
        return {"value": seconds, "steps": last, "rewards": rewards}


def training_ours(job: TrainingJob, scratch: Path) -> dict[str, Any]:
    """The study's way: ledger, progress and checkpoint included."""
    import json

    clock = StepClock()
    out = scratch / "run"
    run_training(job.model_copy(update={"out": out}), RuleScorer(), clock.note)
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return clock.result([json.loads(line)["reward"] for line in lines])


def training_same_draws(job: TrainingJob, scratch: Path) -> dict[str, Any]:
    """Ours with torch's own draws: one seed then samples the same replies as bare TRL, which shows that the work is equal."""
    from contextlib import nullcontext

    from traitrl.training.engines import trl

    trl.quick_draws = nullcontext  # type: ignore[assignment]
    return training_ours(job, scratch)


def training_bare(job: TrainingJob, scratch: Path) -> dict[str, Any]:
    """A GRPOTrainer on the same prompts in the same order, rewarded by the same rules and nothing else."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOTrainer

    scenarios, standard = training_scenarios(job), read_jsonl(job.standard, StandardPrompt)
    rows: dict[str, Any] = {row.id: row for row in [*standard, *scenarios]}
    asked = [slot.row_id for slot in build_schedule(job.arm, job.config, scenarios, standard, job.seed)]
    prompts = [[message.model_dump() for message in rows[name].messages] for name in asked]
    judge, clock = RuleScorer(), StepClock()

    async def reward(completions: Any, row_id: Any, **_: Any) -> list[float | None]:
        replies = [turns[0]["content"] or "" for turns in completions]
        return [(await judge.score(rows[name], reply)).score for name, reply in zip(row_id, replies)]

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.note(state.global_step)

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32),
        reward_funcs=[reward],
        args=bare_arguments(job.config, job.seed, scratch / "run"),
        train_dataset=Dataset.from_dict({"prompt": prompts, "row_id": asked}),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        callbacks=[Clock()],
    )
    trainer.train()
    return clock.result([entry["reward"] for entry in trainer.state.log_history if "loss" in entry])


def bare_arguments(config: TrainingConfig, seed: int, out: Path) -> Any:
    """The GRPOConfig, written out by hand; raises ``ValueError`` when it is no longer the one our engine uses."""
    import torch
    from trl import GRPOConfig

    from traitrl.training.engines.trl import _arguments

    made = GRPOConfig(
        output_dir=str(out),
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts_per_step * config.replies_per_prompt,
        gradient_accumulation_steps=1,
        num_generations=config.replies_per_prompt,
        steps_per_generation=1,
        shuffle_dataset=False,
        max_completion_length=config.max_reply_tokens,
        mask_truncated_completions=True,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        loss_type=config.loss_type,
        scale_rewards=config.scale_rewards,
        multi_objective_aggregation="sum_then_normalize",
        beta=config.beta,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    held, ours = made.to_dict(), _arguments(config, seed, out).to_dict()
    differing = [name for name in {*held, *ours} - {*_PLACES} if held.get(name) != ours.get(name)]
    if differing:
        raise ValueError(f"the benchmark's GRPOConfig differs from the engine's in {', '.join(sorted(differing))}")
    return made


def evals_ours(job: EvalJob, scratch: Path) -> dict[str, Any]:
    """The study's way: log, records and manifest included."""

    def answer(limit: int, suite: int, name: str) -> float:
        part = job.model_copy(update={"limit": limit, "suite": job.suite[:suite], "out": scratch / name})
        started = time.perf_counter()
        run_evals(part, RuleScorer(), lambda done, total: None)
        return time.perf_counter() - started

    answer(1, 1, "warm")
    seconds, answers = answer(job.limit, len(job.suite), "run"), len(load_items(job))
    return {"value": answers / seconds, "answers": answers, "seconds": seconds}


def evals_bare(job: EvalJob, scratch: Path, connections: int | None = None) -> dict[str, Any]:
    """A plain Inspect task on Inspect's own Hugging Face provider; ``connections`` is also the size of its batches."""
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model
    from inspect_ai.scorer import Score, mean, scorer
    from inspect_ai.solver import generate

    items = {item.id: item for _, _, item in load_items(job)}
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    turns = {name: [kinds[turn.role](content=turn.content) for turn in item.messages] for name, item in items.items()}
    samples = [Sample(id=name, input=messages) for name, messages in turns.items()]
    judge = RuleScorer()

    @scorer(metrics=[mean()])
    def rule() -> Any:
        async def score(state: Any, target: Any) -> Score:
            return Score(value=(await judge.score(items[str(state.sample_id)], state.output.completion)).score or 0.0)

        return score

    def answer(some: list[Sample], name: str) -> float:
        started = time.perf_counter()
        config = GenerateConfig(
            max_tokens=job.config.max_reply_tokens,
            temperature=job.config.temperature,
            top_k=0,  # off, as ours: Transformers would keep the 50 likeliest tokens
            max_connections=connections,
        )
        model = get_model("hf/prior", memoize=False, config=config, model_path=job.model, tokenizer_path=job.model)
        task = Task(dataset=MemoryDataset(some), solver=generate(), scorer=rule())
        (log,) = inspect_eval(task, model=model, log_dir=str(scratch / name), display="none")
        if log.status != "success" or len(log.samples or []) != len(some):
            raise RuntimeError(f"bare Inspect: {log.error.message if log.error else 'answers are missing'}")
        return time.perf_counter() - started

    answer(samples[:1], "warm")
    seconds = answer(samples, "run")
    return {"value": len(samples) / seconds, "answers": len(samples), "seconds": seconds}


def main(what: str, name: str, job_file: str, scratch: str) -> None:
    """Run one contender and write what it measured."""
    text, folder = Path(job_file).read_text(encoding="utf-8"), Path(scratch)
    if what == "training":
        by_name = {"ours": training_ours, "same-draws": training_same_draws, "bare": training_bare}
        result = by_name[name](TrainingJob.model_validate_json(text), folder)
    else:
        job = EvalJob.model_validate_json(text)
        batch = job.config.batch_size if name == "bare-wide" else None
        result = evals_ours(job, folder) if name == "ours" else evals_bare(job, folder, batch)
    write_json_atomic(folder / "result.json", result)


if __name__ == "__main__":
    main(*sys.argv[1:])
