"""GRPO on TRL's GRPOTrainer, on a laptop CPU and on GPUs alike.

Settings and their reasons, for TRL 1.16: ``shuffle_dataset=False`` keeps the schedule's order; the batch is exactly one step's
prompts, so that a checkpoint never splits a generation batch; ``dr_grpo`` (Liu et al. 2025, arXiv 2503.20783) divides by a
constant, so that long trait replies do not shrink the gradient of the standard rows as batch-token losses do; replies cut at
the limit are masked from the loss and counted in the ledger; bf16 and gradient checkpointing are off unless asked for.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitrl.core import EngineError, TuningRow
from traitrl.sampling import quick_draws
from traitrl.store import clear_os_errors, write_json_atomic, write_jsonl
from traitrl.training.config import TrainingConfig, TuningConfig
from traitrl.training.engines import Checkpoint, StepListener
from traitrl.training.engines.trl_padding import unpadded_trainer
from traitrl.training.reward import PromptRow, RewardRouter
from traitrl.training.schedule import ScheduleRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COMPLETE = "complete.json"  # written last into a checkpoint: without it the folder is half-written and dropped
_RESUME_ONLY = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json")
_FAITHFUL_NATS = 0.1  # bf16 rounding of a faithful save stays below; a merged or wrong adapter does not
_CLOCKS = ("_time", "runtime", "_per_second", "flos")  # log keys that differ between equal runs


class TrlEngine:
    """See :class:`traitrl.training.engines.Engine`."""

    def resume_step(self, out: Path) -> int:
        """See :class:`traitrl.training.engines.Engine`."""
        newest = last_complete_checkpoint(out)
        return int(newest.name.split("-")[1]) if newest else 0

    def tidy(self, out: Path) -> None:
        """See :class:`traitrl.training.engines.Engine`; optimizer states are twice the size of the weights."""
        for folder in out.glob("checkpoint-*"):
            for name in _RESUME_ONLY:
                (folder / name).unlink(missing_ok=True)

    def train(
        self,
        model: str,
        schedule: list[ScheduleRow],
        rows: dict[str, PromptRow],
        router: RewardRouter,
        config: TrainingConfig,
        seed: int,
        out: Path,
        on_step: StepListener,
    ) -> list[Checkpoint]:
        """See :class:`traitrl.training.engines.Engine`; raises :class:`EngineError` for prompts that are too long."""
        quiet()
        import torch
        from datasets import Dataset
        from transformers import AutoTokenizer, PrinterCallback

        if not torch.cuda.is_available():
            torch.set_num_threads(1)
        tokenizer = AutoTokenizer.from_pretrained(model)
        prompts = [[message.model_dump() for message in rows[slot.row_id].messages] for slot in schedule]
        lengths = _prompt_lengths(tokenizer, prompts, schedule, config.max_prompt_tokens)
        dataset = Dataset.from_dict(
            {"prompt": prompts, "slot": [row.slot for row in schedule], "prompt_tokens": lengths}
        )
        resume = last_complete_checkpoint(out)
        trainer = unpadded_trainer()(
            model=load_trainable(model, config),
            reward_funcs=[_reward_function(router, tokenizer, config)],
            args=_arguments(config, seed, out),
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=lora(config.lora_rank),
            callbacks=[keeper(config, on_step)],
        )
        trainer.remove_callback(PrinterCallback)  # the ledger and metrics.jsonl hold what it would print
        with quick_draws():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        metrics = [without_clocks(entry) for entry in trainer.state.log_history if "loss" in entry]
        write_jsonl(out / "metrics.jsonl", metrics)
        checkpoints = [Checkpoint(step=step, folder=f"checkpoint-{step}") for step in config.checkpoint_steps]
        drift = reload_drift(trainer.model, tokenizer, out / checkpoints[-1].folder, prompts[: min(4, len(prompts))])
        write_json_atomic(out / "reload.json", {"max_logprob_difference": drift})
        return checkpoints

    def tune(
        self, model: str, rows: Sequence[TuningRow], config: TuningConfig, seed: int, out: Path, on_step: StepListener
    ) -> list[Checkpoint]:
        """See :class:`traitrl.training.engines.Engine`."""
        from traitrl.training.engines.trl_tune import tune

        return tune(model, rows, config, seed, out, on_step)


def quiet() -> None:
    """No telemetry, no progress bars of the libraries; set before they are imported."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_NO_ADVISORY_WARNINGS", "TRL_EXPERIMENTAL_SILENCE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # TRL 1.16 still uses names that transformers 5 has renamed; nothing a user of ours can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers(\.|$)")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _prompt_lengths(
    tokenizer: PreTrainedTokenizerBase, prompts: list[list[dict[str, str]]], schedule: list[ScheduleRow], limit: int
) -> list[int]:
    """Tokens of every templated prompt; TRL never truncates, so a prompt over the limit is refused by name."""
    texts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
    lengths = [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]  # type: ignore[arg-type]
    for length, slot in zip(lengths, schedule):
        if length > limit:
            raise EngineError(
                f"prompt {slot.row_id} has {length} tokens, the limit is {limit}; raise max_prompt_tokens or drop it"
            )
    return lengths


def _arguments(config: TrainingConfig, seed: int, out: Path) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    batch = config.prompts_per_step * config.replies_per_prompt
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": config.steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "num_generations": config.replies_per_prompt,
        "steps_per_generation": 1,
        "shuffle_dataset": False,
        "max_completion_length": config.max_reply_tokens,
        "mask_truncated_completions": True,
        "temperature": config.temperature,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "loss_type": config.loss_type,
        "scale_rewards": config.scale_rewards,
        "multi_objective_aggregation": "sum_then_normalize",
        "beta": config.beta,
        **shared_settings(config, seed),
    }
    return fitted(GRPOConfig, settings, config.engine_options)


def shared_settings(config: TrainingConfig | TuningConfig, seed: int) -> dict[str, Any]:
    """What every trainer of TRL is told here alike: no reporting, no surprises of precision, equal order for equal seeds."""
    import torch

    return {
        "bf16": config.precision == "bfloat16",
        "gradient_checkpointing": False,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",  # the keeper saves, at the steps it is told
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def fitted(make: Callable[..., Any], settings: dict[str, Any], options: dict[str, Any]) -> Any:
    """TRL's configuration with the study's own options on top; raises :class:`EngineError` when they do not fit."""
    try:
        return make(**{**settings, **options})
    except (TypeError, ValueError) as error:
        raise EngineError(f"engine_options do not fit the trl engine: {error}") from error


def lora(rank: int) -> Any:
    """The adapter's configuration, None for rank 0."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _reward_function(
    router: RewardRouter, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig
) -> Callable[..., Any]:
    """The router as a TRL reward function. ``None`` stays ``None``: TRL leaves such a reply out of the group's baseline."""
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)

    async def reward(
        completions: Any, completion_ids: Any, slot: Any, prompt_tokens: Any, trainer_state: Any, **_: Any
    ) -> Any:
        replies = [turns[0]["content"] or "" for turns in completions]
        cut = [len(ids) >= config.max_reply_tokens and ids[-1] not in ends for ids in completion_ids]
        sizes = [len(ids) for ids in completion_ids]
        return await router.rewards(trainer_state.global_step, slot, replies, sizes, prompt_tokens, cut)

    return reward


def keeper(config: TrainingConfig | TuningConfig, on_step: StepListener) -> Any:
    """Saves at the planned steps, marks a checkpoint complete once it is, and reports progress."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_save = state.global_step in config.checkpoint_steps
            on_step(state.global_step, config.steps)
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json_atomic(folder / _COMPLETE, {"step": state.global_step})
            return control

    return Keeper()


def last_complete_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that was fully written; half-written ones are deleted."""
    newest: tuple[int, Path] | None = None
    for folder in out.glob("checkpoint-*"):
        if not (folder / _COMPLETE).exists():
            with clear_os_errors(folder, "delete"):
                shutil.rmtree(folder)
        elif newest is None or int(folder.name.split("-")[1]) > newest[0]:
            newest = (int(folder.name.split("-")[1]), folder)
    return newest[1] if newest else None


def without_clocks(entry: dict[str, Any]) -> dict[str, Any]:
    """A log entry without the keys that differ between equal runs."""
    return {key: value for key, value in entry.items() if not any(clock in key for clock in _CLOCKS)}


def reload_drift(
    policy: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, prompts: list[list[dict[str, str]]]
) -> float:
    """Largest difference of next-token log-probabilities between the trained model and what was saved, on a few prompts.

    Merged or re-quantised weights drift from what was trained; what is evaluated must be what was trained.
    """
    import torch

    saved = load_policy(str(folder)).to(policy.device)
    texts = [
        str(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)) for prompt in prompts
    ]
    worst = 0.0
    policy.eval()
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(policy.device)  # type: ignore[union-attr]
            logs = [model(input_ids=ids).logits.float().log_softmax(-1) for model in (policy, saved)]
            worst = max(worst, (logs[0] - logs[1]).abs().max().item())
    if not worst < _FAITHFUL_NATS:  # also catches nan
        raise EngineError(f"{folder} differs from the trained model by {worst:.3f} nats; the save is not faithful")
    return worst


def load_trainable(model: str, config: TrainingConfig | TuningConfig) -> Any:
    """The weights to go on from; an adapter is trained further as it is, a second one on top of it is refused."""
    import torch

    dtype = getattr(torch, config.precision)
    if not (Path(model) / "adapter_config.json").exists():
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    from peft import AutoPeftModelForCausalLM

    if config.lora_rank:
        raise EngineError(f"{model} is an adapter already; set lora_rank = 0 to go on with it")
    return AutoPeftModelForCausalLM.from_pretrained(model, dtype=dtype, is_trainable=True)


def load_policy(folder: str) -> Any:
    """A saved model or adapter (with its base) for inference."""
    if (Path(folder) / "adapter_config.json").exists():
        from peft import AutoPeftModelForCausalLM

        return AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()
