"""Engines behind two functions, RL and fine-tuning: start model, rows and settings in, checkpoints out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from traitrl.core import Frozen, TuningRow
from traitrl.training.config import TrainingConfig, TuningConfig
from traitrl.training.reward import PromptRow, RewardRouter
from traitrl.training.schedule import ScheduleRow


class Checkpoint(Frozen):
    """Weights after ``step`` optimizer steps, in Hugging Face layout, relative to the run's folder."""

    step: int
    folder: str


class StepListener(Protocol):
    """Told after every optimizer step; used for progress only."""

    def __call__(self, step: int, steps: int) -> None:
        """``step`` of ``steps`` is done."""
        ...


class Engine(Protocol):
    """Trains a model on a schedule. Same inputs, same machine: bitwise the same weights, also after a kill and a resume."""

    def resume_step(self, out: Path) -> int:
        """Optimizer steps of the last complete checkpoint in ``out``, from which :meth:`train` would continue; else 0."""
        ...

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
        """Train from the weights ``model`` into ``out``; continue from the last complete checkpoint found there."""
        ...

    def tune(
        self, model: str, rows: Sequence[TuningRow], config: TuningConfig, seed: int, out: Path, on_step: StepListener
    ) -> list[Checkpoint]:
        """Fine-tune on ``rows`` in their order, ``rows_per_step`` at a time, from the weights ``model`` into ``out``.

        Exactly ``config.steps x config.rows_per_step`` rows. Only the last turn of a row carries loss. One checkpoint for each of
        ``config.doses``; an interrupted run continues from the last complete one.
        """
        ...

    def tidy(self, out: Path) -> None:
        """Drop what only a resume needs. Called once the run's manifest is written, never before: a kill may come any time."""
        ...


def load_engine(name: str) -> Engine:
    """The engine of that name; raises :class:`~traitrl.core.ConfigError` for an unknown one."""
    from traitrl.core import ConfigError, nearest

    if name != "trl":
        raise ConfigError(f"unknown engine {name!r}{nearest(name, ['trl'])}")
    from traitrl.training.engines.trl import TrlEngine

    return TrlEngine()
