"""RL engines behind one function: start model, schedule, scorer and settings in, checkpoints out."""

from pathlib import Path
from typing import Protocol

from traitrl.core import Frozen
from traitrl.training.config import TrainingConfig
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
